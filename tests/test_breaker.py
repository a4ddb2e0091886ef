"""Breaker: the whole pool leaves alone what fails, and comes back to it, one worker at a time."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.breaker import Breaker, State, state_of
from bqfilter.places import HealthWord, Terms
from bqfilter.scanning.board import ScannerPlace
from bqfilter.scoreboard import SCANNER_RECORD_BYTES
from tests.doubles.clock import FakeClock

RETRY = 10.0
TIMEOUT = 30.0
FAILURES = 3


@dataclass
class Pool:
    """The breakers of one scanner in some workers; with `longest` its pauses grow."""

    size: int = 4
    failures: int = FAILURES
    longest: float = RETRY
    timeout: float = TIMEOUT
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        memory = memoryview(bytearray(self.size * SCANNER_RECORD_BYTES))
        self.places = [ScannerPlace(memory, index) for index in range(self.size)]
        self.terms = Terms(self.failures, RETRY, self.longest)
        self.workers = [
            Breaker(place, self.terms, self.clock, self.size, self.timeout) for place in self.places
        ]

    @property
    def state(self) -> State:
        return state_of(self.places[0], self.terms, self.clock(), self.size, self.timeout)

    def fail(self, *workers: int) -> None:
        for worker in workers:
            self.clock.advance(0.25)
            self.workers[worker].failed()

    def answer(self, worker: int) -> None:
        self.clock.advance(0.25)
        self.workers[worker].answered()


@pytest.mark.parametrize(
    "workers", [(0, 0, 0), (0, 1, 2), (3, 3, 1)], ids=["one worker's", "each another's", "mixed"]
)
def test_failures_of_all_workers_open_it_for_all(workers: tuple[int, ...]) -> None:
    pool = Pool()
    pool.fail(*workers[:-1])
    assert all(worker.allows() for worker in pool.workers)

    pool.fail(workers[-1])

    assert not any(worker.allows() for worker in pool.workers)


def test_a_breaker_of_zero_failures_never_opens() -> None:
    pool = Pool(failures=0)
    pool.fail(*range(4), *range(4))

    assert pool.state is State.CLOSED
    assert all(worker.allows() for worker in pool.workers)


def test_an_answer_to_any_worker_begins_the_count_anew() -> None:
    pool = Pool()
    pool.fail(0, 0)
    pool.answer(1)
    pool.fail(0, 2)
    assert pool.state is State.CLOSED

    pool.fail(0)
    assert pool.state is State.OPEN


def test_one_worker_tries_again_while_all_others_leave_it_alone() -> None:
    pool = Pool()
    pool.fail(0, 1, 2)
    pool.clock.advance(RETRY - 0.25)
    assert not pool.workers[3].allows()

    pool.clock.advance(0.25)

    assert [worker.allows() for worker in pool.workers] == [True, False, False, False]


def test_nobody_else_tries_while_an_attempt_may_still_be_waiting_for_its_answer() -> None:
    pool = Pool()
    pool.fail(0, 1, 2)
    pool.clock.advance(RETRY)
    assert pool.workers[0].allows()

    pool.clock.advance(TIMEOUT - 1)
    assert not any(worker.allows() for worker in pool.workers)
    pool.clock.advance(1)  # its worker was killed, say
    assert pool.workers[1].allows()


def test_an_attempt_that_fails_keeps_it_open_as_long_again() -> None:
    pool = Pool()
    pool.fail(0, 1, 2)
    pool.clock.advance(RETRY)
    assert pool.workers[1].allows()
    pool.fail(1)

    pool.clock.advance(RETRY - 0.25)
    assert pool.state is State.OPEN
    pool.clock.advance(0.25)
    assert pool.state is State.PROBING


def test_an_attempt_that_is_answered_closes_it_for_all() -> None:
    pool = Pool()
    pool.fail(0, 1, 2)
    pool.clock.advance(RETRY)
    assert pool.workers[1].allows()
    pool.answer(1)

    assert pool.state is State.CLOSED
    assert all(worker.allows() for worker in pool.workers)


def test_pauses_grow_with_the_time_for_which_it_has_been_failing_up_to_the_longest() -> None:
    pool = Pool(failures=1, longest=70)
    pool.workers[0].failed()
    began, pauses = pool.clock(), []
    for worker in (1, 2, 3, 0, 1, 2):
        failed_at = pool.clock()
        while not pool.workers[worker].allows():
            pool.clock.advance(1)
        pauses.append(pool.clock() - failed_at)
        pool.workers[worker].failed()
    assert pauses == [10, 10, 20, 40, 70, 70]
    assert pool.workers[3].failing_since == began

    pool.answer(2)
    pool.fail(0)
    pool.clock.advance(RETRY)
    assert pool.state is State.PROBING


def test_many_workers_that_fail_at_once_are_one_failure_to_the_pause() -> None:
    pool = Pool(failures=1, longest=70)
    for worker in pool.workers:
        worker.failed()
    pool.clock.advance(RETRY)

    assert pool.state is State.PROBING


def test_an_attempt_of_which_nothing_came_leaves_the_next_to_anybody() -> None:
    pool = Pool(failures=1)
    pool.workers[0].failed()
    pool.clock.advance(RETRY)
    assert pool.workers[1].allows()
    assert not pool.workers[2].allows()

    pool.workers[1].withdraw()

    assert pool.workers[2].allows()


def test_to_look_at_it_is_no_attempt() -> None:
    pool = Pool()
    pool.fail(0, 1, 2)
    pool.clock.advance(RETRY)

    assert [pool.state, pool.state] == [State.PROBING, State.PROBING]
    assert pool.places[0].latest(HealthWord.PROBED_AT, pool.size) == 0


def test_slots_that_the_pool_does_not_use_are_not_looked_at() -> None:
    pool = Pool()
    pool.fail(3, 3, 3)

    assert state_of(pool.places[0], pool.terms, pool.clock(), 3) is State.CLOSED


events = st.lists(st.tuples(st.sampled_from(["fail", "answer", "wait"]), st.integers(0, 3)), max_size=60)


@given(events, st.integers(1, 5))
def test_it_opens_at_so_many_failures_in_a_row_over_the_pool_and_closes_at_one_answer(
    given_events: list[tuple[str, int]], failures: int
) -> None:
    pool = Pool(failures=failures)
    in_a_row = 0
    for event, worker in given_events:
        if event == "wait":
            pool.clock.advance(worker * 7)
        elif event == "fail":
            pool.fail(worker)
            in_a_row += 1
        else:
            pool.answer(worker)
            in_a_row = 0
        assert (pool.state is State.CLOSED) == (in_a_row < failures)


@given(events, st.integers(0, 3))
def test_an_open_one_lets_one_worker_at_a_time_through(
    given_events: list[tuple[str, int]], asking: int
) -> None:
    """Workers that ask first, and fail or get an answer at once, or leave it at that."""
    pool = Pool()
    attempts: list[float] = []
    for event, worker in [*given_events, ("fail", asking)]:
        pool.clock.advance(1)
        was_closed = pool.state is State.CLOSED
        if not pool.workers[worker].allows():
            continue
        if not was_closed:
            assert all(pool.clock() - RETRY >= before for before in attempts[-1:])
            attempts.append(pool.clock())
        if event == "fail":
            pool.workers[worker].failed()
        elif event == "answer":
            pool.workers[worker].answered()
            attempts.clear()
