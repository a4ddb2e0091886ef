"""The soak as short as it gets: every part of it works, and the ledger is balanced.

How many minutes it takes is in BQFILTER_TEST_SOAK_MINUTES, a fifth of one without it: too short for a verdict
about growth to mean anything, so there the verdict is only looked at in a longer run.
"""

import os

import pytest

from tests.doubles.components import require
from tests.postfix.conftest import why_not

from .growth import MEASURES
from .soak import report, soak

SHORTEST = 0.2
MINUTES = float(os.environ.get("BQFILTER_TEST_SOAK_MINUTES", SHORTEST))
SEED = 4


@pytest.mark.postfix
def test_mail_of_all_kinds_among_faults_of_all_kinds() -> None:
    require(why_not())
    result = soak(60 * MINUTES, SEED)
    text = "\n".join([*report(result), *result.wrong])
    assert not (result.wrong if MINUTES > SHORTEST else result.wrongs_of_mail), text
    assert all(f"\n| {measure.name} |" in text for measure in MEASURES)
    assert result.ledger.accepted
    assert {"reloads", "upgrades in place"} <= result.faults.counts.keys()
