"""Exchange: one request to a scanning daemon and the reply to it, by one deadline.

A daemon that does not like a request says so and closes, often before it has read all of it. So a request
that could not be sent to its end is no failure yet: the loss is kept, the reply is read, and only where that
does not explain it is the loss raised. The same goes for a reply that was there before the last of the
request was sent: it is about no more than the beginning. Nothing that is read grows beyond the limit its
reader names.
"""

import contextlib
import re
from collections.abc import Iterable

from bqfilter.errors import PeerLost, ProtocolViolation, ScannerFailure
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream

_UNPRINTABLE = re.compile(rb"[^ -~]")


class Exchange:
    """A request and its reply on `stream`."""

    def __init__(self, stream: Stream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self._loss: PeerLost | None = None
        self._is_answered_early = False
        self._received = bytearray()  # and not taken yet

    def send(self, parts: Iterable[bytes]) -> None:
        """The request, as far as the peer takes it. Raises PeerTimeout, and what `parts` raises."""
        try:
            for part in parts:
                self._is_answered_early = self._is_answered_early or self._stream.has_input()
                self._stream.write(part, self._deadline)
        except PeerLost as loss:
            self._loss = loss

    def end_request(self) -> None:
        """Close our side: the peer reads an end of file where it expects more."""
        with contextlib.suppress(
            PeerLost
        ):  # it has closed: no more is expected, and its reply is there or not
            self._stream.shutdown_write()

    def check_sent(self) -> None:
        """Raises ConversationLost where what was said cannot be about all of the request.

        Part of it was not taken (PeerLost), or not even sent when the answer came (ProtocolViolation).
        """
        if self._loss is not None:
            raise self._loss
        if self._is_answered_early:
            raise ProtocolViolation("answered before it had the whole request")

    def read_until(self, end: re.Pattern[bytes], limit: int) -> bytes:
        """What comes before `end`. Raises ScannerFailure where that is more than `limit` bytes."""
        while not (match := end.search(self._received)):
            if len(self._received) > limit:
                raise ScannerFailure(f"answers with more than {limit} bytes where fewer are due")
            self._read_more()
        found = bytes(self._received[: match.start()])
        del self._received[: match.end()]
        return found

    def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes; whoever calls has seen to it that they are not too many."""
        while len(self._received) < count:
            self._read_more()
        found = bytes(self._received[:count])
        del self._received[:count]
        return found

    def _read_more(self) -> None:
        try:
            self._received += self._stream.read(self._deadline)
        except PeerLost as loss:
            raise self._loss or loss from None


def one_line(text: bytes, limit: int = 200) -> str:
    """A peer's words as one line of printable ASCII, at most `limit` characters."""
    line = _UNPRINTABLE.sub(b"?", text.strip()).decode("ascii")
    return line if len(line) <= limit else line[: limit - 3] + "..."
