"""What a table of settings is made of: a frozen dataclass, and metadata for each field.

A field carries, beside its default, a `Setting`: the kind of value with its range, whether a reload applies a
change, and what there is to think about when changing it. `schema` and `content` declare their tables so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bqfilter.config.kinds import Kind

HOUR = 3600.0
DAY = 24 * HOUR
KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Below a hundredth of a second a limit measures the scheduler and not the peer.
SHORTEST = 0.01


@dataclass(frozen=True, slots=True)
class Setting:
    """What there is to know about one key, beside its name and its default.

    `singular` is a second key for a list that nearly always has one element. `example` stands in the sample
    file where there is no default.
    """

    kind: Kind
    doc: str
    reloadable: bool = True
    singular: tuple[str, Kind] | None = None
    example: object = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Two or more values that do not go together; blamed on one key."""

    key: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Table:
    """What every table can do: find the values in it that are right alone and wrong together."""

    def problems(self) -> Iterator[Problem]:
        """None, unless a table says otherwise."""
        yield from ()


def about(kind: Kind, doc: str, **rest: Any) -> dict[str, Setting]:
    """The metadata of a field."""
    return {"setting": Setting(kind, doc, **rest)}
