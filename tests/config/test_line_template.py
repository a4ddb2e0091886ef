"""The template of a message's line: what it may say, and that a mistake is found when the file is read."""

import pytest

from bqfilter.config.line_template import (
    MESSAGE_FIELDS,
    USUAL_LINE,
    LineTemplate,
    LineTemplateKind,
    Piece,
)
from bqfilter.config.loader import parse
from bqfilter.errors import ConfigError

_LEAST = "[[listen]]\nendpoint = 'inet:127.0.0.1:10025'\n[upstream]\nendpoint = 'inet:127.0.0.1:10026'\n"


def _piece(literal: str, field: str = "", *, blank: str = "", is_pair: bool = False) -> Piece:
    return Piece(literal, blank, field, is_pair)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        pytest.param("{from}", [_piece("", "from")], id="a value"),
        pytest.param("a {to}, b", [_piece("a ", "to"), _piece(", b")], id="text around it"),
        pytest.param("a {to=}", [_piece("a", "to", blank=" ", is_pair=True)], id="a pair with its blank"),
        pytest.param("a{to=}", [_piece("a", "to", is_pair=True)], id="a pair without"),
        pytest.param("a {fields}", [_piece("a", "fields", blank=" ")], id="all fields"),
        pytest.param("{{{size}}}", [_piece("{", "size"), _piece("}")], id="braces that are text"),
        pytest.param("{session}: {warning}", [_piece("", "session"), _piece(": ", "warning")], id="special"),
    ],
)
def test_a_template_is_text_with_fields(text: str, pieces: list[Piece]) -> None:
    template = LineTemplate.parse(text)

    assert list(template.pieces) == pieces
    assert str(template) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("{qid}", "there is no {qid}", id="unknown field"),
        pytest.param("{quued_as=}", r"there is no {quued_as=} \(did you mean {queued_as}\?\)", id="misspelt"),
        pytest.param("{from!r}", "there is no {from!r}", id="a conversion of Python's"),
        pytest.param("{size:>9}", "there is no {size:>9}", id="a format of Python's"),
        pytest.param("{from.__class__}", "there is no", id="an attribute"),
        pytest.param("{}", "there is no {}", id="no name"),
        pytest.param("{fields=}", "there is no {fields=}", id="all fields as a pair"),
        pytest.param("to {from", "without its other half at character 4", id="left open"),
        pytest.param("{from}}", "without its other half at character 7", id="closed twice"),
        pytest.param("message", "no field in it", id="no field"),
        pytest.param("", "no field in it", id="nothing"),
        pytest.param("{from}\n", "cannot be printed", id="a line end"),
        pytest.param("{from}\x1b[m", "cannot be printed", id="a terminal's escape"),
        pytest.param("{from}" + "x" * 1000, "at most 1000 characters", id="too long"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        LineTemplateKind().read(text)


def test_the_error_in_the_file_lists_the_fields_that_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(_LEAST + "[log]\nmessage = '{session}: {queue_id}'\n", "test.toml")

    assert str(caught.value) == (
        'test.toml: log.message: found "{session}: {queue_id}": there is no {queue_id} '
        "(did you mean {queued_as}?); allowed is text with fields in braces, {NAME} or {NAME=}: "
        + ", ".join(MESSAGE_FIELDS)
        + "; and {session}, {warning}, "
        "{fields}"
    )


def test_a_number_is_no_template() -> None:
    with pytest.raises(ValueError, match="a string is wanted"):
        LineTemplateKind().read(3)


@pytest.mark.parametrize("name", MESSAGE_FIELDS)
def test_every_field_can_be_used_both_ways(name: str) -> None:
    (piece,) = LineTemplate.parse(f"{{{name}}}").pieces
    assert piece.field == name
    assert LineTemplate.parse(f"{{{name}=}}").pieces[0].is_pair


def test_without_a_template_of_its_own_a_site_has_the_usual_line() -> None:
    assert parse(_LEAST, "test.toml").log.message == USUAL_LINE
    usual = parse(_LEAST + "[log]\nmessage = '{session}: {warning}message {fields}'\n", "test.toml")
    assert usual.log.message == USUAL_LINE
