"""Delivery: carries a plan out, and comes to the one answer there is.

Nothing is answered 250 that is not delivered, safe on disk in the quarantine, or dropped because a policy
says so. What the plan wants kept is put there before anything is delivered, as pending, and confirmed once
the answer is certain; where the answer is a failure it is withdrawn, since the client has the message still.

A message that goes out in several transactions, because its recipients' copies differ, has only one answer.
Once the first is delivered that answer is 250, whatever becomes of the others. So these are put into the
quarantine as well before the first dot is sent, and withdrawn one by one as they are delivered: whatever
happens in between nothing is lost, and what could not be delivered is there with the reason.
"""

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bqfilter import parcels
from bqfilter.config.actions import Action
from bqfilter.errors import QuarantineFailure
from bqfilter.handover import Handover
from bqfilter.log import Log
from bqfilter.outcome import Outcome, Result
from bqfilter.parcels import Consignment, Parcel
from bqfilter.quarantine import Quarantine, Record, ReportSummary, State, headline
from bqfilter.quarantine.history import Event, What, instant
from bqfilter.scanning.plan import Judged, Plan
from bqfilter.smtp import replies


@dataclass(frozen=True, slots=True)
class _Kept:
    """A message in the quarantine: because it is wanted there, or until its parcel has been delivered."""

    id: str
    judged: Judged
    parcel: Parcel | None = None


class Delivery:
    """Carries out plans for one message. Kept messages go to `mailbox`, where there is one."""

    def __init__(self, handover: Handover, quarantine: Quarantine, mailbox: str, log: Log) -> None:
        self._handover = handover
        self._quarantine = quarantine
        self._mailbox = mailbox.encode("ascii")
        self._log = log

    def carry_out(self, plan: Plan, given: Consignment) -> Outcome:
        """Do it. Raises nothing but for mistakes of our own."""
        return self._handover.attempt(lambda: self._carry_out(plan, given))

    def _carry_out(self, plan: Plan, given: Consignment) -> Outcome:
        to_send = parcels.for_recipients(plan.delivered, given, self._handover.capabilities)
        to_keep = (*plan.held, *plan.copied)
        if self._mailbox:
            records = ((one, _record(one, given)) for one in to_keep)
            to_send += parcels.for_mailbox(
                records, given, self._mailbox, self._handover.capabilities, time.time()
            )
            to_keep = ()
        if to_keep or len(to_send) > 1:
            self._handover.go()  # a single transaction asks by itself, at the last moment
        kept: list[_Kept] = []
        try:
            for one in to_keep:
                kept.append(self._keep(one, given))  # noqa: PERF401 - those before a failure have to be known
            for parcel in to_send[1:]:
                for one in parcel.judged:
                    kept.append(self._keep(one, given, parcel))  # noqa: PERF401 - likewise
        except OSError as error:
            self._withdraw(kept)
            return Outcome(Result.TEMPFAILED, replies.QUARANTINE_FAILED, f"quarantine: {error}")
        outcome = self._decisive(to_send, given, kept)
        if outcome.result is not Result.ACCEPTED:
            self._withdraw(kept)
            return outcome if plan.delivered else _own_trouble(outcome)
        return self._completed(to_send, kept, plan, given, outcome)

    def _completed(
        self, to_send: Sequence[Parcel], kept: list[_Kept], plan: Plan, given: Consignment, outcome: Outcome
    ) -> Outcome:
        """The first transaction is delivered, or there was nothing to send: all the rest, and the answer."""
        has_left = False
        with self._no_way_back():
            has_left = self._post_further(to_send[1:], kept, given)
            self._settle([one for one in kept if not one.parcel], plan, outcome, has_left=has_left)
        if has_left:
            return _LEFT_BETWEEN
        if kept and not to_send:
            unheard = self._handover.attempt(self._untold)
            if unheard.result is not Result.ACCEPTED:
                self._withdraw(kept)
                return unheard
        return _answer(plan, outcome, kept)

    def _decisive(self, to_send: Sequence[Parcel], given: Consignment, kept: Sequence[_Kept]) -> Outcome:
        """On the first transaction depends the answer; without one, on whether keeping took too long."""
        if to_send:
            return self._post(to_send[0], given, more=len(to_send) > 1)
        return self._handover.attempt(self._unsent) if kept else _UNSENT

    def _unsent(self) -> Outcome:
        """A client that has given up meanwhile comes again: it must not have been kept once already."""
        self._handover.go()
        return _UNSENT

    def _untold(self) -> Outcome:
        """What is only kept can be taken back until the client is told, so a slow disk makes it no double."""
        self._handover.tell()
        return _UNSENT

    def _keep(self, one: Judged, given: Consignment, parcel: Parcel | None = None) -> _Kept:
        """Make it safe, in a state that says that nobody has been told anything yet. Raises OSError."""
        kept = self._quarantine.keep(_record(one, given), given.message.content(), State.PENDING)
        return _Kept(kept.id, one, parcel)

    def _post_further(self, further: Sequence[Parcel], kept: Sequence[_Kept], given: Consignment) -> bool:
        """The others. The client will be told 250; what cannot be delivered now stays in the quarantine.

        True where the client has left meanwhile: it comes again, with what was not delivered too.
        """
        has_left = False
        for parcel in further:
            outcome = self._post(parcel, given, more=parcel is not further[-1])
            copies = [one for one in kept if one.parcel is parcel]
            if outcome.result in (Result.ACCEPTED, Result.CLIENT_ABORT):
                self._withdraw(copies)
                has_left = has_left or outcome.result is Result.CLIENT_ABORT
                continue
            for one in copies:
                self._leave(one, outcome)
        return has_left

    def _post(self, parcel: Parcel, given: Consignment, *, more: bool) -> Outcome:
        if not parcel.mail:
            return self._handover.send(parcel.message, more=more)
        return self._handover.open_and_send(
            given.envelope.client, parcel.mail, parcel.recipients, parcel.message, more=more
        )

    def _leave(self, one: _Kept, outcome: Outcome) -> None:
        """It could not be delivered, and the client believes it was: somebody has to know."""
        cause = outcome.cause or str(outcome.reply)
        self._log.error(
            "some recipients' copy is not delivered but in quarantine", kept_as=one.id, cause=cause
        )
        with self._telling(one):
            if outcome.result is Result.OUTCOME_UNKNOWN:
                self._leave_in_doubt(one, cause)
            else:
                self._quarantine.undelivered(one.id, _takers(one.judged), cause)

    def _leave_in_doubt(self, one: _Kept, cause: str) -> None:
        """Its recipients may have it: a release has to ask for it twice."""
        event = Event(
            what=What.HANDOVER,
            at=instant(time.time()),
            by="bqfilterd",
            recipients=_takers(one.judged),
            text=cause,
        )
        with self._quarantine.claim(one.id) as claim:
            claim.note(event)
            claim.turn(State.UNKNOWN)

    def _settle(self, kept: list[_Kept], plan: Plan, outcome: Outcome, *, has_left: bool) -> None:
        """The answer is certain: what is kept because it is wanted stays, unless the client comes again."""
        if has_left:
            self._withdraw(kept)
            return
        for one in kept:
            with self._telling(one):
                if one.judged in plan.delivered:
                    reply = str(outcome.reply)
                    self._quarantine.delivered(one.id, _takers(one.judged), outcome.queue_id, reply)
                else:
                    self._hold(one)

    def _hold(self, one: _Kept) -> None:
        with self._quarantine.claim(one.id) as claim:
            claim.turn(State.HELD)

    def _withdraw(self, kept: list[_Kept]) -> None:
        for one in kept:
            with self._telling(one):
                self._quarantine.withdraw(one.id)

    @contextmanager
    def _no_way_back(self) -> Iterator[None]:
        """Behind the first delivery no mistake of ours may make a 451 of the answer: it would come twice."""
        try:
            yield
        except Exception:
            self._handover.abandon()
            self._log.error(
                "internal error, what is not delivered is in quarantine",
                traceback=traceback.format_exc(limit=-8),
            )

    @contextmanager
    def _telling(self, one: _Kept) -> Iterator[None]:
        """What fails behind the answer: the message is safe but looks unfinished. Somebody has to know."""
        try:
            yield
        except (OSError, QuarantineFailure) as error:
            self._log.error("quarantine failed", kept_as=one.id, cause=str(error))


# Nothing has to be sent, and what had to be kept is kept.
_UNSENT = Outcome(Result.ACCEPTED, replies.OK)

# Who has closed his side may still listen, and must not hear 250 for what he is to bring again.
_LEFT_BETWEEN = Outcome(
    Result.OUTCOME_UNKNOWN,
    replies.CLIENT_LEFT,
    "client gave up when some recipients' copy was delivered: possible duplicate",
)


def _own_trouble(outcome: Outcome) -> Outcome:
    """What the quarantine's mailbox does not take is no refusal of the client's message."""
    if outcome.cause or outcome.result not in (Result.REJECTED, Result.TEMPFAILED):
        return outcome
    return Outcome(Result.TEMPFAILED, replies.QUARANTINE_FAILED, f"quarantine mailbox: {outcome.reply}")


def _answer(plan: Plan, outcome: Outcome, kept: list[_Kept]) -> Outcome:
    """What the client is told once everything is done."""
    kept_as = tuple(one.id for one in kept if not one.parcel)
    if plan.refusal is not None:
        verdict = plan.refusal.verdict
        result = Result.REJECTED if verdict.action is Action.REJECT else Result.TEMPFAILED
        return Outcome(result, verdict.reply or replies.DEFERRED, kept_as=kept_as)
    if plan.delivered:
        return replace(outcome, kept_as=kept_as)
    result = Result.QUARANTINED if plan.held else Result.DISCARDED
    return Outcome(result, replies.OK, queue_id=outcome.queue_id, kept_as=kept_as)


def _record(one: Judged, given: Consignment) -> Record:
    envelope, verdict = given.envelope, one.verdict
    message_id, subject = headline(given.message.header)
    action = str(verdict.action)
    return Record(
        sender=envelope.sender,
        recipients=one.group.recipients,
        client=envelope.client,
        session_id=envelope.session_id,
        listener=str(envelope.listener or ""),
        action=f"{action}+quarantine" if verdict.keeps_copy else action,
        policy=one.group.policy.name,
        reason=verdict.reason,
        reports=tuple(
            ReportSummary(report.scanner, report.finding, report.detail, report.score)
            for report in verdict.reports
        ),
        message_id=message_id,
        subject=subject,
    )


def _takers(one: Judged) -> tuple[bytes, ...]:
    """Who gets the message when it is delivered under this verdict, added copies apart."""
    if one.verdict.recipients is not None:
        return one.verdict.recipients
    return tuple(rcpt.address for rcpt in one.group.recipients)
