"""A master is asked to reload from outside, and what comes of it is told."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.pool.reloading import Outcome, reload
from bqfilter.saturation.reader import Board
from bqfilter.scoreboard import Header, MasterWord
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, serving, settings_for

LIMIT = 60.0


@pytest.fixture
def daemon(sink: Sink, directory: Path) -> Iterator[Daemon]:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        yield daemon


def board_of(daemon: Daemon) -> Board:
    return Board.open(str(daemon.directory / "run"))


def test_it_is_over_when_the_new_workers_are_up(daemon: Daemon, sink: Sink) -> None:
    daemon.configure(settings_for(sink.endpoint, daemon.directory, pool={"workers": 4}))
    assert reload(board_of(daemon), LIMIT) is Outcome.IN_FORCE
    generations = [slot for slot in board_of(daemon).snapshot().slots if slot[1] == 2]
    assert len(generations) == 4


def test_settings_that_are_refused_are_told(daemon: Daemon) -> None:
    daemon.config_path.write_text("")
    assert reload(board_of(daemon), LIMIT) is Outcome.REFUSED


def test_a_master_that_hangs_is_not_waited_for_longer_than_one_likes(daemon: Daemon) -> None:
    daemon.signal(signal.SIGSTOP)
    try:
        assert reload(board_of(daemon), 0.2) is Outcome.UNFINISHED
    finally:
        daemon.signal(signal.SIGCONT)


def test_a_master_that_is_gone_is_not_asked(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    board = board_of(daemon)
    daemon.stop()
    monkeypatch.setattr(os, "kill", None)
    assert reload(board, LIMIT) is Outcome.NOBODY


def test_somebody_else_with_the_pid_of_a_dead_master_is_not_asked(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = board_of(daemon)
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    header = board.snapshot().header
    assert (header[Header.MASTER_PID], header.seconds(MasterWord.HEARTBEAT) > 0) == (daemon.process.pid, True)
    monkeypatch.setattr("bqfilter.saturation.reader._FRESH", 0.0)
    monkeypatch.setattr(os, "kill", None)
    eventually(lambda: reload(board, LIMIT) is Outcome.NOBODY, "a dead master")
