"""Plan: from verdicts that may differ between recipients to what is done and the one answer there is. Pure.

A client gets one reply for all recipients of a message (RFC 5321 section 4.1.1.4), so:

  * One verdict defers: everything is deferred. The client comes again, and a copy delivered now would be
    delivered then once more.
  * All verdicts reject: the first one's words are the answer.
  * Some reject and others do not: what is wanted is delivered, and what would be rejected goes to the
    quarantine, because the client is told 250 for all of it.
  * Otherwise each gets what it says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bqfilter.config.actions import Action
from bqfilter.scanning.decision import Verdict
from bqfilter.scanning.policy import Group


@dataclass(frozen=True, slots=True)
class Judged:
    """The recipients of one policy, and the verdict on the message for them."""

    group: Group
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done.

    Where there is a `refusal` it is the answer, and only copies of what is refused are kept. Otherwise it is
    delivered to `delivered`, kept instead of that for `held`, kept besides for `copied`, and dropped for
    `discarded`; the answer is 250 once all that has been done.
    """

    refusal: Judged | None = None
    delivered: tuple[Judged, ...] = ()
    held: tuple[Judged, ...] = ()
    copied: tuple[Judged, ...] = ()
    discarded: tuple[Judged, ...] = field(default=())


def plan(judged: Sequence[Judged]) -> Plan:
    """What to do; there is at least one verdict."""
    deferred = _with(judged, Action.DEFER)
    rejected = _with(judged, Action.REJECT)
    refused = deferred or (rejected if len(rejected) == len(judged) else ())
    if refused:
        return Plan(refusal=refused[0], copied=_copied(refused))
    others = [one for one in judged if one not in rejected]
    return Plan(
        delivered=tuple(one for one in judged if one.verdict.action.delivers),
        held=(*_with(judged, Action.QUARANTINE), *rejected),
        copied=_copied(others),
        discarded=_with(judged, Action.DISCARD),
    )


def _with(judged: Sequence[Judged], action: Action) -> tuple[Judged, ...]:
    return tuple(one for one in judged if one.verdict.action is action)


def _copied(judged: Sequence[Judged]) -> tuple[Judged, ...]:
    return tuple(one for one in judged if one.verdict.keeps_copy)
