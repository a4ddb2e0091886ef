"""The message as those see it who judge it: its content, un-stuffed, with CRLF at the end of every line.

What is seen is what would be delivered: strays have been cleaned already. It is read as often as somebody
asks, in pieces, from memory or from the spool's file, so that a large message takes no more memory than a
small one. Only the header section is held as a whole, up to a limit: `header_is_too_large` says that it goes
on behind it, and then nobody can tell what it holds. So it does where the section is within the limit but
made of so many lines that they would take many times its size as values.
"""

from collections.abc import Callable, Iterator
from functools import cached_property

from bqfilter.mail.fields import Header, header_end, may_go_on
from bqfilter.mail.spool import Spool
from bqfilter.smtp.body import unstuff, without_strays

HEADER_LIMIT = 1024 * 1024  # bytes, where nothing else is said
_PIECE_BYTES = 65536
_LINE_BYTES = 32  # a header has no more lines than a header of the largest size has that is made of such
_LINES_AT_LEAST = 1000  # however small the limit


class Message:
    """One message. `pieces` begins to read its content anew each time it is called; it may raise OSError."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]], header_limit: int = HEADER_LIMIT) -> None:
        self._pieces = pieces
        self._header_limit = header_limit

    @classmethod
    def in_memory(cls, content: bytes, header_limit: int = HEADER_LIMIT) -> "Message":
        """A message whose content is at hand, with CRLF at the end of every line."""
        return cls(lambda: iter((content,)), header_limit)

    @classmethod
    def spooled(cls, spool: Spool, header_limit: int = HEADER_LIMIT) -> "Message":
        """What is in the spool, as long as that is open."""
        if spool.wire() is not None:
            return cls.in_memory(b"".join(_content_of(spool)), header_limit)
        return cls(lambda: _content_of(spool), header_limit)

    def content(self) -> Iterator[bytes]:
        """All of it, header included, in pieces of some 64 KiB or fewer. Raises OSError."""
        return self._pieces()

    def body(self) -> Iterator[bytes]:
        """What is behind the header section and the empty line, in pieces. Raises OSError."""
        skip = self.body_at
        for piece in self._pieces():
            if skip < len(piece):
                yield piece[skip:]
            skip = max(skip - len(piece), 0)

    @cached_property
    def size(self) -> int:
        """Bytes of content. Raises OSError."""
        return sum(len(piece) for piece in self._pieces())

    @property
    def header(self) -> Header:
        """The header section; without its end where that is too large."""
        return self._head[0]

    @property
    def has_separator(self) -> bool:
        """An empty line ends the header. Where none does, the first line that is no field begins the body."""
        return self._head[1]

    @property
    def header_is_too_large(self) -> bool:
        """It is larger than the limit, and perhaps goes on behind what is known of it."""
        return self._head[2]

    @property
    def body_at(self) -> int:
        """Where the body begins in the content."""
        return len(self.header.raw) + 2 * self.has_separator

    @cached_property
    def _head(self) -> tuple[Header, bool, bool]:
        head = self._read_head()
        end = header_end(head)
        has_separator = head.startswith(b"\r\n", end)
        is_cut = len(head) >= self._header_limit and not has_separator and may_go_on(head, end)
        is_too_large = is_cut or end > self._header_limit
        has_too_many_lines = head.count(b"\r\n", 0, end) > max(
            self._header_limit // _LINE_BYTES, _LINES_AT_LEAST
        )
        return Header(head[:end]), has_separator, is_too_large or has_too_many_lines

    def _read_head(self) -> bytes:
        """The beginning of the content, at least to the first empty line if that comes before the limit."""
        head = bytearray()
        for piece in self._pieces():
            start = max(len(head) - 3, 0)
            head += piece
            if head.startswith(b"\r\n") or head.find(b"\r\n\r\n", start) >= 0:
                break
            if len(head) >= self._header_limit:
                break
        return bytes(head[: self._header_limit + _PIECE_BYTES])


def _content_of(spool: Spool) -> Iterator[bytes]:
    content = unstuff(spool.content())
    return content if spool.is_clean else without_strays(content)
