"""Whatever is killed, at whatever moment: nothing is lost, and nothing is doubled outside of the window.

How many kills a run has is in BQFILTER_TEST_KILLS, 40 without it.
"""

import os

import pytest

from tests.doubles.components import require
from tests.postfix.conftest import why_not

from .storm import report, storm

KILLS = int(os.environ.get("BQFILTER_TEST_KILLS", "40"))
SEED = 20


@pytest.mark.postfix
def test_whatever_is_killed_the_ledger_is_balanced() -> None:
    require(why_not())
    after = storm(KILLS, SEED)
    assert not after.wrong, "\n".join([*report(after), *after.wrong])
    # Otherwise this would show nothing: mail flowed, and kills hit it.
    assert {"a worker", "master"} <= {strike.aim for strike in after.striker.strikes}
    assert after.ledger.accepted > after.ledger.failed > 0
