"""Transaction: one message, from MAIL to the reply to its final dot.

It keeps the promises. A 2xx to the final dot is the after-filter server's own 2xx. The dot is sent only while
the client is still there and enough of the reply budget is left. What fails before it is a 451 and certainly
not delivered; what fails behind it is a 451 too, and the one case in which nobody can know: it is logged as a
possible duplicate.

A refusal is a value. Nothing but the loss of the client is raised from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from re import compile as pattern

from bqfilter.budget import Budget
from bqfilter.config.schema import Settings
from bqfilter.errors import ClientGone, OutcomeUnknown, OutOfTime, UpstreamFailure
from bqfilter.ledger import Ledger
from bqfilter.log import Log
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.outgoing import Original
from bqfilter.mail.spool import Spool
from bqfilter.net.deadline import Deadline
from bqfilter.smtp import replies
from bqfilter.smtp.commands import Mail, Rcpt
from bqfilter.smtp.replies import Reply, relayable
from bqfilter.upstream import Upstream

_QUEUE_ID = pattern(rb"queued as ([0-9A-Za-z]{1,32})")
_ACCEPTABLE = frozenset({2, 4, 5})  # classes of replies to MAIL and RCPT that mean something to the client


class Result(StrEnum):
    """What became of a message."""

    ACCEPTED = "accepted"  # the after-filter server has it
    REJECTED = "rejected"  # 5xx
    TEMPFAILED = "tempfailed"  # 4xx
    OUTCOME_UNKNOWN = "outcome_unknown"  # 451, though the after-filter server may have it
    CLIENT_ABORT = "client_abort"  # the client left; not delivered


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a transaction: what became of it, what the client is told, and why."""

    result: Result
    reply: Reply
    cause: str = ""
    queue_id: str = ""


class Transaction:
    """One message for `client`, carried by `upstream`, within `budget`."""

    def __init__(
        self, settings: Settings, client: Client, upstream: Upstream, budget: Budget, ledger: Ledger, log: Log
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._budget = budget
        self._ledger = ledger
        self._log = log
        self._broken: Outcome | None = None  # the after-filter leg failed: every further step gets this reply
        self.envelope: Envelope | None = None
        self.spool = Spool(settings.spool.directory, settings.spool.memory, settings.limits.message_size)

    def mail(self, command: Mail, limit: Deadline) -> Reply:
        """Open the transaction behind us with the client's own line."""
        self.envelope = Envelope(self._client, command)
        return self._step(
            lambda: self._upstream.begin(self._client, command.line, limit, self._ledger), command.verb
        )

    def rcpt(self, command: Rcpt, limit: Deadline) -> Reply:
        """Add a recipient with the client's own line."""
        reply = self._step(lambda: self._upstream.recipient(command.line, limit, self._ledger), command.verb)
        if self.envelope is not None:
            if reply.is_positive:
                self.envelope.recipients.append(command)
            else:
                self.envelope.refused_count += 1
        return reply

    def data(self) -> Reply:
        """354 of our own: the after-filter server gets its DATA when the message has been judged."""
        return self._broken.reply if self._broken else replies.START_MAIL_INPUT

    def end_of_data(self, arrived: float, client_has_left: Callable[[], bool]) -> Outcome:
        """Hand the spooled message over, or say why not; `arrived` is the instant at which its end came."""
        outcome = self._broken or self._refusal() or self._hand_over(arrived, client_has_left)
        self.spool.close()
        if outcome.result is not Result.ACCEPTED and outcome.cause:
            self._upstream.abandon()
        return outcome

    def finish(self) -> None:
        """The client has its answer: settle with the after-filter server, which may take time."""
        self.spool.close()
        if self._broken:
            self._upstream.abandon()
        else:
            self._upstream.finish()

    def abort(self) -> None:
        """The client is lost: leave the after-filter server without a message."""
        self.spool.close()
        self._upstream.abandon()

    def _step(self, take: Callable[[], Reply], verb: str) -> Reply:
        """One command behind us: the server's own answer, or our 451 with the cause in the log."""
        if self._broken:
            return self._broken.reply
        try:
            reply = take()
        except UpstreamFailure as failure:
            return self._break(replies.UPSTREAM_UNAVAILABLE, failure.cause, verb)
        if reply.code // 100 not in _ACCEPTABLE:
            return self._break(replies.UPSTREAM_GARBLED, f"answered {verb} with {reply}", verb)
        if not reply.is_positive:
            self._log.info("reject", command=verb, client=self._client.namaddr, reply=reply.wire.rstrip())
        return relayable(reply)

    def _break(self, reply: Reply, cause: str, verb: str) -> Reply:
        self._broken = Outcome(Result.TEMPFAILED, reply, cause)
        self._upstream.abandon()
        self._log.warning(
            "after-filter server failed",
            command=verb,
            client=self._client.namaddr,
            cause=cause,
            reply=str(reply),
        )
        return reply

    def _refusal(self) -> Outcome | None:
        """The spool could not take the message."""
        if self.spool.is_too_big:
            return Outcome(Result.REJECTED, replies.MESSAGE_TOO_BIG)
        if self.spool.failure is None:
            return None
        reply = replies.SPOOL_FULL if self.spool.has_no_room else replies.SPOOL_FAILED
        return Outcome(Result.TEMPFAILED, reply, f"spool: {self.spool.failure}")

    def _hand_over(self, arrived: float, client_has_left: Callable[[], bool]) -> Outcome:
        handover = self._budget.handover(arrived)

        def go() -> None:
            if client_has_left():
                raise ClientGone
            if handover.has_passed:
                raise OutOfTime

        try:
            go()
            last_moment = self._budget.last_moment(arrived)
            reply = self._upstream.hand_over(Original(self.spool), go, handover, last_moment, self._ledger)
        except ClientGone:
            return Outcome(Result.CLIENT_ABORT, replies.CLIENT_LEFT, "client gave up before the final dot")
        except OutOfTime:
            return Outcome(Result.TEMPFAILED, replies.OUT_OF_TIME, "reply budget spent before the final dot")
        except UpstreamFailure as failure:
            return Outcome(Result.TEMPFAILED, replies.UPSTREAM_LOST, failure.cause)
        except OSError as error:  # sockets have their own errors: this is the file that cannot be read back
            return Outcome(Result.TEMPFAILED, replies.SPOOL_FAILED, f"spool: {error}")
        except OutcomeUnknown as unknown:
            cause = f"{unknown.cause} after the final dot: possible duplicate"
            return Outcome(Result.OUTCOME_UNKNOWN, replies.UPSTREAM_LOST, cause)
        return _outcome_of(reply)


def _outcome_of(reply: Reply) -> Outcome:
    """The after-filter server's own answer to DATA or to the final dot."""
    if reply.code // 100 == 2:
        match = _QUEUE_ID.search(reply.lines[-1])
        return Outcome(Result.ACCEPTED, relayable(reply), queue_id=match[1].decode("ascii") if match else "")
    result = Result.REJECTED if reply.code >= 500 else Result.TEMPFAILED
    return Outcome(result, relayable(reply))
