"""Message content on the wire: where it ends, whether it is clean, and how it is made clean.

RFC 5321 section 4.1.1.4: only CRLF.CRLF ends the data; the CRLF that ends the DATA command counts as the
first one, so that an empty message is a lone ".". Section 2.3.8: CR and LF travel together or not at all.

A *clean* message has no CR without LF and no LF without CR. Its wire form, dot-stuffed by whoever sent it, is
valid as it is and is passed on as it is. In any other message a stray LF becomes CRLF (every reader that
splits at LF already sees a line end there) and a stray CR becomes a blank (as Postfix writes it), and the
stuffing is done anew behind that: a lone "." that only an LF-splitting, CR-stripping reader would take for
the end of data then travels as "..". This closes SMTP smuggling, whatever the after-filter server tolerates.
"""

import re
from collections.abc import Iterable, Iterator

TERMINATOR = b"\r\n.\r\n"
DOT = b".\r\n"  # what is behind the content on the wire

_NO_LINE_END = bytes(code for code in range(256) if code not in b"\r\n")
_STRAY = re.compile(rb"\r\n|\r|\n")
_REPLACEMENT = {b"\r\n": b"\r\n", b"\n": b"\r\n", b"\r": b" "}


class BodyScanner:
    """Finds the end of data in a stream that may be cut anywhere, and tells whether what went by is clean.

    Each byte is looked at a fixed number of times, by C code; nothing is kept but the last four bytes.
    """

    __slots__ = ("_ends_in_cr", "_stray_count", "_tail")

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the end of the DATA line
        self._ends_in_cr = False
        self._stray_count = 0  # CRs and LFs less those in pairs

    def scan(self, chunk: bytes | bytearray, length: int) -> int:
        """Look at the first `length` bytes of `chunk`.

        Returns how many of them belong to the message, its final ".CRLF" included, or -1 when all of them do
        and the end has not come yet. After the end it must not be called again.
        """
        end = self._find_end(chunk, length)
        self._count(chunk, length if end < 0 else end)
        return end

    @property
    def is_clean(self) -> bool:
        """No stray CR or LF up to here; a CR that ends the last chunk counts as one until its LF comes."""
        return self._stray_count == 0

    def _find_end(self, chunk: bytes | bytearray, length: int) -> int:
        tail = self._tail
        seam = tail + bytes(chunk[: min(4, length)])
        at = seam.find(TERMINATOR)
        if at >= 0:
            return at + len(TERMINATOR) - len(tail)
        at = chunk.find(TERMINATOR, 0, length)
        if at >= 0:
            return at + len(TERMINATOR)
        self._tail = bytes(chunk[length - 4 : length]) if length >= 4 else seam[-4:]
        return -1

    def _count(self, chunk: bytes | bytearray, length: int) -> None:
        if length == 0:
            return
        part = chunk if length == len(chunk) else chunk[:length]
        pairs = part.count(b"\r\n")
        if self._ends_in_cr and chunk[0] == 0x0A:
            pairs += 1  # the pair that the cut went through
        # Deleting all but CR and LF is one pass over the bytes; to count each is a search from hit to hit.
        self._stray_count += len(part.translate(None, _NO_LINE_END)) - 2 * pairs
        self._ends_in_cr = chunk[length - 1] == 0x0D


def unstuff(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """From the wire form, without its final dot, to the content: one leading dot less on each line."""
    return _at_line_starts(chunks, b"\r\n.", b"\r\n")


def stuff(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """From content to the wire form, without its final dot: a dot more on each line that begins with one."""
    return _at_line_starts(chunks, b"\r\n.", b"\r\n..")


def without_strays(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Every stray LF becomes CRLF, every stray CR a blank."""
    held = b""
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        yield _STRAY.sub(_paired, data[: len(data) - len(held)])
    if held:
        yield b" "


def clean_wire_form(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The wire form of a message with strays, made clean: un-stuffed, freed of strays, stuffed anew."""
    return stuff(without_strays(unstuff(chunks)))


def _paired(match: re.Match[bytes]) -> bytes:
    return _REPLACEMENT[match[0]]


def _at_line_starts(chunks: Iterable[bytes], old: bytes, new: bytes) -> Iterator[bytes]:
    """Replace `old`, which begins with CRLF, by `new` wherever it stands, however the chunks are cut.

    The stream is read as if it followed a CRLF, so that its first line counts as a line start too.
    """
    held, virtual = b"\r\n", 2
    for chunk in chunks:
        data = held + chunk
        held = b"\r\n" if data.endswith(b"\r\n") else b"\r" if data.endswith(b"\r") else b""
        if held == data and virtual:
            continue  # nothing but the virtual CRLF and an empty chunk so far
        ready = data[: len(data) - len(held)].replace(old, new)
        yield ready[virtual:]
        virtual = 0
    yield held[virtual:]
