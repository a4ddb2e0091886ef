"""Transaction: one message, from MAIL to the reply to its final dot.

MAIL and RCPT go to the after-filter server as they come, so its own refusals reach the client. The content is
spooled, judged where the site wants that, and only then handed over (`handover`, `delivery`), which is where
the promises about delivery are kept.

A refusal is a value. Nothing but the loss of the client is raised from here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bqfilter.budget import Budget
from bqfilter.config.schema import Settings
from bqfilter.delivery import Delivery
from bqfilter.errors import UpstreamFailure
from bqfilter.handover import Handover
from bqfilter.ledger import Ledger, Stage
from bqfilter.log import Log
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Original
from bqfilter.mail.spool import Spool
from bqfilter.net.address import Endpoint
from bqfilter.net.deadline import Deadline
from bqfilter.outcome import Outcome, Result
from bqfilter.parcels import Consignment
from bqfilter.quarantine import Quarantine
from bqfilter.scanning.judge import Judge
from bqfilter.scanning.plan import Judged, plan
from bqfilter.smtp import replies
from bqfilter.smtp.commands import Mail, Rcpt
from bqfilter.smtp.replies import Reply, relayable
from bqfilter.upstream import Upstream

_ACCEPTABLE = frozenset({2, 4, 5})  # classes of replies to MAIL and RCPT that mean something to the client


@dataclass(frozen=True, slots=True)
class Means:
    """What a worker has for all messages alike; no judge where nobody has opinions about content."""

    settings: Settings
    upstream: Upstream
    judge: Judge | None
    quarantine: Quarantine


class Transaction:
    """One message for `client`, within `budget`; it came in by `listener`, in the session of this name."""

    def __init__(
        self,
        means: Means,
        client: Client,
        budget: Budget,
        ledger: Ledger,
        log: Log,
        session_id: str = "",
        listener: Endpoint | None = None,
    ) -> None:
        settings = means.settings
        self._client = client
        self._session_id = session_id
        self._listener = listener
        self._means = means
        self._upstream = means.upstream
        self._budget = budget
        self._ledger = ledger
        self._log = log
        self._broken: Outcome | None = None  # the after-filter leg failed: every further step gets this reply
        self.envelope: Envelope | None = None
        self.spool = Spool(settings.spool.directory, settings.spool.memory, settings.limits.message_size)

    def mail(self, command: Mail, limit: Deadline) -> Reply:
        """Open the transaction behind us with the client's own line."""
        self.envelope = Envelope(self._client, command, session_id=self._session_id, listener=self._listener)
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
        handover = Handover(self._upstream, self._budget, self._ledger, arrived, client_has_left)
        outcome = (
            self._broken
            or self._refusal()
            or self._judge(handover, arrived)
            or handover.send(Original(self.spool))
        )
        self.spool.close()
        if outcome.cause and not outcome.result.is_success:
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
            self._upstream.disown()
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

    def _judge(self, handover: Handover, arrived: float) -> Outcome | None:
        """Have the content looked at and do what comes of it; None where nobody has opinions about it."""
        judge, envelope = self._means.judge, self.envelope
        if judge is None or envelope is None:
            return None
        return handover.attempt(lambda: self._judged(judge, handover, arrived, envelope))

    def _judged(self, judge: Judge, handover: Handover, arrived: float, envelope: Envelope) -> Outcome:
        message = Message.spooled(self.spool, judge.header_limit)
        if message.header_is_too_large:
            return Outcome(Result.REJECTED, replies.HEADER_TOO_BIG)
        limit = self._budget.scanning(arrived)
        self._ledger.enter(Stage.FILTER, limit.at)
        judged = judge.judge(message, envelope, limit, self._log)
        self._ledger.enter(Stage.FILTER, handover.limit.at)  # what is kept and put together may take as long
        given = Consignment(envelope, message, self.spool, lambda one: judge.edits(one, message, envelope))
        mailbox = self._means.settings.quarantine.quarantine_to
        delivery = Delivery(handover, self._means.quarantine, mailbox, self._log)
        return _told(delivery.carry_out(plan(judged), given), judged)


def _told(outcome: Outcome, judged: Sequence[Judged]) -> Outcome:
    """The outcome with what was decided, and why, for the log."""
    verdicts = [one.verdict for one in judged]
    words = (
        f"{verdict.action}+quarantine" if verdict.keeps_copy else str(verdict.action) for verdict in verdicts
    )
    reports = {report.scanner: report for verdict in verdicts for report in verdict.reports}
    decisive = [verdict.decisive for verdict in verdicts]
    notes = (
        f"{report.scanner}: {report.detail}"
        for report in reports.values()
        if report.detail and report not in decisive
    )
    return replace(
        outcome,
        notes="; ".join(notes),
        policy=",".join(one.group.policy.name for one in judged),
        verdict=",".join(words),
        reason=next((verdict.reason for verdict in verdicts if verdict.reason), ""),
        scans=",".join(
            f"{name}:{report.finding}:{report.seconds * 1000:.1f}" for name, report in reports.items()
        ),
    )
