"""What the sampler adds up from one look to the next."""

import pytest

from bqfilter.ledger import Stage
from bqfilter.saturation.queues import UNKNOWN, Queue, QueueProbe
from bqfilter.saturation.sampler import Sampler
from bqfilter.scoreboard import WAIT, Entrance, ExporterWord, Scoreboard, TallyWord
from tests.saturation.boards import NOW, TCP, UNIX, occupy, scoreboard, snapshot


class _Probe(QueueProbe):
    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(length=0, waiting=())

    def look(self, entrance: Entrance, *, with_ages: bool = False) -> Queue:  # noqa: ARG002
        return self.queue

    def show(self, *waiting: int) -> None:
        self.queue = Queue(length=len(waiting), waiting=waiting)


@pytest.fixture
def probe() -> _Probe:
    return _Probe()


def accept(board: Scoreboard, count: int = 1) -> None:
    for _ in range(count):
        board.tallies(0)[0].accept(None, is_queued=True)


def waits(board: Scoreboard) -> tuple[int, float]:
    found = snapshot(board).listeners[0].distribution(WAIT)
    return found.count, found.sum


def test_the_length_of_the_queue_is_integrated(probe: _Probe) -> None:
    board = scoreboard()
    sampler = Sampler(board, probe, NOW)
    probe.queue = Queue(length=3)
    sampler.sample(NOW + 0.1)
    sampler.sample(NOW + 0.2)
    assert board.exporter_tallies[0].seconds(TallyWord.QUEUE_SECONDS) == pytest.approx(0.6)


def test_a_pause_counts_as_a_second_at_the_most(probe: _Probe) -> None:
    board = scoreboard()
    sampler = Sampler(board, probe, NOW)
    probe.queue = Queue(length=1)
    sampler.sample(NOW + 3600)
    assert board.exporter_tallies[0].seconds(TallyWord.QUEUE_SECONDS) == 1.0


def test_time_without_an_idle_worker_is_added_up(probe: _Probe) -> None:
    board = scoreboard(workers=1)
    sampler = Sampler(board, probe, NOW)
    sampler.sample(NOW + 0.1)
    occupy(board.slots[0], NOW, Stage.DATA, NOW)
    sampler.sample(NOW + 0.3)
    assert board.header.seconds(ExporterWord.EXHAUSTED_SECONDS) == pytest.approx(0.2)
    assert board.header.seconds(ExporterWord.SAMPLED) == NOW + 0.3


def test_a_unix_client_s_wait_is_taken_down_when_it_is_gone_from_the_queue(probe: _Probe) -> None:
    board = scoreboard(listeners=[UNIX])
    sampler = Sampler(board, probe, NOW)
    probe.show(11, 12)
    sampler.sample(NOW + 1)
    assert board.exporter_tallies[0].seconds(TallyWord.OLDEST_SINCE) == NOW + 1
    accept(board)
    probe.show(12)
    sampler.sample(NOW + 3)
    assert waits(board) == (1, 2.0)


def test_one_that_was_never_seen_did_not_wait(probe: _Probe) -> None:
    board = scoreboard(listeners=[UNIX])
    sampler = Sampler(board, probe, NOW)
    accept(board, 3)
    sampler.sample(NOW + 0.1)
    assert waits(board) == (3, 0.0)


def test_one_seen_to_leave_before_the_worker_counts_it_is_taken_down_once(probe: _Probe) -> None:
    board = scoreboard(listeners=[UNIX])
    sampler = Sampler(board, probe, NOW)
    probe.show(11)
    sampler.sample(NOW + 1)
    probe.show()
    sampler.sample(NOW + 2)
    accept(board)
    sampler.sample(NOW + 3)
    assert waits(board) == (1, 1.0)


def test_what_was_accepted_before_the_first_look_is_not_made_up(probe: _Probe) -> None:
    board = scoreboard(listeners=[UNIX])
    accept(board, 5)
    sampler = Sampler(board, probe, NOW)
    sampler.sample(NOW + 0.1)
    assert waits(board) == (0, 0.0)


def test_the_next_exporter_goes_on_where_the_last_one_ended(probe: _Probe) -> None:
    board = scoreboard(listeners=[UNIX])
    for start in (NOW, NOW + 10):
        sampler = Sampler(board, probe, start)
        accept(board)
        sampler.sample(start + 0.1)
    assert waits(board) == (2, 0.0)


def test_tcp_is_left_to_the_workers(probe: _Probe) -> None:
    board = scoreboard(listeners=[TCP])
    sampler = Sampler(board, probe, NOW)
    board.tallies(0)[0].accept(0.3, is_queued=True)
    sampler.sample(NOW + 0.1)
    assert waits(board) == (1, 0.3)


def test_what_cannot_be_seen_is_not_added_up(probe: _Probe) -> None:
    board = scoreboard(listeners=[UNIX])
    sampler = Sampler(board, probe, NOW)
    probe.queue = UNKNOWN
    accept(board)
    sampler.sample(NOW + 0.1)
    assert waits(board) == (0, 0.0)
    assert board.exporter_tallies[0].seconds(TallyWord.QUEUE_SECONDS) == 0.0
