"""What a part of the suite found: a table for the reader, every single figure for the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Section:
    """`name` is the part's own, on the command line and in the record. `notes` stand below the table."""

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    record: Mapping[str, Any]
    notes: Sequence[str] = ()


def number(value: float | None, digits: int = 2) -> str:
    """Empty for what was not measured."""
    return "" if value is None else f"{value:.{digits}f}"
