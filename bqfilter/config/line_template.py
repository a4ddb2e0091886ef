"""The template of the line that each message leaves in the log: text with names of fields in braces.

`{name}` stands for a value, `{name=}` for `name=value` or, where there is no value, for nothing; `{fields}`
is all of them. A name that is not known is refused here, when the file is read, and not when the first
message has to be logged. What a value looks like is not decided here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bqfilter.config.kinds import quote

MESSAGE_FIELDS = (
    *("result", "client", "helo", "from", "to", "nrcpt", "size", "msgid", "reply", "cause", "queued_as"),
    *("policy", "verdict", "why", "scans", "notes", "kept_as", "wait", "ms"),
)
SESSION, WARNING, ALL = "session", "warning", "fields"

_KNOWN = (SESSION, WARNING, ALL, *MESSAGE_FIELDS)
_LONGEST = 1000  # characters; a line has room for four times that, most of it for the values
_PIECE = re.compile(r"(?P<literal>(?:[^{}]|\{\{|\}\})*)(?:\{(?P<name>[^{}=]*)(?P<pair>=?)\})?")


@dataclass(frozen=True, slots=True)
class Piece:
    """Literal text and the field behind it, "" for none.

    `blank` is what separates a field that may be missing from the text before it, and is missing with it.
    """

    literal: str
    blank: str
    field: str
    is_pair: bool


@dataclass(frozen=True, slots=True)
class LineTemplate:
    """A template as it was written, and the pieces that it comes to."""

    text: str
    pieces: tuple[Piece, ...]

    @classmethod
    def parse(cls, text: str) -> LineTemplate:
        """The template that `text` stands for; ValueError says what is wrong with it."""
        if len(text) > _LONGEST or not text.isprintable():
            raise ValueError(f"at most {_LONGEST} characters, and none that cannot be printed")
        pieces = []
        position = 0
        while position < len(text):
            match = _PIECE.match(text, position)
            if not match or match.end() == position:
                raise ValueError(f"a brace without its other half at character {position + 1}")
            pieces.append(_piece(match))
            position = match.end()
        if not any(piece.field for piece in pieces):
            raise ValueError("no field in it, so that all messages would look the same")
        return cls(text, tuple(pieces))

    def __str__(self) -> str:
        return self.text


def _piece(match: re.Match[str]) -> Piece:
    literal = match["literal"].replace("{{", "{").replace("}}", "}")
    name, is_pair = match["name"], match["pair"] == "="
    if name is None:
        return Piece(literal, "", "", is_pair=False)
    if name not in _KNOWN or (is_pair and name not in MESSAGE_FIELDS):
        raise ValueError(_unknown(name + match["pair"]))
    may_be_missing = is_pair or name == ALL
    blank = " " if may_be_missing and literal.endswith(" ") else ""
    return Piece(literal.removesuffix(blank), blank, name, is_pair)


def _unknown(name: str) -> str:
    import difflib  # here: most templates need no advice, and every worker would carry it

    close = difflib.get_close_matches(name, _KNOWN, n=1)
    hint = f" (did you mean {{{close[0]}}}?)" if close else ""
    return f"there is no {{{name}}}{hint}"


USUAL_LINE = LineTemplate.parse("{session}: {warning}message {fields}")


@dataclass(frozen=True, slots=True)
class LineTemplateKind:
    """Text with names of fields in braces."""

    name: str = "template"

    @property
    def allowed(self) -> str:
        return (
            "text with fields in braces, {NAME} or {NAME=}: " + ", ".join(MESSAGE_FIELDS)
            + f"; and {{{SESSION}}}, {{{WARNING}}}, {{{ALL}}}"
        )  # fmt: skip

    def read(self, value: object) -> LineTemplate:
        if not isinstance(value, str):
            raise ValueError("a string is wanted")
        return LineTemplate.parse(value)

    def toml(self, value: LineTemplate) -> str:
        return quote(value.text)
