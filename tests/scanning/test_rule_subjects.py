"""The texts that rules are asked about."""

from base64 import b64encode
from collections.abc import Callable
from quopri import encodestring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.fields import Header
from bqfilter.mail.media import media_of
from bqfilter.mail.mime import PartBegin, PartData
from bqfilter.scanning import rule_subjects
from bqfilter.scanning.rule_pattern import Subject
from bqfilter.scanning.rule_subjects import (
    LINE_BYTES,
    Line,
    PartLines,
    Spot,
    address_subject,
    field_spots,
    field_subject,
)


def field(raw: bytes, decodes: bool = True) -> Subject:
    return field_subject(Header(raw).fields[0], decodes)


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        pytest.param(b"Subject: a\r\n", Subject(b"Subject: a"), id="one line"),
        pytest.param(b"X:\r\n", Subject(b"X:"), id="empty"),
        pytest.param(
            b"X: a\r\n\tb\r\n", Subject(b"X: a\n\tb", b"X: a\tb"), id="two lines: decoded is unfolded"
        ),
        pytest.param(b"X \t: a\r\n", Subject(b"X: a"), id="blanks in front of the colon"),
        pytest.param(b"X: =?utf-8?q?=61?=\r\n", Subject(b"X: =?utf-8?q?=61?=", b"X: a"), id="encoded word"),
        pytest.param(b"X: \xe4\r\n", Subject(b"X: \xe4", "X: ä".encode()), id="bare Latin 1"),
        pytest.param("X: ä\r\n".encode(), Subject("X: ä".encode(), "X: ä".encode()), id="bare UTF-8"),
    ],
)
def test_a_field_is_one_text_with_lf_between_its_lines(raw: bytes, subject: Subject) -> None:
    assert field(raw) == subject


def test_without_decoding_a_field_is_there_as_it_stands() -> None:
    assert field(b"X: =?utf-8?q?=61?=\r\n b\r\n", decodes=False) == Subject(b"X: =?utf-8?q?=61?=\n b")


def test_the_null_sender_has_brackets() -> None:
    assert address_subject(b"") == Subject(b"<>")
    assert address_subject(b"a@example.com") == Subject(b"a@example.com")


def lines(header: bytes, *pieces: bytes, limit: int = 0, decodes: bool = True) -> list[Subject]:
    head = Header(header.replace(b"\n", b"\r\n"))
    part = PartLines(PartBegin(1, head, media_of(head)), limit, decodes)
    found = [line for piece in pieces for line in part.more(PartData(piece))]
    return [line.subject for line in [*found, *part.last()]]


def raw(*texts: bytes) -> list[Subject]:
    return [Subject(text) for text in texts]


LATIN = b"Content-Type: text/plain; charset=iso-8859-1\n"
BASE64 = b"Content-Transfer-Encoding: base64\n"
QUOTED = b"Content-Transfer-Encoding: quoted-printable\n"


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        pytest.param([b"a\r\nb\r\n"], raw(b"a", b"b"), id="lines"),
        pytest.param([b"a\r\n\r\nb"], raw(b"a", b"b"), id="an empty one is left out, the last has no end"),
        pytest.param([b"a", b"b\r", b"\nc"], raw(b"ab", b"c"), id="in pieces"),
        pytest.param([], [], id="nothing"),
        pytest.param([b"a\r"], raw(b"a"), id="cut before its end"),
    ],
)
def test_a_body_is_looked_at_line_by_line(pieces: list[bytes], found: list[Subject]) -> None:
    assert lines(b"", *pieces) == found


def test_eight_bit_text_is_there_in_both_forms() -> None:
    assert lines(LATIN, b"a\r\nb\xe4\r\n") == [Subject(b"a"), Subject(b"b\xe4", "bä".encode())]


def test_seven_bit_text_of_a_charset_with_shifts_is_there_in_both_forms() -> None:
    text = b"\x1b$BF|K\\\x1b(B"

    assert lines(b"Content-Type: text/plain; charset=iso-2022-jp\n", text) == [Subject(text, "日本".encode())]


def test_base64_text_is_there_as_it_stands_and_in_lines_of_its_own() -> None:
    text = b64encode("bä\nc\r\n\nd".encode("latin-1"))

    found = lines(LATIN + BASE64, text[:5] + b"\r\n", text[5:])

    assert [one.raw for one in found if one.decoded is None] == [text[:5], text[5:]]
    assert [one.decoded for one in found if one.raw is None] == ["bä".encode(), b"c", b"d"]


def test_quoted_text_is_there_without_its_soft_line_breaks() -> None:
    found = lines(QUOTED, b"via=\r\ngra=20x\r\ny")

    assert found == [
        Subject(b"via="),
        Subject(b"gra=20x"),
        Subject(None, b"viagra x"),
        *[Subject(b"y"), Subject(None, b"y")],
    ]


@pytest.mark.parametrize(
    "header", [b"Content-Type: image/png\n" + BASE64, b"Content-Type: application/pdf\n" + QUOTED]
)
def test_what_is_no_text_is_not_decoded(header: bytes) -> None:
    assert lines(header, b"YWJj=\r\n") == raw(b"YWJj=")


def test_without_decoding_a_part_is_there_as_it_stands() -> None:
    assert lines(LATIN + BASE64, b"YWJj\r\n", decodes=False) == raw(b"YWJj")


def test_text_with_two_encodings_is_decoded_by_either() -> None:
    found = lines(BASE64 + QUOTED, b"=61bcYQ==\r\n")

    assert b"abcYQ=" in [(one.decoded or b"")[:6] for one in found]
    assert len([one for one in found if one.raw is None]) == 2


def test_a_line_that_begins_within_the_limit_is_looked_at_to_its_end() -> None:
    assert lines(b"", b"abc\r\ndef\r\nghi\r\n", limit=6) == raw(b"abc", b"def")
    assert lines(b"", b"abc\r\n", b"def\r\n", limit=5) == raw(b"abc")
    assert lines(b"", b"abc\r\n", b"def\r\n", limit=0) == raw(b"abc", b"def")
    assert lines(b"", b"abc\r\nd", b"ef\r\nghi\r\n", limit=6) == raw(b"abc", b"def")
    assert lines(b"", b"abc\r\nde", b"f", b"\r\nghi\r\n", limit=6) == raw(b"abc", b"def")


def test_the_limit_counts_encoded_bytes() -> None:
    found = lines(BASE64, b"YWJj\r\n" * 10, limit=12)

    assert b"".join(one.decoded or b"" for one in found) == b"abc" * 2


def test_a_line_in_front_of_a_part_within_ends_there() -> None:
    part = PartLines(PartBegin(1, Header(b""), media_of(Header(b""))), 0, True)

    found = [*part.more(PartData(b"a\r\nb")), *part.interrupted(), *part.more(PartData(b"c\r\n"))]

    assert [line.subject for line in found] == raw(b"a", b"b", b"c")


def test_a_line_without_end_is_looked_at_in_pieces_and_not_kept() -> None:
    part = PartLines(PartBegin(1, Header(b""), media_of(Header(b""))), 0, True)
    sizes = [len(one.cut.text) for _ in range(800) for one in part.more(PartData(b"x" * 65535))]  # 50 MB

    assert set(sizes) == {LINE_BYTES}
    assert sum(sizes) + sum(len(one.cut.text) for one in part.last()) == 800 * 65535


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable", b"uuencode", b"8bit", b"frob"])
@given(
    data=st.lists(st.binary(max_size=80), max_size=5),
    charset=st.sampled_from([b"utf-8", b"utf-7", b"iso-2022-jp", b"x-none", b"hz", b"utf-16"]),
)
def test_no_content_makes_it_fail(encoding: bytes, data: list[bytes], charset: bytes) -> None:
    header = b"Content-Type: text/html; charset=%b\nContent-Transfer-Encoding: %b\n" % (charset, encoding)

    for subject in lines(header, *data):
        assert subject.raw or subject.decoded
        assert isinstance((subject.decoded or b"").decode("utf-8"), str)


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
@given(
    text=st.text(alphabet="aä€= \n.", max_size=60),
    cuts=st.lists(st.integers(1, 40), max_size=6),
)
def test_encoded_text_is_found_however_it_is_cut(encoding: str, text: str, cuts: list[int]) -> None:
    plain = text.encode()
    data = b64encode(plain) if encoding == "base64" else encodestring(plain).replace(b"\n", b"\r\n")
    header = b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: %b\n" % encoding.encode()
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    found = lines(header, *pieces, data)

    expected = [line.removesuffix(b"\r") for line in plain.split(b"\n")]
    assert [one.decoded for one in found if one.raw is None] == [line for line in expected if line]


def spots(header: bytes, *pieces: bytes, limit: int = 0, decodes: bool = True, at: int = 100) -> list[Spot]:
    """Of the lines that can be edited, or could but for a hindrance."""
    head = Header(header.replace(b"\n", b"\r\n"))
    part = PartLines(PartBegin(1, head, media_of(head)), limit, decodes)
    found = []
    for piece in pieces:
        found += part.more(PartData(piece, at))
        at += len(piece)
    return [line.spot for line in [*found, *part.last()] if line.spot is not None]


def test_a_line_is_edited_where_it_stands() -> None:
    assert spots(b"", b"abc\r\n\r\nde", b"f", decodes=False) == [Spot(100, 3), Spot(107, 3)]
    assert spots(LATIN, b"abc\r\n") == [Spot(100, 3, charset="iso-8859-1", is_seven_bit=True)]
    eight = LATIN + b"Content-Transfer-Encoding: 8bit\n"
    assert spots(eight, b"abc\r\n") == [Spot(100, 3, charset="iso-8859-1")]


def test_lines_on_either_side_of_a_part_within_are_edited_where_they_stand() -> None:
    part = PartLines(PartBegin(1, Header(b""), media_of(Header(b""))), 0, False)
    found = [*part.more(PartData(b"ab\r\nc", 10)), *part.interrupted(), *part.more(PartData(b"de\r\n", 50))]

    assert [line.spot for line in found] == [Spot(10, 2), Spot(14, 1), Spot(50, 2)]


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_of_encoded_text_the_decoded_lines_are_edited(encoding: str) -> None:
    data = b64encode(b"ab\r\n\xe4\nc") if encoding == "base64" else b"ab\r\n=E4=0Ac"
    found = spots(LATIN + b"Content-Transfer-Encoding: %b\n" % encoding.encode(), data)

    assert [(one.part, one.at, one.size, one.end) for one in found] == [
        (100, 0, 2, b"\r\n"),
        (100, 4, 1, b"\n"),
        (100, 6, 1, b"\r\n"),
    ]
    assert {(one.charset, one.is_seven_bit, one.is_whole) for one in found} == {("iso-8859-1", False, True)}


def test_encoded_lines_are_edited_where_nothing_is_decoded() -> None:
    assert spots(LATIN + BASE64, b"YWJj\r\n", decodes=False) == [Spot(100, 4)]
    image = b"Content-Type: image/png\n" + BASE64
    assert spots(image, b"YWJj\r\n") == [Spot(100, 4, charset="", is_seven_bit=True)]


@pytest.mark.parametrize(
    ("header", "data", "hindrance"),
    [
        pytest.param(
            b"Content-Transfer-Encoding: x-uuencode\n",
            b"begin 644 a\r\n#0V%T\r\nend\r\n",
            "uuencode",
            id="an encoding that is not written",
        ),
        pytest.param(BASE64 + QUOTED, b"YWJj\r\n", "it can be read in several ways", id="two encodings"),
        pytest.param(
            b"Content-Type: text/plain; charset=utf-16\n" + BASE64,
            b64encode("a".encode("utf-16")),
            "charset utf-16",
            id="wide characters",
        ),
        pytest.param(
            b"Content-Type: text/plain; charset=utf-16\n",
            "ab".encode("utf-16"),
            "charset utf-16",
            id="wide characters as they stand",
        ),
    ],
)
def test_what_cannot_be_edited_says_why(header: bytes, data: bytes, hindrance: str) -> None:
    assert {one.hindrance for one in spots(header, data)} == {hindrance}


def test_data_that_stands_nowhere_cannot_be_edited() -> None:
    assert spots(b"", b"ab\r\n", at=-1) == [Spot(hindrance="it can be read in several ways")]


def test_of_a_long_line_pieces_are_edited_that_do_not_take_its_end() -> None:
    line = b"x" * (2 * LINE_BYTES + 5)
    found = spots(b"", line + b"\r\nab\r\n", decodes=False)

    assert [(one.at - 100, one.size, one.is_whole) for one in found] == [
        (0, LINE_BYTES, False),
        (LINE_BYTES, LINE_BYTES, False),
        (2 * LINE_BYTES, 5, False),
        (len(line) + 2, 2, True),
    ]
    assert found == spots(b"", line[:70000], line[70000:] + b"\r\nab\r\n", decodes=False)


def test_a_decoded_line_that_the_limit_cuts_is_not_edited() -> None:
    data = b64encode(b"ab\r\ncdefghi\r\n")
    found = spots(BASE64, data[:8] + b"\r\n", data[8:] + b"\r\n", limit=8)

    assert [(one.at, one.hindrance) for one in found] == [(0, ""), (-1, "it goes on beyond body_limit")]


@pytest.mark.parametrize(("encoding", "less"), [(b"base64", 2), (b"quoted-printable", 0)])
def test_an_encoded_part_is_all_its_data_also_beyond_the_limit(encoding: bytes, less: int) -> None:
    head = Header(b"Content-Transfer-Encoding: " + encoding + b"\r\n")
    part = PartLines(PartBegin(1, head, media_of(head)), 4, True)
    for at in (100, 106):
        list(part.more(PartData(b"YWJj\r\n", at)))

    found = part.encoded_part()
    assert found is not None
    assert (found.start, found.end, found.encoding) == (100, 112 - less, encoding.decode())


def test_what_is_edited_as_it_stands_is_no_encoded_part() -> None:
    head = Header(b"")

    assert PartLines(PartBegin(1, head, media_of(head)), 0, True).encoded_part() is None


def test_fields_are_edited_where_they_stand() -> None:
    block = b"A: b\r\n c\r\nodd\r\nD: e\r\n"
    header = Header(b"A: b\r\n c\r\nD: e\r\n")
    part = PartBegin(1, header, media_of(header), block, 50)

    assert list(field_spots(part)) == [Spot(50, 10, is_field=True), Spot(65, 6, is_field=True)]
    nowhere = list(field_spots(PartBegin(1, header, media_of(header), block)))
    assert nowhere == [Spot(hindrance="it can be read in several ways", is_field=True)] * 2


@given(st.lists(st.sampled_from([b"a", b"bc", b"\r\n", b"\r\n\r\n"]), max_size=20), st.integers(0, 30))
def test_a_line_is_found_where_its_spot_says(pieces: list[bytes], limit: int) -> None:
    data = b"".join(pieces)
    part = PartLines(PartBegin(1, Header(b""), media_of(Header(b""))), limit, False)
    found, at = [], 0
    for piece in pieces:
        found += part.more(PartData(piece, at))
        at += len(piece)
    for line in [*found, *part.last()]:
        assert line.spot is not None
        assert data[line.spot.at : line.spot.at + line.spot.size] == line.subject.raw
        assert line.spot.at == 0 or data[line.spot.at - 2 : line.spot.at] == b"\r\n"
        assert data[line.spot.at + line.spot.size :].startswith((b"\r\n", b"" if at == len(data) else b"\r"))


CHARSETS = ["us-ascii", "utf-8", "iso-8859-1", "iso-2022-jp", "gbk", "utf-16"]
ENCODINGS = ["8bit", "quoted-printable", "base64"]


def has_mark(subject: Subject) -> bool:
    return any(form is not None and b"x" in form for form in (subject.raw, subject.decoded))


@given(
    st.sampled_from(CHARSETS),
    st.sampled_from(ENCODINGS),
    st.lists(st.text(alphabet="abx \xe4\r\n=4", max_size=12).map(lambda text: text.encode()), max_size=6),
    st.integers(0, 40),
)
def test_lines_that_matter_are_the_same_without_those_that_do_not(
    charset: str, encoding: str, pieces: list[bytes], limit: int
) -> None:
    header = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    head = Header(header.encode())
    begin = PartBegin(1, head, media_of(head))

    def marked(may_matter: Callable[[Subject], bool]) -> list[tuple[Line, Spot | None]]:
        part, at, found = PartLines(begin, limit, True, may_matter), 0, list[Line]()
        for piece in pieces:
            found += part.more(PartData(piece, at))
            at += len(piece)
        return [(line, line.spot) for line in [*found, *part.last()] if has_mark(line.subject)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rule_subjects, "LINE_BYTES", 8)  # so that some lines are too long
        assert marked(has_mark) == marked(lambda _lines: True)


def test_lines_of_no_interest_are_left_out_together() -> None:
    asked: list[Subject] = []

    def may_matter(lines: Subject) -> bool:
        asked.append(lines)
        return has_mark(lines)

    part = PartLines(PartBegin(1, Header(b""), media_of(Header(b""))), 0, True, may_matter)
    first = list(part.more(PartData(b"a\r\nb\nc", 0)))
    second = list(part.more(PartData(b"\r\nx\r\n", 6)))

    assert (first, [line.cut.text for line in second]) == ([], [b"c", b"x"])
    assert asked == [Subject(b"a\nb\n"), Subject(b"c\nx\n")]
    assert [line.cut.at for line in second] == [5, 8]


def test_the_second_piece_of_a_line_that_is_too_long_begins_like_a_line() -> None:
    def may_matter(lines: Subject) -> bool:
        return any(line.startswith(b"x") for line in (lines.raw or b"").split(b"\n"))

    part = PartLines(PartBegin(1, Header(b""), media_of(Header(b""))), 0, True, may_matter)
    data = b"a" * LINE_BYTES + b"x\r\nb\r\n"

    assert [line.cut.text for line in part.more(PartData(data, 0))] == [b"a" * LINE_BYTES, b"x", b"b"]


def test_a_charset_that_line_ends_do_not_fit_is_asked_about_line_by_line() -> None:
    """Cut at a byte LF, the characters of UTF-16 are others than those of the whole text."""
    head = Header(b"Content-Type: text/plain; charset=utf-16le\r\n")
    part = PartLines(PartBegin(1, head, media_of(head)), 0, True, lambda _lines: False)

    found = list(part.more(PartData("x\nä\n".encode("utf-16-le"), 0)))

    assert "\ue400" in (found[1].subject.decoded or b"").decode()
