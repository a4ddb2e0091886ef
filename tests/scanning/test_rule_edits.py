"""What the edits of rules make of lines and fields in a body."""

import pytest

from bqfilter.mail.message import Message
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.rule_action import Action
from bqfilter.scanning.rule_edits import BodyEditor, field_of
from bqfilter.scanning.rule_subjects import Spot
from bqfilter.scanning.rule_table import Applied

BODY = b"one\r\ntwo\r\n"
MESSAGE = Message.in_memory(b"A: b\r\n\r\n" + BODY)
AS_BYTES = Spot(5, 3)


def applied(words: str, *groups: bytes, is_decoded: bool = False) -> Applied:
    return Applied("t:1", Action.parse(words.encode()), (b"", *groups), is_decoded)


def editor(hindrance: str = "") -> BodyEditor:
    return BodyEditor(MESSAGE, Workspace("/nowhere", 1 << 20), hindrance)


def edited(one: Applied, spot: Spot) -> bytes:
    body = editor()
    assert body.edit(one, spot) == ""
    found = body.body()
    assert found is not None
    return b"".join(found())


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("IGNORE", b"one\r\n"),
        ("STRIP why", b"one\r\n"),
        ("REPLACE 2", b"one\r\n2\r\n"),
        ("REPLACE .", b"one\r\n.\r\n"),
        ("PREPEND no field", b"one\r\nno field\r\ntwo\r\n"),
    ],
)
def test_a_line_is_edited(words: str, body: bytes) -> None:
    assert edited(applied(words), AS_BYTES) == body


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("IGNORE", b"two\r\n"),
        ("REPLACE B: ä", b"B: =?utf-8?b?w6Q=?=\r\ntwo\r\n"),
        ("PREPEND B: c", b"B: c\r\none\r\ntwo\r\n"),
    ],
)
def test_a_field_is_edited(words: str, body: bytes) -> None:
    assert edited(applied(words), Spot(0, 5, is_field=True)) == body


def test_what_is_no_field_when_it_is_filled_in_is_not_put_into_a_header() -> None:
    body = editor()

    assert body.edit(applied("PREPEND $1", b"a b: c"), Spot(0, 5, is_field=True)) == (
        " (not done: no header field)"
    )
    assert body.body() is None


@pytest.mark.parametrize("words", ["IGNORE", "REPLACE x", "PREPEND x"])
def test_what_cannot_be_edited_is_left_alone(words: str) -> None:
    for body, spot in ((editor("signed"), AS_BYTES), (editor(), Spot(hindrance="signed"))):
        assert body.edit(applied(words), spot) == " (not done: signed)"
        assert body.body() is None


@pytest.mark.parametrize("words", ["REPLACE $1", "PREPEND $1"])
def test_no_text_ends_its_line(words: str) -> None:
    assert b"\r\na  b c d\r\n" in edited(applied(words, b"a\r\nb\nc\0d"), AS_BYTES)
    field = edited(applied("REPLACE X: $1", b"a\r\nB: c\r\n\r\nd"), Spot(0, 5, is_field=True))
    assert field == b"X: a\r\n B: c\r\n d\r\ntwo\r\n"


@pytest.mark.parametrize(
    ("charset", "is_seven_bit", "text"),
    [
        pytest.param(None, False, "ä€".encode(), id="as it stands"),
        pytest.param("utf-8", False, "ä€".encode(), id="UTF-8"),
        pytest.param("iso-8859-1", False, b"\xe4?", id="Latin 1 has no euro"),
        pytest.param("windows-1252", False, b"\xe4\x80", id="Windows has"),
        pytest.param("utf-8", True, b"??", id="seven bits"),
        pytest.param("us-ascii", False, b"??", id="ASCII"),
        pytest.param("x-none", False, b"??", id="not known"),
        pytest.param("", False, b"??", id="none"),
        pytest.param("iso-2022-jp", True, b"??", id="Japanese"),
    ],
)
def test_text_is_put_into_the_charset_of_the_part(
    charset: str | None, is_seven_bit: bool, text: bytes
) -> None:
    spot = Spot(5, 3, charset=charset, is_seven_bit=is_seven_bit)

    assert edited(applied("REPLACE ä€"), spot) == b"one\r\n" + text + b"\r\n"


def test_a_charset_of_seven_bits_goes_where_only_those_can() -> None:
    spot = Spot(5, 3, charset="iso-2022-jp", is_seven_bit=True)

    assert edited(applied("REPLACE 日"), spot) == b"one\r\n\x1b$BF|\x1b(B\r\n"


def test_what_was_found_as_it_stands_stays_so_and_what_was_decoded_is_encoded() -> None:
    spot = Spot(5, 3, charset="iso-8859-1")

    assert edited(applied("REPLACE ä$1", b"\xf6"), spot) == b"one\r\n\xe4\xf6\r\n"
    assert edited(applied("REPLACE ä$1", "ö".encode(), is_decoded=True), spot) == b"one\r\n\xe4\xf6\r\n"


def test_a_line_on_the_wire_is_no_longer_than_allowed_and_no_character_is_cut() -> None:
    text = "ä" * 1200
    lines = edited(applied("REPLACE $1", text.encode()), AS_BYTES).split(b"\r\n")[1:-1]

    assert max(map(len, lines)) <= 998
    assert "".join(line.decode() for line in lines) == text


def test_the_end_of_a_line_goes_with_it_only_where_all_of_the_line_does() -> None:
    assert edited(applied("IGNORE"), Spot(5, 2, is_whole=False)) == b"one\r\no\r\n"
    assert edited(applied("IGNORE"), Spot(6, 2, is_whole=False)) == b"one\r\nt\r\n"


def test_a_line_that_is_put_in_ends_like_its_neighbour() -> None:
    assert edited(applied("PREPEND x"), Spot(5, 3, end=b"\n")) == b"one\r\nx\ntwo\r\n"


@pytest.mark.parametrize(
    ("text", "field"),
    [(b"A : b", b"A: b\r\n"), (b"A:b", b"A: b\r\n"), (b"no field", None), (b"a b: c", None), (b": c", None)],
)
def test_a_field_is_a_name_and_a_value(text: bytes, field: bytes | None) -> None:
    assert field_of(text) == field
