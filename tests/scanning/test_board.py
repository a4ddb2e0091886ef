"""Scanners in the scoreboard: whose place is whose, and counters that never fall."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.content import ScannerSettings
from bqfilter.places import Label, Terms
from bqfilter.scanning.board import SCAN_SECONDS, ScannerBoard, ScannerPlace, ScannerWord
from bqfilter.scanning.report import Finding
from bqfilter.scoreboard import SCANNER_PLACE_BYTES, SCANNER_RECORD_BYTES
from tests.doubles.scanners import scanner

SLOTS = 4
WORDS = {
    Finding.CLEAN: ScannerWord.CLEAN,
    Finding.HIT: ScannerWord.HIT,
    Finding.ERROR: ScannerWord.ERROR,
    Finding.UNSCANNED: ScannerWord.UNSCANNED,
}


def board(places: int = 3) -> ScannerBoard:
    size = places * (SCANNER_PLACE_BYTES + SLOTS * SCANNER_RECORD_BYTES)
    return ScannerBoard(memoryview(bytearray(size)), SLOTS)


def tables(*names: str) -> list[ScannerSettings]:
    return [scanner(name, failures=3, retry=7.5).settings for name in names]


def names(given_board: ScannerBoard) -> dict[str, bool]:
    """The names that have a place, and whether they are in the configuration."""
    return {label.name: label.is_present for label in given_board.labels()}


def test_a_label_says_whose_place_it_is_and_when_its_breaker_opens() -> None:
    longest = "a" + "b" * 30
    given_board = board()
    assert given_board.labels() == []

    assert given_board.assign(tables("clamd", longest)) == []
    terms = Terms(3, 7.5, 7.5)
    assert given_board.labels() == [Label("clamd", terms), Label(longest, terms)]


def test_a_place_belongs_to_its_name_whatever_a_reload_brings() -> None:
    given_board = board()
    given_board.assign(tables("clamd", "spamd"))
    given_board.places(["spamd"], 1)[0].note(Finding.HIT, 1.0)
    given_board.assign(tables("rspamd"))
    assert names(given_board) == {"clamd": False, "spamd": False, "rspamd": True}

    given_board.assign(tables("spamd", "clamd"))

    assert names(given_board) == {"clamd": True, "spamd": True, "rspamd": False}
    spamd, clamd = given_board.places(["spamd", "clamd"], 2)
    assert spamd.total(ScannerWord.HIT) == 1
    assert clamd.total(ScannerWord.HIT) == 0


def test_a_scanner_without_a_place_works_without_figures() -> None:
    given_board = board(places=1)

    assert given_board.assign(tables("clamd", "spamd")) == ["spamd"]
    clamd, spamd = given_board.places(["clamd", "spamd"], 3)
    spamd.note(Finding.CLEAN, 0.1)
    assert spamd.row_count == 1
    assert clamd.total(ScannerWord.CLEAN) == 0


def test_no_room_is_no_place() -> None:
    assert ScannerBoard(memoryview(bytearray()), SLOTS).assign(tables("clamd")) == ["clamd"]


def test_what_was_not_asked_took_no_time() -> None:
    place = ScannerPlace.unseen()
    place.note(Finding.UNSCANNED, None)
    place.note(Finding.ERROR, 0.3)

    assert (place.total(ScannerWord.UNSCANNED), place.total(ScannerWord.ERROR)) == (1, 1)
    assert place.own.buckets(SCAN_SECONDS) == [0, 0, 0, 1, 0, 0, 0]
    assert place.own.seconds(SCAN_SECONDS.sum) == 0.3


@pytest.mark.parametrize("slot", range(SLOTS))
def test_a_slot_writes_its_own_record_and_no_other(slot: int) -> None:
    given_board = board()
    given_board.assign(tables("first", "second", "third"))
    for finding in Finding:
        given_board.place(1, slot).note(finding, 100.0)

    for number in range(3):
        for index, record in enumerate(given_board.place(number, 0).records(SLOTS)):
            is_it = (number, index) == (1, slot)
            assert [record[word] for word in WORDS.values()] == [int(is_it)] * 4
    assert names(given_board) == {"first": True, "second": True, "third": True}


steps = st.one_of(
    st.tuples(st.just("note"), st.sampled_from("abcd"), st.integers(0, SLOTS - 1), st.sampled_from(Finding)),
    st.tuples(st.just("reload"), st.sets(st.sampled_from("abcd")), st.none(), st.none()),
)


@given(st.lists(steps, max_size=40))
def test_counters_never_fall_and_count_what_was_noted(
    given_steps: list[tuple[str, str, int, Finding]],
) -> None:
    given_board = board(places=4)
    expected: Counter[tuple[str, Finding]] = Counter()
    for step, subject, slot, finding in given_steps:
        if step == "reload":
            given_board.assign(tables(*sorted(subject)))
        elif subject in names(given_board):
            given_board.places([subject], slot)[0].note(finding, 0.1)
            expected[subject, finding] += 1
        for number, name in enumerate(names(given_board)):
            place = given_board.place(number, 0)
            assert {one: place.total(word) for one, word in WORDS.items()} == {
                one: expected[name, one] for one in Finding
            }
