"""FakeUpstream: after-filter servers behind `connect`; they answer as a Postfix smtpd, or as they are told.

They read like the most careless server there is, so that smuggling shows: content ends at a line that is "."
once all its CRs are stripped, and a line ends at any LF.
"""

from collections import deque
from collections.abc import Iterable

from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Clock
from bqfilter.net.stream import Stream
from tests.doubles.clock import FakeClock
from tests.doubles.streams import FakeStream

XFORWARD = b"XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"
HANGUP = b""  # in place of a reply
SILENCE = b"..."
_END = b"."  # the name of the end of data among the commands


class FakeUpstream:
    """`told` maps a verb ("CONNECT" for the greeting, "." for the end of data) to replies, used up in order.

    `connections` are all streams so far, `commands` all lines heard outside content, and `messages` the
    content of each message that ended, as bytes from behind the 354 to the end of its final dot; `takers` has
    for each of these the RCPT lines that were taken, and the reply to the dot.
    """

    def __init__(
        self, clock: FakeClock, keywords: Iterable[bytes] = (b"PIPELINING",), **told: list[bytes]
    ) -> None:
        self.clock = clock
        self.keywords = (b"after.example", *keywords)
        self.told = {verb.upper().encode(): deque(replies) for verb, replies in told.items()}
        self.connections: list[ServerStream] = []
        self.commands: list[bytes] = []
        self.messages: list[bytes] = []
        self.takers: list[tuple[list[bytes], bytes]] = []

    def tell(self, verb: bytes, *replies: bytes) -> None:
        """Further replies to a verb."""
        self.told.setdefault(verb, deque()).extend(replies)

    def connect(self, address: SocketAddress, _clock: Clock) -> Stream:
        stream = ServerStream(self, address)
        self.connections.append(stream)
        return stream  # type: ignore[return-value]  # it has every method of Stream, and no socket

    def reply_to(self, verb: bytes) -> bytes:
        if self.told.get(verb):
            return self.told[verb].popleft()
        if verb == b"EHLO":
            last = len(self.keywords) - 1
            lines = enumerate(self.keywords)
            return b"".join(b"250%b%b\r\n" % (b" " if at == last else b"-", word) for at, word in lines)
        usual = {
            b"CONNECT": b"220 after.example ESMTP\r\n",
            b"DATA": b"354 go ahead\r\n",
            _END: b"250 2.0.0 Ok: queued as 4Q1\r\n",
            b"QUIT": b"221 2.0.0 Bye\r\n",
        }
        return usual.get(verb, b"250 2.0.0 Ok\r\n")


class ServerStream(FakeStream):
    """One connection to one of these servers."""

    def __init__(self, upstream: FakeUpstream, address: SocketAddress) -> None:
        super().__init__(upstream.clock, str(address))
        self._upstream = upstream
        self._unread = bytearray()
        self._content: bytearray | None = None
        self._recipients: list[bytes] = []
        self._answer(b"CONNECT")

    @property
    def content_so_far(self) -> bytes:
        """What has been heard of a message that has not ended."""
        return bytes(self._content or b"")

    def on_write(self, data: bytes) -> None:
        self._unread += data
        while not self.has_left and (end := self._unread.find(b"\n")) >= 0:
            line = bytes(self._unread[: end + 1])
            del self._unread[: end + 1]
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        if self._content is None:
            command = line.rstrip(b"\r\n")
            self._upstream.commands.append(command)
            verb = command.split(b" ")[0].upper()
            self._note(verb, command, self._answer(verb))
            return
        self._content += line
        if line.replace(b"\r", b"") == b".\n":
            self._upstream.messages.append(bytes(self._content))
            self._content = None
            self._upstream.takers.append((self._recipients, self._answer(_END)))

    def _note(self, verb: bytes, command: bytes, reply: bytes) -> None:
        if verb == b"MAIL":
            self._recipients = []
        elif verb == b"RCPT" and reply.startswith(b"2"):
            self._recipients.append(command)
        elif reply.startswith(b"354"):
            self._content = bytearray()

    def _answer(self, verb: bytes) -> bytes:
        reply = self._upstream.reply_to(verb)
        if reply == HANGUP:
            self.has_left = self.is_reset = True
        elif reply != SILENCE:
            self.inbox += reply
        return reply
