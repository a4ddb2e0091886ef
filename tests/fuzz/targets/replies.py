"""What an after-filter server says: replies in any pieces, what of them reaches a client, and keywords."""

import re

from bqfilter.errors import ProtocolViolation
from bqfilter.smtp.client import (
    MAX_REPLY_LINE_BYTES,
    MAX_REPLY_LINES,
    NO_CAPABILITIES,
    Capabilities,
    ClientDialogue,
    parse_capabilities,
)
from bqfilter.smtp.ehlo import ehlo_reply, withheld
from bqfilter.smtp.replies import MAX_LINE_BYTES, MAX_REPLY_BYTES, Reply, queue_id, relayable
from tests.fuzz.cuts import choices, pieces

_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)
_KEYWORDS = {
    b"PIPELINING", b"8BITMIME", b"DSN", b"SMTPUTF8", b"ENHANCEDSTATUSCODES",
    b"XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT",
}  # fmt: skip


def replies(data: bytes) -> None:
    """Replies are those that a reader of whole lines finds, up to the first line that is none: a violation.

    What of a reply may reach a client keeps Postfix's limits, makes nobody hang up, and reads as itself.
    """
    expected, is_followed = _as_a_whole(data)
    for cut in ([data], pieces(data)):
        assert _in_pieces(cut) == (expected, is_followed)
    for reply in expected:
        _check(reply)


def ehlo(data: bytes) -> None:
    """Whatever is announced, our own reply to EHLO stays short and says only what we can honour.

    A keyword that is passed on was announced, XFORWARD stands on the last line, and no size is larger than
    ours.
    """
    behind = parse_capabilities(Reply(250, tuple(data.split(b"\n"))))
    own = (0, 1000, 26214400)[next(choices(data)) % 3]
    reply = ehlo_reply(b"filter.example", behind, own)
    assert _whole(reply.wire) == reply
    assert len(reply.wire) <= MAX_REPLY_BYTES
    assert all(len(line) + 6 <= MAX_LINE_BYTES for line in reply.lines)
    assert reply.lines[-1].startswith(b"XFORWARD ")
    for line in reply.lines[1:]:
        _check_keyword(line, behind, own)
    before = frozenset(data.upper().split())
    assert all(keyword in before and keyword not in behind.keywords for keyword in withheld(before, behind))


def _in_pieces(cut: list[bytes]) -> tuple[list[Reply], bool]:
    dialogue, found = ClientDialogue(), list[Reply]()
    try:
        for piece in cut:
            dialogue.receive(piece)
            while (reply := dialogue.next_reply()) is not None:
                found.append(reply)
    except ProtocolViolation:
        return found, False
    return found, True


def _as_a_whole(data: bytes) -> tuple[list[Reply], bool]:
    found, so_far, code = list[Reply](), list[bytes](), b""
    for line in data.split(b"\n")[:-1]:
        line = line.removesuffix(b"\r")
        match = _LINE.fullmatch(line)
        if match is None or len(line) > MAX_REPLY_LINE_BYTES or (so_far and match[1] != code):
            return found, False
        code = match[1]
        so_far.append(match[3] or b"")
        if match[2] != b"-":
            found.append(Reply(int(code), tuple(so_far)))
            so_far = []
        elif len(so_far) >= MAX_REPLY_LINES:
            return found, False
    return found, True


def _check(reply: Reply) -> None:
    passed = relayable(reply)
    wire = passed.wire
    assert passed.code not in (421, 521)
    assert passed.code // 100 == reply.code // 100
    assert len(wire) <= MAX_REPLY_BYTES
    assert all(len(line) <= MAX_LINE_BYTES for line in wire.split(b"\r\n"))
    wire.decode("utf-8")
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", wire)
    assert _whole(wire) == passed
    assert re.fullmatch("[0-9A-Za-z]*", queue_id(reply))
    str(reply)
    assert parse_capabilities(reply).xforward <= {*reply.text.upper().split()}


def _whole(wire: bytes) -> Reply:
    found, is_followed = _in_pieces([wire])
    assert is_followed
    (reply,) = found
    return reply


def _check_keyword(line: bytes, behind: Capabilities, own: int) -> None:
    if line.split()[0] == b"SIZE":
        assert b"SIZE" in behind.keywords
        if own:
            assert int(line.partition(b" ")[2]) <= own
        return
    assert line in _KEYWORDS
    assert line in behind.keywords or line.split()[0] in (b"PIPELINING", b"XFORWARD")
    assert behind is not NO_CAPABILITIES
