"""Release: once to each recipient, as the message came, and the file tells the truth wherever we end."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from bqfilter.config.schema import SpoolSettings
from bqfilter.errors import QuarantineFailure
from bqfilter.log import Log
from bqfilter.mail.envelope import Client
from bqfilter.net.address import SocketAddress
from bqfilter.quarantine import Quarantine, Record, State
from bqfilter.quarantine.claim import Claim
from bqfilter.quarantine.history import Event, What
from bqfilter.release import Order, Outcome, Releaser, Result
from bqfilter.upstream import Upstream
from tests.doubles.clock import FakeClock
from tests.doubles.faults import Gone, failing
from tests.doubles.kept import CONTENT, FACTS, keep, mail, record
from tests.doubles.recorder import RecordingSink
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.upstream import HANGUP, SILENCE, XFORWARD, FakeUpstream

A, B = b"b@example.org", b"c@example.org"
WIRE = b"Subject: Invoice\r\nMessage-ID: <1@remote.example>\r\n\r\n..\r\n...dots\r\nHello.\r\n.\r\n"
NOW = 1_764_077_243.0
ALL = Order(by="root")
AGAIN = Order(again=True)


@dataclass
class Bench:
    """One kept message, and an after-filter server for it."""

    store: Quarantine
    server: FakeUpstream
    clock: FakeClock
    identifier: str = ""

    def keep(self, *recipients: bytes, state: State = State.HELD, **others: object) -> None:
        self.identifier = keep(self.store, *recipients, state=state, **others).id

    def releaser(self) -> Releaser:
        """As a new command would have it: over a connection of its own."""
        upstream = Upstream(
            settings(), [SocketAddress(2, ("127.0.0.1", 10026))], HOSTNAME, self.clock, self.server.connect,
            Log(RecordingSink(), is_json=False),
        )  # fmt: skip
        return Releaser(upstream, SpoolSettings(), self.clock, lambda: NOW)

    def release(self, order: Order = ALL) -> Outcome:
        with self.store.claim(self.identifier) as claim:
            return self.releaser().release(claim, order)

    @property
    def state(self) -> State:
        return self.store.find(self.identifier).state

    def events(self) -> list[str]:
        with self.store.open(self.identifier) as kept:
            return [str(event.what) for event in kept.events()]

    def said(self, verb: bytes) -> list[bytes]:
        return [line for line in self.server.commands if line.split()[0] == verb]


@pytest.fixture
def bench(tmp_path: Path, clock: FakeClock) -> Bench:
    made = Bench(Quarantine(tmp_path), FakeUpstream(clock, [b"PIPELINING", XFORWARD]), clock)
    made.keep()
    return made


def test_a_message_is_handed_over_as_it_came(bench: Bench) -> None:
    outcome = bench.release()
    assert outcome == Outcome(Result.RELEASED, queue_id="4Q1", recipients=(A,))
    assert bench.server.messages == [WIRE]
    assert bench.said(b"MAIL") == [b"MAIL FROM:<a@remote.example> SIZE=70 BODY=8BITMIME"]
    assert bench.said(b"RCPT") == [b"RCPT TO:<b@example.org>"]
    words = b" ".join(bench.said(b"XFORWARD")).split()
    assert {b"%b=%b" % fact for fact in FACTS.items()} <= set(words)
    assert bench.state is State.RELEASED
    assert bench.events() == ["handover", "released"]


def test_a_second_release_does_nothing_and_says_when_it_was(bench: Bench) -> None:
    bench.release()
    outcome = bench.release()
    assert outcome.result is Result.ALREADY
    assert outcome.result.is_good
    assert (outcome.text, outcome.queue_id) == ("by a release at 2025-11-25T13:27:23+00:00", "4Q1")
    assert len(bench.server.messages) == 1
    assert len(bench.server.connections) == 1


def test_again_sends_it_again(bench: Bench) -> None:
    bench.release()
    assert bench.release(AGAIN).result is Result.RELEASED
    assert len(bench.server.messages) == 2
    assert bench.state is State.RELEASED


def test_some_recipients_first_and_the_others_later(bench: Bench) -> None:
    bench.keep(A, B)
    assert bench.release(Order(recipients=(b"C@example.org",))).recipients == (B,)
    assert bench.state is State.HELD
    assert bench.release().recipients == (A,)
    assert bench.state is State.RELEASED
    assert bench.said(b"RCPT") == [b"RCPT TO:<c@example.org>", b"RCPT TO:<b@example.org>"]


def test_somebody_who_is_not_among_its_recipients_is_no_recipient(bench: Bench) -> None:
    outcome = bench.release(Order(recipients=(b"x@example.org",)))
    assert outcome == Outcome(Result.FAILED, "x@example.org is not among its recipients")
    assert bench.server.connections == []


def test_it_is_sent_to_somebody_else_and_stays_for_its_recipients(bench: Bench) -> None:
    order = Order(others=(b"abuse@example.org",))
    assert bench.release(order).recipients == (b"abuse@example.org",)
    assert bench.said(b"RCPT") == [b"RCPT TO:<abuse@example.org>"]
    assert bench.state is State.HELD
    assert bench.release(order).result is Result.ALREADY
    assert bench.release().recipients == (A,)
    assert bench.state is State.RELEASED


def test_an_address_that_stands_twice_gets_it_once(bench: Bench) -> None:
    bench.keep(A, b"B@example.org")
    bench.release()
    assert len(bench.said(b"RCPT")) == 1
    assert bench.state is State.RELEASED


def test_a_copy_of_what_was_delivered_is_not_sent_again_by_mistake(bench: Bench) -> None:
    bench.keep(state=State.PENDING)
    bench.store.delivered(bench.identifier, [A], "4Q0", "250 2.0.0 Ok")
    outcome = bench.release()
    assert (outcome.result, outcome.queue_id) == (Result.ALREADY, "4Q0")
    assert outcome.text.startswith("when it came at ")
    assert bench.state is State.HELD
    assert bench.release(AGAIN).result is Result.RELEASED


def test_a_safety_copy_that_was_not_delivered_is_released_like_any_other(bench: Bench) -> None:
    bench.keep(state=State.PENDING)
    bench.store.undelivered(bench.identifier, [A], "after-filter server unavailable")
    assert bench.state is State.HELD
    assert bench.release().result is Result.RELEASED


def test_content_without_a_line_end_gets_one(bench: Bench) -> None:
    bench.identifier = bench.store.keep(record(), [b"Subject: x\r\n\r\nno end"]).id
    bench.release()
    assert bench.server.messages == [b"Subject: x\r\n\r\nno end\r\n.\r\n"]


def test_empty_content_is_a_message_too(bench: Bench) -> None:
    bench.identifier = bench.store.keep(record(), []).id
    assert bench.release().result is Result.RELEASED
    assert bench.server.messages == [b".\r\n"]


def test_content_can_never_make_two_messages_of_one(bench: Bench) -> None:
    """Strays were cleaned before it was kept; a file that has some all the same is cleaned again."""
    smuggled = b"Subject: x\r\n\r\nhello\n.\nMAIL FROM:<evil@x>\r\n.\r\r\nmore\r\n"
    bench.identifier = bench.store.keep(record(), [smuggled]).id
    assert bench.release().result is Result.RELEASED
    assert len(bench.server.messages) == 1
    assert len(bench.said(b"MAIL")) == 1


def test_a_large_message_is_spooled_in_a_file(bench: Bench) -> None:
    body = b"0123456789abcdef\r\n" * 50_000
    bench.identifier = bench.store.keep(record(), [body]).id
    assert bench.release().result is Result.RELEASED
    assert bench.server.messages == [body + b".\r\n"]


def test_a_sender_in_bytes_that_are_no_text_stays_the_same_bytes(bench: Bench) -> None:
    line = b"MAIL FROM:<caf\xe9@remote.example> SMTPUTF8"
    bench.keep(sender=mail(line))
    bench.release()
    assert bench.said(b"MAIL") == [line]


def test_facts_that_would_not_pass_are_not_said(bench: Bench) -> None:
    bench.keep(client=Client({b"NAME": b"a b", b"HELO": b"x\ry"}))
    bench.release()
    (line,) = bench.said(b"XFORWARD")
    assert b"NAME=[UNAVAILABLE]" in line
    assert b"SOURCE=REMOTE" in line


@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        pytest.param(b"MAIL", b"450 4.1.8 no such domain\r\n", id="the sender"),
        pytest.param(b"RCPT", b"550 5.1.1 unknown user\r\n", id="the recipient"),
        pytest.param(b"DATA", b"451 4.3.0 not now\r\n", id="DATA"),
        pytest.param(b".", b"550 5.7.1 unwanted\r\n", id="the message"),
        pytest.param(b".", b"451 4.3.0 later\r\n", id="the message for now"),
    ],
)
def test_what_the_server_refuses_stays_held_and_its_words_are_told(
    bench: Bench, verb: bytes, reply: bytes
) -> None:
    bench.server.tell(verb, reply)
    outcome = bench.release()
    assert outcome.result is Result.FAILED
    assert reply.decode().strip() in outcome.text
    assert bench.state is State.HELD
    assert bench.release().result is Result.RELEASED
    assert bench.state is State.RELEASED


def test_one_refused_recipient_does_not_keep_it_from_the_others(bench: Bench) -> None:
    bench.keep(A, B)
    bench.server.tell(b"RCPT", b"250 2.1.5 Ok\r\n", b"450 4.2.0 mailbox busy\r\n")
    outcome = bench.release()
    assert outcome.result is Result.PARTLY
    assert not outcome.result.is_good
    assert outcome.text == "<c@example.org> 450 4.2.0 mailbox busy"
    assert (outcome.recipients, bench.state) == ((A,), State.HELD)
    with bench.store.open(bench.identifier) as kept:
        assert "refused: <c@example.org> 450 4.2.0 mailbox busy" in kept.events()[-1].text
    assert bench.release().recipients == (B,)
    assert bench.state is State.RELEASED


@pytest.mark.parametrize("verb", [b"CONNECT", b"EHLO", b"MAIL", b"RCPT", b"DATA"])
@pytest.mark.parametrize("trouble", [HANGUP, SILENCE], ids=["hangs up", "is silent"])
def test_a_server_lost_before_the_dot_leaves_it_held(bench: Bench, verb: bytes, trouble: bytes) -> None:
    bench.server.tell(verb, trouble, trouble, trouble)
    assert bench.release().result is Result.FAILED
    assert bench.state is State.HELD
    assert bench.server.messages == []
    bench.server.told.clear()
    assert bench.release().result is Result.RELEASED


@pytest.mark.parametrize(
    "trouble", [HANGUP, SILENCE, b"garbage\r\n"], ids=["hangs up", "is silent", "babbles"]
)
def test_a_server_lost_behind_the_dot_leaves_it_in_doubt(bench: Bench, trouble: bytes) -> None:
    bench.server.tell(b".", trouble)
    outcome = bench.release()
    assert outcome.result is Result.UNKNOWN
    assert "after the final dot" in outcome.text
    assert bench.state is State.UNKNOWN
    again = bench.release()
    assert again.result is Result.IN_DOUBT
    assert "see the log of the after-filter server" in again.text
    assert len(bench.server.messages) == 1
    assert bench.release(AGAIN).result is Result.RELEASED
    assert bench.state is State.RELEASED


def test_a_message_in_doubt_that_cannot_be_sent_again_stays_in_doubt(bench: Bench) -> None:
    bench.server.tell(b".", HANGUP)
    bench.release()
    bench.server.tell(b"MAIL", b"450 4.1.8 no\r\n")
    assert bench.release(AGAIN).result is Result.FAILED
    assert bench.state is State.UNKNOWN
    assert bench.release().result is Result.IN_DOUBT


def test_a_doubt_is_about_those_it_was_handed_over_for(bench: Bench) -> None:
    bench.keep(A, B)
    bench.server.tell(b".", HANGUP)
    bench.release(Order(recipients=(A,)))
    assert bench.release(Order(recipients=(B,))).result is Result.RELEASED
    assert bench.state is State.UNKNOWN
    assert bench.release().result is Result.IN_DOUBT


def test_a_safety_copy_is_in_doubt_until_somebody_says_otherwise(bench: Bench) -> None:
    bench.keep(state=State.PENDING)
    assert bench.release().result is Result.IN_DOUBT
    assert bench.server.connections == []
    bench.server.tell(b"MAIL", b"450 4.1.8 no\r\n")
    assert bench.release(AGAIN).result is Result.FAILED
    assert bench.state is State.PENDING
    assert bench.release(AGAIN).result is Result.RELEASED
    assert bench.state is State.RELEASED


def test_a_delivery_of_unknown_outcome_stays_in_doubt_when_a_release_fails(bench: Bench) -> None:
    """As the delivery leaves it: the state says so, and an event why, for whomever it was meant."""
    with bench.store.claim(bench.identifier) as claim:
        claim.note(Event(what=What.FAILED, at="now", by="delivery", text="lost after the final dot"))
        claim.turn(State.UNKNOWN)
    assert bench.release().result is Result.IN_DOUBT
    bench.server.tell(b"MAIL", b"450 4.1.8 no\r\n")
    assert bench.release(AGAIN).result is Result.FAILED
    assert bench.state is State.UNKNOWN
    assert bench.release().result is Result.IN_DOUBT
    assert bench.release(AGAIN).result is Result.RELEASED
    assert bench.state is State.RELEASED


def test_an_unknown_outcome_whose_note_was_torn_is_still_in_doubt(bench: Bench) -> None:
    with bench.store.claim(bench.identifier) as claim:
        claim.turn(State.UNKNOWN)
    assert bench.release().result is Result.IN_DOUBT
    bench.server.tell(b"RCPT", b"550 5.1.1 no\r\n")
    bench.release(AGAIN)
    assert bench.state is State.UNKNOWN


def test_a_command_that_was_put_into_a_file_is_not_sent(bench: Bench) -> None:
    (path,) = bench.store.directory.rglob("*.held")
    path.write_bytes(path.read_bytes().replace(b"SIZE=70 BODY=8BITMIME", b"\\r\\nRCPT TO:<x@y.z>", 1))
    outcome = bench.release()
    assert (outcome.result, bench.state) == (Result.FAILED, State.HELD)
    assert bench.server.connections == []


def test_a_damaged_message_is_not_sent(bench: Bench) -> None:
    (path,) = bench.store.directory.rglob("*.held")
    path.write_bytes(path.read_bytes().replace(b"Hello", b"Hallo"))
    outcome = bench.release()
    assert (outcome.result, bench.state) == (Result.FAILED, State.HELD)
    assert "damaged" in outcome.text
    assert bench.server.connections == []


def test_a_spool_without_room_is_told(bench: Bench) -> None:
    bench.identifier = bench.store.keep(record(), [b"x" * 10**6]).id
    with mock.patch(
        "bqfilter.mail.spool.open_nameless", side_effect=OSError(errno.ENOSPC, "No space left on device")
    ):
        outcome = bench.release()
    assert (outcome.result, bench.state) == (Result.FAILED, State.HELD)
    assert "No space left" in outcome.text


STEPS = 13
"""Calls from the claim to the end: turn (2), handover noted (2), turned (2), released noted (2), turned (2);
and what little comes before."""


@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_a_crash_between_any_two_steps_is_never_a_second_delivery(bench: Bench, at: int) -> None:
    """After it an order without --again either sends what was not sent, or sends nothing."""
    with failing(at):
        try:
            bench.release()
        except Gone:
            crashed = True
        else:
            crashed = False
    sent = len(bench.server.messages)
    state = bench.state
    if state in (State.HELD, State.RELEASING):
        assert sent == 0
    if state is State.RELEASED:
        assert sent == 1
    outcome = bench.release()
    assert len(bench.server.messages) <= 1
    if outcome.result is Result.IN_DOUBT:
        assert crashed
        assert bench.state in (State.RELEASING, State.UNKNOWN)
        assert bench.release(AGAIN).result is Result.RELEASED
    assert bench.state is State.RELEASED
    with bench.store.open(bench.identifier) as kept:
        assert b"".join(kept.content()) == CONTENT


@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_a_full_disk_between_any_two_steps_is_told_and_is_no_second_delivery(bench: Bench, at: int) -> None:
    with failing(at, OSError(errno.ENOSPC, "No space left on device")) as faults:
        try:
            outcome = bench.release()
        except (OSError, QuarantineFailure):  # not even claimed
            outcome = Outcome(Result.FAILED, "No space left")
    assert not faults.is_over or "No space left" in outcome.text
    sent = len(bench.server.messages)
    assert sent == (1 if outcome.result is Result.RELEASED else 0)
    bench.release()
    assert len(bench.server.messages) <= 1
    assert bench.state in (State.RELEASED, State.UNKNOWN, State.HELD)


def test_the_steps_are_all_there_are(bench: Bench) -> None:
    with failing(at=STEPS + 1) as faults:
        bench.release()
    assert not faults.is_over


def at_the_dot(bench: Bench, look: Callable[[], None]) -> None:
    """Call `look` when the server hears the end of the message."""
    real = bench.server.reply_to

    def reply_to(verb: bytes) -> bytes:
        if verb == b".":
            look()
        return real(verb)

    bench.server.reply_to = reply_to  # type: ignore[method-assign]


def test_when_the_server_hears_the_dot_the_file_says_that_nothing_is_known(bench: Bench) -> None:
    seen = []
    at_the_dot(bench, lambda: seen.append((bench.state, bench.events())))
    bench.release()
    assert seen == [(State.UNKNOWN, ["handover"])]


def test_until_the_dot_the_file_says_that_nothing_was_handed_over(bench: Bench) -> None:
    seen = []
    real = bench.server.reply_to

    def reply_to(verb: bytes) -> bytes:
        seen.append((verb, bench.state))
        return real(verb)

    bench.server.reply_to = reply_to  # type: ignore[method-assign]
    bench.release()
    before = [state for verb, state in seen if verb in (b"CONNECT", b"EHLO", b"MAIL", b"RCPT", b"DATA")]
    assert before == [State.RELEASING] * 5


def test_nobody_else_can_have_it_meanwhile(bench: Bench) -> None:
    results = []
    at_the_dot(bench, lambda: results.append(_claimed(bench.store, bench.identifier)))
    bench.release()
    assert results == [False]


def _claimed(store: Quarantine, identifier: str) -> bool:
    try:
        with store.claim(identifier) as claim:
            return isinstance(claim, Claim)
    except QuarantineFailure as failure:
        return "another process is at work on it" not in failure.cause


def test_who_gave_the_order_is_written_down(bench: Bench) -> None:
    bench.release()
    with bench.store.open(bench.identifier) as kept:
        released = kept.events()[-1]
    assert (released.by, released.at, released.queue_id) == ("root", "2025-11-25T13:27:23+00:00", "4Q1")
    assert released.text == "250 2.0.0 Ok: queued as 4Q1"


def test_a_record_without_recipients_is_released_to_nobody(bench: Bench) -> None:
    bench.identifier = bench.store.keep(Record(sender=mail(), recipients=()), [CONTENT]).id
    outcome = bench.release()
    assert (outcome.result, outcome.text) == (Result.FAILED, "it has no recipients")
