"""Release: hand a kept message over to the after-filter server, as it came, to those who do not have it yet.

It is not scanned again. The envelope is the one it came with, unless other recipients are asked for: the same
MAIL line, the same RCPT lines with their parameters, the same XFORWARD facts.

Nobody gets a message twice by a second order: what was done is written into the file, recipient by recipient,
before the order is reported as done. The file says at any instant what is known, whatever ends here: it is
`releasing` only while the final dot has certainly not been sent, is turned `unknown`, on disk, right before
the dot, and gets its last state when the reply is known. What is in doubt is only sent again where the order
says so.

What fails is told in the outcome; nothing is raised but for mistakes of our own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bqfilter.config.schema import SpoolSettings
from bqfilter.errors import OutcomeUnknown, QuarantineFailure, UpstreamFailure
from bqfilter.ledger import Ledger
from bqfilter.mail.outgoing import Original
from bqfilter.mail.spool import Spool
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.quarantine import State
from bqfilter.quarantine.claim import Claim
from bqfilter.quarantine.history import (
    Event,
    Standing,
    What,
    has_it,
    instant,
    is_in_doubt,
    resting_state,
    standing,
)
from bqfilter.quarantine.names import SETTLED
from bqfilter.quarantine.record import check
from bqfilter.smtp import replies
from bqfilter.smtp.body import DOT, stuff
from bqfilter.smtp.commands import Rcpt
from bqfilter.smtp.replies import Reply
from bqfilter.upstream import Upstream

_PATIENCE = 600.0  # seconds for each wait, RFC 5321 section 4.5.3.2: no client of ours is waiting


class Result(StrEnum):
    """What became of an order."""

    RELEASED = "released"  # all who were meant have it now
    ALREADY = "delivered already"  # they had it before: nothing was done
    PARTLY = "released in part"  # some of them were refused by the after-filter server
    FAILED = "not released"  # nobody got it; it is kept as it was
    IN_DOUBT = "in doubt"  # an earlier attempt may have delivered it: nothing was done
    UNKNOWN = "outcome unknown"  # no reply to the final dot

    @property
    def is_good(self) -> bool:
        """All who were meant have it."""
        return self in (Result.RELEASED, Result.ALREADY)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be released: to those of its recipients, all where there are none, or to others altogether.

    `again` sends it to those as well who have it, or may have it. `by` is whoever gives the order.
    """

    recipients: tuple[bytes, ...] = ()
    others: tuple[bytes, ...] = ()
    again: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it; `text` says why, or when and to whom, for the operator's eyes."""

    result: Result
    text: str = ""
    queue_id: str = ""
    recipients: tuple[bytes, ...] = ()
    refused: tuple[tuple[bytes, Reply], ...] = ()


class Releaser:
    """Releases messages over `upstream`, one after the other; `now` is the wall clock, for the files."""

    def __init__(
        self, upstream: Upstream, spooling: SpoolSettings, clock: Clock, now: Callable[[], float]
    ) -> None:
        self._upstream = upstream
        self._spooling = spooling
        self._clock = clock
        self._now = now
        self._ledger = Ledger(clock, lambda _stage, _now, _until: None)

    def release(self, claim: Claim, order: Order) -> Outcome:
        """Carry out one order."""
        try:
            return self._release(claim, order)
        except (QuarantineFailure, OSError) as failure:
            return Outcome(Result.FAILED, str(failure))

    def _release(self, claim: Claim, order: Order) -> Outcome:
        check(claim.stored.record)
        fared = standing(claim.events())
        wanted = _wanted(claim, order)
        if not wanted:
            return Outcome(Result.FAILED, "it has no recipients")
        missing = wanted if order.again else tuple(one for one in wanted if not has_it(one.address, fared))
        if not missing:
            _settle(claim, fared)
            return _already(wanted, fared)
        if not order.again and (doubt := _doubt(claim, missing, fared)):
            return Outcome(Result.IN_DOUBT, doubt)
        return _Attempt(self, claim, missing, order.by).run()

    def _begin(self, claim: Claim, missing: tuple[Rcpt, ...]) -> tuple[Reply, list[tuple[Rcpt, Reply]]]:
        """MAIL and all recipients: MAIL's reply, and theirs. Raises UpstreamFailure."""
        record = claim.stored.record
        limit = self._limit()
        reply = self._upstream.begin(record.client, record.sender.line, limit, self._ledger)
        if reply.code // 100 != 2:
            return reply, []
        return reply, [
            (one, self._upstream.recipient(one.line, self._limit(), self._ledger)) for one in missing
        ]

    def _hand_over(self, spool: Spool, go: Callable[[], None]) -> Reply:
        return self._upstream.hand_over(Original(spool), go, self._limit(), self._limit(), self._ledger)

    def _limit(self) -> Deadline:
        return Deadline.after(self._clock, _PATIENCE)

    def _spooled(self, claim: Claim) -> Spool:
        """The content in the form in which it travels; its digest has been compared by then."""
        spool = Spool(self._spooling.directory, self._spooling.memory, 0)
        try:
            end = b"\r\n"
            for piece in stuff(claim.content()):
                spool.append(piece)
                end = (end + piece)[-2:]
            # `is_clean` stays False: the leg cleans it once more, and no file can make two messages of one.
            spool.append(DOT if end == b"\r\n" else b"\r\n" + DOT)
            if spool.failure is not None:
                raise spool.failure
        except BaseException:
            spool.close()
            raise
        return spool

    def _event(
        self, what: What, by: str, recipients: tuple[bytes, ...], text: str, queue_id: str = ""
    ) -> Event:
        at = instant(self._now())
        return Event(what=what, at=at, by=by, recipients=recipients, queue_id=queue_id, text=text)


class _Attempt:
    """One message on its way; lives from the claim's first change to its last."""

    def __init__(self, releaser: Releaser, claim: Claim, missing: tuple[Rcpt, ...], by: str) -> None:
        self._releaser = releaser
        self._claim = claim
        self._missing = missing
        self._by = by
        self._was = claim.name.state
        is_untold = self._was is State.UNKNOWN and not standing(claim.events())  # of whom the doubt is
        self._is_vague = self._was is State.PENDING or is_untold
        self._taken: tuple[bytes, ...] = ()
        self._is_handed_over = False  # so the file says

    def run(self) -> Outcome:
        spool = self._releaser._spooled(self._claim)
        try:
            if self._was in SETTLED:  # one in doubt stays so
                self._claim.turn(State.RELEASING)
            return self._send(spool)
        except UpstreamFailure as failure:
            self._releaser._upstream.abandon()
            return self._failed(failure.cause)
        except OutcomeUnknown as unknown:
            self._releaser._upstream.abandon()
            return Outcome(Result.UNKNOWN, f"{unknown.cause} after the final dot", recipients=self._taken)
        except OSError as error:
            self._releaser._upstream.abandon()
            return self._failed(str(error))
        finally:
            spool.close()

    def _send(self, spool: Spool) -> Outcome:
        reply, answers = self._releaser._begin(self._claim, self._missing)
        self._taken = tuple(one.address for one, answer in answers if answer.code // 100 == 2)
        refused = tuple((one.address, answer) for one, answer in answers if answer.code // 100 != 2)
        if not self._taken:
            self._releaser._upstream.finish()
            return self._failed(_complaint(reply, refused), refused)
        reply = self._releaser._hand_over(spool, self._go)
        self._releaser._upstream.finish()
        if reply.code // 100 != 2:
            return self._failed(str(reply), refused)
        return self._done(reply, refused)

    def _go(self) -> None:
        """Right before the final dot: from here on nobody could know, should we end."""
        self._note(What.HANDOVER, self._taken, "")
        self._is_handed_over = True
        self._claim.turn(State.UNKNOWN)

    def _done(self, reply: Reply, refused: tuple[tuple[bytes, Reply], ...]) -> Outcome:
        queue_id = replies.queue_id(reply)
        complaint = _complaint(reply, refused) if refused else ""
        noted = f"{reply}; refused: {complaint}" if refused else str(reply)
        flaw = self._conclude(What.RELEASED, self._taken, noted, queue_id)
        text = "; ".join(part for part in (complaint, flaw) if part)
        result = Result.PARTLY if refused else Result.RELEASED
        return Outcome(result, text, queue_id, self._taken, refused)

    def _failed(self, cause: str, refused: tuple[tuple[bytes, Reply], ...] = ()) -> Outcome:
        if self._is_handed_over:
            flaw = self._conclude(What.NOT_DELIVERED, self._taken, cause)
        else:
            flaw = self._conclude(What.FAILED, tuple(one.address for one in self._missing), cause)
        return Outcome(Result.FAILED, f"{cause}; {flaw}" if flaw else cause, refused=refused)

    def _conclude(self, what: What, recipients: tuple[bytes, ...], text: str, queue_id: str = "") -> str:
        """Write down how it ended. That is known now: should the writing fail, this is told besides."""
        try:
            self._note(what, recipients, text, queue_id)
            fared = standing(self._claim.events())
            self._claim.turn(self._resting_state(fared))
        except OSError as error:
            return f"and that could not be written down: {error}; it is {self._claim.name.state} now"
        return ""

    def _resting_state(self, fared: Standing) -> State:
        """By what is known of each recipient; a doubt that is about all of them ends when all have it."""
        state = resting_state(self._claim.stored.record, fared)
        return self._was if self._is_vague and state is not State.RELEASED else state

    def _note(self, what: What, recipients: tuple[bytes, ...], text: str, queue_id: str = "") -> None:
        self._claim.note(self._releaser._event(what, self._by, recipients, text, queue_id))


def _wanted(claim: Claim, order: Order) -> tuple[Rcpt, ...]:
    """The RCPT lines of those who are meant, each address once. Raises QuarantineFailure."""
    if order.others:
        found = [Rcpt(b"RCPT TO:<%b>" % address, address, b"") for address in order.others]
    else:
        found = [*claim.stored.record.recipients]
    if order.recipients and not order.others:
        by_address = {one.address.lower(): one for one in found}
        for address in order.recipients:
            if address.lower() not in by_address:
                raise QuarantineFailure(f"{address.decode('utf-8', 'replace')} is not among its recipients")
        found = [by_address[address.lower()] for address in order.recipients]
    return tuple({one.address.lower(): one for one in found}.values())


def _settle(claim: Claim, fared: Standing) -> None:
    """Finish what a crash has left between the reply and the file's last state."""
    if claim.name.state in (State.RELEASING, State.UNKNOWN):
        claim.turn(resting_state(claim.stored.record, fared))


def _already(wanted: tuple[Rcpt, ...], fared: Standing) -> Outcome:
    events = [event for one in wanted if (event := has_it(one.address, fared))]
    last = max(events, key=lambda event: event.at)
    how = "when it came" if last.what is What.DELIVERED else "by a release"
    return Outcome(Result.ALREADY, f"{how} at {last.at}", last.queue_id)


def _doubt(claim: Claim, missing: tuple[Rcpt, ...], fared: Standing) -> str:
    """Why these may have it already, empty where they do not."""
    if claim.name.state is State.PENDING:
        return "it is the safety copy of a delivery that is under way, or whose worker has ended"
    handed_over = [one for one in missing if is_in_doubt(one.address, fared)]
    if handed_over:
        at = fared[handed_over[0].address.lower()].at
        return f"it was handed over at {at} and no reply is known: see the log of the after-filter server"
    if claim.name.state is State.UNKNOWN and not fared:
        return "it was handed over and no reply is known: see the log of the after-filter server"
    return ""


def _complaint(reply: Reply, refused: tuple[tuple[bytes, Reply], ...]) -> str:
    if not refused:
        return str(reply)
    return "; ".join(f"<{address.decode('utf-8', 'replace')}> {answer}" for address, answer in refused)
