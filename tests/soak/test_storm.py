"""Whatever is killed, at whatever moment: nothing is lost, and nothing is doubled outside of the window.

How many kills a run has is in BQFILTER_TEST_KILLS, 40 without it.
"""

import os

import pytest

from tests.doubles.components import require
from tests.postfix.conftest import why_not

from .storm import Aftermath, report, storm

KILLS = int(os.environ.get("BQFILTER_TEST_KILLS", "40"))
SEED = 20


@pytest.fixture(scope="module")
def after() -> Aftermath:
    require(why_not())
    return storm(KILLS, SEED)


@pytest.mark.postfix
class TestStorm:
    def test_the_ledger_is_balanced_after_it(self, after: Aftermath) -> None:
        assert not after.wrong, "\n".join([*report(after), *after.wrong])

    def test_it_was_one(self, after: Aftermath) -> None:
        """Otherwise the test above would show nothing: mail flowed, and kills hit it."""
        struck = {strike.aim for strike in after.striker.strikes}
        assert {"a worker", "master"} <= struck
        assert after.ledger.failed
        assert after.ledger.accepted > after.ledger.failed
