"""Reading a scoreboard that others write, that is none, or whose master is gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bqfilter.ledger import Stage
from bqfilter.saturation.queues import Queue, QueueProbe
from bqfilter.saturation.reader import Board, Distribution, Life, queues
from bqfilter.scoreboard import (
    DURATION,
    FILE_NAME,
    WAIT,
    Entrance,
    ExporterWord,
    Header,
    MasterWord,
    Scoreboard,
    State,
    TallyWord,
    Word,
)
from tests.doubles.programs import REPOSITORY, eventually
from tests.saturation.boards import NOW, TCP, UNIX, occupy, scoreboard, snapshot


def test_what_was_written_is_read_from_the_file(tmp_path: Path) -> None:
    written = Scoreboard.in_file(str(tmp_path), 4, [TCP, UNIX])
    written.slots[0].was_given(1)
    written.slots[0].count(Word.ACCEPTED)
    written.tallies(0)[1].accept(0.3, is_queued=True)
    read = Board.open(str(tmp_path))
    found = read.snapshot()
    assert read.entrances == (TCP, UNIX)
    assert found.total(Word.ACCEPTED) == 1
    assert [listener.total(TallyWord.QUEUED) for listener in found.listeners] == [0, 1]


def test_the_file_cannot_be_written_through_the_reader(tmp_path: Path) -> None:
    Scoreboard.in_file(str(tmp_path), 4).slots[0].was_given(1)
    view = Board.open(str(tmp_path))._view
    with pytest.raises(TypeError):
        view[0] = 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"something else" * 1000, "not a scoreboard", id="another file"),
        pytest.param(b"BQFILTER", "not a scoreboard", id="a few bytes"),
    ],
)
def test_a_file_that_is_none_is_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        Board.open(str(tmp_path))


def test_another_version_is_refused() -> None:
    board = Scoreboard.anonymous(2)
    board.header[Header.VERSION] = 99
    with pytest.raises(ValueError, match="version 99"):
        Board(board.view)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    Scoreboard.in_file(str(tmp_path), 4, [TCP])
    os.truncate(tmp_path / FILE_NAME, 6000)
    with pytest.raises(ValueError, match="cut short"):
        Board.open(str(tmp_path))


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Board.open(str(tmp_path))


def test_slots_that_nobody_has_ever_used_are_left_out() -> None:
    assert [slot.index for slot in snapshot(scoreboard(workers=3)).slots] == [0, 1, 2]


def test_a_word_is_never_torn_while_a_worker_writes_it() -> None:
    board = scoreboard(workers=1)
    pid = os.fork()
    if pid == 0:
        slot = board.slots[0]
        while os.getppid() != 1:
            slot.enter(Stage.DATA, 1e300, 1e300)
            slot.enter(Stage.IDLE, 1e-300, 1e-300)
    try:
        end = time.monotonic() + 0.5
        seen = set()
        while time.monotonic() < end:
            seen.add(snapshot(board).slots[0].seconds(Word.STAGE_SINCE))
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert seen <= {0.0, 1e300, 1e-300}


def test_a_slot_in_the_middle_of_a_change_is_looked_at_again() -> None:
    board = scoreboard()
    board.slots[0][Word.SEQUENCE] = 1  # for ever: what is there is taken in the end
    board.slots[0].count(Word.ACCEPTED)
    assert snapshot(board).total(Word.ACCEPTED) == 1


class TestLife:
    def test_a_master_that_turned_a_moment_ago_runs(self) -> None:
        assert snapshot(scoreboard(), NOW + 1).life is Life.RUNNING

    def test_one_that_is_there_but_has_not_turned_hangs(self) -> None:
        board = scoreboard()  # made by this very process, which is alive
        assert snapshot(board, NOW + 5).life is Life.RUNNING
        assert snapshot(board, NOW + 60).life is Life.HUNG

    def test_one_whose_process_is_gone_is_dead(self) -> None:
        board = scoreboard()
        board.header[Header.MASTER_PID] = 4000000
        assert snapshot(board, NOW + 5).life is Life.DEAD

    def test_another_process_with_its_pid_does_not_count(self) -> None:
        board = scoreboard()
        board.header[Header.MASTER_BIRTH] += 1
        assert snapshot(board, NOW + 5).life is Life.DEAD

    def test_one_that_said_farewell_has_stopped(self) -> None:
        board = scoreboard()
        board.header.set_seconds(MasterWord.HEARTBEAT, 0.0)
        board.header[Header.MASTER_PID] = 4000000
        found = snapshot(board)
        assert (found.life, found.heartbeat_age) == (Life.STOPPED, None)

    def test_a_heartbeat_from_before_the_machine_was_started_is_none(self) -> None:
        board = scoreboard()
        board.header[Header.MASTER_PID] = 4000000
        assert snapshot(board, NOW - 1000).life is Life.DEAD

    def test_a_zombie_is_dead(self, tmp_path: Path) -> None:
        code = (
            "import os, sys, time\n"
            "from bqfilter.scoreboard import MasterWord, Scoreboard\n"
            "board = Scoreboard.in_file(sys.argv[1], 2)\n"
            "board.header.set_seconds(MasterWord.HEARTBEAT, time.monotonic() - 3)\n"
            "os._exit(0)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY) as process:
            state = Path(f"/proc/{process.pid}/stat")
            eventually(lambda: ") Z " in state.read_text(), "a zombie")
            assert Board.open(str(tmp_path)).snapshot().life is Life.DEAD


class TestPool:
    def test_the_pool_is_exhausted_since_the_last_idle_worker_was_taken(self) -> None:
        board = scoreboard(workers=2)
        occupy(board.slots[0], NOW - 50, Stage.DATA, NOW - 50)
        assert snapshot(board).exhausted_for is None
        occupy(board.slots[1], NOW - 7, Stage.DATA, NOW - 7)
        assert snapshot(board).exhausted_for == 7.0

    def test_a_worker_that_goes_from_session_to_session_was_not_idle_in_between(self) -> None:
        board = scoreboard(workers=1)
        occupy(board.slots[0], NOW - 9, Stage.DATA, NOW - 9)
        board.slots[0].end(NOW - 2)
        occupy(board.slots[0], NOW - 2, Stage.DATA, NOW - 2, is_queued=True)
        assert snapshot(board).exhausted_for == 9.0
        assert board.is_exhausted

    def test_a_pool_that_nobody_uses_is_not_exhausted(self) -> None:
        board = scoreboard(workers=1)
        board.slots[0].was_vacated()
        assert snapshot(board).exhausted_for is None
        assert not board.is_exhausted

    def test_busy_seconds_include_sessions_that_go_on(self) -> None:
        board = scoreboard(workers=2)
        occupy(board.slots[0], NOW - 10, Stage.DATA, NOW - 10)
        board.slots[0].end(NOW - 4)
        occupy(board.slots[1], NOW - 3, Stage.DATA, NOW - 3)
        assert snapshot(board).busy_seconds == 9.0

    def test_the_time_of_a_killed_worker_is_not_lost(self) -> None:
        board = scoreboard(workers=1)
        occupy(board.slots[0], NOW - 10, Stage.DATA, NOW - 10)
        before = snapshot(board).busy_seconds
        board.slots[0].was_cut_short(NOW)
        board.slots[0].was_vacated()
        assert snapshot(board).busy_seconds == before == 10.0

    def test_a_worker_killed_in_the_middle_of_a_change_leaves_a_slot_that_can_be_read(self) -> None:
        board = scoreboard(workers=1)
        board.slots[0][Word.SEQUENCE] = 7
        board.slots[0].was_vacated()
        assert board.slots[0][Word.SEQUENCE] % 2 == 0

    def test_the_oldest_session_comes_first(self) -> None:
        board = scoreboard(workers=3)
        for slot, since in zip(board.slots, (NOW - 1, NOW - 30, NOW - 2), strict=False):
            occupy(slot, since, Stage.DATA, since)
        assert [slot.index for slot in snapshot(board).busy] == [1, 2, 0]

    def test_states_are_counted(self) -> None:
        board = scoreboard(workers=3)
        occupy(board.slots[0], NOW, Stage.DATA, NOW)
        board.slots[1].leave()
        found = snapshot(board)
        assert [found.count(state) for state in (State.BUSY, State.LEAVING, State.IDLE)] == [1, 1, 1]

    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            (b"192.0.2.7", "192.0.2.7"),
            (b"2001:db8::7", "2001:db8::7"),
            (b"unknown", ""),
            (b"\xff\r\n", ""),
        ],
    )
    def test_the_client_is_an_address_or_unknown(self, written: bytes, shown: str) -> None:
        board = scoreboard(workers=1)
        occupy(board.slots[0], NOW, Stage.DATA, NOW)
        board.slots[0].serve(written)
        assert snapshot(board).slots[0].client == shown
        board.slots[0].end(NOW)
        assert snapshot(board).slots[0].client == ""


class TestDistributions:
    def test_a_value_counts_in_the_bucket_whose_bound_it_does_not_exceed(self) -> None:
        board = scoreboard()
        for waited in (0.005, 0.0051, 100.0, 100.1):
            board.tallies(0)[0].accept(waited, is_queued=False)
        found = snapshot(board).listeners[0].distribution(WAIT)
        assert (found.counts[0], found.counts[1], found.counts[-2], found.counts[-1]) == (1, 1, 1, 1)
        assert found.sum == pytest.approx(200.1101)

    def test_those_of_all_slots_are_added_up(self) -> None:
        board = scoreboard()
        for slot in range(2):
            board.tallies(slot)[0].end(2.0, 0.02, [0.0] * 8)
        found = snapshot(board).tally_distribution(DURATION)
        assert (found.count, found.mean) == (2, 2.0)

    def test_without_values_there_is_no_mean(self) -> None:
        found = Distribution((1.0,), (0, 0), 0.0)
        assert (found.mean, found.share_above(1.0)) == (None, None)

    def test_the_share_above_a_bound_and_the_growth(self) -> None:
        found = Distribution((1.0, 2.0), (1, 1, 2), 9.0)
        assert found.share_above(1.0) == 0.75
        assert found.less(Distribution((1.0, 2.0), (1, 0, 1), 4.0)) == Distribution(
            (1.0, 2.0), (0, 1, 1), 5.0
        )


class _Probe(QueueProbe):
    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self._queue = queue

    def look(self, entrance: Entrance, *, with_ages: bool = False) -> Queue:  # noqa: ARG002
        return self._queue


class TestAgesOfUnixClients:
    WAITING = Queue(length=1, limit=5, gone=0, waiting=(77,))

    def test_the_exporter_knows_them(self) -> None:
        board = scoreboard(listeners=[UNIX])
        board.header.set_seconds(ExporterWord.SAMPLED, NOW - 0.1)
        board.exporter_tallies[0].set_seconds(TallyWord.OLDEST_SINCE, NOW - 4)
        (found,) = queues(snapshot(board), _Probe(self.WAITING))
        assert found.oldest_age == 4.0

    def test_without_an_exporter_nobody_does(self) -> None:
        (found,) = queues(snapshot(scoreboard(listeners=[UNIX])), _Probe(self.WAITING))
        assert found.oldest_age is None

    def test_an_exporter_that_has_stopped_looking_does_not_either(self) -> None:
        board = scoreboard(listeners=[UNIX])
        board.header.set_seconds(ExporterWord.SAMPLED, NOW - 60)
        board.exporter_tallies[0].set_seconds(TallyWord.OLDEST_SINCE, NOW - 4)
        (found,) = queues(snapshot(board), _Probe(self.WAITING))
        assert found.oldest_age is None

    def test_an_empty_queue_is_no_riddle(self) -> None:
        (found,) = queues(snapshot(scoreboard(listeners=[UNIX])), _Probe(Queue(0, 5, gone=0, waiting=())))
        assert found.oldest_age == 0.0
