"""The before-filter Postfix, as far as the filter gets to see it.

One connection a message, a command at a time: EHLO, XFORWARD with what was announced, MAIL, RCPT, DATA, the
content with its final dot in one piece, QUIT, and gone without waiting for the reply to it. A message that is
given up in the middle ends as Postfix ends it: QUIT straight behind the content so far, and no dot.
"""

import time
from dataclasses import dataclass

from bqfilter.errors import ConversationLost
from bqfilter.mail.envelope import Client
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream, connect
from bqfilter.smtp.body import DOT
from bqfilter.smtp.client import ClientDialogue, parse_capabilities
from bqfilter.smtp.replies import Reply
from bqfilter.upstream.xforward import xforward_lines

_TIMEOUT = 100.0  # seconds for each reply: Postfix's smtpd_proxy_timeout

REMOTE_CLIENT = Client(
    {
        b"NAME": b"mail.remote.example",
        b"ADDR": b"192.0.2.7",
        b"PORT": b"40025",
        b"HELO": b"mail.remote.example",
        b"PROTO": b"ESMTP",
        b"SOURCE": b"REMOTE",
    }
)


@dataclass(frozen=True, slots=True)
class Message:
    """What the remote client sends: MAIL and RCPT lines, and the content as it travels, without the dot."""

    mail: bytes
    rcpts: tuple[bytes, ...]
    content: bytes


def send(address: SocketAddress, message: Message) -> Reply | None:
    """Hand a message over; returns the first refusal, or the reply to the end of the message.

    None means that there was no reply: nobody listens, or the connection was lost.
    """
    connection = _Connection(address)
    try:
        return connection.hand_over(message)
    except ConversationLost:
        return None
    finally:
        connection.close()


def give_up_in_the_middle(address: SocketAddress, message: Message) -> Reply | None:
    """Send half of the content, QUIT and close; returns what refused it before that, which nothing should."""
    connection = _Connection(address)
    try:
        refusal = connection.begin(message)
        connection.write(message.content[: len(message.content) // 2] + b"QUIT\r\n")
        return refusal
    except ConversationLost:
        return None
    finally:
        connection.close()


class _Connection:
    def __init__(self, address: SocketAddress) -> None:
        self._stream: Stream = connect(address, time.monotonic)
        self._dialogue = ClientDialogue()

    def hand_over(self, message: Message) -> Reply:
        refusal = self.begin(message)
        if refusal is None:
            self.write(message.content + DOT)
        reply = refusal or self._reply()
        self.write(b"QUIT\r\n")
        return reply

    def begin(self, message: Message) -> Reply | None:
        """Everything up to 354; the first refusal on the way, if there is one."""
        self._stream.finish_connecting(_limit())
        greeting = self._reply()
        introduction = self._command(b"EHLO before.demo.example")
        announced = parse_capabilities(introduction).xforward
        lines = [*xforward_lines(REMOTE_CLIENT, announced), message.mail, *message.rcpts, b"DATA"]
        for reply in (greeting, introduction):
            if not reply.is_positive:
                return reply
        return next((reply for reply in map(self._command, lines) if not reply.is_positive), None)

    def write(self, data: bytes) -> None:
        self._stream.write(data, _limit())

    def close(self) -> None:
        self._stream.close()

    def _command(self, line: bytes) -> Reply:
        self.write(line + b"\r\n")
        return self._reply()

    def _reply(self) -> Reply:
        deadline = _limit()
        while (reply := self._dialogue.next_reply()) is None:
            self._dialogue.receive(self._stream.read(deadline))
        return reply


def _limit() -> Deadline:
    return Deadline.after(time.monotonic, _TIMEOUT)
