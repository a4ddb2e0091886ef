"""A deadline is an instant: whoever asks later has less left."""

import math

import pytest

from bqfilter.net.deadline import Deadline
from tests.doubles.clock import FakeClock


def test_what_is_left_shrinks_as_time_passes(clock: FakeClock) -> None:
    deadline = Deadline.after(clock, 10)
    clock.advance(4)

    assert deadline.remaining() == 6
    assert not deadline.has_passed


@pytest.mark.parametrize(("seconds", "has_passed"), [(9.9, False), (10, True), (11, True)])
def test_it_has_passed_when_nothing_is_left(clock: FakeClock, seconds: float, has_passed: bool) -> None:
    deadline = Deadline.after(clock, 10)
    clock.advance(seconds)

    assert deadline.has_passed is has_passed
    assert (deadline.remaining() <= 0) is has_passed


def test_a_phase_gets_its_own_limit_inside_a_larger_budget(clock: FakeClock) -> None:
    budget = Deadline.after(clock, 10)

    assert budget.within(3).at == clock() + 3
    assert budget.within(30).at == budget.at
    clock.advance(8)
    assert budget.within(3).at == budget.at


def test_never_does_not_come(clock: FakeClock) -> None:
    clock.advance(1e12)

    assert not Deadline.never(clock).has_passed
    assert Deadline.never(clock).remaining() == math.inf
    assert Deadline.never(clock).within(5).at == clock() + 5
