"""When the after-filter server counts as gone, and when as back."""

from dataclasses import dataclass, field

import pytest

from bqfilter.log import Log
from bqfilter.pool.reach import Reach
from bqfilter.scoreboard import UPSTREAM_READY, Scoreboard, Word
from tests.doubles.recorder import RecordingSink
from tests.saturation.boards import scoreboard


@dataclass
class Site:
    """A pool of two, and an after-filter server that answers or not when it is called."""

    board: Scoreboard = field(default_factory=lambda: scoreboard(2))
    sink: RecordingSink = field(default_factory=RecordingSink)
    answers: bool = False
    calls: int = 0

    def reach(self) -> Reach:
        return Reach(self.board, self.call, Log(self.sink, is_json=False))

    def call(self) -> bool:
        self.calls += 1
        return self.answers

    def fail(self, times: int, slot: int = 0) -> None:
        for _ in range(times):
            self.board.slots[slot].count(Word.UNREACHED)

    def connect(self, slot: int = 1) -> None:
        self.board.slots[slot].observe(UPSTREAM_READY, 0.01)


def test_three_failures_in_a_row_wherever_they_happened() -> None:
    site = Site()
    reach = site.reach()
    for slot in (0, 1):
        site.fail(1, slot)
        reach.look()
        assert not reach.is_gone
    site.fail(1)
    reach.look()
    assert reach.is_gone
    assert site.calls == 0
    assert "after-filter server is gone" in site.sink.lines[0]


def test_one_that_answers_some_is_there() -> None:
    site = Site()
    reach = site.reach()
    for _ in range(10):
        site.fail(2)
        reach.look()
        site.connect()
        reach.look()
    assert not reach.is_gone


def test_failures_of_the_past_are_past() -> None:
    site = Site()
    site.fail(50)
    reach = site.reach()
    reach.look()
    assert not reach.is_gone


def test_it_is_called_until_it_answers_because_no_mail_will_tell() -> None:
    site = Site()
    reach = site.reach()
    site.fail(3)
    for calls in range(4):
        reach.look()
        assert (reach.is_gone, site.calls) == (True, calls)
    site.answers = True
    reach.look()
    assert not reach.is_gone
    reach.look()
    assert (reach.is_gone, site.calls) == (False, 4)
    assert "after-filter server is back" in site.sink.lines[1]


@pytest.mark.parametrize("failures", [1, 2])
def test_behind_its_return_it_is_given_the_same_patience(failures: int) -> None:
    site = Site(answers=True)
    reach = site.reach()
    site.fail(3)
    reach.look()
    reach.look()
    site.fail(failures)
    reach.look()
    assert not reach.is_gone
