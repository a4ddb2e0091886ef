"""Header sections as fields: found byte for byte, edited without touching their neighbours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.encoded_words import decoded_text
from bqfilter.mail.fields import Edit, Header, Insert, Remove, Replace, edited, header_end, make_field

_RAW = b"Received: from a\r\n\tby b\r\nX-Odd :\r\nSubject: hi\r\nsubject: again\r\n.dot: \xff\x00\r\n"


def test_fields_are_found_with_all_their_bytes() -> None:
    fields = Header(_RAW).fields

    assert b"".join(field.raw for field in fields) == _RAW
    assert [field.name for field in fields] == [b"Received", b"X-Odd", b"Subject", b"subject", b".dot"]
    assert fields[0].value == b"from a\tby b"
    assert fields[1].value == b""
    assert fields[4].value == b"\xff\x00"


def test_names_are_compared_without_letter_case() -> None:
    header = Header(_RAW)

    assert [field.index for field in header.all(b"SUBJECT")] == [2, 3]
    assert header.first(b"Subject") == b"hi"
    assert header.first(b"Cc") is None
    assert header.all(b"Cc") == []


@pytest.mark.parametrize(
    ("content", "end"),
    [
        pytest.param(b"A: 1\r\nB: 2\r\n\r\nbody\r\n", 12, id="an empty line"),
        pytest.param(b"A: 1\r\nbody without a header\r\n\r\n", 6, id="a line that is no field"),
        pytest.param(b"A: 1\r\n\tmore\r\n x: y\r\n", 20, id="continuation lines"),
        pytest.param(b" A: 1\r\n", 0, id="a continuation of nothing"),
        pytest.param(b"\r\nA: 1\r\n", 0, id="no header"),
        pytest.param(b"", 0, id="nothing"),
        pytest.param(b"A: 1\r\nB", 6, id="half a line"),
        pytest.param(b": no name\r\n", 0, id="no name"),
        pytest.param(b"two words: 1\r\n", 0, id="a blank in the name"),
    ],
)
def test_where_a_header_ends(content: bytes, end: int) -> None:
    assert header_end(content) == end


@pytest.mark.parametrize(
    ("edits", "outcome"),
    [
        pytest.param([], b"A: 1\r\nB: 2\r\n", id="none"),
        pytest.param([Insert(0, b"N: 0\r\n")], b"N: 0\r\nA: 1\r\nB: 2\r\n", id="at the top"),
        pytest.param([Insert(2, b"N: 0\r\n")], b"A: 1\r\nB: 2\r\nN: 0\r\n", id="at the end"),
        pytest.param(
            [Insert(1, b"N: 0\r\n"), Insert(1, b"M: 0\r\n")], b"A: 1\r\nN: 0\r\nM: 0\r\nB: 2\r\n", id="two"
        ),
        pytest.param([Replace(0, b"A: 9\r\n")], b"A: 9\r\nB: 2\r\n", id="replaced"),
        pytest.param(
            [Replace(0, b"A: 8\r\n"), Replace(0, b"A: 9\r\n")], b"A: 9\r\nB: 2\r\n", id="the later counts"
        ),
        pytest.param([Remove(0), Replace(0, b"A: 9\r\n")], b"B: 2\r\n", id="removed stays removed"),
        pytest.param([Replace(0, b"A: 9\r\n"), Remove(0)], b"B: 2\r\n", id="replaced, then removed"),
        pytest.param(
            [Remove(0), Insert(0, b"N: 0\r\n")], b"N: 0\r\nB: 2\r\n", id="in the place of a removed one"
        ),
        pytest.param([Remove(7), Replace(8, b"x")], b"A: 1\r\nB: 2\r\n", id="fields that are not there"),
    ],
)
def test_edits_leave_all_else_alone(edits: list[Edit], outcome: bytes) -> None:
    assert edited(Header(b"A: 1\r\nB: 2\r\n"), edits) == outcome


def test_what_is_not_edited_keeps_blanks_folds_and_odd_bytes() -> None:
    odd = b"A :\t1 \r\n \r\n\t2\r\n", b"B:2\r\n", b"c:\xff\x00\r\n"

    assert edited(Header(b"".join(odd)), [Replace(1, b"B: 3\r\n")]) == odd[0] + b"B: 3\r\n" + odd[2]


@given(st.text(max_size=3000))
def test_no_value_can_end_its_field(value: str) -> None:
    field = make_field("X-Test", value)

    assert [one.raw for one in Header(field + b"Next: 1\r\n").fields] == [field, b"Next: 1\r\n"]
    assert b"\r" not in field.replace(b"\r\n", b"")
    assert b"\n" not in field.replace(b"\r\n", b"")
    assert field.isascii()
    assert max(len(line) for line in field.split(b"\r\n")) <= 998


LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=40),
    min_size=1,
    max_size=4,
)


@given(LINES, st.sampled_from([" ", "\t", " \t  "]))
def test_a_value_of_several_lines_is_read_back_unfolded(lines: list[str], blank: str) -> None:
    """What looks like an encoded word already, in a line without others, is left as it stands."""
    (field,) = Header(make_field("Subject", ("\n" + blank).join(lines))).fields

    assert decoded_text(field.value) == blank.join(lines) or any("=?" in line for line in lines)


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_make_a_field(value: bytes) -> None:
    assert len(Header(make_field(b"X-Test", value)).fields) == 1


@pytest.mark.parametrize(
    ("value", "field"),
    [
        pytest.param("plain", b"X: plain\r\n", id="plain"),
        pytest.param("a\r\n\tb\n c", b"X: a\r\n\tb\r\n c\r\n", id="folds are kept"),
        pytest.param("a\r\nBcc: c@d", b"X: a\r\n Bcc: c@d\r\n", id="a line end becomes a fold"),
        pytest.param("a\n\n\nb", b"X: a\r\n b\r\n", id="several of them become one"),
        pytest.param("Grüße", b"X: =?utf-8?b?R3LDvMOfZQ==?=\r\n", id="encoded"),
        pytest.param("a\r\n\tGrüße", b"X: a\r\n\t=?utf-8?b?R3LDvMOfZQ==?=\r\n", id="one line encoded"),
        pytest.param(
            "ä\n ä", b"X: =?utf-8?b?w6Q=?=\r\n =?utf-8?b?IMOk?=\r\n", id="a blank between encoded lines"
        ),
        pytest.param("a\n" + " " * 2000 + "\nb", b"X: a\r\n b\r\n", id="blank lines go"),
        pytest.param("\x00\n ä", b"X: =?utf-8?b?w6Q=?=\r\n", id="nothing left of the first line"),
        pytest.param("", b"X: \r\n", id="empty"),
        pytest.param("a\x00\x07\x1f\x7fb", b"X: ab\r\n", id="control characters"),
    ],
)
def test_what_a_field_looks_like(value: str, field: bytes) -> None:
    assert make_field("X", value) == field


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "ä", "x" * 80])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        make_field(name, "x")


def test_bytes_that_were_no_characters_are_replaced() -> None:
    assert make_field("X", b"a\xff@x".decode("utf-8", "surrogateescape")) == make_field("X", "a\ufffd@x")
