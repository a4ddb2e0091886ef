"""The logical lines of a table of rules, as Postfix reads them (readlline.c).

A line that begins with a blank goes on with the one before it; empty lines and lines whose first visible
character is "#" are passed over and end nothing. What stands on a line is not looked at here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

BLANKS = b" \t\r\v\f"


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """`text` without blanks at its end; `number` is that of its first physical line, counted from 1."""

    number: int
    text: bytes


def logical_lines(content: bytes) -> Iterator[LogicalLine]:
    """All logical lines of a file. Raises ValueError, which names the line, where Postfix only warns."""
    number, text = 0, b""
    for at, line in enumerate(content.split(b"\n"), 1):
        if _says_nothing(line):
            continue
        if b"\0" in line:
            raise ValueError(f"line {at}: a NUL byte, as in no text file")
        if line[0] in BLANKS:
            if not text:
                raise ValueError(f"line {at}: begins with a blank, but continues no other line")
            text += line
            continue
        if text:
            yield LogicalLine(number, text.rstrip(BLANKS))
        number, text = at, line
    if text:
        yield LogicalLine(number, text.rstrip(BLANKS))


def _says_nothing(line: bytes) -> bool:
    visible = line.lstrip(BLANKS)
    return not visible or visible.startswith(b"#")
