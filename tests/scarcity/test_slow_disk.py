"""A disk on which a write or a flush takes longer than anybody waits: in the spool, and in the quarantine.

What is only kept can be taken back until the client has been told, and is. A copy of what was delivered
stays: it is true, whether or not the client heard of it.
"""

from collections.abc import Iterator

import pytest

from bqfilter.quarantine import Quarantine, State
from tests.scarcity.rows import COPIED_FOR, KEPT_FOR, SLOW_DISKS, Stop
from tests.scarcity.stops import StoppingPool, stopping_pool


@pytest.fixture(scope="module")
def pool() -> Iterator[StoppingPool]:
    policies = [
        {"name": "kept", "recipients": [KEPT_FOR], "action": "quarantine"},
        {"name": "copied", "recipients": [COPIED_FOR], "action": "accept+quarantine"},
    ]
    with stopping_pool(policy=policies, spool={"memory": "0B"}) as pool:
        yield pool


@pytest.mark.parametrize("row", SLOW_DISKS, ids=lambda row: f"{row.fault} {row.recipient}")
def test_nothing_is_delivered_or_kept_behind_the_back_of_a_client(pool: StoppingPool, row: Stop) -> None:
    before = kept(pool)
    pool.goes_by(row)
    assert kept(pool) - before == row.kept


def kept(pool: StoppingPool) -> int:
    """How many are kept for good; there is nothing else."""
    names = list(Quarantine(pool.daemon.directory / "quarantine").names())
    assert {name.state for name in names} <= {State.HELD}
    return len(names)
