"""Transfer decoders: from the data of a part as it stands in a message to what it means (RFC 2045 section 6).

Each takes bytes however they are cut, gives what can be decoded of them, and gives the rest when told that no
more come. They are as forgiving as mail programs are: what is no part of the encoding is passed over, and no
input is refused. Time grows with the input; next to nothing is kept between two calls.
"""

import binascii
import re
from collections.abc import Callable
from typing import Protocol

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64 = bytes(code for code in range(256) if code not in _BASE64)
_BASE64_RUN = re.compile(rb"=+|[^=]+")
_MAX_PADDING = 1000  # blanks between the "=" that ends a line and its end
_MAX_UU_LINE = 1000  # one has 62 bytes

# An odd number of "=", then blanks up to the end of the line: the last "=" is a soft line break.
_PADDED_BREAK = re.compile(rb"(?<!=)((?:==)*+=)[ \t]++(?=\r?\n)")
_UNFINISHED = re.compile(rb"=(?:[0-9A-Fa-f]|[ \t]{0,%d}+\r?)?\Z" % _MAX_PADDING)
_UU_BEGIN = re.compile(rb"begin(?:-base64)? [0-7]{3,4} ")


class Decoder(Protocol):
    """One encoding, for one part."""

    def feed(self, data: bytes) -> bytes:
        """What can be decoded with `data`, which comes next."""

    def finish(self) -> bytes:
        """What is left; nothing comes any more."""


class Identity:
    """7bit, 8bit and binary: what stands there is meant."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class Base64:
    """Bytes outside the alphabet are skipped. Padding ends a group, not the data: there may be several."""

    __slots__ = ("_held", "_pad_count")

    def __init__(self) -> None:
        self._held = b""  # less than a group of four
        self._pad_count = 0

    def feed(self, data: bytes) -> bytes:
        data = data.translate(None, _NOT_BASE64)
        if b"=" not in data:
            return self._take(data)
        return b"".join(self._run(run[0]) for run in _BASE64_RUN.finditer(data))

    def finish(self) -> bytes:
        return self._close()

    def _run(self, run: bytes) -> bytes:
        """Either padding or none. Padding where none can be is skipped like any other garbage."""
        if not run.startswith(b"="):
            return self._take(run)
        self._pad_count += len(run)
        is_closed = len(self._held) >= 2 and len(self._held) + self._pad_count >= 4
        return self._close() if is_closed else b""

    def _take(self, data: bytes) -> bytes:
        if not data:
            return b""
        self._pad_count = 0
        data = self._held + data
        whole = len(data) & ~3
        self._held = data[whole:]
        return binascii.a2b_base64(data[:whole])

    def _close(self) -> bytes:
        """A group that is not whole: two of its characters make a byte, three make two."""
        held, self._held, self._pad_count = self._held, b"", 0
        return binascii.a2b_base64(held + b"=" * (4 - len(held))) if len(held) >= 2 else b""


class QuotedPrintable:
    """An "=" that begins nothing stands for itself; blanks behind one that ends a line are skipped."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""  # from an "=" on of which it is not known yet what it begins

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        end = _end_of_whole(data)
        self._held = data[end:]
        return _unquoted(data[:end])

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return _unquoted(held)


def _unquoted(data: bytes) -> bytes:
    return binascii.a2b_qp(_PADDED_BREAK.sub(rb"\1", data))


def _end_of_whole(data: bytes) -> int:
    """Where data ends of which all is known: an "=" near its end may be one half of something."""
    match = _UNFINISHED.search(data, max(len(data) - _MAX_PADDING - 2, 0))
    if match is None:
        return len(data)
    upto = data[: match.start() + 1]
    run = len(upto) - len(upto.rstrip(b"="))
    return match.start() if run % 2 else len(data)  # of two in a row neither begins anything


class UuEncode:
    """Lines of uuencode between "begin" and "end". A line that is none is skipped."""

    __slots__ = ("_has_begun", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._has_begun = False

    def feed(self, data: bytes) -> bytes:
        *lines, held = (self._held + data).split(b"\n")
        self._held = held[: _MAX_UU_LINE + 1]  # longer, and still longer than any line
        return b"".join(map(self._line, lines))

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._line(held)

    def _line(self, line: bytes) -> bytes:
        line = line.rstrip(b"\r")
        if not self._has_begun:
            self._has_begun = _UU_BEGIN.match(line) is not None
            return b""
        if line == b"end":
            self._has_begun = False
        return _uu_decoded(line)


def _uu_decoded(line: bytes) -> bytes:
    """One line; programs write more, or fewer, characters behind the last one that counts."""
    count = (line[0] - 32) & 63 if line and 32 <= line[0] <= 96 else 0
    wanted = 1 + (count + 2) // 3 * 4
    try:
        return binascii.a2b_uu(line[:wanted]) if len(line) <= _MAX_UU_LINE and count else b""
    except binascii.Error:  # a character that none of them writes: no line of uuencode
        return b""


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "base64": Base64,
    "quoted-printable": QuotedPrintable,
    "uuencode": UuEncode,
}


def decoder(encoding: str) -> Decoder:
    """For an encoding as `media` names it; one that nobody knows is taken for none, as mail programs do."""
    return _DECODERS.get(encoding, Identity)()
