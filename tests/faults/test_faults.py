"""Every fault at every phase on every side: what becomes of the message is what the table says.

The cells are performed on some fifteen pools side by side before the first test, those that are asked for.
"""

import pytest

from tests.faults.checking import differences
from tests.faults.expectations import EXPECTED, SIDES, Cell, Row
from tests.faults.running import Outcome, observed


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[Cell, Outcome]:
    cases = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return observed([case["cell"] for case in cases if isinstance(case.get("cell"), Cell)])


@pytest.mark.parametrize("cell", EXPECTED, ids=str)
def test_what_becomes_of_a_message(cell: Cell, outcomes: dict[Cell, Outcome]) -> None:
    seen = outcomes[cell]
    if isinstance(seen, BaseException):
        raise seen
    assert differences(cell, seen) == []


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
