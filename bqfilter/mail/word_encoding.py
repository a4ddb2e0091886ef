"""Text as encoded words (RFC 2047) in UTF-8 and base64, for a header field that we write.

All of a text is encoded, blanks included, so that what is read back is that text and nothing else. No word is
longer than 75 characters or splits a character, no line longer than 76 (section 2) unless what it begins with
leaves no choice. The time is linear in the length of the text; the standard library's takes seconds for a
megabyte, and memory in every process for what else it knows about mail.

Nothing is refused. What UTF-8 cannot hold, halves of surrogate pairs, becomes a question mark.
"""

import binascii
from collections.abc import Iterator

_BEGIN = b"=?utf-8?b?"
_END = b"?="
_MAX_WORD_CHARS = 75
_MAX_LINE_CHARS = 76
_MAX_CHARACTER_BYTES = 4


def encode_words(text: str, lead: bytes) -> list[bytes]:
    """Lines, without their ends: the first one begins with `lead`, the others with a blank.

    Where `lead` leaves no room for a word, it has its line to itself.
    """
    raw = text.encode("utf-8", "replace")
    at = _cut(raw, 0, _room(_MAX_LINE_CHARS - len(lead)))
    lines = [lead + _word(raw[:at]) if at else lead]
    lines += (b" " + _word(piece) for piece in _pieces(raw, at))
    return lines


def _pieces(raw: bytes, at: int) -> Iterator[bytes]:
    while at < len(raw):
        end = _cut(raw, at, _room(_MAX_LINE_CHARS - len(b" ")))
        yield raw[at:end]
        at = end


def _room(chars: int) -> int:
    """How many bytes can be encoded in so many characters; zero where a character might not fit."""
    room = (min(chars, _MAX_WORD_CHARS) - len(_BEGIN + _END)) // 4 * 3
    return room if room >= _MAX_CHARACTER_BYTES else 0


def _cut(raw: bytes, at: int, count: int) -> int:
    """Where a piece of at most `count` bytes ends that begins at `at`: not within a character."""
    end = at + count
    while end < len(raw) and raw[end] & 0xC0 == 0x80:
        end -= 1
    return min(end, len(raw))


def _word(piece: bytes) -> bytes:
    return _BEGIN + binascii.b2a_base64(piece, newline=False) + _END
