"""A master is asked to reload from outside, and what comes of it is told."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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


def test_it_is_not_over_while_somebody_with_the_old_settings_may_take_a_connection(daemon: Daemon) -> None:
    looks: list[float] = []

    def look_again(seconds: float) -> None:
        looks.append(seconds)
        time.sleep(seconds)

    old = min(daemon.wait_until_idle(2))
    os.kill(old, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        try:
            outcome = pool.submit(reload, board_of(daemon), LIMIT, look_again)
            daemon.wait_for_generation(2)
            enough = len(looks) + 5
            eventually(lambda: outcome.done() or len(looks) > enough, "a few looks more")
            assert not outcome.done()
        finally:
            os.kill(old, signal.SIGCONT)
        assert outcome.result() is Outcome.IN_FORCE


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
