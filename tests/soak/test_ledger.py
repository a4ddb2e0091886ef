"""The ledger finds what is lost, doubled or told wrongly, and lets pass only what a witness explains."""

from collections import Counter
from pathlib import Path

import pytest

from bqfilter.ledger import Stage
from bqfilter.quarantine import Quarantine, State
from bqfilter.scoreboard import State as WorkerState
from tests.doubles.kept import keep

from .boards import Fall
from .clients import Told
from .ledger import Found, Ledger, Witnesses, balance, unknown_outcomes
from .mail import KINDS, Kind, Message, address

PLAIN, TWO, KEPT, COPIED, DROPPED, REJECTED, DEFERRED = (
    next(kind for kind in KINDS if kind.name.startswith(name))
    for name in ("plain", "in two", "quarantined", "delivered, with", "discarded", "rejected", "not scanned")
)
TAKEN = b"250 2.0.0 Ok"
LOST = b"451 4.3.0 Error: queue file write error"
OURS = b"451 4.3.0 Error: content scanner unavailable"
NUMBER = 258


def told(kind: Kind, reply: bytes | None, *, has_left: bool = False) -> Told:
    return Told(Message(NUMBER, kind, 0), "before", reply, has_left)


def found(*delivered: str, kept: tuple[str, ...] = (), state: State = State.HELD) -> Found:
    """Each name is that of a recipient who got it, or whose copy is kept, once for each time."""
    there = Found(Counter(address(NUMBER, name) for name in delivered))
    for name in kept:
        there.kept[address(NUMBER, name)][state] += 1
    return there


def fall(stage: Stage, client: str = "10.0.1.2") -> Fall:
    return Fall(4711, WorkerState.BUSY, stage, client, "ABC")


def close(one: Told, there: Found, *falls: Fall, unknown: set[str] | None = None) -> Ledger:
    return balance([one], there, Witnesses.of(falls, unknown or set()))


RIGHT = {
    "delivered once": (told(PLAIN, TAKEN), found("plain")),
    "delivered to both": (told(TWO, TAKEN), found("plain", "marked")),
    "one delivered, one kept for the postmaster": (told(TWO, TAKEN), found("plain", kept=("marked",))),
    "kept once": (told(KEPT, TAKEN), found(kept=("kept",))),
    "delivered, and a copy": (told(COPIED, TAKEN), found("copied", kept=("copied",))),
    "dropped": (told(DROPPED, TAKEN), found()),
    "rejected": (told(REJECTED, b"550 5.7.1 No"), found()),
    "deferred": (told(DEFERRED, OURS), found()),
    "deferred, and a copy that is kept of every attempt": (told(COPIED, OURS), found(kept=("copied",))),
    "failed and nowhere": (told(PLAIN, LOST), found()),
    "left, delivered": (told(PLAIN, None, has_left=True), found("plain")),
    "left, not delivered": (told(PLAIN, None, has_left=True), found()),
}

WRONG = {
    "lost": (told(PLAIN, TAKEN), found()),
    "doubled": (told(PLAIN, TAKEN), found("plain", "plain")),
    "lost for one of two": (told(TWO, TAKEN), found("plain")),
    "delivered and kept": (told(TWO, TAKEN), found("plain", "marked", kept=("marked",))),
    "not kept": (told(KEPT, TAKEN), found()),
    "only half kept": (told(KEPT, TAKEN), found(kept=("kept",), state=State.PENDING)),
    "kept twice": (told(KEPT, TAKEN), found(kept=("kept", "kept"))),
    "kept and delivered": (told(KEPT, TAKEN), found("kept", kept=("kept",))),
    "no copy": (told(COPIED, TAKEN), found("copied")),
    "dropped and delivered": (told(DROPPED, TAKEN), found("dropped")),
    "rejected and delivered": (told(REJECTED, b"550 5.7.1 No"), found("refused")),
    "accepted against the policy": (told(REJECTED, TAKEN), found()),
    "deferred and delivered": (told(DEFERRED, OURS), found("unscanned")),
    "failed and delivered": (told(PLAIN, LOST), found("plain")),
    "failed in our words and delivered": (told(PLAIN, OURS), found("plain")),
    "failed and kept": (told(KEPT, LOST), found(kept=("kept",))),
    "failed and a copy": (told(COPIED, LOST), found(kept=("copied",))),
    "failed and left behind": (told(KEPT, LOST), found(kept=("kept",), state=State.PENDING)),
    "lost connection and delivered": (told(PLAIN, None), found("plain")),
    "left, and delivered twice": (told(PLAIN, None, has_left=True), found("plain", "plain")),
    "nobody sent it": (told(PLAIN, TAKEN), found("plain", "other")),
}


@pytest.mark.parametrize(("one", "there"), RIGHT.values(), ids=RIGHT)
def test_what_was_told_is_what_happened(one: Told, there: Found) -> None:
    ledger = close(one, there)
    assert (ledger.wrong, ledger.messages) == ([], 1)


@pytest.mark.parametrize(("one", "there"), WRONG.values(), ids=WRONG)
def test_what_was_told_is_not_what_happened(one: Told, there: Found) -> None:
    assert close(one, there).wrong


@pytest.mark.parametrize("reply", [LOST, None], ids=["told by Postfix", "told nothing"])
def test_a_delivery_that_was_told_as_a_failure_is_explained_by_a_fall_in_the_hand_over_of_it(
    reply: bytes | None,
) -> None:
    there = found("plain")
    explained = close(told(PLAIN, reply), there, fall(Stage.HANDOVER))
    assert (explained.wrong, len(explained.delivered)) == ([], 1)
    assert close(told(PLAIN, reply), there, fall(Stage.FILTER)).wrong
    assert close(told(PLAIN, reply), there, fall(Stage.HANDOVER, client="10.0.1.3")).wrong


def test_no_fall_explains_a_second_delivery_or_a_reply_of_our_own() -> None:
    assert close(told(PLAIN, LOST), found("plain", "plain"), fall(Stage.HANDOVER)).wrong
    assert close(told(PLAIN, OURS), found("plain"), fall(Stage.HANDOVER)).wrong


def test_what_a_fall_has_left_in_quarantine_is_explained_by_it() -> None:
    kept = close(told(KEPT, LOST), found(kept=("kept",)), fall(Stage.FILTER))
    assert (kept.wrong, len(kept.kept)) == ([], 1)
    stray = close(told(KEPT, LOST), found(kept=("kept",), state=State.PENDING), fall(Stage.FILTER))
    assert (stray.wrong, stray.strays, stray.kept) == ([], 1, [])


def test_an_outcome_that_was_logged_as_unknown_explains_a_delivery() -> None:
    line = f"warning: message result=outcome_unknown helo=x to=<{address(NUMBER, 'plain')}> nrcpt=1"
    unknown = unknown_outcomes([line, line.replace("outcome_unknown", "accepted").replace("plain@", "x@")])
    ledger = close(told(PLAIN, OURS), found("plain"), unknown=unknown)
    assert (ledger.wrong, len(ledger.delivered)) == ([], 1)


def test_the_maillog_is_read_for_deliveries_and_for_what_was_not_delivered() -> None:
    line = (
        "Nov 25 16:33:05 mx postfix/discard[1]: 4jZ: to=<plain@258.soak.example>, relay=none, status={} (x)"
    )
    there = Found()
    there.read_maillog([line.format("sent"), line.format("deferred"), "postfix/qmgr[1]: 4jZ: removed"])
    assert there.delivered == {address(NUMBER, "plain"): 2}
    assert [line.format("deferred")] == there.not_sent
    assert balance([], there, Witnesses({}, ())).wrong


def test_the_quarantine_is_read_by_recipient_and_state(tmp_path: Path) -> None:
    store = Quarantine(tmp_path)
    keep(store, address(NUMBER, "kept").encode())
    keep(store, address(NUMBER, "marked").encode(), state=State.PENDING)
    there = Found()
    there.read_quarantine(store)
    assert there.kept == {
        address(NUMBER, "kept"): {State.HELD: 1},
        address(NUMBER, "marked"): {State.PENDING: 1},
    }
