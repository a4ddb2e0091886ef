"""The window of a killed worker is measured for messages of both sorts."""

import pytest

from tests.doubles.components import require
from tests.postfix.conftest import why_not

from .window import measure, report


@pytest.mark.postfix
def test_each_message_that_was_handed_over_has_its_times() -> None:
    require(why_not())
    found = measure(40)
    assert all(times and all(behind > 0 and ours > 0 for behind, ours in times) for times in found.values())
    assert len(list(report(found))) == 2 + 2 * len(found)
