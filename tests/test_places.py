"""Places in the scoreboard: whose they are, what is read over all rows, and names of any length."""

import pytest

from bqfilter.places import TEXT_AT, HealthWord, Label, Place, PlaceBoard, Terms

ROWS = 4
TERMS = Terms(1, 1.0, 60.0)


class Kind(Place):
    RECORD_BYTES = 64


def board(places: int = 3, text_bytes: int = 24) -> PlaceBoard[Kind]:
    label_bytes = TEXT_AT + text_bytes
    memory = memoryview(bytearray(places * (label_bytes + ROWS * Kind.RECORD_BYTES)))
    return PlaceBoard(memory, ROWS, Kind, label_bytes)


def test_a_name_that_leaves_and_comes_back_finds_what_was_known_of_it() -> None:
    given = board()
    given.give([Label("a", TERMS), Label("b", TERMS)])
    (place,) = given.places(["b"], 2)
    place.own.set_seconds(HealthWord.FAILED_AT, 5.0)
    given.give([Label("c", TERMS)])
    assert [(label.name, label.is_present) for label in given.labels()] == [
        ("a", False), ("b", False), ("c", True),
    ]  # fmt: skip

    changed = Terms(3, 2.0, 9.0)
    given.give([Label("b", changed)])

    assert given.places(["b"], 0)[0].latest(HealthWord.FAILED_AT, ROWS) == 5.0
    assert given.labels()[1] == Label("b", changed)


def test_one_for_whom_there_is_no_place_has_an_unseen_one() -> None:
    given = board(places=1)
    assert given.give([Label("a", TERMS), Label("b", TERMS)]) == ["b"]

    a, b = given.places(["a", "b"], 3)
    assert (a.row_count, b.row_count) == (ROWS, 1)
    assert (a.index, b.index) == (3, 0)


@pytest.mark.parametrize("name", ["x" * 100, "/\udcff/socket", "/prüfung/" + "ü" * 20])
def test_a_name_that_does_not_fit_keeps_its_place(name: str) -> None:
    given = board()
    given.give([Label(name, TERMS)])
    given.places([name], 1)[0].own.set_seconds(HealthWord.FAILED_AT, 5.0)
    given.give([Label(name, TERMS)])

    assert len(given.labels()) == 1
    assert given.places([name], 2)[0].latest(HealthWord.FAILED_AT, ROWS) == 5.0
    assert given.labels()[0].name.encode()  # can be shown


def test_instants_and_failures_are_found_in_the_rows_that_are_asked_about() -> None:
    given = board()
    given.give([Label("a", TERMS)])
    for row, (first, last) in enumerate([(4.0, 5.0), (8.0, 9.0), (1.0, 2.0), (7.0, 11.0)]):
        own = given.place(0, row).own
        own.set_seconds(HealthWord.FAILING_SINCE, first)
        own.set_seconds(HealthWord.FAILED_AT, last)
        own[HealthWord.STREAK] = row + 1
    place = given.place(0, 0)

    assert [place.latest(HealthWord.FAILED_AT, rows) for rows in (1, 2, 3, 4, 99)] == [5, 9, 9, 11, 11]
    assert [place.failures_since(5.0, rows) for rows in (1, 2, 3, 4)] == [0, 2, 2, 6]
    assert [place.failing_since(5.0, rows) for rows in (1, 2, 3, 4)] == [0, 8, 8, 7]
    assert [place.total(HealthWord.STREAK, rows) for rows in (1, 2, None)] == [1, 3, 10]


def test_a_name_that_a_mad_worker_has_written_moves_no_cursor() -> None:
    memory = memoryview(bytearray(TEXT_AT + 24 + ROWS * Kind.RECORD_BYTES))
    given = PlaceBoard(memory, ROWS, Kind, TEXT_AT + 24)
    given.give([Label("spamd", TERMS)])
    memory[TEXT_AT : TEXT_AT + 5] = b"\x1b[2J\n"

    assert [label.name for label in given.labels()] == ["?[2J?"]


def test_a_label_that_is_lost_moves_no_other_place() -> None:
    label_bytes = TEXT_AT + 24
    memory = memoryview(bytearray(3 * (label_bytes + ROWS * Kind.RECORD_BYTES)))
    given = PlaceBoard(memory, ROWS, Kind, label_bytes)
    given.give([Label("a", TERMS), Label("b", TERMS)])
    given.places(["b"], 1)[0].own.set_seconds(HealthWord.FAILED_AT, 5.0)
    memory[:TEXT_AT] = bytes(TEXT_AT)

    (found,) = given.owned(0)
    assert (found[0].name, found[1].latest(HealthWord.FAILED_AT, ROWS)) == ("b", 5.0)
    assert given.give([Label("b", TERMS), Label("c", TERMS)]) == []
    assert given.places(["b"], 0)[0].latest(HealthWord.FAILED_AT, ROWS) == 5.0
    assert given.places(["c"], 0)[0].number == 1
