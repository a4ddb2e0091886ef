"""The arithmetic of the benchmarks."""

import pytest

from benchmarks.contenders import FILTER_ONE, HAPROXY, NO_FILTER
from benchmarks.loads import Run, alone, many
from benchmarks.report import Ratio, Result, table


def test_a_ratio_is_taken_to_haproxy_in_the_same_round() -> None:
    runs = [
        Run(HAPROXY, 1, 100, 1.0, None),
        Run(FILTER_ONE, 1, 100, 2.0, None),
        Run(HAPROXY, 2, 100, 10.0, None),
        Run(FILTER_ONE, 2, 100, 10.0, None),
        Run(HAPROXY, 3, 100, 4.0, None),
        Run(FILTER_ONE, 3, 100, 5.0, None),
    ]
    summary = Result(many(100), runs).summaries()[1]
    assert summary.ratio == Ratio(median=0.8, lowest=0.5, highest=1.0)


def test_a_ratio_of_latencies_is_above_one_for_the_slower() -> None:
    runs = [Run(HAPROXY, 1, 100, 1.0, None), Run(FILTER_ONE, 1, 100, 1.5, None)]
    summary = Result(alone(100), runs).summaries()[1]
    assert summary.score == 15.0
    assert summary.ratio == Ratio(1.5, 1.5, 1.5)


def test_processor_time_is_told_for_one_message_in_microseconds() -> None:
    summary = Result(many(100), [Run(HAPROXY, 1, 100, 1.0, 0.05)]).summaries()[0]
    assert summary.cpu_per_message == pytest.approx(500)


def test_without_haproxy_there_is_no_ratio() -> None:
    assert Result(many(100), [Run(NO_FILTER, 1, 100, 1.0, None)]).summaries()[0].ratio is None


def test_the_table_says_whether_an_aim_is_a_floor_or_a_ceiling() -> None:
    runs = [Run(HAPROXY, 1, 100, 1.0, None), Run(FILTER_ONE, 1, 100, 1.0, None)]
    assert "at least 0.80" in table([Result(many(100), runs)])
    assert "at most 1.20" in table([Result(alone(100), runs)])
