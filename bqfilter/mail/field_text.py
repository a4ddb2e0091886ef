"""A header value as text: encoded words (RFC 2047) read as mail programs read them, broken ones included.

It never raises. What cannot be decoded stays as it stands, bytes of an unknown charset become U+FFFD. The
time is linear in the length of the value, whatever that holds; the standard library's `decode_header` is not,
and raises. Structured fields get no special treatment: a comment or a quoted string is decoded like all else.
"""

import binascii
import re

from bqfilter.mail.charsets import to_utf8

# encoded-word = "=?" charset [ "*" language ] "?" encoding "?" text "?=", RFC 2047 section 2 and RFC 2231
# section 5. Blanks in the text are forbidden and frequent. No part can run past the next "?".
_WORD = re.compile(r"=\?([!-)+->@-~]{1,60})(?:\*[!->@-~]{0,60})?\?([BbQq])\?([^?]*+)\?=")


def decoded(value: bytes) -> str:
    """The text that an unfolded value stands for."""
    text = value.decode("utf-8", "replace")
    if "=?" not in text:
        return text
    return "".join(part if isinstance(part, str) else _text(*part) for part in _parts(text))


def _parts(text: str) -> list[str | tuple[bytearray, str]]:
    """Plain text as it stands, encoded words as bytes and charset; neighbours in one charset are joined.

    A character may be spread over two words, which is forbidden as well and done by many.
    """
    parts: list[str | tuple[bytearray, str]] = []
    at = 0
    for match in _WORD.finditer(text):
        data, charset = _unpacked(match[3], match[2]), match[1].lower()
        if data is None:
            continue
        between, at = text[at : match.start()], match.end()
        last = parts[-1] if parts else None
        if not isinstance(last, tuple) or (between and not between.isspace()):
            parts += [between, (bytearray(data), charset)]
        elif last[1] == charset:
            last[0].extend(data)
        else:
            parts.append((bytearray(data), charset))  # the blanks between two encoded words do not count
    return [*parts, text[at:]]


def _unpacked(text: str, encoding: str) -> bytes | None:
    """The bytes in an encoded word, None where it is none."""
    raw = text.encode("utf-8", "replace")
    try:
        return binascii.a2b_qp(raw, header=True) if encoding in "Qq" else binascii.a2b_base64(raw + b"==")
    except binascii.Error:
        return None


def _text(data: bytes | bytearray, charset: str) -> str:
    return to_utf8(bytes(data), charset).decode("utf-8")
