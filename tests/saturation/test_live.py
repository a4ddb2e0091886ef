"""A running pool as sizing sees it: since its start or between two looks; a stopped one not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bqfilter.ledger import STAGES, Stage
from bqfilter.saturation import reader
from bqfilter.saturation.live import FEWEST_SESSIONS, Live, look
from bqfilter.scoreboard import Header, MasterWord, Scoreboard, Word
from tests.saturation.boards import TCP

STARTED = 1000.0


class _Time:
    """CLOCK_MONOTONIC, as the reader is made to see it."""

    def __init__(self) -> None:
        self.now = STARTED + 100

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.7e9 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Time:
    made = _Time()
    monkeypatch.setattr(reader, "time", made)
    return made


@pytest.fixture
def board(tmp_path: Path, clock: _Time) -> Scoreboard:
    """Two workers that have been there for a hundred seconds, idle."""
    made = Scoreboard.in_file(str(tmp_path), 4, [TCP])
    made.header[MasterWord.WORKERS] = 2
    made.header[MasterWord.GENERATION] = 1
    made.header.set_seconds(Header.CREATED, STARTED)
    made.header.set_seconds(MasterWord.HEARTBEAT, clock.now)
    for slot in made.slots[:2]:
        slot.was_given(1)
        slot.wait()
    return made


def serve(board: Scoreboard, count: int, seconds: float = 2.0, *, is_queued: bool = False) -> None:
    spent = [seconds / 4 if stage is Stage.DATA else 0.0 for stage in STAGES]
    tally = board.tallies(0)[0]
    for _ in range(count):
        tally.accept(0.0, is_queued=is_queued)
        tally.end(seconds, 0.1, spent)


def found(directory: Path, over: float = 0.0, sleep: Callable[[float], None] = lambda _: None) -> Live:
    pool = look(str(directory), over, sleep)
    assert pool is not None
    return pool


def test_since_its_start_a_pool_tells_rate_and_times(board: Scoreboard, tmp_path: Path) -> None:
    serve(board, 150)
    serve(board, 50, is_queued=True)
    board.slots[0][Word.MEMORY] = 9_000_000
    pool = found(tmp_path)
    figures = pool.measured
    assert (figures.rate, figures.service_time, figures.p_wait) == (2.0, 2.0, 0.25)
    assert (figures.upload_time, figures.worker_memory, figures.sessions) == (0.5, 9_000_000, 200)
    assert (pool.workers, pool.is_whole, pool.has_changed, pool.is_enough) == (2, True, False, True)


def test_between_two_looks_only_what_came_in_between_counts(
    board: Scoreboard, tmp_path: Path, clock: _Time
) -> None:
    serve(board, 500)

    def meanwhile(seconds: float) -> None:
        clock.now += seconds
        board.header.set_seconds(MasterWord.HEARTBEAT, clock.now)
        serve(board, 20, seconds=1.0)

    pool = found(tmp_path, 10.0, meanwhile)
    assert (pool.measured.rate, pool.measured.service_time, pool.measured.window) == (2.0, 1.0, 10.0)
    assert (pool.is_whole, pool.is_enough) == (False, FEWEST_SESSIONS <= 20)


def test_a_reload_since_then_is_told(board: Scoreboard, tmp_path: Path) -> None:
    board.header[MasterWord.GENERATION] = 2
    assert found(tmp_path).has_changed


def test_a_pool_that_has_stopped_is_none(board: Scoreboard, tmp_path: Path) -> None:
    board.header.set_seconds(MasterWord.HEARTBEAT, 0.0)
    board.header[Header.MASTER_BIRTH] = 0
    assert look(str(tmp_path), 0.0) is None


def test_a_directory_without_a_scoreboard_has_no_pool(tmp_path: Path) -> None:
    assert look(str(tmp_path / "nowhere"), 0.0) is None


def test_a_file_that_is_no_scoreboard_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "scoreboard").write_bytes(b"x" * 8192)
    with pytest.raises(ValueError, match="not a scoreboard"):
        look(str(tmp_path), 0.0)
