"""The parts of messages, well-formed, odd and hostile."""

import email
import email.policy
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.message import Message as ParsedMessage
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.message import Message
from bqfilter.mail.mime import NOWHERE, Event, Excess, Limit, Limits, PartBegin, PartData, PartEnd, walk
from bqfilter.mail.transfer import decoder
from tests.doubles import hostile

MIXED = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'


@dataclass
class Part:
    """One part with all its data, for comparison."""

    begin: PartBegin
    data: bytes = b""

    @property
    def line(self) -> str:
        return f"{self.begin.depth} {self.begin.content_type} {self.data.decode('latin-1')!r}"

    @property
    def decoded(self) -> bytes:
        coder = decoder(self.begin.encoding)
        return coder.feed(self.data) + coder.finish()


@dataclass
class Walked:
    """What a walk gave: parts in the order in which they began, and what there was too much of."""

    parts: list[Part] = field(default_factory=list)
    excesses: list[Limit] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [part.line for part in self.parts]


def assembled(events: Iterator[Event]) -> Walked:
    """Also sees to it that parts end in the order in which they nest."""
    walked, under_way = Walked(), []
    for event in events:
        match event:
            case PartBegin(depth):
                assert depth == len(under_way)
                under_way.append(Part(event))
                walked.parts.append(under_way[-1])
            case PartData(data):
                assert data
                under_way[-1].data += data
            case PartEnd(depth):
                assert depth == under_way.pop().begin.depth
            case Excess(what):
                walked.excesses.append(what)
    assert under_way == []
    return walked


def walked(content: bytes, limits: Limits | None = None) -> Walked:
    return assembled(walk(Message.in_memory(content), limits))


def lines(content: bytes) -> list[str]:
    return walked(content).lines


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", ["0 text/plain ''"], id="nothing"),
        pytest.param(b"Subject: x\r\n\r\nHi\r\n", ["0 text/plain 'Hi\\r\\n'"], id="text"),
        pytest.param(b"\r\nHi\r\n", ["0 text/plain 'Hi\\r\\n'"], id="no header"),
        pytest.param(b"Hi: there\r\nyou\r\n", ["0 text/plain 'you\\r\\n'"], id="no empty line"),
        pytest.param(
            MIXED
            + b"pre\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\ntwo\r\n--b--\r\npost\r\n",
            ["0 multipart/mixed 'prepost\\r\\n'", "1 text/plain 'one'", "1 text/html 'two'"],
            id="two parts",
        ),
        pytest.param(
            MIXED + b"--b \t\r\n\r\none\r\n--b-- \r\n",
            ["0 multipart/mixed ''", "1 text/plain 'one'"],
            id="blanks behind delimiters",
        ),
        pytest.param(
            MIXED + b"--b\r\n\r\n--b\r\nX: y\r\n\r\n--b\r\nX: y\r\n--b--",
            ["0 multipart/mixed ''", *["1 text/plain ''"] * 3],
            id="empty parts",
        ),
        pytest.param(
            MIXED + b"--b\r\n\r\none\r\n\r\n--b--\r\n",
            ["0 multipart/mixed ''", "1 text/plain 'one\\r\\n'"],
            id="only one line end belongs to the delimiter",
        ),
        pytest.param(
            MIXED + b"--b\r\n\r\none", ["0 multipart/mixed ''", "1 text/plain 'one'"], id="never closed"
        ),
        pytest.param(
            MIXED + b"--b\r\nX: y", ["0 multipart/mixed ''", "1 text/plain ''"], id="cut off in a header"
        ),
        pytest.param(MIXED + b" --b\r\n", ["0 multipart/mixed ' --b\\r\\n'"], id="no delimiter at all"),
        pytest.param(
            MIXED + b"--b--\r\n--b\r\n\r\nx",
            ["0 multipart/mixed ''", "1 text/plain 'x'"],
            id="gone on after it was closed",
        ),
        pytest.param(
            b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nHi",
            ["0 message/rfc822 ''", "1 text/plain 'Hi'"],
            id="message in message",
        ),
        pytest.param(
            b"Content-Type: message/rfc822\r\n\r\n" * 3 + b"\r\nHi",
            [*[f"{depth} message/rfc822 ''" for depth in range(3)], "3 text/plain 'Hi'"],
            id="message in message in message",
        ),
        pytest.param(
            b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\nHi\r\n--b--",
            ["0 multipart/digest ''", "1 message/rfc822 ''", "2 text/plain 'Hi'"],
            id="digest",
        ),
        pytest.param(
            MIXED
            + b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
            + MIXED
            + b"--b\r\n\r\nin\r\n--b--\r\n--b\r\n\r\nout",
            [
                "0 multipart/mixed ''",
                "1 message/rfc822 ''",
                "2 multipart/mixed ''",
                "3 text/plain 'in'",
                "1 text/plain 'out'",
            ],
            id="the same boundary inside",
        ),
        pytest.param(
            MIXED + b"--b\r\nContent-Type: multipart/x; boundary=bb\r\n\r\n"
            b"--bb\r\n\r\nin\r\n--b\r\n\r\nout\r\n--b--",
            ["0 multipart/mixed ''", "1 multipart/x ''", "2 text/plain 'in'", "1 text/plain 'out'"],
            id="a boundary that begins another one",
        ),
        pytest.param(
            b"Content-Type: multipart/mixed\r\n\r\nhi\r\n--zz\r\n\r\none\r\n--zz--\r\n",
            ["0 multipart/mixed 'hi'", "1 text/plain 'one'"],
            id="no boundary",
        ),
        pytest.param(
            b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n\r\none\r\n--x\r\ntwo\r\n----\r\n',
            ["0 multipart/mixed ''", "1 text/plain 'one\\r\\n--x\\r\\ntwo'"],
            id="empty boundary",
        ),
        pytest.param(
            b"Content-Type: multipart/mixed; boundary=x\r\n"
            + MIXED
            + b"--b\r\n\r\none\r\n--x\r\n\r\ntwo\r\n--x--",
            ["0 multipart/mixed ''", "1 text/plain 'one'", "1 text/plain 'two'"],
            id="two boundaries",
        ),
        pytest.param(
            b"Content-Type: text/plain\r\n" + MIXED + b"--b\r\n\r\none\r\n--b--",
            ["0 text/plain ''", "1 text/plain 'one'"],
            id="a multipart by its second type",
        ),
        pytest.param(
            MIXED + b"--b\r\nX: y\r\njunk\r\nContent-Type: text/html\r\n\r\nHi\r\n--b--",
            [
                "0 multipart/mixed ''",
                "1 text/plain 'junk\\r\\nContent-Type: text/html\\r\\n'",
                "1 text/html 'Hi'",
            ],
            id="a line that is no field: both readings",
        ),
        pytest.param(
            MIXED + b"--b\r\n\r\none\r\n--bc\r\nContent-Type: text/html\r\n\r\ntwo\r\n--b--",
            [
                "0 multipart/mixed ''",
                "1 text/plain 'one\\r\\n--bc\\r\\nContent-Type: text/html\\r\\n\\r\\ntwo'",
                "2 text/html ''",
            ],
            id="a line that only begins with a boundary: both readings",
        ),
        pytest.param(
            b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA0K\r\n",
            ["0 message/rfc822 'U3ViamVjdDogeA0K\\r\\n'"],
            id="a message in base64",
        ),
        pytest.param(
            b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nSubject: x\r\n\r\nHi",
            ["0 message/rfc822 ''", "1 text/plain 'Hi'"],
            id="a message that only claims to be in base64",
        ),
        pytest.param(
            b"Content-Transfer-Encoding: base64\r\n" + MIXED + b"LS1iDQo=\r\n",
            ["0 multipart/mixed 'LS1iDQo=\\r\\n'"],
            id="a multipart in base64",
        ),
        pytest.param(
            b"Content-Transfer-Encoding: quoted-printable\r\n"
            + MIXED
            + b"--b\r\nContent-Type=3A text/html\r\n\r\nHi",
            ["0 multipart/mixed ''", "1 text/plain 'Content-Type=3A text/html\\r\\n'", "1 text/html 'Hi'"],
            id="a multipart in quoted-printable, with a header that is no field as it stands",
        ),
    ],
)
def test_a_message_is_taken_apart(content: bytes, expected: list[str]) -> None:
    assert lines(content) == expected


def test_headers_within_quoted_printable_are_read_decoded_as_well() -> None:
    head = b"Content-Transfer-Encoding: quoted-printable\r\n" + MIXED
    part = b'--b\r\nContent-Disposition: attachment; filename=3D"a=2Eexe"\r\n\r\nx'

    assert "a.exe" in walked(head + part).parts[1].begin.names


def test_a_delimiter_may_be_longer_than_what_is_compared() -> None:
    boundary = b"b" * 5000
    content = MIXED.replace(b'"b"', boundary) + b"--%b\r\n\r\none\r\n--%b--\r\nend" % (boundary, boundary)

    assert lines(content) == ["0 multipart/mixed 'end'", "1 text/plain 'one'"]


def test_what_a_part_says_of_itself_is_at_hand() -> None:
    header = b'Content-Type: text/html; charset=utf-8; name="x"\r\nContent-Transfer-Encoding: base64\r\n'
    part = walked(header + b"\r\n").parts[0].begin

    assert (part.content_type, part.encoding, part.charset, part.names) == (
        "text/html",
        "base64",
        "utf-8",
        ("x",),
    )
    assert (part.is_multipart, part.is_message, part.header.raw) == (False, False, header)


# limits


@pytest.mark.parametrize(
    ("content", "limits", "excess", "expected"),
    [
        pytest.param(
            b"Content-Type: message/rfc822\r\n\r\n" * 3 + b"\r\nHi",
            Limits(depth=1),
            Limit.DEPTH,
            ["0 message/rfc822 ''", "1 message/rfc822 'Content-Type: message/rfc822\\r\\n\\r\\n\\r\\nHi'"],
            id="depth: what is too deep is not opened",
        ),
        pytest.param(
            MIXED + b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b\r\n\r\nthree",
            Limits(parts=2),
            Limit.PARTS,
            ["0 multipart/mixed ''", "1 text/plain 'one\\r\\n--b\\r\\n\\r\\ntwo\\r\\n--b\\r\\n\\r\\nthree'"],
            id="parts: the rest is data",
        ),
        pytest.param(
            MIXED + b"--b\r\nX: 1\r\nY: 2\r\nZ: 3\r\n\r\none\r\n--b\r\n\r\ntwo",
            Limits(header_bytes=8),
            Limit.HEADER,
            ["0 multipart/mixed ''", "1 text/plain 'Z: 3\\r\\n\\r\\none'", "1 text/plain 'two'"],
            id="header: the rest of it is data",
        ),
        pytest.param(
            MIXED + b"--b\r\nX: 1\r\n\r\none\r\n--b\r\nX: 1\r\n\r\ntwo",
            Limits(total_header_bytes=8),
            Limit.HEADERS,
            ["0 multipart/mixed 'X: 1\\r\\ntwo'", "1 text/plain 'one'"],
            id="headers: the rest is data",
        ),
    ],
)
def test_beyond_a_limit_the_walk_goes_on_flat_and_says_so_once(
    content: bytes, limits: Limits, excess: Limit, expected: list[str]
) -> None:
    found = walked(content, limits)

    assert found.excesses == [excess]
    assert found.lines == expected


def test_a_message_header_that_is_too_large_is_an_excess() -> None:
    message = Message.in_memory(b"X: y\r\n" * 20000 + b"\r\n", header_limit=100)

    assert assembled(walk(message)).excesses == [Limit.HEADER]


def test_nesting_costs_no_stack_and_ends_at_the_limit() -> None:
    found = walked(b"Content-Type: message/rfc822\r\n\r\n" * 100_000, Limits(depth=50))

    assert (len(found.parts), found.excesses) == (51, [Limit.DEPTH])


def test_memory_does_not_grow_with_the_message() -> None:
    piece = b"x" * 65536

    def pieces() -> Iterator[bytes]:
        yield MIXED + b"--b\r\n\r\n"
        for _ in range(800):  # 50 MB without a line end
            yield piece

    message = Message(pieces)
    tracemalloc.start()
    size = sum(len(event.data) for event in walk(message) if isinstance(event, PartData))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size == 800 * 65536
    assert peak < 2 * 1024 * 1024


def test_an_unreadable_spool_is_an_oserror() -> None:
    def pieces() -> Iterator[bytes]:
        yield MIXED
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        list(walk(Message(pieces)))


# laws


ODD_LINES = [
    b"--b\r\n",
    b"--b--\r\n",
    b"--bb\r\n",
    b"--bb--\r\n",
    b"--c\r\n",
    b"--\r\n",
    b"\r\n",
    b"text\r\n",
    b"X: y\r\n",
    b" more\r\n",
    b"Content-Type: multipart/mixed; boundary=bb\r\n",
    b"Content-Type: multipart/digest; boundary=c\r\n",
    b"Content-Type: multipart/mixed\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"no end",
]


@given(st.lists(st.sampled_from(ODD_LINES), max_size=25), st.lists(st.integers(0, 400), max_size=15))
def test_how_the_content_is_cut_makes_no_difference(chosen: list[bytes], cuts: list[int]) -> None:
    content = MIXED + b"".join(chosen)
    at = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    pieces = [content[start:end] for start, end in pairwise(at)]
    limits = Limits(depth=4, parts=12, header_bytes=150, total_header_bytes=500)

    whole, cut = walked(content, limits), assembled(walk(Message(lambda: iter(pieces)), limits))

    assert (whole.lines, whole.excesses) == (cut.lines, cut.excesses)


def test_long_data_is_cut_where_no_delimiter_is_missed() -> None:
    for shift in range(8):
        content = MIXED + b"--b\r\n\r\n" + b"x" * (65536 - len(MIXED) - 16 + shift) + b"\r\n--b\r\n\r\ntwo"
        assert walked(content).lines[2] == "1 text/plain 'two'"


@given(st.binary(max_size=2000))
def test_the_data_of_a_flat_message_is_its_body(noise: bytes) -> None:
    message = Message.in_memory(b"Subject: x\r\n\r\n" + noise)

    assert b"".join(e.data for e in walk(message) if isinstance(e, PartData)) == b"".join(message.body())


@given(st.binary(max_size=2000))
def test_no_bytes_are_more_than_a_message(noise: bytes) -> None:
    assert walked(MIXED + noise).parts


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=80)
NAMES = st.text(st.sampled_from("abcXYZ019 .-_äö€"), min_size=1, max_size=30).filter(lambda n: n.strip() == n)
LEAVES = st.one_of(st.tuples(st.just("text"), TEXTS), st.tuples(NAMES, st.binary(max_size=200)))


def composed(leaves: list[tuple[str, str | bytes]], nest: bool) -> EmailMessage:
    """A message as the standard library writes one."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["Subject"] = "composed"
    message.set_content("hello\n")
    for name, data in leaves:
        if isinstance(data, str):
            message.add_attachment(data + "\n", subtype="html")
        else:
            message.add_attachment(data, "application", "octet-stream", filename=name)
    if not nest:
        return message
    outer = EmailMessage(policy=email.policy.SMTP)
    outer.set_content("outer\n")
    outer.add_attachment(message)
    return outer


@given(st.lists(LEAVES, max_size=6), st.booleans())
def test_well_formed_messages_have_the_parts_that_the_standard_library_finds(
    leaves: list[tuple[str, str | bytes]], nest: bool
) -> None:
    content = composed(leaves, nest).as_bytes()
    parsed: ParsedMessage = email.message_from_bytes(content, policy=email.policy.SMTP)
    found = walked(content)

    assert found.excesses == []
    assert [p.begin.content_type for p in found.parts] == [p.get_content_type() for p in parsed.walk()]
    for ours, theirs in zip(found.parts, parsed.walk(), strict=True):
        assert theirs.get_filename() in (None, *ours.begin.names)
        if not theirs.is_multipart():
            assert ours.decoded == theirs.get_payload(decode=True)


# where everything stands


def places(content: bytes, limits: Limits | None = None) -> None:
    """Whatever has a place is found there."""
    message = Message.in_memory(content)
    body = b"".join(message.body()) + b"\r\n"  # a header without an end gets one
    for event in walk(message, limits):
        match event:
            case PartData(data, at) if at != NOWHERE:
                assert body[at : at + len(data)] == data
            case PartBegin(header=header, at=at) if at != NOWHERE:
                found = list(event.field_places())
                assert len(found) == len(header.fields)
                for place, field in zip(found, header.fields, strict=True):
                    assert body[place : place + len(field.raw)] == field.raw


def test_everything_stands_where_it_is_said_to() -> None:
    for _, content in hostile.messages(100, seed=3):
        if len(content) > 200_000:
            continue
        places(content)
        places(content, Limits(depth=3, parts=5, header_bytes=100, total_header_bytes=300))


PIECES = (
    *(b"--b", b"--bx", b"--b--", b"\r\n", b"\r\n\r\n", b"A: b\r\n", b" c\r\n", b"no field\r\n", b"text"),
    *(b"Content-Type: message/rfc822\r\n", b"Content-Type: multipart/mixed; boundary=bx\r\n", b"x" * 150),
)


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.booleans())
def test_pieces_of_parts_stand_where_they_are_said_to(pieces: list[bytes], is_limited: bool) -> None:
    limits = Limits(depth=2, parts=3, header_bytes=100, total_header_bytes=200) if is_limited else None

    places(MIXED + b"".join(pieces), limits)


def test_a_place_is_known_wherever_nothing_is_cut() -> None:
    content = (
        MIXED
        + b"pre\r\n--b\r\nA: b\r\nodd\r\nC: d\r\n\r\none\r\n--bx\r\nE: f\r\n\r\ntwo\r\n--b--\r\npost\r\n"
    )
    events = list(walk(Message.in_memory(content)))

    assert [(e.at, e.is_extra) for e in events if isinstance(e, PartBegin)] == [
        *((NOWHERE, False), (10, True), (10, False), (40, True))
    ]
    assert all(e.at != NOWHERE for e in events if isinstance(e, PartData))


def test_a_header_that_is_cut_has_no_place() -> None:
    content = MIXED + b"--b\r\n" + b"A: b\r\n" * 100 + b"\r\none"
    (_, part), limits = walked(content, Limits(header_bytes=100)).parts, Limits(header_bytes=100)

    assert part.begin.at == NOWHERE
    assert list(part.begin.field_places()) == []
    places(content, limits)


# the hostile corpus


def test_hostile_messages_end_within_their_limits() -> None:
    limits = Limits()
    for name, content in hostile.messages(400, seed=1):
        parts = data = data_events = 0
        for event in walk(Message.in_memory(content), limits):
            parts += isinstance(event, PartBegin)
            if isinstance(event, PartData):
                data += len(event.data)
                data_events += 1
        assert parts <= limits.parts + 1, name
        assert data <= len(content) + 2, name
        assert data_events <= len(content) // 4 + parts + 2, name


def test_fifty_megabytes_without_a_line_end_are_a_message() -> None:
    content = hostile.largest()

    assert sum(len(e.data) for e in walk(Message.in_memory(content)) if isinstance(e, PartData)) == 50 << 20


def test_the_corpus_is_the_same_for_the_same_seed() -> None:
    first, again, other = ([m for _, m in hostile.messages(90, seed)] for seed in (1, 1, 2))

    assert first == again
    assert first != other
