"""Header text with its encoded words (RFC 2047) decoded, as UTF-8, for text that is to be looked at.

Nothing is refused: broken base64 is read as far as it goes, an encoded word without an end stands for itself,
and so does what cannot be one. Readers differ in how much they forgive; here, like in the forgiving ones, an
encoded word may stand anywhere and hold blanks and question marks. Each byte is looked at a fixed number of
times.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bqfilter.mail.charsets import bare_to_utf8, to_utf8

# charset, language (RFC 2231 section 5), encoding. What is in braces bounds what a hostile header costs.
_OPENING = re.compile(rb"=\?([!-)+->@-~]{1,60})(?:\*[!->@-~]{0,40})?\?([BbQq])\?")
_CLOSING = b"?="

# Postfix keeps no more of a field (header_size_limit). A field of megabytes can hold so many encoded words
# that to decode them takes seconds, in which nobody looks at the clock.
MAX_BYTES = 102400
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64 = bytes(code for code in range(256) if code not in _BASE64)


def decode_words(text: bytes, limit: int = MAX_BYTES) -> bytes:
    """`text` unfolded, with the encoded words decoded that begin in its first `limit` bytes, as UTF-8."""
    text = _FOLD.sub(b"", text)
    if b"=?" not in text:
        return bare_to_utf8(text)
    return b"".join(_decoded(list(_runs(text, limit))))


def decoded_text(text: bytes, limit: int = MAX_BYTES) -> str:
    """The same as a string."""
    return decode_words(text, limit).decode("utf-8")


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of plain text, or of the bytes of an encoded word in a charset."""

    raw: bytes
    charset: str | None = None


def _runs(text: bytes, limit: int) -> Iterator[_Run]:
    at = 0
    openings = list(_OPENING.finditer(text, 0, limit))
    for place, opening in enumerate(openings):
        if opening.start() < at:
            continue
        upto = openings[place + 1].start() + 1 if place + 1 < len(openings) else len(text)
        end = text.find(_CLOSING, opening.end(), upto)
        if end < 0:
            continue  # no end, or another one begins before it: this one is plain text
        yield _Run(text[at : opening.start()])
        yield _Run(_bytes_of(opening[2], text[opening.end() : end]), opening[1].decode("ascii"))
        at = end + len(_CLOSING)
    yield _Run(text[at:])


def _decoded(runs: list[_Run]) -> Iterator[bytes]:
    """Blanks between two encoded words go; a character may begin in one of them and end in the next."""
    charset: str | None = None
    parts: list[bytes] = []
    for place, run in enumerate(runs):
        if 0 < place < len(runs) - 1 and run.charset is None and not run.raw.strip(b" \t"):
            continue
        if run.charset != charset:
            yield _text(b"".join(parts), charset)
            charset, parts = run.charset, []
        parts.append(run.raw)
    yield _text(b"".join(parts), charset)


def _text(raw: bytes, charset: str | None) -> bytes:
    return bare_to_utf8(raw) if charset is None else to_utf8(raw, charset)


def _bytes_of(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"Qq":
        return binascii.a2b_qp(text, header=True)
    return b"".join(map(_base64, text.translate(None, _NOT_BASE64).split(b"=")))


def _base64(text: bytes) -> bytes:
    """Without padding. One letter too many says nothing."""
    text = text[: len(text) - (len(text) % 4 == 1)]
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
