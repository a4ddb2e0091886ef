"""The header of a message as fields, edits of it, and the marks that a message gets."""

import re
from collections.abc import Iterator
from dataclasses import replace

from bqfilter.config.actions import TAG
from bqfilter.config.content import HeaderSettings, PolicySettings
from bqfilter.config.content_kinds import HeaderTemplate
from bqfilter.mail.difference import edits_between
from bqfilter.mail.fields import Edit, Field, Header, Insert, Remove, Replace, edited, make_field
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited
from bqfilter.scanning.decision import decide
from bqfilter.scanning.marks import Marker, signed_names
from bqfilter.scanning.policy import Policy
from bqfilter.smtp.body import unstuff, without_strays
from tests.doubles.scanners import hit, scanner
from tests.fuzz.cuts import choices, pieces

_SPAMD = scanner(
    "spamd", on_hit=TAG, add_headers=(HeaderTemplate.parse("X-Spam-Flag: YES"),), subject_prefix="* "
)
_SCANNERS = {"spamd": _SPAMD.settings}
_MARKER = Marker(HeaderSettings(report="X-Report", remove=("X-Trusted",)), _SCANNERS, "mx.example")
_FOUND = replace(hit("a score"), scanner="spamd")
_VERDICT = decide([_FOUND], Policy(PolicySettings(name="all"), ("spamd",)), _SCANNERS, "4B1")
_OURS = {b"x-report", b"x-spam-flag", b"x-trusted", b"authentication-results"}
_START = re.compile(rb"[!-9;-~]+[ \t]*:")
_MAX_LINE_BYTES = 998


def headers(data: bytes) -> None:
    """The fields are those that a reader of lines finds; header, separator and body are the whole message.

    Edits change the fields that they name, and no byte of another one or of the body; what goes in is one
    field, whatever its value; and what leaves reads as the fields that it was meant to have.
    """
    content = b"".join(without_strays([data + b"\r\n" * (not data.endswith(b"\r\n"))]))
    message = Message(lambda: iter(pieces(content)))
    fields = list(_fields(content))
    assert [field.raw for field in message.header.fields] == fields
    assert message.header.raw == b"".join(fields)
    body = b"".join(message.body())
    assert message.header.raw + b"\r\n" * message.has_separator + body == content
    assert message.header.raw == Message.in_memory(content).header.raw
    edits, expected = _edits(message.header.fields, data)
    assert edited(message.header, edits) == b"".join(expected)
    assert edited(message.header, edits_between(message.header, Header(b"".join(expected)))) == b"".join(
        expected
    )
    _check_outgoing(message, edits, expected, body)


def marks(data: bytes) -> None:
    """Whatever a header holds, a marked message has the fields in our name once, from us, and no forged ones.

    What a signature covers stays byte for byte, from the bottom up; all else but the subject stays as it was.
    """
    content = b"".join(without_strays([data + b"\r\n" * (not data.endswith(b"\r\n"))]))
    header = Message.in_memory(content).header
    after = Header(edited(header, _MARKER.edits(_VERDICT, header, "4B1")))
    assert after.raw == b"".join(field.raw for field in after.fields)
    for name, value in ((b"X-Report", b"mx.example;\taction=tag"), (b"X-Spam-Flag", b"YES")):
        (ours,) = after.all(name)
        assert ours.value.startswith(value)
        assert ours in after.fields[:3]
    assert not after.all(b"X-Trusted")
    for field in after.all(b"Authentication-Results"):
        assert not re.match(rb"(?i)[\s]*mx\.example\.?[\s;]", field.value + b";")
    signed = signed_names(header)
    for name in {field.name.lower() for field in header.fields} - _OURS:
        before, now = ([field.raw for field in one.all(name)] for one in (header, after))
        if name != b"subject" or signed[name]:
            assert now == before or (signed[name] and now[-len(before) :] == before)
        else:
            assert len(now) == len(before)


def _fields(content: bytes) -> Iterator[bytes]:
    """Line by line."""
    field = b""
    for line in content.split(b"\r\n")[:-1]:
        if field and line[:1] in (b" ", b"\t"):
            field += line + b"\r\n"
            continue
        if field:
            yield field
        field = line + b"\r\n" if _START.match(line) else b""
        if not field:
            return
    if field:
        yield field


def _edits(fields: tuple[Field, ...], data: bytes) -> tuple[list[Edit], list[bytes]]:
    """Edits that the input chooses, and the fields that they should lead to."""
    choose = choices(data, 5)
    places: list[list[bytes]] = [[field.raw] for field in fields] + [[]]
    edits: list[Edit] = []
    for at in {next(choose) % len(places) for _ in range(next(choose) % 4)}:
        text = _made(data, next(choose))
        kind = next(choose) % 3
        if kind == 0:
            edits.append(Insert(at, text))
            places[at].insert(0, text)
        elif at < len(fields):
            edits.append(Replace(at, text) if kind == 1 else Remove(at))
            places[at][-1:] = [text] if kind == 1 else []
    return edits, [text for place in places for text in place]


def _made(data: bytes, choice: int) -> bytes:
    """A field with some of the input as its value: one field, in lines that may travel."""
    at = choice % (len(data) + 1)
    value = data[at : at + 1500]
    made = make_field(b"X-Made", value if choice & 1 else value.decode("utf-8", "surrogateescape"))
    (field,) = Header(made).fields
    assert field.name == b"X-Made"
    assert all(len(line) <= _MAX_LINE_BYTES for line in made.split(b"\r\n"))
    assert not re.search(rb"[\x00-\x08\x0e-\x1f\x7f-\xff]", made)
    return made


def _check_outgoing(message: Message, edits: list[Edit], expected: list[bytes], body: bytes) -> None:
    outgoing = Edited(message, tuple(edits), None, is_small=True)
    wire = b"".join(outgoing.pieces())
    assert outgoing.wire() == wire + b".\r\n"
    assert (b"\r\n" + wire + b".\r\n").find(b"\r\n.\r\n") == len(wire)
    leaving = b"".join(unstuff([wire]))
    arrived = Message.in_memory(leaving)
    assert [field.raw for field in arrived.header.fields] == expected
    assert leaving.endswith(body)
    assert leaving[: len(leaving) - len(body)] in (b"".join(expected), b"".join(expected) + b"\r\n")
    if not edits:
        assert leaving == b"".join(message.content())
