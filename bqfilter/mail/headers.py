"""Read header fields on the bytes of a message, without parsing or re-serialising it."""

import re

# Field names are case-insensitive (RFC 5322 section 1.2.2); the identifier may stand on a continuation line.
_MESSAGE_ID = re.compile(rb"(?:\A|\n)message-id[ \t]*:[ \t]*(?:\r?\n[ \t]+)?([^\r\n]{1,998})", re.IGNORECASE)
_HEADER_END = re.compile(rb"(?:\A|\r?\n)\r?\n")


def message_id(head: bytes) -> bytes:
    """The Message-ID of a message that begins with `head`, empty where there is none in its header."""
    end = _HEADER_END.search(head)
    match = _MESSAGE_ID.search(head, 0, end.start() if end else len(head))
    return match[1].strip() if match else b""
