"""Transfer encoders: from what the data of a part means to how it stands in a message (RFC 2045 section 6).

They undo what the decoders of `transfer` do: what was encoded here is decoded there to the same bytes. Lines
are no longer than 76 characters, and none of them ends in a blank. Each takes bytes however they are cut, and
writes the same whatever the cut. Time grows with the input; no more than a line is kept between two calls.
"""

import binascii
import re
from collections.abc import Callable
from typing import Protocol

_BASE64_BYTES = 57  # of a line of 76 characters
_QUOTED_BYTES = 16384  # what is encoded at once of a line that has no end
_LINE = re.compile(rb"(?s).{1,76}")


class Encoder(Protocol):
    """One encoding, for one part."""

    def feed(self, data: bytes) -> bytes:
        """What can be encoded with `data`, which comes next."""

    def finish(self) -> bytes:
        """What is left; nothing comes any more."""


class Base64Encoder:
    """Lines of 76 characters, with a line end between two of them."""

    __slots__ = ("_has_begun", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._has_begun = False

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        whole = len(data) - len(data) % _BASE64_BYTES
        self._held = data[whole:]
        return self._lines(data[:whole])

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._lines(held)

    def _lines(self, data: bytes) -> bytes:
        if not data:
            return b""
        start = b"\r\n" if self._has_begun else b""
        self._has_begun = True
        return start + b"\r\n".join(_LINE.findall(binascii.b2a_base64(data, newline=False)))


class QuotedPrintableEncoder:
    """CRLF is a line end; a CR or LF by itself is encoded, as is all that is not ASCII."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""  # a line without its end

    def feed(self, data: bytes) -> bytes:
        *lines, rest = (self._held + data).split(b"\r\n")
        encoded = [_quoted(line) + b"\r\n" for line in lines]
        while len(rest) > _QUOTED_BYTES + 1:  # one byte more, so that no line end is cut
            encoded.append(_broken(rest[:_QUOTED_BYTES]))
            rest = rest[_QUOTED_BYTES:]
        self._held = rest
        return b"".join(encoded)

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return _quoted(held)


def _quoted(line: bytes) -> bytes:
    """A line without its end; a long one gets soft line breaks."""
    pieces = [line[at : at + _QUOTED_BYTES] for at in range(0, len(line), _QUOTED_BYTES)] or [b""]
    return b"".join([*map(_broken, pieces[:-1]), _encoded(pieces[-1])])


def _broken(piece: bytes) -> bytes:
    """A piece of a line that goes on behind it: with room for the soft line break, should none be there."""
    encoded = _encoded(piece + b"x")[: -len(b"x")]
    return encoded if encoded.endswith(b"=\r\n") else encoded + b"=\r\n"


def _encoded(piece: bytes) -> bytes:
    return binascii.b2a_qp(piece, istext=False).replace(b"=\n", b"=\r\n")


_ENCODERS: dict[str, Callable[[], Encoder]] = {
    "base64": Base64Encoder,
    "quoted-printable": QuotedPrintableEncoder,
}


def encoder(encoding: str) -> Encoder:
    """For base64 and quoted-printable. Raises KeyError."""
    return _ENCODERS[encoding]()
