"""The saturation line: when it is written, how often, and what it says."""

import re

import pytest

from bqfilter.ledger import Stage
from bqfilter.log import Log
from bqfilter.saturation import warning
from bqfilter.saturation.warning import SaturationWarning
from bqfilter.scoreboard import Scoreboard
from tests.doubles.clock import FakeClock
from tests.doubles.recorder import RecordingSink
from tests.saturation.boards import occupy, scoreboard


@pytest.fixture
def board(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Scoreboard:
    monkeypatch.setattr("bqfilter.saturation.reader.time.monotonic", clock)
    return scoreboard(workers=2)


def fill(board: Scoreboard, now: float) -> None:
    for slot in board.slots[:2]:
        occupy(slot, now, Stage.UPSTREAM_CONNECT, now)


class Watched:
    """A warning that is asked twice a second, as the master's loop would, for as long as a test says."""

    def __init__(self, board: Scoreboard, clock: FakeClock, sink: RecordingSink) -> None:
        self._warning = SaturationWarning(board)
        self._clock = clock
        self._log = Log(sink, is_json=False)
        self._sink = sink

    def go_on(self, seconds: float) -> list[str]:
        """The lines of this time."""
        seen = len(self._sink.lines)
        for _ in range(int(seconds * 2)):
            self._clock.advance(0.5)
            self._warning.look(self._clock(), self._log)
        return self._sink.lines[seen:]


@pytest.fixture
def watched(board: Scoreboard, clock: FakeClock, sink: RecordingSink) -> Watched:
    return Watched(board, clock, sink)


def test_a_pool_with_room_is_no_news(board: Scoreboard, watched: Watched, clock: FakeClock) -> None:
    occupy(board.slots[0], clock(), Stage.DATA, clock())
    assert watched.go_on(300) == []


def test_a_pool_that_is_full_for_a_moment_is_none_either(
    board: Scoreboard, watched: Watched, clock: FakeClock
) -> None:
    fill(board, clock())
    assert watched.go_on(1) == []
    board.slots[0].wait()
    assert watched.go_on(10) == []


def test_a_full_pool_is_reported_with_its_remedy(
    board: Scoreboard, watched: Watched, clock: FakeClock
) -> None:
    fill(board, clock())
    (line,) = watched.go_on(10)
    assert re.match(
        r'warning: pool saturated busy=2/2 for="?[\d.]+ s"? oldest="upstream connect [\d.]+ s"', line
    )
    assert "waiting=unknown" in line  # the socket of this board is not there
    assert "raise maxproc" in line


def test_it_is_said_again_once_a_minute(board: Scoreboard, watched: Watched, clock: FakeClock) -> None:
    fill(board, clock())
    assert len(watched.go_on(310)) == 6


def test_its_end_is_said_once(board: Scoreboard, watched: Watched, clock: FakeClock) -> None:
    fill(board, clock())
    watched.go_on(30)
    board.slots[0].wait()
    assert watched.go_on(30) == ['pool has room again after="30 s"']


def test_going_up_and_down_does_not_fill_the_log(
    board: Scoreboard, watched: Watched, clock: FakeClock
) -> None:
    lines = []
    for _ in range(10):
        fill(board, clock())
        lines += watched.go_on(5)
        board.slots[0].wait()
        lines += watched.go_on(1)
    assert len(lines) == 2  # one that it is full, one that it is not


def test_no_socket_is_left_for_workers_to_inherit(
    board: Scoreboard, watched: Watched, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    close = warning.QueueProbe.close

    def noted(probe: warning.QueueProbe) -> None:
        closed.append(True)
        close(probe)

    monkeypatch.setattr(warning.QueueProbe, "close", noted)
    fill(board, clock())
    assert len(watched.go_on(10)) == 1
    assert closed
