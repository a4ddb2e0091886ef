"""ServerDialogue: our side of the conversation with a client, as bytes in and values out.

Input is read as commands, or after 354 as content; replies are gathered until somebody asks for the bytes, so
that the answers to a pipelined group leave in one write. The dialogue does not know the phases: it is told
when content begins.
"""

from bqfilter.smtp.body import BodyScanner
from bqfilter.smtp.commands import Command, over_long, parse_command
from bqfilter.smtp.lines import LineBuffer, LineTooLong
from bqfilter.smtp.replies import Reply

# RFC 5321 asks for 512 bytes a command line; Postfix forwards 2048 of the client's, and xtext can make an
# XFORWARD line three times that long (facts: a HELO of 2048 bytes gave 6.2 kB).
MAX_COMMAND_BYTES = 8192


class ServerDialogue:
    """One connection's worth of input and output; the caller moves the bytes."""

    __slots__ = ("_lines", "_output", "_scanner")

    def __init__(self) -> None:
        self._lines = LineBuffer(MAX_COMMAND_BYTES)
        self._output: list[bytes] = []
        self._scanner = BodyScanner()

    def receive(self, data: bytes) -> None:
        """Take in what the client sent as commands."""
        self._lines.feed(data)

    def next_command(self) -> Command | None:
        """The next command, or None: need more bytes."""
        try:
            line = self._lines.next_line()
        except LineTooLong as too_long:
            return over_long(too_long.head)
        return None if line is None else parse_command(line)

    def begin_body(self) -> bytes:
        """Content begins now. Returns what of it has arrived already, to be passed to `scan_body`."""
        self._scanner = BodyScanner()
        return self._lines.take_rest()

    def scan_body(self, chunk: bytes | bytearray, length: int) -> int:
        """How many of the first `length` bytes belong to the message, or -1: all, and more is to come.

        What is behind the end of data is kept and read as commands.
        """
        end = self._scanner.scan(chunk, length)
        if 0 <= end < length:
            self._lines.feed(bytes(chunk[end:length]))
        return end

    @property
    def body_is_clean(self) -> bool:
        """The content scanned last had no stray CR or LF."""
        return self._scanner.is_clean

    def answer(self, reply: Reply) -> None:
        """Put a reply behind those that wait to be sent."""
        self._output.append(reply.wire)

    def take_output(self) -> bytes:
        """The bytes of all waiting replies; they count as sent."""
        output = b"".join(self._output)
        self._output.clear()
        return output
