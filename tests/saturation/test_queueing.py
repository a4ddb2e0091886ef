"""The queueing formulas: known values, and a simulated pool as the judge."""

import math
import random

import pytest

from benchmarks.simulation import Waits, bursty, exponential, lognormal, open_pool
from bqfilter.saturation.queueing import Comfort, Load, erlang_b, erlang_c

EXAMPLE = Load(rate=8, service_time=2.5, service_cv2=4)
ONE_IN_A_HUNDRED = Comfort(wait=1, share=0.01)


def simulated(load: Load, workers: int, sessions: int = 120_000) -> Waits:
    chance = random.Random(20)
    mean_gap = 1 / load.rate
    is_bursty = load.arrival_cv2 > 1
    gap = bursty(chance, mean_gap, load.arrival_cv2) if is_bursty else exponential(chance, mean_gap)
    return open_pool(workers, gap, lognormal(chance, load.service_time, load.service_cv2), sessions)


@pytest.mark.parametrize(
    ("servers", "erlangs", "blocked"),
    [(0, 3, 1.0), (1, 1, 0.5), (2, 1, 0.2), (10, 5, 0.018385), (100, 84.064, 0.01), (5, 0, 0.0)],
)
def test_erlang_b_has_the_values_of_the_tables(servers: int, erlangs: float, blocked: float) -> None:
    assert erlang_b(servers, erlangs) == pytest.approx(blocked, rel=1e-3)


def test_erlang_b_lies_between_its_neighbours_for_parts_of_a_server() -> None:
    assert erlang_b(11, 7) < erlang_b(10.5, 7) < erlang_b(10, 7)


@pytest.mark.parametrize("busy", [0.1, 0.5, 0.9])
def test_a_single_server_is_waited_for_as_often_as_it_is_busy(busy: float) -> None:
    assert erlang_c(1, busy) == pytest.approx(busy)


@pytest.mark.parametrize("erlangs", [20, 20.5, 100])
def test_everybody_waits_for_ever_where_there_is_more_work_than_workers(erlangs: float) -> None:
    load = Load(rate=erlangs, service_time=1)
    assert load.p_wait(20) == 1
    assert load.mean_wait(20) == math.inf
    assert load.p_wait_beyond(20, 3600) == 1
    assert load.wait_exceeded_by(0.01, 20) == math.inf


@pytest.mark.parametrize(
    ("workers", "busy", "p_wait", "mean_wait", "beyond_5s"),
    [
        (21, 0.95, 0.76, 4.8, 0.34),
        (24, 0.83, 0.30, 0.47, 0.012),
        (26, 0.77, 0.14, 0.15, 0.0012),
        (28, 0.71, 0.063, 0.049, 0.0001),
        (34, 0.59, 0.0029, 0.0013, 0),
    ],
)
def test_the_worked_example_has_its_table(
    workers: int, busy: float, p_wait: float, mean_wait: float, beyond_5s: float
) -> None:
    assert EXAMPLE.utilisation(workers) == pytest.approx(busy, abs=0.005)
    assert EXAMPLE.p_wait(workers) == pytest.approx(p_wait, rel=0.03)
    assert EXAMPLE.mean_wait(workers) == pytest.approx(mean_wait, rel=0.03)
    assert EXAMPLE.p_wait_beyond(workers, 5) == pytest.approx(beyond_5s, rel=0.05, abs=1e-5)


def test_the_99th_percentile_is_what_one_in_a_hundred_waits_longer_than() -> None:
    limit = EXAMPLE.wait_exceeded_by(0.01, 24)
    assert EXAMPLE.p_wait_beyond(24, limit) == pytest.approx(0.01)
    assert EXAMPLE.wait_exceeded_by(0.01, 34) == 0


@pytest.mark.parametrize("workers", [24, 26, 28])
def test_as_many_wait_in_a_simulated_pool(workers: int) -> None:
    found = simulated(EXAMPLE, workers)
    assert found.p_wait == pytest.approx(EXAMPLE.p_wait(workers), rel=0.15)


@pytest.mark.parametrize("workers", [24, 26, 28])
def test_waits_are_overrated_and_never_underrated(workers: int) -> None:
    found = simulated(EXAMPLE, workers)
    assert found.mean <= EXAMPLE.mean_wait(workers)
    assert found.beyond(1) <= EXAMPLE.p_wait_beyond(workers, 1)
    assert found.exceeded_by(0.01) <= EXAMPLE.wait_exceeded_by(0.01, workers)


def test_exponential_sessions_wait_exactly_as_predicted() -> None:
    load, chance = Load(rate=9, service_time=1), random.Random(4)
    found = open_pool(10, exponential(chance, 1 / 9), exponential(chance, 1), 200_000)
    assert found.p_wait == pytest.approx(load.p_wait(10), rel=0.05)
    assert found.mean == pytest.approx(load.mean_wait(10), rel=0.1)
    assert found.beyond(1) == pytest.approx(load.p_wait_beyond(10, 1), rel=0.1)


@pytest.mark.parametrize("workers", [24, 28])
def test_bursts_make_more_of_them_wait(workers: int) -> None:
    load = Load(rate=8, service_time=2.5, service_cv2=4, arrival_cv2=3)
    found = simulated(load, workers)
    assert found.p_wait > 1.2 * EXAMPLE.p_wait(workers)
    assert 0.9 * found.p_wait < load.p_wait(workers) < 1.5 * found.p_wait


def test_arrivals_smoother_than_chance_are_not_counted_on() -> None:
    smooth = Load(rate=8, service_time=2.5, service_cv2=4, arrival_cv2=0)
    assert smooth.p_wait(24) == EXAMPLE.p_wait(24)


def test_comfort_takes_the_fewest_workers_that_give_it() -> None:
    assert ONE_IN_A_HUNDRED.workers_for(EXAMPLE) == 29
    assert not ONE_IN_A_HUNDRED.is_met(EXAMPLE, 28)


def test_comfort_does_not_run_a_pool_hot_even_where_nobody_minds_waiting() -> None:
    patient = Comfort(wait=3600, share=0.5)
    assert patient.workers_for(EXAMPLE) == math.ceil(20 / 0.85)


def test_a_trickle_of_mail_needs_one_worker() -> None:
    assert ONE_IN_A_HUNDRED.workers_for(Load(rate=0.001, service_time=0.1)) == 1


def test_the_highest_rate_and_the_longest_session_are_just_borne() -> None:
    longest = ONE_IN_A_HUNDRED.longest_service_time(EXAMPLE, 20)
    highest = ONE_IN_A_HUNDRED.highest_rate(EXAMPLE, 20)
    for load, worse in (
        (Load(8, longest, 4), Load(8, longest * 1.001, 4)),
        (Load(highest, 2.5, 4), Load(highest * 1.001, 2.5, 4)),
    ):
        assert ONE_IN_A_HUNDRED.is_met(load, 20)
        assert not ONE_IN_A_HUNDRED.is_met(worse, 20)
    assert longest == pytest.approx(1.64, abs=0.005)
