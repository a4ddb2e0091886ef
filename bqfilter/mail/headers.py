"""Read header fields on the bytes of a message, without parsing or re-serialising it."""

import re

# Field names are case-insensitive (RFC 5322 section 1.2.2); the identifier may stand on a continuation line.
_NAME = b"\nmessage-id"
_BODY = re.compile(rb"[ \t]*:[ \t]*(?:\r?\n[ \t]+)?([^\r\n]{1,998})")


def message_id(head: bytes) -> bytes:
    """The Message-ID of a message that begins with `head`, empty where there is none in its header."""
    lines = b"\n" + head  # each with the line end in front of it: one longer than `head`
    end = _or(lines.find(b"\n\r\n"), len(lines))
    end = _or(lines.find(b"\n\n", 0, end), end)
    lines = lines[:end].lower()
    at = lines.find(_NAME)
    while at >= 0:
        match = _BODY.match(head, at + len(_NAME) - 1, end)
        if match:
            return match[1].strip()
        at = lines.find(_NAME, at + 1)
    return b""


def _or(found: int, otherwise: int) -> int:
    return found if found >= 0 else otherwise
