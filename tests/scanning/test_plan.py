"""Plan: one answer for all recipients of a message, and nobody's copy lost or doubled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import Action, Response
from bqfilter.config.content import PolicySettings
from bqfilter.scanning.decision import Verdict
from bqfilter.scanning.plan import Judged, Plan, plan
from bqfilter.scanning.policy import Group, Policy
from bqfilter.smtp import replies
from bqfilter.smtp.commands import Rcpt


def judged(number: int, response: str) -> Judged:
    """The recipient of policy p0, p1, ..., and what is to be done with the message for it."""
    asked = Response.parse(response)
    recipient = Rcpt(b"", b"r%d@x" % number, b"")
    group = Group(Policy(PolicySettings(name=f"p{number}"), ()), (recipient,))
    reply = {Action.REJECT: replies.REFUSED, Action.DEFER: replies.DEFERRED}.get(asked.action)
    return Judged(group, Verdict(asked.action, reply, asked.keeps_copy))


def names(found: tuple[Judged, ...]) -> str:
    return " ".join(one.group.policy.name for one in found)


def shown(found: Plan) -> dict[str, str]:
    """The parts of a plan that are not empty."""
    parts = {
        "refusal": (found.refusal,) if found.refusal else (),
        "delivered": found.delivered,
        "held": found.held,
        "copied": found.copied,
        "discarded": found.discarded,
    }
    return {part: names(ones) for part, ones in parts.items() if ones}


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        pytest.param(["accept"], {"delivered": "p0"}, id="accept"),
        pytest.param(["tag+quarantine"], {"delivered": "p0", "copied": "p0"}, id="deliver and keep a copy"),
        pytest.param(["quarantine"], {"held": "p0"}, id="quarantine"),
        pytest.param(["discard"], {"discarded": "p0"}, id="discard"),
        pytest.param(["discard+quarantine"], {"discarded": "p0", "copied": "p0"}, id="discard with a copy"),
        pytest.param(["reject"], {"refusal": "p0"}, id="reject"),
        pytest.param(["reject+quarantine"], {"refusal": "p0", "copied": "p0"}, id="reject with a copy"),
        pytest.param(["reject", "reject"], {"refusal": "p0"}, id="the first words of two refusals"),
        pytest.param(["accept", "defer"], {"refusal": "p1"}, id="one defers, all come again"),
        pytest.param(["reject", "defer"], {"refusal": "p1"}, id="a deferral before a refusal"),
        pytest.param(
            ["quarantine", "defer+quarantine", "discard"],
            {"refusal": "p1", "copied": "p1"},
            id="nothing else is kept of what comes again",
        ),
        pytest.param(
            ["accept", "reject"], {"delivered": "p0", "held": "p1"}, id="a refusal that cannot be told"
        ),
        pytest.param(
            ["accept", "reject+quarantine"],
            {"delivered": "p0", "held": "p1"},
            id="what is held needs no copy",
        ),
        pytest.param(["discard", "reject"], {"held": "p1", "discarded": "p0"}, id="dropped for one alone"),
        pytest.param(
            ["redirect", "quarantine", "tag"], {"delivered": "p0 p2", "held": "p1"}, id="each gets its own"
        ),
    ],
)
def test_what_differs_between_recipients_comes_to_one_answer(
    responses: list[str], expected: dict[str, str]
) -> None:
    assert shown(plan([judged(number, response) for number, response in enumerate(responses)])) == expected


RESPONSES = [f"{action}{copy}" for action in Action for copy in ("", "+quarantine")]
RESPONSES.remove("quarantine+quarantine")
some = st.lists(st.sampled_from(RESPONSES), min_size=1, max_size=6).map(
    lambda found: [judged(number, response) for number, response in enumerate(found)]
)


@given(some)
def test_a_plan_never_both_refuses_and_does_anything_but_keep_copies(given_judged: list[Judged]) -> None:
    found = plan(given_judged)

    if found.refusal is not None:
        assert (found.delivered, found.held, found.discarded) == ((), (), ())
        assert found.refusal.verdict.reply is not None
        assert all(one.verdict.action is found.refusal.verdict.action for one in found.copied)


@given(some)
def test_every_recipient_is_delivered_held_discarded_or_refused_and_only_one_of_these(
    given_judged: list[Judged],
) -> None:
    found = plan(given_judged)
    done = [*found.delivered, *found.held, *found.discarded]

    expected = [] if found.refusal else given_judged
    assert sorted(map(id, done)) == sorted(map(id, expected))


@given(some)
def test_nothing_is_dropped_or_delivered_that_its_verdict_does_not_say(given_judged: list[Judged]) -> None:
    found = plan(given_judged)

    assert all(one.verdict.action is Action.DISCARD for one in found.discarded)
    assert all(one.verdict.action.delivers for one in found.delivered)
    assert all(one.verdict.action in (Action.QUARANTINE, Action.REJECT) for one in found.held)


@given(some)
def test_a_copy_is_kept_once_wherever_it_is_wanted_and_the_answer_is_not_another_ones(
    given_judged: list[Judged],
) -> None:
    found = plan(given_judged)
    kept = [*found.held, *found.copied]

    assert len({id(one) for one in kept}) == len(kept)
    if found.refusal is None:
        wanted = {id(one) for one in given_judged if one.verdict.keeps_copy}
        assert wanted <= {id(one) for one in kept}
