"""The law: arithmetic, and closed systems that try to break it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulation import closed_pool
from bqfilter.saturation import law

PROCESSES = st.integers(1, 60)
WORKERS = st.integers(1, 60)


@given(PROCESSES, WORKERS, st.integers(0, 2**32))
def test_nobody_stays_longer_than_the_law_says_whatever_the_sessions(
    processes: int, workers: int, seed: int
) -> None:
    chance = random.Random(seed)
    hang = chance.random()

    def session() -> float:
        return 30.0 if chance.random() < hang else chance.uniform(0, 30)

    longest = closed_pool(processes, workers, lambda: chance.expovariate(1), session, 5 * processes)
    assert longest <= law.longest_stay(processes, workers, 30) + 1e-6


@given(PROCESSES, WORKERS)
def test_the_law_is_not_stricter_than_it_must_be(processes: int, workers: int) -> None:
    worst = closed_pool(processes, workers, lambda: 0.0, lambda: 30.0, processes)
    assert worst == pytest.approx(law.longest_stay(processes, workers, 30))


@pytest.mark.parametrize(
    ("processes", "workers", "session", "stay", "holds"),
    [
        (100, 34, 33, 99, True),
        (100, 50, 50, 100, True),
        (100, 20, 20, 100, True),
        (100, 30, 30, 120, False),
    ],
)
def test_the_ceilings_decide(processes: int, workers: int, session: float, stay: float, holds: bool) -> None:
    chance = random.Random(1)
    found = closed_pool(
        processes, workers, lambda: 0.0, lambda: session * (1 - 0.02 * chance.random()), 20_000
    )
    assert law.longest_stay(processes, workers, session) == stay
    assert law.holds(processes, workers, 100, session) is holds
    assert (found <= 100) is holds


@given(PROCESSES, WORKERS, st.floats(1, 100))
def test_the_law_in_all_its_forms_says_the_same(processes: int, workers: int, session: float) -> None:
    holds = law.holds(processes, workers, 100, session)
    assert holds == (law.longest_stay(processes, workers, session) <= 100 + 1e-6)
    assert holds == (workers >= law.workers_needed(processes, 100, session))
    assert holds == (processes <= law.most_processes(workers, 100, session))
    assert holds == (session <= law.longest_session(processes, workers, 100) + 1e-6)


@pytest.mark.parametrize("session", [0, 100.001, 3600], ids=["no limit", "just too long", "an hour"])
def test_sessions_without_a_useful_limit_let_nobody_wait(session: float) -> None:
    assert law.workers_needed(100, 100, session) == 100
    assert law.most_processes(34, 100, session) == 34


def test_binary_fractions_cost_no_turn() -> None:
    assert law.allowed_turns(0.3, 0.1) == 3
    assert law.allowed_turns(100, 100 / 3) == 3
