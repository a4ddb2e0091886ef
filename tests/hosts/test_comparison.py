"""What is read from HAProxy's log, and that a simulation of it is of the same connections."""

import pytest

from .comparison import Stay, again, stays, table

LOG = """\
[WARNING]  (26232) : Health check for server bqfilterd/filter1 succeeded, reason: Layer7 check passed
192.0.2.1:34276 [25/Nov/2026:17:55:42.765] bqfilterd bqfilterd/filter2 40/2/1055 341 -- 6/6/5/2/+1 0/1
192.0.2.2:52934 [25/Nov/2026:17:55:41.265] bqfilterd bqfilterd/filter1 1/0/231 341 CD 7/7/6/1/0 0/0
"""


def test_a_stay_is_wait_connection_and_session() -> None:
    first, second = stays(LOG)
    assert (first.waited, first.session, first.host) == (0.001, 0.23, "filter1")
    assert (second.waited, second.session, second.host) == (0.04, 1.013, "filter2")
    assert second.came - first.came == pytest.approx(1.5)


def test_thirteen_at_once_are_one_too_many_for_twelve_workers() -> None:
    crowd = [Stay(100.0 + 0.01 * number, 0.0, 2.0, "filter1") for number in range(13)]
    assert [round(one.wait, 2) for one in again(crowd).visits] == [0.0] * 12 + [1.88]


def test_the_table_has_both_and_what_chance_would_do() -> None:
    steady = [Stay(100.0 + number, 0.5 * (number % 2), 1.0, "filter1") for number in range(101)]
    lines = list(table(steady, busy=0.1, runs=20))
    assert lines[0] == "91 sessions, 1.0/s of 1.00 s: 8% of 3 x 4 workers busy"
    assert "| longer than 0.25 s | 49.5% | 0.0% | 0.0% to 0.0% |" in lines
