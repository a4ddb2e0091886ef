"""The scoreboard as an onlooker finds it: its layout to the byte, and what each move of a worker leaves."""

import os
import struct
from pathlib import Path

import pytest

from bqfilter.ledger import Stage
from bqfilter.scoreboard import (
    BUDGET_SHARE,
    BUSY_SHARE,
    DURATION,
    FILE_NAME,
    MAGIC,
    MESSAGE_SIZE,
    STAGE_TIMES,
    UPSTREAM_READY,
    VERSION,
    WAIT,
    Histogram,
    Scoreboard,
    Slot,
    State,
    TallyWord,
    Word,
    size_of,
)
from tests.doubles.programs import short_directory

SLOT_COUNT = 3


@pytest.fixture
def slot() -> Slot:
    return Scoreboard.anonymous(SLOT_COUNT).slots[1]


def header_of(data: bytes) -> tuple[int, ...]:
    return struct.unpack_from("=QQQQd", data)


def test_the_header_tells_magic_version_slots_and_the_master(tmp_path: Path) -> None:
    Scoreboard.in_file(str(tmp_path), SLOT_COUNT)
    magic, version, slot_count, pid, _ = header_of((tmp_path / FILE_NAME).read_bytes())
    assert (magic, version, slot_count, pid) == (MAGIC, VERSION, SLOT_COUNT, os.getpid())
    assert MAGIC.to_bytes(8, "little") == b"BQFILTER"


def test_the_file_has_a_page_of_header_and_a_kilobyte_for_each_slot(tmp_path: Path) -> None:
    Scoreboard.in_file(str(tmp_path), SLOT_COUNT)
    assert (tmp_path / FILE_NAME).stat().st_size == 4096 + SLOT_COUNT * 1024 == size_of(SLOT_COUNT)


def test_the_room_of_the_file_is_taken_at_once(tmp_path: Path) -> None:
    Scoreboard.in_file(str(tmp_path), SLOT_COUNT)
    assert (tmp_path / FILE_NAME).stat().st_blocks * 512 >= size_of(SLOT_COUNT)


def test_a_word_lies_at_eight_times_its_number_in_its_slot(tmp_path: Path) -> None:
    board = Scoreboard.in_file(str(tmp_path), SLOT_COUNT)
    board.slots[2].count(Word.DENIED)
    board.slots[2].count(Word.DENIED)
    data = (tmp_path / FILE_NAME).read_bytes()
    assert struct.unpack_from("=Q", data, 4096 + 2 * 1024 + 8 * Word.DENIED) == (2,)
    assert board.slots[0][Word.DENIED] == board.slots[1][Word.DENIED] == 0


def test_words_of_stages_do_not_run_into_other_words() -> None:
    assert len(set(Word)) == len(Word.__members__)
    stages = range(Word.STAGE_SECONDS, Word.STAGE_SECONDS + len(Stage))
    histograms = [BUSY_SHARE, UPSTREAM_READY, MESSAGE_SIZE]
    used = [word for one in histograms for word in range(one.first, one.sum + 1)]
    assert not {*used, *stages[1:]} & set(Word)
    assert max(*used, *stages, *Word) * 8 < 1024


@pytest.mark.parametrize(
    ("histograms", "first_free"),
    [
        pytest.param([BUSY_SHARE, UPSTREAM_READY, MESSAGE_SIZE], Word.STAGE_SECONDS + len(Stage), id="slot"),
        pytest.param(
            [WAIT, DURATION, BUDGET_SHARE, *STAGE_TIMES.values()], TallyWord.OLDEST_SINCE + 1, id="tally"
        ),
    ],
)
def test_histograms_do_not_run_into_each_other(histograms: list[Histogram], first_free: int) -> None:
    used = [word for one in histograms for word in range(one.first, one.sum + 1)]
    assert len(set(used)) == len(used)
    assert first_free <= min(used) <= max(used) < 1024 // 8


def test_what_a_child_writes_its_parent_sees() -> None:
    slot = Scoreboard.anonymous(SLOT_COUNT).slots[0]
    pid = os.fork()
    if pid == 0:
        slot.count(Word.ACCEPTED)
        os._exit(0)
    os.waitpid(pid, 0)
    assert slot[Word.ACCEPTED] == 1


def test_a_new_scoreboard_replaces_that_of_a_dead_master_in_one_step(tmp_path: Path) -> None:
    old = Scoreboard.in_file(str(tmp_path), SLOT_COUNT)
    with (tmp_path / FILE_NAME).open("rb") as onlooker:
        new = Scoreboard.in_file(str(tmp_path), SLOT_COUNT + 1)
        new.slots[0].count(Word.ACCEPTED)
        assert len(onlooker.read()) == size_of(SLOT_COUNT)  # who has it open keeps a whole old one
    assert old.slots[0][Word.ACCEPTED] == 0
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_file_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}.new").write_bytes(b"garbage" * 100000)
    Scoreboard.in_file(str(tmp_path), SLOT_COUNT)
    data = (tmp_path / FILE_NAME).read_bytes()
    assert data[4096:] == bytes(SLOT_COUNT * 1024)


@pytest.mark.parametrize("name", [FILE_NAME, f"{FILE_NAME}.new"])
def test_a_link_that_somebody_put_in_its_place_is_not_followed(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / name).symlink_to(victim)
    Scoreboard.in_file(str(tmp_path), SLOT_COUNT)
    assert victim.read_text() == "precious"
    assert not (tmp_path / FILE_NAME).is_symlink()


def test_others_cannot_write_the_file(tmp_path: Path) -> None:
    Scoreboard.in_file(str(tmp_path), SLOT_COUNT)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o022 == 0


def test_a_directory_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Scoreboard.in_file(str(tmp_path / "missing"), SLOT_COUNT)


def test_a_directory_in_which_nothing_can_be_made_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match=r"(No such file|[Dd]enied|not permitted)"):
        Scoreboard.in_file("/proc/self", SLOT_COUNT)


def test_an_anonymous_scoreboard_is_empty_and_leaves_no_file() -> None:
    with short_directory("bqfilter-board-") as directory:
        board = Scoreboard.anonymous(SLOT_COUNT)
        assert [slot.index for slot in board.slots] == [0, 1, 2]
        assert {slot.state for slot in board.slots} == {State.FREE}
        assert list(directory.iterdir()) == []


def test_a_slot_given_away_is_starting_and_nobodys(slot: Slot) -> None:
    slot.move_in(4711)
    slot.was_given(7)
    assert (slot.state, slot[Word.PID], slot[Word.GENERATION], slot[Word.JOBS]) == (State.STARTING, 0, 7, 0)


def test_a_worker_moves_in_and_waits(slot: Slot) -> None:
    slot.was_given(1)
    slot.move_in(4711)
    slot.wait()
    assert (slot.state, slot[Word.PID], slot.stage) == (State.IDLE, 4711, Stage.IDLE)


def test_a_session_shows_since_when_in_which_stage_and_until_when(slot: Slot) -> None:
    slot.begin(100.0, 0.25, is_queued=False)
    slot.enter(Stage.DATA, 101.0, 400.0)
    assert (slot.state, slot.stage) == (State.BUSY, Stage.DATA)
    assert slot.seconds(Word.SESSION_SINCE) == 100.0
    assert slot.seconds(Word.STAGE_SINCE) == 101.0
    assert slot.seconds(Word.UNTIL) == 400.0


def test_a_session_counts_once_its_worker_is_seen_to_be_busy(
    slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions less busy workers are those that are over: the master must never see one too many."""
    counted: list[int] = []
    monkeypatch.setattr(Slot, "_become", lambda self, _state: counted.append(self[Word.SESSIONS]))
    slot.begin(10.0, 0.0, False)
    assert (counted, slot[Word.SESSIONS]) == ([0], 1)


def test_a_session_that_is_over_leaves_its_counts_and_no_limit(slot: Slot) -> None:
    slot.begin(100.0, 0.25, is_queued=True)
    slot.enter(Stage.DATA, 101.0, 400.0)
    slot.end(103.5)
    slot.wait()
    assert (slot.state, slot.stage) == (State.IDLE, Stage.IDLE)
    assert (slot[Word.SESSIONS], slot[Word.QUEUED], slot[Word.JOBS]) == (1, 1, 1)
    assert slot.seconds(Word.BUSY_SECONDS) == 3.5
    assert slot.seconds(Word.WAIT_SECONDS) == 0.25
    assert slot.seconds(Word.UNTIL) == slot.seconds(Word.SESSION_SINCE) == 0.0


def test_the_seconds_of_each_stage_are_summed_over_sessions(slot: Slot) -> None:
    for _ in range(2):
        slot.begin(100.0, None, is_queued=False)
        slot.end(104.0, [0.0, 1.0, 0.5, 2.5])
    spent = {stage: slot.seconds(Word.STAGE_SECONDS + stage) for stage in Stage}
    assert (spent[Stage.GREETING], spent[Stage.ENVELOPE], spent[Stage.DATA]) == (2.0, 1.0, 5.0)
    assert sum(spent.values()) == slot.seconds(Word.BUSY_SECONDS) == 8.0


def test_an_unknown_wait_counts_as_none(slot: Slot) -> None:
    slot.begin(100.0, None, is_queued=False)
    assert slot.seconds(Word.WAIT_SECONDS) == 0.0


def test_a_leaving_worker_says_so(slot: Slot) -> None:
    slot.wait()
    slot.leave()
    assert slot.state is State.LEAVING


def test_counters_belong_to_the_slot_and_outlive_the_worker(slot: Slot) -> None:
    slot.was_given(1)
    slot.begin(1.0, None, is_queued=False)
    slot.count(Word.ACCEPTED)
    slot.end(2.0)
    slot.was_vacated()
    slot.was_given(2)
    assert (slot[Word.ACCEPTED], slot[Word.SESSIONS]) == (1, 1)
    assert (slot[Word.JOBS], slot[Word.GENERATION]) == (0, 2)


def test_a_slot_whose_worker_was_reaped_is_free_and_without_a_limit(slot: Slot) -> None:
    slot.move_in(4711)
    slot.begin(1.0, None, is_queued=False)
    slot.enter(Stage.HANDOVER, 2.0, 3.0)
    slot.was_vacated()
    assert (slot.state, slot.stage, slot[Word.PID]) == (State.FREE, Stage.IDLE, 0)
    assert slot.seconds(Word.UNTIL) == 0.0
