"""Is what was seen what the table says? Each difference as a line, for whoever has to mend it."""

import re
from collections.abc import Iterator

from tests.faults.bench import Observed
from tests.faults.expectations import CAUSES, EXPECTED, Cell, Row
from tests.faults.patterns import matches, with_causes

_ALARM = re.compile(r"(?:warning|error): ")
_OF_THE_MASTER = re.compile(r"warning: after-filter server out of reach ")  # now and then, with no message


def differences(cell: Cell, seen: Observed) -> list[str]:
    """None where the cell came to what was expected, and kept every promise."""
    return [*seen.broken, *seen.missed, *_from_table(seen, EXPECTED[cell], CAUSES.get(cell.fault, ()))]


def _from_table(seen: Observed, row: Row, causes: tuple[str, ...]) -> Iterator[str]:
    if not matches(row.told, seen.told):
        yield f"told: {seen.told}, and not {row.told}"
    if seen.got != row.got:
        yield f"the after-filter server got {seen.got}, and not {row.got}"
    if seen.counted != row.counted:
        yield f"counted: {seen.counted}, and not {row.counted}"
    yield from _from_log(seen.logged, [with_causes(pattern, causes) for pattern in row.logged])


def _from_log(lines: tuple[str, ...], patterns: list[list[str]]) -> Iterator[str]:
    """A line for each of the row's, and no warning of the worker's besides."""
    for choices in patterns:
        if not any(_fits(line, choices) for line in lines):
            yield f"not logged: {choices}, but {lines}"
    for line in lines:
        if _OF_THE_MASTER.match(line):
            continue
        if _ALARM.match(line) and not any(_fits(line, choices) for choices in patterns):
            yield f"logged besides: {line}"


def _fits(line: str, choices: list[str]) -> bool:
    return any(matches(pattern, line) for pattern in choices)
