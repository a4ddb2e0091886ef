"""How a log line is written: words of one event, its fields as key=value, by a template, or as JSON.

Values come from the wire: whatever is not printable is escaped, whatever holds a blank is quoted, whatever is
over-long is cut. No value can end its line or pass for another field. Nothing here writes anything.
"""

import json
import re
from collections.abc import Iterator, Mapping
from enum import IntEnum

from bqfilter.config.line_template import ALL, SESSION, WARNING, LineTemplate

Value = str | bytes | int | float | None

_VALUE_CHARS = (500, 120, 30)  # the longest value; the shorter ones for a line that would be too long
_MAX_LINE_BYTES = 4000  # with time, program and pid below PIPE_BUF, 4096: a pipe takes such a line whole
_UNSAFE = re.compile(r'[\x00-\x20"=\\\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]')
_ESCAPED = re.compile(r"[\x00-\x1f\"\\\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Priority(IntEnum):
    """syslog(3) priorities; stderr under systemd uses the same numbers (sd-daemon(3))."""

    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


def text_line(
    session: str,
    priority: Priority,
    event: str,
    fields: Mapping[str, Value],
    template: LineTemplate | None = None,
) -> str:
    """`SESSION: warning: event key=value ...`, or what `template` makes of the fields."""
    for limit in _VALUE_CHARS:
        shown = {key: _word(value, limit) for key, value in fields.items() if value is not None}
        if template is None:
            line = f"{_head(session, priority)}{event}{_pairs(shown)}"
        else:
            line = "".join(_filled_in(template, session, priority, shown))
        if _fits(line):
            return line
    return _cut_off(line)


def json_line(session: str, priority: Priority, event: str, fields: Mapping[str, Value]) -> str:
    """One JSON object, in ASCII."""
    head: dict[str, Value] = {"priority": priority.name.lower(), "session": session or None, "event": event}
    for limit in _VALUE_CHARS:
        shown = {key: _short(value, limit) for key, value in fields.items()}
        line = json.dumps({key: value for key, value in (head | shown).items() if value is not None})
        if len(line) <= _MAX_LINE_BYTES:
            break
    return line


def as_text(value: str | bytes) -> str:
    """Bytes as text; what is not UTF-8 shows as \\xNN."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def quoted(text: str) -> str:
    """`text` as it is, or in double quotes with escapes where it would not read as one word."""
    if text and not _UNSAFE.search(text):
        return text
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _head(session: str, priority: Priority) -> str:
    return f"{session}: {_alarm(priority)}" if session else _alarm(priority)


def _alarm(priority: Priority) -> str:
    return f"{priority.name.lower()}: " if priority < Priority.INFO else ""


def _pairs(shown: Mapping[str, str]) -> str:
    return "".join([f" {key}={word}" for key, word in shown.items()])


def _filled_in(
    template: LineTemplate, session: str, priority: Priority, fields: Mapping[str, str]
) -> Iterator[str]:
    shown = {SESSION: session, WARNING: _alarm(priority), **fields}
    for piece in template.pieces:
        yield piece.literal
        if piece.field == ALL:
            yield _pairs(fields) if piece.blank else _pairs(fields)[1:]
        elif not piece.is_pair:
            yield shown.get(piece.field, "-") if piece.field else ""
        elif piece.field in shown:
            yield f"{piece.blank}{piece.field}={shown[piece.field]}"


def _fits(line: str) -> bool:
    length = len(line) if line.isascii() else len(line.encode("utf-8", "backslashreplace"))
    return length <= _MAX_LINE_BYTES


def _cut_off(line: str) -> str:
    """For a template that names fields again and again; all else fits with values of the least length."""
    return line.encode("utf-8", "backslashreplace")[:_MAX_LINE_BYTES].decode("utf-8", "ignore")


def _word(value: str | bytes | int | float, limit: int) -> str:
    """A value as text of bounded length that reads as one word."""
    if not isinstance(value, str):
        if not isinstance(value, bytes):
            return str(value)
        value = value.decode("utf-8", "backslashreplace")
    return quoted(value if len(value) <= limit else _without_middle(value, limit))


def _short(value: Value, limit: int) -> Value:
    """Text of bounded length; numbers as they are."""
    if not isinstance(value, str):
        if not isinstance(value, bytes):
            return value
        value = value.decode("utf-8", "backslashreplace")
    return value if len(value) <= limit else _without_middle(value, limit)


def _without_middle(text: str, length: int) -> str:
    """The end of a traceback says what happened, the beginning of an address whose it is."""
    half = (length - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    # By hand: the codec for it would be imported here, perhaps by an account that cannot read it any more.
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    return f"\\x{ord(char):02x}" if char <= "\xff" else f"\\u{ord(char):04x}"
