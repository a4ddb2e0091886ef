"""A message on its way out: the bytes that the after-filter server is sent, in the form that costs least.

A clean message that nobody changed leaves as it came: from memory in one write, or from its file without
passing through this process. Any other is put together in pieces, freed of stray CR and LF *behind* all
changes, and only then dot-stuffed (RFC 5321 section 4.5.2): so no edit can end the data.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from bqfilter.mail.fields import Edit, edited
from bqfilter.mail.message import Message
from bqfilter.mail.spool import Spool
from bqfilter.smtp.body import DOT, clean_wire_form, stuff, without_strays


class Outgoing(Protocol):
    """What can be handed over. All forms are dot-stuffed and clean; reading may raise OSError."""

    def wire(self) -> bytes | None:
        """All of it with its final dot, where it is at hand."""

    def file(self) -> tuple[int, int] | None:
        """A descriptor and how many of its first bytes are the content without the final dot, if it is so."""

    def pieces(self) -> Iterator[bytes]:
        """The content without the final dot; the form that there always is."""


class Original:
    """The message in `spool`, as nobody changed it."""

    __slots__ = ("_spool",)

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def wire(self) -> bytes | None:
        """All of it with its final dot, if it is clean and in memory."""
        return self._spool.wire() if self._spool.is_clean else None

    def file(self) -> tuple[int, int] | None:
        """The spool's file, if it is clean and in one."""
        if not self._spool.is_clean or self._spool.wire() is not None:
            return None
        return self._spool.fileno(), self._spool.content_bytes

    def pieces(self) -> Iterator[bytes]:
        """The content without the final dot, made clean."""
        return clean_wire_form(self._spool.content())


class Edited:
    """`message` with edits to its header, and another body if there is one; `is_small` may be held whole."""

    __slots__ = ("_body", "_head", "_is_small")

    def __init__(
        self,
        message: Message,
        edits: tuple[Edit, ...],
        body: Callable[[], Iterator[bytes]] | None,
        *,
        is_small: bool,
    ) -> None:
        header = edited(message.header, edits)
        # A body that nobody can take for more header: where the header had no end of its own, one is needed
        # as soon as there is a header where there was none, or a body that is not the one that followed it.
        is_separated = message.has_separator or body is not None or (bool(header) and not message.header.raw)
        self._head = header + b"\r\n" * is_separated
        self._body = body or message.body
        self._is_small = is_small and body is None

    def wire(self) -> bytes | None:
        """All of it with its final dot, if it is small."""
        return b"".join(self.pieces()) + DOT if self._is_small else None

    def file(self) -> None:
        """Never: no file holds it."""
        return

    def pieces(self) -> Iterator[bytes]:
        """The content without the final dot."""
        return stuff(self.cleaned())

    def cleaned(self) -> Iterator[bytes]:
        """The content as it arrives: not stuffed, and with CRLF at the end of every line."""
        return ending_in_crlf(without_strays(self.content()))

    def content(self) -> Iterator[bytes]:
        """Header and body as they were put together, not stuffed and not yet freed of strays."""
        yield self._head
        yield from self._body()


def ending_in_crlf(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same, with CRLF behind a last line that had none: the final dot stands on a line of its own."""
    tail = b"\r\n"
    for piece in pieces:
        tail = (tail + piece)[-2:]
        yield piece
    if tail != b"\r\n":
        yield b"\r\n"
