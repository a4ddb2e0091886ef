"""A remote SMTP client of which a test controls every byte: it sends what it is given and returns what came.

No read waits longer than its timeout, because a Postfix in trouble accepts a connection and stays mute.
It never corrects, stuffs or retries anything on its own.
"""

import re
import socket
import struct
from collections.abc import Sequence
from typing import Self

CRLF = b"\r\n"
SENDER = "a@remote.example"
PLAIN = b"Subject: plain\r\n\r\nHello.\r\n"


class Closed(Exception):
    """The server closed the connection where a reply was due."""


class SmtpClient:
    """One connection. `reply` gives a whole reply, its lines joined by CRLF, without the last CRLF."""

    def __init__(
        self, address: tuple[str, int], timeout: float = 60.0, source: str = "", *, is_greeted: bool = True
    ) -> None:
        self._socket = socket.create_connection(address, timeout, (source, 0) if source else None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        try:
            self.banner = self.reply() if is_greeted else b""
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Close with RST, as a client does that crashed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        """Each piece is handed to the kernel by a call of its own."""
        for piece in pieces:
            self._socket.sendall(piece)

    def reply(self) -> bytes:
        lines = [self._line()]
        while re.match(rb"\d{3}-", lines[-1]):
            lines.append(self._line())
        return CRLF.join(lines)

    def command(self, line: bytes) -> bytes:
        self.send(line + CRLF)
        return self.reply()

    def expect(self, code: bytes, line: bytes) -> bytes:
        """A command whose reply the test is not about, but without which it would be about nothing."""
        reply = self.command(line)
        assert reply.startswith(code), f"{line!r} got {reply!r}"
        return reply

    def greet(self, name: bytes = b"client.example") -> bytes:
        return self.expect(b"250", b"EHLO " + name)

    def begin(self, sender: str, recipients: Sequence[str]) -> None:
        """Everything up to and including 354."""
        self.greet()
        self.expect(b"250", b"MAIL FROM:<%s>" % sender.encode())
        for recipient in recipients:
            self.expect(b"250", b"RCPT TO:<%s>" % recipient.encode())
        self.expect(b"354", b"DATA")

    def end(self, content: bytes) -> bytes:
        """Content and end of data, in one piece as a program would send them; the verdict."""
        self.send(stuffed(content) + b".\r\n")
        return self.reply()

    def received_until_closed(self) -> bytes:
        """All that still comes, for conversations whose number of replies is the question."""
        while piece := self._receive():
            self._buffer += piece
        everything, self._buffer = self._buffer, b""
        return everything

    def _line(self) -> bytes:
        while CRLF not in self._buffer:
            piece = self._receive()
            if not piece:
                raise Closed(self._buffer)
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(CRLF)
        return line

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except ConnectionError:
            return b""


def stuffed(content: bytes) -> bytes:
    """Content as it travels: a dot before every leading dot. The content must already be lines with CRLF."""
    return re.sub(rb"(?<![^\n])\.", b"..", content)


def submit(address: tuple[str, int], sender: str, recipients: Sequence[str], content: bytes) -> bytes:
    """A whole message over a connection of its own; the verdict. An earlier refusal is a failure."""
    with SmtpClient(address) as client:
        client.begin(sender, recipients)
        verdict = client.end(content)
        client.expect(b"221", b"QUIT")
        return verdict
