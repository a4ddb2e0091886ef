"""What the after-filter server is told about the remote client, in XFORWARD lines that it cannot refuse.

Postfix answers 501 to a line with one bad value and then takes nothing of it, and without SOURCE=REMOTE it
would take the message for a local one and rewrite its header. So values that would not pass are replaced by
[UNAVAILABLE], SOURCE is always told, and no line is longer than 512 bytes.
"""

from bqfilter.mail.envelope import Client
from bqfilter.smtp import grammar

_MAX_LINE_BYTES = 510  # RFC 5321 section 4.5.3.1.4: 512 with the CRLF
_VERB = b"XFORWARD"

# The attributes that no server refuses, for the case that it did refuse the others: an IPv6 address where the
# server has no IPv6, say. SOURCE is the one that matters.
_ESSENTIAL = frozenset({b"SOURCE", b"PROTO", b"HELO"})


def xforward_lines(client: Client, announced: frozenset[bytes]) -> list[bytes]:
    """The lines for one message, without line ends; none where the server announced no XFORWARD."""
    lines = []
    line = _VERB
    for name in grammar.XFORWARD_ATTRIBUTES:
        if name not in announced:
            continue
        word = b" " + name + b"=" + _acceptable(name, client.attributes.get(name, b""))
        if len(line) + len(word) > _MAX_LINE_BYTES:
            lines.append(line)
            line = _VERB
        line += word
    return [*lines, line] if line != _VERB else lines


def essential(announced: frozenset[bytes]) -> frozenset[bytes]:
    """The announced attributes less those that depend on how the server is set up."""
    return announced & _ESSENTIAL


def _acceptable(name: bytes, value: bytes) -> bytes:
    if value and grammar.XFORWARD_VALUES[name].fullmatch(value):
        return value
    return b"REMOTE" if name == b"SOURCE" else grammar.UNAVAILABLE
