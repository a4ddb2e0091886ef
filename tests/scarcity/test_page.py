"""The table of resource faults: each row is one that a test compares with what happens."""

import re
from pathlib import Path

import pytest

from bqfilter.saturation.metrics import METRICS
from tests.scarcity import rows
from tests.scarcity.page import all_rows, tables
from tests.scarcity.rows import Row

_TESTS = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(rows).items()
        if isinstance(value, Row) or (isinstance(value, tuple) and all(isinstance(one, Row) for one in value))
    ],
)
def test_a_row_is_brought_about_by_a_test(name: str) -> None:
    assert re.search(rf"\b{name}\b", _TESTS)


@pytest.mark.parametrize("row", all_rows(), ids=lambda row: f"{row.subject}: {row.fault} ({row.client})")
def test_a_row_shows_a_metric_that_there_is_and_keeps_the_promises(row: Row) -> None:
    assert re.match(r"\w+", row.metric)[0].removesuffix("_total") in METRICS  # type: ignore[index]
    if row.client.startswith("250 "):
        assert row.delivered or "quarantined" in row.metric
    elif row.delivered:  # what no proxy can close is at least told as what it is
        assert "possible duplicate" in row.log


def test_the_tables_have_every_row_once() -> None:
    lines = [line for line in tables() if line.startswith("| ")]
    subjects = {row.subject for row in all_rows()}
    assert len(set(lines)) - 2 == len(all_rows()) == len(lines) - 2 * len(subjects)
