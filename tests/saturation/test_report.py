"""What is said about a pool: the sentence, the screen and the value."""

import json
import math

import pytest

from bqfilter.ledger import STAGES, Stage
from bqfilter.saturation.queues import UNKNOWN, Queue
from bqfilter.saturation.report import Period, as_text, as_value, duration, verdict
from bqfilter.saturation.sizing import Measured
from bqfilter.scoreboard import DURATION, Header, MasterWord, Scoreboard, State, TallyWord, Word
from tests.saturation.boards import NOW, TCP, UNIX, occupy, scoreboard, snapshot

EMPTY = Queue(length=0, limit=256, drops=0, oldest_age=0.0, gone=0)
FULL = Queue(length=12, limit=256, drops=0, oldest_age=4.1, gone=2)


def full_pool(workers: int, stage: Stage) -> Scoreboard:
    """All busy for 37 s, the oldest session for 60 s, 31 s of them in its stage."""
    board = scoreboard(workers)
    for slot in board.slots[1:workers]:
        occupy(slot, NOW - 37, stage, NOW - 5)
    occupy(board.slots[0], NOW - 60, stage, NOW - 31)
    return board


class TestTheSentence:
    def test_with_room(self) -> None:
        board = scoreboard(workers=3)
        occupy(board.slots[0], NOW - 2, Stage.DATA, NOW - 1)
        found = verdict(snapshot(board), [EMPTY])
        assert found.sentence == "busy 1/3, oldest in data 1.0 s, nobody waiting"
        assert found.is_well

    def test_with_nothing_to_do(self) -> None:
        assert verdict(snapshot(scoreboard()), [EMPTY]).sentence == "busy 0/2, nobody waiting"

    def test_without_room(self) -> None:
        found = verdict(snapshot(full_pool(20, Stage.FILTER)), [FULL])
        assert found.sentence.startswith(
            "busy 20/20 for 37 s, oldest in filter 31 s, 12 waiting (4.1 s): most workers wait for scanners:"
        )
        assert not found.is_well

    def test_the_scanner_that_is_waited_for_is_named(self) -> None:
        board = full_pool(20, Stage.FILTER)
        board.slots[0].ask(1)
        found = verdict(snapshot(board), [FULL])
        assert "oldest in scanner clamav 31 s" in found.sentence
        assert "clamav" in as_text(snapshot(board), [FULL])
        assert as_value(snapshot(board), [FULL])["sessions"][0]["scanner"] == "clamav"

    def test_a_scanner_is_named_only_while_it_is_asked(self) -> None:
        board = full_pool(1, Stage.HANDOVER)
        board.slots[0].ask(1)
        assert "oldest in handover" in verdict(snapshot(board), [FULL]).sentence
        board = full_pool(1, Stage.FILTER)
        board.slots[0].ask(99)
        assert "oldest in filter" in verdict(snapshot(board), [FULL]).sentence

    def test_the_queues_of_all_listeners_are_one(self) -> None:
        found = verdict(snapshot(full_pool(2, Stage.DATA)), [FULL, EMPTY, Queue(length=3, oldest_age=9.0)])
        assert found.waiting_words == "15 waiting (9.0 s)"

    def test_a_queue_that_cannot_be_asked_is_not_empty(self) -> None:
        found = verdict(snapshot(full_pool(2, Stage.DATA)), [UNKNOWN])
        assert found.waiting_words == "an unknown number waiting"

    def test_an_unknown_age_is_not_given(self) -> None:
        assert verdict(snapshot(scoreboard()), [Queue(length=3)]).waiting_words == "3 waiting"

    @pytest.mark.parametrize(
        ("stage", "remedy"),
        [
            (Stage.GREETING, "speed_adjust"),
            (Stage.ENVELOPE, "speed_adjust"),
            (Stage.DATA, "speed_adjust"),
            (Stage.FILTER, "scanners"),
            (Stage.UPSTREAM_CONNECT, "raise maxproc of that service"),
            (Stage.UPSTREAM_WAIT, "restrictions"),
            (Stage.HANDOVER, "disk"),
        ],
    )
    def test_the_remedy_is_for_what_most_workers_wait_for(self, stage: Stage, remedy: str) -> None:
        board = full_pool(3, stage)
        board.slots[0].enter(Stage.DATA if stage is not Stage.DATA else Stage.HANDOVER, NOW, 0.0)
        assert remedy in verdict(snapshot(board), [FULL]).remedy

    def test_workers_that_are_missing_come_first(self) -> None:
        board = full_pool(3, Stage.DATA)
        board.slots[1].was_vacated()
        assert "workers are missing" in verdict(snapshot(board), [FULL]).sentence

    def test_a_master_that_hangs(self) -> None:
        found = verdict(snapshot(scoreboard(), NOW + 40), [EMPTY])
        assert found.sentence.startswith(
            "the master has not turned for 40 s; busy 0/2, nobody waiting: workers"
        )
        assert not found.is_well

    def test_a_master_that_is_dead(self) -> None:
        board = scoreboard()
        board.header[Header.MASTER_PID] = 4000000
        assert verdict(snapshot(board, NOW + 40), [UNKNOWN]).sentence.startswith("the master is dead")

    def test_a_master_that_has_stopped(self) -> None:
        board = scoreboard()
        board.header.set_seconds(MasterWord.HEARTBEAT, 0.0)
        board.header[Header.MASTER_PID] = 4000000
        assert verdict(snapshot(board), [UNKNOWN]).sentence.startswith("stopped")


class TestTheScreen:
    def test_it_shows_pool_queue_and_sessions(self) -> None:
        board = full_pool(2, Stage.HANDOVER)
        board.slots[0].serve(b"192.0.2.7")
        board.slots[0].set_seconds(Word.UNTIL, NOW + 50)
        text = as_text(snapshot(board), [FULL])
        lines = text.splitlines()
        assert lines[0] == verdict(snapshot(board), [FULL]).sentence
        assert "workers   2: 2 busy" in lines
        assert "slots     hh" in lines
        assert "busy with 2 handover" in lines
        assert f"queue     {TCP.address}: 12 of 256 waiting, the first for 4.1 s, 2 gone already" in lines
        oldest, youngest = lines[-2:]
        assert oldest.split() == ["0", "handover", "31", "s", "60", "s", "192.0.2.7", "ABC", "in", "50", "s"]
        assert youngest.split() == ["1", "handover", "5.0", "s", "37", "s", "-", "ABC", "-"]

    def test_what_is_not_known_is_unknown(self) -> None:
        board = scoreboard(listeners=[TCP, UNIX])
        text = as_text(snapshot(board), [UNKNOWN, Queue(length=1)])
        assert f"{TCP.address}: unknown" in text
        assert f"{UNIX.address}: 1 of unknown waiting, the first for unknown" in text

    def test_each_state_and_stage_has_a_character_of_its_own(self) -> None:
        board = Scoreboard.anonymous(16, [TCP])
        for index, slot in enumerate(board.slots[:12]):
            slot.was_given(1)
            if index < 8:
                occupy(slot, NOW, Stage(index), NOW)
        board.slots[8].wait()
        board.slots[9].leave()
        board.slots[10].was_vacated()
        (line,) = [line for line in as_text(snapshot(board), [EMPTY]).splitlines() if "slots" in line]
        assert line.split()[1] == "?gedfcwh.x_s"

    def test_times_are_of_the_period_between_two_looks(self) -> None:
        board = scoreboard(workers=1)
        tally = board.tallies(0)[0]
        tally.accept(0.0, is_queued=False)
        tally.end(50.0, 0.5, [0.0, 0.0, 0.0, 50.0, 0.0, 0.0, 0.0, 0.0])
        earlier = snapshot(board, NOW)
        for _ in range(4):
            tally.accept(1.0, is_queued=True)
            tally.count(TallyWord.ABANDONED)
            tally.end(0.5, 0.005, [0.0, 0.0, 0.0, 0.0, 0.4, 0.0, 0.0, 0.1])
        text = as_text(snapshot(board, NOW + 2), [EMPTY], earlier)
        assert "2.00 connections/s (last 2.0 s), utilisation 0%, 100% had to wait, 4 gave up" in text
        assert "500 ms a session: filter 80%, handover 20%" in text


class TestTheValue:
    def test_it_is_json_and_null_is_not_known(self) -> None:
        found = json.loads(json.dumps(as_value(snapshot(full_pool(2, Stage.DATA)), [UNKNOWN])))
        assert found["pool"]["workers"] == 2
        assert found["pool"]["states"]["busy"] == 2
        assert found["pool"]["exhausted_for"] == 37.0
        assert found["listeners"][0]["waiting"] is None
        assert found["upstream"]["ready_mean"] is None
        assert found["master"]["exporter_sample_age"] is None
        assert found["verdict"]["is_well"] is False

    def test_it_names_who_is_busy_with_what(self) -> None:
        board = full_pool(1, Stage.DATA)
        board.slots[0].serve(b"2001:db8::7")
        (session,) = as_value(snapshot(board), [FULL])["sessions"]
        assert session == {
            "slot": 0, "pid": 4000000, "session": "ABC", "listener": TCP.address, "client": "2001:db8::7",
            "stage": "data", "scanner": None, "stage_age": 31.0, "age": 60.0, "limit_in": None,
        }  # fmt: skip

    def test_what_was_measured_is_what_sizing_reads(self) -> None:
        board = scoreboard(workers=2)
        earlier = snapshot(board, NOW)
        for seconds in (1.0, 3.0):
            board.tallies(0)[0].accept(0.5, is_queued=seconds > 2)
            board.tallies(0)[0].end(seconds, 0.03, [0.5 if stage is Stage.DATA else 0.0 for stage in STAGES])
            board.slots[0].begin(NOW, None, is_queued=False)
            board.slots[0].end(NOW + seconds)
        board.slots[1][Word.MEMORY] = 9_000_000
        found = Measured.parse(as_value(snapshot(board, NOW + 10), [EMPTY], earlier)["measured"])
        assert found == Measured(
            rate=0.2, service_time=2.0, service_cv2=0.25, p_wait=0.5, mean_wait=0.5, busy_peak=None,
            slot_sessions=(2, 0), upload_time=0.5, worker_memory=9_000_000, sessions=2, window=10.0,
        )  # fmt: skip

    def test_health_checks_are_no_mail_to_size_for(self) -> None:
        board = scoreboard(workers=2)
        earlier = snapshot(board, NOW)
        tally = board.tallies(0)[0]
        for number in range(20):
            tally.accept(0.0, is_queued=False)
            if number % 4:
                tally.count(TallyWord.PROBES)
        value = as_value(snapshot(board, NOW + 10), [EMPTY], earlier)
        assert Measured.parse(value["measured"]).rate == 0.5
        assert (value["listeners"][0]["accepted"], value["listeners"][0]["probes"]) == (20, 15)

    def test_without_sessions_nothing_was_measured(self) -> None:
        found = Measured.parse(as_value(snapshot(scoreboard()), [EMPTY])["measured"])
        assert (found.service_time, found.service_cv2, found.p_wait, found.mean_wait) == (None,) * 4


class TestPeriods:
    def test_utilisation_counts_sessions_that_go_on(self) -> None:
        board = scoreboard(workers=2)
        earlier = snapshot(board, NOW)
        occupy(board.slots[0], NOW, Stage.DATA, NOW)
        assert Period(snapshot(board, NOW + 10), earlier).utilisation == 0.5

    def test_with_one_look_it_goes_back_to_the_start(self) -> None:
        board = scoreboard()
        board.header.set_seconds(Header.CREATED, NOW - 600)
        assert Period(snapshot(board)).seconds == 600.0

    def test_counters_of_another_bqfilterd_are_not_compared(self) -> None:
        earlier, later = scoreboard(), scoreboard()
        earlier.slots[0].count(Word.ACCEPTED)
        later.header[Header.MASTER_BIRTH] += 1
        later.header.set_seconds(Header.CREATED, NOW - 3)
        period = Period(snapshot(later), snapshot(earlier))
        assert (period.seconds, period.total(Word.ACCEPTED)) == (3.0, 0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0.0, "0.0 s"),
        (0.0123, "12 ms"),
        (0.9996, "1.0 s"),
        (4.14, "4.1 s"),
        (37.2, "37 s"),
        (600.0, "10 min"),
        (3 * 3600.0, "3.0 h"),
        (3 * 86400.0, "3.0 d"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_pool_on_its_way_out_says_so() -> None:
    board = scoreboard(workers=2)
    assert not as_value(snapshot(board), [EMPTY])["master"]["is_draining"]
    board.header.set_seconds(MasterWord.DRAINING, NOW - 3)
    assert as_value(snapshot(board), [EMPTY])["master"]["is_draining"]
    assert verdict(snapshot(board), [EMPTY]).sentence.startswith("stopping; busy ")


def test_every_state_is_counted_but_the_empty_slot() -> None:
    states = as_value(snapshot(scoreboard()), [EMPTY])["pool"]["states"]
    assert set(states) == {state.name.lower() for state in State} - {"free"}


def test_what_was_kept_or_dropped_instead_of_delivered_is_told_apart() -> None:
    board = scoreboard()
    for word, count in ((Word.ACCEPTED, 3), (Word.QUARANTINED, 2), (Word.DISCARDED, 1)):
        for _ in range(count):
            board.slots[0].count(word)
    assert "messages  3 accepted, 2 quarantined, 1 discarded, 0 rejected," in as_text(
        snapshot(board), [EMPTY]
    )
    counted = as_value(snapshot(board), [EMPTY])["messages"]
    assert (counted["quarantined"], counted["discarded"]) == (2, 1)


def test_nonsense_in_the_memory_is_shown_as_nothing_and_moves_no_cursor() -> None:
    board = full_pool(2, Stage.FILTER)
    board.slots[0][Word.LISTENER] = 2**64 - 1
    board.slots[0].set_seconds(Word.BUSY_SECONDS, math.nan)
    board.slots[1].set_seconds(Word.BUSY_SECONDS, math.inf)
    board.header.set_seconds(MasterWord.LOADED_WALL, 1e300)
    for tally in board.tallies(0):
        tally.observe(DURATION, 5e-324)
        tally.observe(DURATION, 5e-324)
    address = bytes(board.view).index(TCP.address.encode())
    board.view[address : address + 4] = b"\x1b[2J"

    value = as_value(snapshot(board), [FULL])

    json.dumps(value, allow_nan=False)
    assert value["sessions"][0]["listener"] is None
    assert "\x1b" not in as_text(snapshot(board), [FULL])
