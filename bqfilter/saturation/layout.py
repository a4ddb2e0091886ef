"""Layout: sections, tables and running text of a page for people, and the same values for JSON.

Nothing is computed here but widths of columns.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

# Of running text; tables are as wide as they must be.
_WIDTH = 100


def section(title: str, rows: Sequence[str]) -> Iterator[str]:
    """A title and what stands below it, or nothing."""
    if rows:
        yield title
        yield from (f"  {row}".rstrip() for row in rows)
        yield ""


def wrapped(texts: Iterable[str]) -> list[str]:
    """Running text as a list with bullets."""
    return [row for text in texts for row in _bullet(text)]


def _bullet(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def columns(rows: Sequence[Sequence[str]], right: bool = False) -> list[str]:
    """A table, each column as wide as it must be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = str.rjust if right else str.ljust
    return [
        "  ".join(align(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def plain(value: Any) -> Any:
    """Enums by their value, and no infinity, which JSON does not have."""
    match value:
        case Enum():
            return value.value
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case _:
            return value
