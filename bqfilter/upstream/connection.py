"""One connection to an after-filter server, from the handshake to QUIT.

Every method takes a Deadline and raises ConversationLost when the server is gone, silent or garbled; what the
server refuses in good order comes back as its Reply. Commands go out in one group where PIPELINING was
announced and in lockstep where not; nothing is ever sent before the greeting or behind EHLO.
"""

import contextlib
from collections.abc import Callable
from enum import Enum

from bqfilter.config.schema import TimeoutSettings
from bqfilter.errors import ConversationLost, OutcomeUnknown, PeerTimeout, ProtocolViolation
from bqfilter.mail.envelope import Client
from bqfilter.mail.outgoing import Outgoing
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.net.stream import Stream
from bqfilter.smtp.body import DOT
from bqfilter.smtp.client import NO_CAPABILITIES, Capabilities, ClientDialogue, parse_capabilities
from bqfilter.smtp.replies import Reply
from bqfilter.upstream.xforward import essential, xforward_lines

_QUIT = b"QUIT\r\n"
_FAREWELL = 221  # the reply to QUIT, and to nothing else
_AT_ONCE_BYTES = 16384  # so much the kernel takes without waiting for the server, content and dot together
_COURTESY_TIMEOUT = 1.0  # seconds for a QUIT or a last look, when nothing depends on it
_GLANCE_TIMEOUT = 0.02  # seconds for the rest of a greeting whose beginning is there


class _State(Enum):
    CONNECTING = "connecting"  # handshake begun
    CONNECTED = "connected"  # greeting awaited
    GREETED = "greeted"
    INTRODUCED = "introduced"  # EHLO sent
    READY = "ready"
    CONTENT = "content"  # 354 said: whatever is sent now is content, and only hanging up takes it back


class Connection:
    """A connection over `stream`; `hostname` is our name in EHLO."""

    def __init__(self, stream: Stream, timeouts: TimeoutSettings, hostname: bytes, clock: Clock) -> None:
        self._stream = stream
        self._timeouts = timeouts
        self._hostname = hostname
        self._clock = clock
        self._dialogue = ClientDialogue()
        self._state = _State.CONNECTING
        self._needs_reset = False  # a transaction was left open; RSET goes ahead of the next one
        self._has_quit = False
        self.capabilities: Capabilities = NO_CAPABILITIES
        self.dot_is_out = False  # of the present transaction, or may be
        self.transaction_count = 0  # refused ones too: errors and RSETs add up on the other side
        self.used_at = clock()

    @property
    def peer(self) -> str:
        """The server's address, for messages."""
        return self._stream.peer

    @property
    def is_kept(self) -> bool:
        """It has been used before: the server may have closed it since."""
        return self.transaction_count > 0

    @property
    def is_ready(self) -> bool:
        """It can take a command: EHLO has been answered, and no content is under way."""
        return self._state is _State.READY

    def has_gone_stale(self, idle_timeout: float) -> bool:
        """Unused too long, or the server has said or done something since: it can only be a farewell."""
        is_old = self._clock() - self.used_at > idle_timeout
        return is_old or not self._dialogue.is_empty or self._stream.has_input()

    def progress(self) -> None:
        """Take the steps towards EHLO that need no waiting."""
        if self._state in (_State.CONNECTING, _State.CONNECTED) and self._stream.has_input():
            with contextlib.suppress(PeerTimeout):  # not done in a moment: `open` takes it from there
                self._introduce(Deadline.after(self._clock, _GLANCE_TIMEOUT))

    def open(self, limit: Deadline) -> None:
        """Wait until the server has taken our EHLO (or, where it knows none, HELO)."""
        self._introduce(limit)
        if self._state is _State.INTRODUCED:
            reply = self._read_reply(limit.within(self._timeouts.ehlo))
            if 500 <= reply.code < 600:
                reply = self._command(b"HELO " + self._hostname, limit.within(self._timeouts.ehlo))
            if reply.code != 250:
                raise ProtocolViolation(f"EHLO refused: {reply}")
            self.capabilities = parse_capabilities(reply)
            self._state = _State.READY
        if self._state is not _State.READY:
            raise ProtocolViolation("content was left unfinished")

    def begin(self, client: Client, mail: bytes, limit: Deadline) -> Reply:
        """Open a transaction: XFORWARD where announced, then `mail`, the client's own line. MAIL's reply."""
        self.transaction_count += 1
        self.dot_is_out = False
        announced = self.capabilities.xforward
        reply, is_forwarded = self._begin(client, announced, mail, limit)
        if not is_forwarded and reply.is_positive:
            # Taken as it is, the message would pass for a local one and have its header rewritten.
            reply, _ = self._begin(client, essential(announced), mail, limit)
        return reply

    def recipient(self, rcpt: bytes, limit: Deadline) -> Reply:
        """RCPT with the client's own line."""
        return self._command(rcpt, limit.within(self._timeouts.rcpt))

    def data(self, limit: Deadline) -> Reply:
        """DATA: 354, or the server's refusal."""
        reply = self._command(b"DATA", limit.within(self._timeouts.data))
        if reply.code == 354:
            self._state = _State.CONTENT
        return reply

    def content(self, message: Outgoing, go: Callable[[], None], handover: Deadline, *, last: bool) -> None:
        """Send the content and the final dot; `go` is asked right before the dot and may raise to stop it.

        With `last` a QUIT follows. Raises ConversationLost as long as the dot has not left this process, and
        OutcomeUnknown from then on.
        """
        deadline = handover.within(self._timeouts.content)
        ending = _QUIT if last and self.capabilities.pipelining else b""
        wire = message.wire()
        if wire is None:
            self._bulk(message, deadline)
            wire = DOT
        elif len(wire) > _AT_ONCE_BYTES:
            self._stream.write(wire[: -len(DOT)], deadline)
            wire = DOT
        if not self._dialogue.is_empty or self._stream.has_input():
            raise ProtocolViolation("answered before the final dot")  # such a 2xx is not the answer to it
        go()
        self.dot_is_out = True
        self._has_quit = bool(ending)
        try:
            self._stream.write(wire + ending, deadline)
        except ConversationLost as loss:
            if loss.written >= len(wire):
                raise OutcomeUnknown(loss.cause) from loss
            raise

    def final_reply(self, last_moment: Deadline) -> Reply:
        """The reply to the final dot. Raises OutcomeUnknown where none comes, or none that can be read.

        A process that was stopped, or waited long for the CPU, may come back when the last moment is over: a
        reply that is there by then is heard all the same, because not to know is worse than to be late.
        """
        try:
            reply = self._read_reply(last_moment)
        except ConversationLost as loss:
            overlooked = self._overlooked_reply() if isinstance(loss, PeerTimeout) else None
            if overlooked is None:
                raise OutcomeUnknown(loss.cause) from loss
            reply = overlooked
        if reply.code == _FAREWELL or not (200 <= reply.code < 300 or 400 <= reply.code < 600):
            raise OutcomeUnknown(f"answered the final dot with {reply}")
        self._state = _State.READY
        self._needs_reset = False
        self.used_at = self._clock()
        return reply

    def _overlooked_reply(self) -> Reply | None:
        """What can be read at once, if it is a whole reply; one look, so that nobody can prolong it."""
        if not self._stream.has_input():
            return None
        try:
            self._dialogue.receive(self._stream.read(Deadline.after(self._clock, _GLANCE_TIMEOUT)))
            return self._dialogue.next_reply()
        except ConversationLost:
            return None

    def reset(self, limit: Deadline) -> None:
        """Leave the open transaction: whatever the server holds for it is free again."""
        reply = self._command(b"RSET", limit)
        if reply.code // 100 != 2:
            raise ProtocolViolation(f"RSET refused: {reply}")
        self._needs_reset = False
        self.used_at = self._clock()

    def early_reply(self) -> Reply | None:
        """A refusal that the server sent before it hung up in the middle of the content, if there is one."""
        try:
            reply = self._read_reply(Deadline.after(self._clock, _COURTESY_TIMEOUT))
        except ConversationLost:
            return None
        return reply if reply.code >= 400 else None

    def close(self) -> None:
        """Part with QUIT, unless it went out already or nobody was there to hear it."""
        if self._state is _State.READY and not self._has_quit:
            with contextlib.suppress(ConversationLost):  # courtesy only
                self._stream.write(_QUIT, Deadline.after(self._clock, _COURTESY_TIMEOUT))
        self._stream.close()

    def abort(self) -> None:
        """Hang up: whatever transaction is open ends without a message."""
        self._stream.close()

    def _introduce(self, limit: Deadline) -> None:
        """Everything up to sending EHLO, from whatever step was taken last."""
        if self._state is _State.CONNECTING:
            self._stream.finish_connecting(limit.within(self._timeouts.connect))
            self._state = _State.CONNECTED
        if self._state is _State.CONNECTED:
            greeting = self._read_reply(limit.within(self._timeouts.greeting))
            if greeting.code // 100 != 2:
                raise ProtocolViolation(f"greeting {greeting}")
            self._state = _State.GREETED
        if self._state is _State.GREETED:
            self._say(b"EHLO " + self._hostname, limit.within(self._timeouts.ehlo))
            self._state = _State.INTRODUCED

    def _begin(
        self, client: Client, attributes: frozenset[bytes], mail: bytes, limit: Deadline
    ) -> tuple[Reply, bool]:
        """One attempt: MAIL's reply, and whether every XFORWARD line was taken."""
        forward = xforward_lines(client, attributes)
        reset = [b"RSET"] if self._needs_reset else []
        replies = self._group([*reset, *forward, mail], limit.within(self._timeouts.mail))
        if reset and replies[0].code // 100 != 2:
            raise ProtocolViolation(f"RSET refused: {replies[0]}")
        self._needs_reset = True
        return replies[-1], all(reply.is_positive for reply in replies[len(reset) : -1])

    def _group(self, lines: list[bytes], deadline: Deadline) -> list[Reply]:
        if not self.capabilities.pipelining:
            return [self._command(line, deadline) for line in lines]
        self._say(b"\r\n".join(lines), deadline)
        return [self._read_reply(deadline) for _ in lines]

    def _command(self, line: bytes, deadline: Deadline) -> Reply:
        self._say(line, deadline)
        return self._read_reply(deadline)

    def _say(self, lines: bytes, deadline: Deadline) -> None:
        """One command or several. A reply that is there already is no answer to them, nor is the next one."""
        if not self._dialogue.is_empty:
            raise ProtocolViolation(f"answered before it was asked: {self._dialogue.next_reply() or ''}")
        self._stream.write(lines + b"\r\n", deadline)

    def _read_reply(self, deadline: Deadline) -> Reply:
        while (reply := self._dialogue.next_reply()) is None:
            self._dialogue.receive(self._stream.read(deadline))
        return reply

    def _bulk(self, message: Outgoing, deadline: Deadline) -> None:
        """Content that does not go out in one write with its dot: from a file, or piece by piece."""
        file = message.file()
        if file is not None:
            self._stream.write_file(*file, deadline)
            return
        for piece in message.pieces():
            if piece:
                self._stream.write(piece, deadline)
