"""How a line looks: whatever the wire held, it is one line, and its values can be told apart."""

import json
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bqfilter.config.line_template import USUAL_LINE, LineTemplate
from bqfilter.log.lines import Priority, Value, as_text, json_line, quoted, text_line


def filled_in(text: str, priority: Priority = Priority.INFO, /, **fields: Value) -> str:
    return text_line("5F1", priority, "message", fields, LineTemplate.parse(text))


def test_a_line_has_session_event_and_fields() -> None:
    line = text_line("5F1", Priority.INFO, "message", {"result": "accepted", "size": 12, "msgid": None})

    assert line == "5F1: message result=accepted size=12"


def test_a_json_line_is_one_object() -> None:
    fields: dict[str, Value] = {"size": 3, "to": b"\xff", "cause": '"b"\n', "no": None}
    line = json_line("5F1", Priority.WARNING, "message", fields)

    known = {"priority": "warning", "session": "5F1", "event": "message"}
    assert json.loads(line) == {**known, "size": 3, "to": "\\xff", "cause": '"b"\n'}
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain", "plain", id="plain"),
        pytest.param("", '""', id="nothing"),
        pytest.param("two words", '"two words"', id="a blank"),
        pytest.param('say "x"', r'"say \"x\""', id="quotes"),
        pytest.param("a=b", '"a=b"', id="an equals sign"),
        pytest.param("a\\b", r'"a\\b"', id="a backslash"),
        pytest.param("a\r\nb\0", r'"a\r\nb\x00"', id="control characters"),
        pytest.param("a\x1b[31m", r'"a\x1b[31m"', id="a terminal's escape"),
        pytest.param("a\u2028b\x85c", r'"a\u2028b\x85c"', id="other line ends"),
        pytest.param("a\u202eb", r'"a\u202eb"', id="text that turns around"),
        pytest.param("Müller", "Müller", id="letters of any language"),
    ],
)
def test_a_value_reads_as_one_word(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(st.text(max_size=80))
def test_any_value_stays_on_one_line_and_can_be_split_off_again(text: str) -> None:
    shown = quoted(text)

    assert len(shown.splitlines()) == 1
    assert shown.startswith('"') or " " not in shown


FIELDS = st.dictionaries(
    st.sampled_from(["from", "to", "helo", "msgid", "reply", "cause", "queued_as", "client", "ms"]),
    st.one_of(
        st.text(st.characters(), min_size=400, max_size=600),
        st.binary(min_size=300, max_size=900),
        st.integers(),
    ),
)
FORMS: dict[str, Callable[[Mapping[str, Value]], str]] = {
    "text": lambda fields: text_line("5F1", Priority.INFO, "message", fields),
    "json": lambda fields: json_line("5F1", Priority.INFO, "message", fields),
    "template": lambda fields: text_line(
        "5F1", Priority.INFO, "message", fields, LineTemplate.parse("ä" * 800 + "{fields} " * 20)
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_nothing_that_a_terminal_obeys_gets_into_a_line(form: str) -> None:
    assert FORMS[form](
        {"helo": "\0\x1b[2J\x7f\x9b2J\u202e\u2028", "cause": b"\x1b\xc2\x9b\r\n"}
    ).isprintable()


@pytest.mark.parametrize("form", FORMS)
@hypothesis_settings(max_examples=25)
@given(FIELDS)
def test_a_line_fits_into_what_a_pipe_takes_whole(form: str, fields: dict[str, Value]) -> None:
    line = FORMS[form](fields)

    assert len(line.encode("utf-8", "backslashreplace")) <= 4000
    assert "\n" not in line
    if form == "json":
        assert json.loads(line).keys() >= fields.keys()


def test_a_long_value_loses_its_middle_visibly() -> None:
    line = text_line("", Priority.INFO, "x", {"value": "a" * 300 + "b" * 300})

    assert line.startswith("x value=aaa")
    assert "a...b" in line
    assert line.endswith("b")
    assert len(line) <= len("x value=") + 500
    assert text_line("", Priority.INFO, "x", {"value": b"x" * 500}) == "x value=" + "x" * 500


def test_bytes_that_are_no_utf_8_are_shown() -> None:
    assert as_text(b"M\xfcller") == r"M\xfcller"
    assert as_text("M\xc3\xbcller".encode("latin-1")) == "M\u00fcller"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("{queued_as}: from={from}", "4XY: from=<a@b>", id="values"),
        pytest.param("{why} {size}", "- 12", id="a value that there is not"),
        pytest.param("x {why=} {size=}", "x size=12", id="a pair that there is not"),
        pytest.param("({size=}){why=}.", "(size=12).", id="pairs without blanks"),
        pytest.param("{{{size}}}", "{12}", id="braces"),
        pytest.param("{session} {warning}{reply}", '5F1 "250 Ok"', id="special, and a value with a blank"),
        pytest.param(
            "all: {fields}", 'all: from=<a@b> size=12 reply="250 Ok" queued_as=4XY', id="all fields"
        ),
        pytest.param(
            "{fields};", 'from=<a@b> size=12 reply="250 Ok" queued_as=4XY;', id="all fields at the start"
        ),
    ],
)
def test_a_template_is_filled_in(text: str, line: str) -> None:
    fields: dict[str, Value] = {"from": b"<a@b>", "size": 12, "why": None, "reply": b"250 Ok"}

    assert filled_in(text, **fields, queued_as="4XY") == line


def test_a_template_says_where_a_message_is_worth_a_warning() -> None:
    assert filled_in("{session}: {warning}{size}", Priority.WARNING, size=3) == "5F1: warning: 3"


def test_a_value_in_a_template_is_escaped() -> None:
    assert filled_in("{helo} {from}", helo="a\r\nb", **{"from": "<x> size=0"}) == r'"a\r\nb" "<x> size=0"'


@pytest.mark.parametrize("priority", [Priority.INFO, Priority.WARNING])
@hypothesis_settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["from", "to", "size"]), st.text(max_size=20) | st.none()))
def test_the_usual_line_is_what_its_template_says(priority: Priority, fields: dict[str, Value]) -> None:
    usual = text_line("5F1", priority, "message", fields)

    assert text_line("5F1", priority, "message", fields, USUAL_LINE) == usual
