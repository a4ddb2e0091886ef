"""Every fault at every phase on every side: what becomes of the message is what the table says.

The cells are performed on some fifteen pools side by side before the first test, those that are asked for.
"""

import re

import pytest

from tests.faults.bench import Observed
from tests.faults.expectations import CAUSES, EXPECTED, SIDES, Cell, Row
from tests.faults.patterns import matches, with_causes
from tests.faults.running import Outcome, observed

_ALARM = re.compile(r"(?:warning|error): ")


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[Cell, Outcome]:
    cases = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return observed([case["cell"] for case in cases if isinstance(case.get("cell"), Cell)])


@pytest.mark.parametrize("cell", EXPECTED, ids=str)
def test_what_becomes_of_a_message(cell: Cell, outcomes: dict[Cell, Outcome]) -> None:
    seen, row = outcomes[cell], EXPECTED[cell]
    if isinstance(seen, BaseException):
        raise seen
    assert not seen.broken, seen
    assert matches(row.told, seen.told), seen
    assert (seen.got, seen.counted) == (row.got, row.counted), seen
    assert_logged(seen, row, CAUSES.get(cell.fault, ()))


def assert_logged(seen: Observed, row: Row, causes: tuple[str, ...]) -> None:
    """A line for each of the row's, and no warning besides."""
    patterns = [with_causes(pattern, causes) for pattern in row.logged]
    for choices in patterns:
        assert any(_fits(line, choices) for line in seen.logged), (choices, seen.logged)
    alarms = [line for line in seen.logged if _ALARM.match(line)]
    assert [line for line in alarms if not any(_fits(line, choices) for choices in patterns)] == []


def _fits(line: str, choices: list[str]) -> bool:
    return any(matches(pattern, line) for pattern in choices)


PHASES = {
    "after-filter server": ["GREETING", "EHLO", "XFORWARD", "MAIL", "RCPT", "DATA", "CONTENT", ".", "QUIT"],
    "client": ["EHLO", "XFORWARD", "MAIL", "RCPT", "DATA", "CONTENT", ".", "QUIT"],
}


@pytest.mark.parametrize("side", PHASES)
@pytest.mark.parametrize("fault", ["stall", "close", "reset", "trickle", "garbage", "late"])
def test_no_fault_is_left_out_at_any_phase(side: str, fault: str) -> None:
    assert [phase for phase in PHASES[side] if Cell(side, phase, fault) not in EXPECTED] == []


@pytest.mark.parametrize("side", SIDES)
def test_no_cell_stands_in_two_rows(side: str) -> None:
    faults = [(row.phase, fault) for row in SIDES[side] for fault in row.faults]
    assert len(set(faults)) == len(faults)


def _claims(row: Row) -> tuple[bool, bool, bool]:
    counted = " ".join(row.counted)
    return row.told.startswith("2"), row.got == "all of it", "unknown" in counted or "unheard" in counted


@pytest.mark.parametrize("row", [row for rows in SIDES.values() for row in rows], ids=lambda row: row.phase)
def test_no_row_has_a_success_without_delivery_or_an_uncounted_delivery_behind_a_failure(row: Row) -> None:
    """The tables themselves: whoever changes an expectation cannot write a broken promise into it."""
    is_success, is_delivered, is_in_doubt = _claims(row)
    assert is_success is (is_delivered and not is_in_doubt)
