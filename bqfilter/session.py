"""Session: one client connection, from our greeting to QUIT or loss.

Here the stages meet: bytes become a command, the table of phases says whether it is in order, one `on_...`
method carries it out, and the reply goes back. Nothing is parsed or decided here, and a message has its own
object, the Transaction: RSET, EHLO and the end of a message drop it, so there is nothing to forget.

Replies are gathered until we have to wait for the client: a pipelined group is answered in one write.
"""

import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bqfilter.budget import Budget
from bqfilter.errors import ConversationLost, PeerTimeout
from bqfilter.ledger import STAGE_NAMES, Ledger, Stage
from bqfilter.log import Log
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.headers import message_id
from bqfilter.net.address import Endpoint
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.outcome import Outcome, Result
from bqfilter.smtp import commands, phases, replies
from bqfilter.smtp.client import NO_CAPABILITIES
from bqfilter.smtp.commands import Command
from bqfilter.smtp.ehlo import ehlo_reply, helo_reply
from bqfilter.smtp.phases import Phase
from bqfilter.smtp.replies import Reply
from bqfilter.smtp.server import ServerDialogue
from bqfilter.transaction import Means, Transaction

_STAGES = {
    Phase.CONNECTED: Stage.GREETING,
    Phase.READY: Stage.GREETING,
    Phase.MAIL: Stage.ENVELOPE,
    Phase.RCPT: Stage.ENVELOPE,
    Phase.BODY: Stage.DATA,
}
_FAREWELLS = frozenset({"END-OF-MESSAGE", "QUIT", "RSET"})  # after these nobody is left without an answer
_INTRODUCTIONS = frozenset(
    {"EHLO", "XFORWARD"}
)  # a message is to be expected; HELO is what health checks say
_ABORTED = Outcome(Result.CLIENT_ABORT, replies.CLIENT_LEFT)
_FAILED = Outcome(Result.TEMPFAILED, replies.INTERNAL_ERROR)
_IN_DOUBT = Outcome(Result.OUTCOME_UNKNOWN, replies.INTERNAL_ERROR)
_WRITE_TIMEOUT = 5.0  # seconds for a reply, which is small enough for any socket buffer
_LOGGED_RECIPIENTS = 5  # the others are counted
_HEAD_BYTES = 16384  # where the Message-ID is looked for


class ClientStream(Protocol):
    """What a session needs of the client's connection; `net.stream.Stream` is one."""

    peer: str

    def read(self, deadline: Deadline) -> bytes:
        """Some bytes, at least one."""

    def read_into(self, buffer: bytearray, deadline: Deadline) -> int:
        """Some bytes, at least one, into the buffer."""

    def write(self, data: bytes, deadline: Deadline) -> None:
        """All bytes."""

    def hasten(self, seconds: float) -> None:
        """Let a waiting read end soon."""

    def peer_has_left(self) -> bool:
        """The client has closed its side."""

    def close(self) -> None:
        """Give the connection up."""


def _to_nobody(_size: int) -> None:
    """For whoever holds sessions without a scoreboard."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What outlives a session: what the worker has for its messages, and its clock.

    `hostname` is our name in the greeting; `buffer` takes content on its way to the spool; `count` is told
    what became of each message, `weigh` how many bytes it had, where it came to its end.
    """

    means: Means
    hostname: bytes
    clock: Clock
    buffer: bytearray
    count: Callable[[Outcome], None]
    weigh: Callable[[int], None] = _to_nobody


class Session:
    """The conversation with one client, who came in by `listener`.

    `waited` is its time in the accept queue in seconds, if known; `name` is what the log calls the session.
    One who may not send is a load balancer that speaks for itself: it is answered, but for MAIL.
    The session began at `accepted_at`, if not now: the header of a load balancer may have taken a while.
    """

    def __init__(
        self,
        client: ClientStream,
        around: Surroundings,
        ledger: Ledger,
        log: Log,
        waited: float | None = None,
        name: str = "",
        listener: Endpoint | None = None,
        may_send: bool = True,
        accepted_at: float | None = None,
    ) -> None:
        self._client = client
        self._means = around.means
        self._name = name
        self._listener = listener
        self._may_send = may_send
        self._upstream = around.means.upstream
        self._settings = around.means.settings
        self._hostname = around.hostname
        self._clock = around.clock
        self._buffer = around.buffer
        self._count = around.count
        self._weigh = around.weigh
        self._ledger = ledger
        self._log = log
        self._waited = waited
        self._dialogue = ServerDialogue()
        self._arrived = around.clock()  # when the bytes came that we are working on
        since = self._arrived if accepted_at is None else accepted_at
        self._budget = Budget(self._settings.budget, around.clock, since)
        self._facts = Client()
        self._transaction: Transaction | None = None
        self._after = "CONNECT"  # Postfix's word for where a connection was lost
        self._concluding: _Conclusion | None = None
        self._owes_reply = False
        self._is_draining = False
        self._has_asked_to_send = False
        self._has_client_left = False  # of its own accord
        self.phase = Phase.CONNECTED
        self.message_count = 0

    def run(self) -> None:
        """Hold the conversation to its end; never raises."""
        try:
            self._greet()
            while self.phase is not Phase.CLOSED:
                command = self._next_command()
                if command is None:
                    break
                self._owes_reply = True
                reply = phases.check(self.phase, command) or self._perform(command)
                self._answer(command, reply)
            self._flush()
        except ConversationLost as loss:
            self._on_loss(loss)
        except MemoryError as error:
            # What filled the memory is in the frames that are left, which the error holds.
            traceback.clear_frames(error.__traceback__)
            self._apologise()
            self._log.error("out of memory", after=self._after)
        except Exception:
            self._apologise()
            self._log.error("internal error", after=self._after, traceback=traceback.format_exc(limit=-8))
        finally:
            self._client.close()
            self._upstream.end_session()

    def drain(self) -> None:
        """Come to an end soon: finish a message that has begun, begin no other. From a signal handler."""
        self._is_draining = True
        if self._transaction is None:
            self._client.hasten(self._settings.timeouts.client_drain)

    @property
    def was_probe(self) -> bool:
        """The client has come and gone without a word of mail: it wanted to know whether we are there."""
        return self._has_client_left and not self._has_asked_to_send

    def _greet(self) -> None:
        self._dialogue.answer(Reply(220, (self._hostname + b" ESMTP bqfilterd",)))
        self._flush()

    def _next_command(self) -> Command | None:
        """What the client wants next, read to its end; None where nothing more is to be waited for."""
        if self.phase is Phase.BODY:
            return self._receive_body()
        command = self._dialogue.next_command()
        if command is not None:
            return command
        self._flush()
        if self._has_finished:
            return None
        if self._after in _INTRODUCTIONS and self._may_send:
            self._upstream.prepare()
        patience = self._wait_for_client()
        while command is None:
            self._dialogue.receive(self._client.read(patience))
            command = self._dialogue.next_command()
        self._arrived = self._clock()
        return command

    @property
    def _has_finished(self) -> bool:
        """Draining, and between two messages of one connection: nobody is waiting for us."""
        return self._is_draining and self.message_count > 0 and self.phase is Phase.READY

    def _wait_for_client(self) -> Deadline:
        timeouts = self._settings.timeouts
        is_leaving = self._is_draining and self._transaction is None
        patience = self._budget.patience(timeouts.client_drain if is_leaving else timeouts.client_idle)
        self._ledger.enter(_STAGES[self.phase], patience.at)
        return patience

    def _receive_body(self) -> Command:
        """Content, to its end. The client sets the pace: each read may take as long as it likes to idle.

        While a slow disk holds us up the client goes on, and its clock starts when it has sent all there is,
        not when we have read it. What may have come by then is `lag` old: the time that spooling took, less
        what we have waited for the client since.
        """
        self._flush()
        transaction = self._open_transaction()
        early = self._dialogue.begin_body()
        read_at, lag = self._clock(), 0.0
        end = self._take_content(transaction, early, len(early)) if early else -1
        while end < 0:
            asked_at = self._clock()
            count = self._client.read_into(self._buffer, self._wait_for_client())
            lag += asked_at - read_at
            read_at = self._clock()
            lag = max(lag - (read_at - asked_at), 0.0)
            end = self._take_content(transaction, self._buffer, count)
        self._arrived = read_at - lag
        transaction.spool.is_clean = self._dialogue.body_is_clean
        return commands.EndOfData()

    def _take_content(self, transaction: Transaction, chunk: bytes | bytearray, length: int) -> int:
        end = self._dialogue.scan_body(chunk, length)
        transaction.spool.append(memoryview(chunk)[: length if end < 0 else end])
        return end

    def _perform(self, command: Command) -> Reply:
        if phases.TABLE[type(command)].drops:
            self._drop_transaction()
        return _HANDLERS[type(command)](self, command)

    def _on_ehlo(self, _command: commands.Ehlo) -> Reply:
        behind = NO_CAPABILITIES
        if self._may_send:
            behind = self._upstream.capabilities(self._reply_limit(), self._ledger)
        return ehlo_reply(self._hostname, behind, self._settings.limits.message_size)

    def _on_helo(self, _command: commands.Helo) -> Reply:
        return helo_reply(self._hostname)

    def _on_xforward(self, command: commands.XForward) -> Reply:
        self._facts = self._facts.with_attributes(command.attributes)
        return replies.OK

    def _on_mail(self, command: commands.Mail) -> Reply:
        self._has_asked_to_send = True
        if not self._may_send:
            self._log.warning("load balancer may not send for itself", peer=self._client.peer)
            return replies.NOT_ALLOWED
        if self._is_draining and self.message_count:
            return replies.SHUTTING_DOWN
        if self._budget.is_spent_by(self._waited):
            self._log.warning(
                "waited too long for a worker", seconds=self._waited, reply=replies.WAITED_TOO_LONG.wire
            )
            return replies.WAITED_TOO_LONG
        transaction = Transaction(
            self._means, self._facts, self._budget, self._ledger, self._log, self._name, self._listener
        )
        reply = transaction.mail(command, self._reply_limit())
        if reply.is_positive:
            self._transaction = transaction
        else:
            transaction.finish()
        return reply

    def _on_rcpt(self, command: commands.Rcpt) -> Reply:
        return self._open_transaction().rcpt(command, self._reply_limit())

    def _on_data(self, _command: commands.Data) -> Reply:
        return self._open_transaction().data()

    def _on_end_of_data(self, _command: commands.EndOfData) -> Reply:
        transaction, self._transaction = self._open_transaction(), None
        head = transaction.spool.head(_HEAD_BYTES)
        outcome = transaction.end_of_data(self._arrived, self._client.peer_has_left)
        self._concluding = _Conclusion(transaction, outcome, message_id(head))
        self._facts = Client()
        return outcome.reply

    def _on_rset(self, _command: commands.Rset) -> Reply:
        return replies.OK

    def _on_noop(self, _command: commands.Noop) -> Reply:
        return replies.OK

    def _on_vrfy(self, _command: commands.Vrfy) -> Reply:
        return replies.VRFY

    def _on_help(self, _command: commands.Help) -> Reply:
        return replies.HELP

    def _on_quit(self, _command: commands.Quit) -> Reply:
        self._has_client_left = True
        return replies.BYE

    def _on_malformed(self, command: commands.Malformed) -> Reply:
        return command.reply

    def _answer(self, command: Command, reply: Reply) -> None:
        self._dialogue.answer(reply)
        self._owes_reply = False
        self.phase = phases.advance(self.phase, command, reply)
        self._after = command.verb
        if self._concluding is not None:
            self._conclude(self._concluding)

    def _conclude(self, done: "_Conclusion") -> None:
        """The message is decided: tell the client first, then the log, then settle with the upstream leg."""
        self._concluding = None
        self.message_count += 1
        is_done = done.outcome.result.is_success
        is_unheard = is_done and self._client.peer_has_left()
        try:
            self._flush()
        except (ConversationLost, MemoryError):
            is_unheard = is_done
            raise
        finally:
            self._report(done, is_unheard)
            done.transaction.finish()

    def _flush(self) -> None:
        output = self._dialogue.take_output()
        if output:
            self._client.write(output, Deadline.after(self._clock, _WRITE_TIMEOUT))

    def _reply_limit(self) -> Deadline:
        return self._budget.reply(self._arrived)

    def _open_transaction(self) -> Transaction:
        if self._transaction is None:
            raise AssertionError(f"no transaction in {self.phase}")  # the table of phases forbids it
        return self._transaction

    def _drop_transaction(self) -> None:
        """RSET, EHLO or QUIT: the transaction ends without a message, and the client's facts with it."""
        transaction, self._transaction = self._transaction, None
        self._facts = Client()
        if transaction is not None:
            transaction.finish()

    def _on_loss(self, loss: ConversationLost) -> None:
        """The client is gone or silent. Between messages that is its good right."""
        transaction, self._transaction = self._transaction, None
        self._has_client_left |= not isinstance(loss, PeerTimeout)
        if transaction is None and (self._after in _FAREWELLS or not self._may_send):
            return
        size = None
        if transaction is not None:
            transaction.abort()
            self._count(_ABORTED)
            size = transaction.spool.wire_bytes
        event = "timeout" if isinstance(loss, PeerTimeout) else "lost connection"
        self._log.info(
            f"{event} after {self._after}", client=self._facts.namaddr, peer=self._client.peer,
            bytes=size, cause=loss.cause, ms=_milliseconds(self._ledger),
        )  # fmt: skip

    def _apologise(self) -> None:
        """The fault is ours alone: 451 for the client, and no more of this conversation."""
        if self._transaction is not None:
            self._transaction.abort()
        is_in_doubt = self._upstream.dot_is_out or self._ledger.is_held
        self._upstream.abandon()  # in whatever state it was left, nobody can tell
        if self._owes_reply:
            with contextlib.suppress(ConversationLost):
                self._dialogue.answer(replies.INTERNAL_ERROR)
                self._flush()
        if self.phase is Phase.BODY:
            self._count(_IN_DOUBT if is_in_doubt else _FAILED)
            if is_in_doubt:
                self._log.warning("failed during a hand-over: possible duplicate", client=self._facts.namaddr)

    def _report(self, done: "_Conclusion", is_unheard: bool) -> None:
        """The one line a message gets."""
        self._count(replace(done.outcome, is_unheard=True) if is_unheard else done.outcome)
        self._weigh(done.transaction.spool.content_bytes)
        envelope, outcome = done.transaction.envelope, done.outcome
        if envelope is None:
            return
        write = self._log.info if not outcome.cause else self._log.warning
        write(
            "message",
            result=outcome.result.value,
            client=envelope.client.namaddr,
            helo=envelope.client.helo or None,
            **{"from": b"<%b>" % envelope.sender.address, "to": _recipients(envelope)},
            nrcpt=len(envelope.recipients),
            size=done.transaction.spool.content_bytes,
            msgid=done.message_id or None,
            reply=outcome.reply.wire.rstrip(),
            cause=outcome.cause or None,
            queued_as=outcome.queue_id or None,
            policy=outcome.policy or None,
            verdict=outcome.verdict or None,
            why=outcome.reason or None,
            scans=outcome.scans or None,
            notes=outcome.notes or None,
            kept_as=",".join(outcome.kept_as) or None,
            wait=None if self._waited is None else f"{self._waited * 1000:.0f}",
            ms=_milliseconds(self._ledger),
        )
        if is_unheard:
            self._log.warning(
                "client left before it heard that its message was taken: possible duplicate",
                queued_as=outcome.queue_id or None, msgid=done.message_id or None,
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Conclusion:
    """A message whose end of data has been dealt with, and what is still to be told about it."""

    transaction: Transaction
    outcome: Outcome
    message_id: bytes


def new_session_id(slot: int) -> str:
    """An identifier no other session on this host has had: microseconds and the worker's slot, in hex."""
    return f"{time.time_ns() // 1000:X}{slot:03X}"


def _recipients(envelope: Envelope) -> bytes:
    shown = b",".join(b"<%b>" % rcpt.address for rcpt in envelope.recipients[:_LOGGED_RECIPIENTS])
    return shown + b",..." if len(envelope.recipients) > _LOGGED_RECIPIENTS else shown


def _milliseconds(ledger: Ledger) -> str:
    """Milliseconds per stage and in all, for example "greeting:0.4,data:12.0,total:12.4"."""
    spent = ledger.take()
    words = [f"{STAGE_NAMES[stage]}:{seconds * 1000:.1f}" for stage, seconds in spent.items()]
    return ",".join([*words, f"total:{sum(spent.values()) * 1000:.1f}"])


_HANDLERS: dict[type[Command], Callable[[Session, Any], Reply]] = {
    commands.Ehlo: Session._on_ehlo,
    commands.Helo: Session._on_helo,
    commands.XForward: Session._on_xforward,
    commands.Mail: Session._on_mail,
    commands.Rcpt: Session._on_rcpt,
    commands.Data: Session._on_data,
    commands.EndOfData: Session._on_end_of_data,
    commands.Rset: Session._on_rset,
    commands.Noop: Session._on_noop,
    commands.Vrfy: Session._on_vrfy,
    commands.Help: Session._on_help,
    commands.Quit: Session._on_quit,
    commands.Malformed: Session._on_malformed,
}
