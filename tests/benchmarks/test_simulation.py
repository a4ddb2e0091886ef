"""The simulated crowd: never more of anything than there is, and never longer than patience or law allow."""

import math
from itertools import accumulate, islice
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulation import Visit, crowd, exponential, lognormal, open_pool
from bqfilter.saturation import law

GAPS = st.lists(st.floats(0.0, 20.0), max_size=60)
COUNTS = st.integers(1, 8)


def _visits(processes: int, workers: int, patience: float, gaps: list[float], seed: int) -> list[Visit]:
    service = lognormal(Random(seed), 10.0, 4.0)
    return list(crowd(processes, workers, patience, accumulate(gaps), lambda _: min(service(), 30.0)))


@given(COUNTS, COUNTS, GAPS, st.integers(0, 9))
def test_there_are_never_more_than_processes_nor_more_sessions_than_workers(
    processes: int, workers: int, gaps: list[float], seed: int
) -> None:
    visits = _visits(processes, workers, 100.0, gaps, seed)
    for at in [one.connected for one in visits]:
        assert sum(one.connected <= at < one.ended for one in visits) <= processes
    served = [(one.started, one.ended) for one in visits if one.started is not None]
    for at, _ in served:
        assert sum(start <= at < end for start, end in served) <= workers


@given(COUNTS, COUNTS, GAPS, st.integers(0, 9))
def test_nobody_stays_longer_than_the_law_says(
    processes: int, workers: int, gaps: list[float], seed: int
) -> None:
    visits = _visits(processes, workers, math.inf, gaps, seed)
    longest = max((one.ended - one.connected for one in visits), default=0.0)
    assert longest <= law.longest_stay(processes, workers, 30.0) + 1e-6


def test_who_has_waited_long_enough_gives_up_and_costs_no_worker_any_time() -> None:
    visits = list(crowd(3, 1, 5.0, [0.0, 1.0, 7.0], lambda _: 8.0))
    assert visits == [Visit(0.0, 0.0, 8.0), Visit(1.0, None, 6.0), Visit(7.0, 8.0, 16.0)]
    assert [one.wait for one in visits] == [0.0, 5.0, 1.0]


def test_who_finds_no_process_free_is_not_there() -> None:
    assert [one.connected for one in crowd(1, 1, 5.0, [0.0, 1.0, 2.0], lambda _: 2.0)] == [0.0, 2.0]


def test_the_length_of_a_session_is_asked_for_the_moment_it_starts() -> None:
    visits = list(crowd(2, 1, 100.0, [0.0, 1.0], lambda start: 10.0 if start < 5 else 1.0))
    assert [one.ended for one in visits] == [10.0, 11.0]


def test_a_crowd_without_bounds_waits_as_in_an_open_pool() -> None:
    arrivals = islice(accumulate(iter(exponential(Random(1), 0.5), None)), 1000)
    waits = [one.wait for one in crowd(1000, 2, math.inf, arrivals, lambda _: 0.9)]
    pool = open_pool(2, exponential(Random(1), 0.5), lambda: 0.9, 1000)
    assert sorted(waits[100:]) == pool.seconds
