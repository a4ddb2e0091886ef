"""Splices that are kept: all of them, in order, wherever they are kept, and those of several scanners."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import ScannerFailure
from bqfilter.mail.body_edits import EncodedPart, Splice
from bqfilter.mail.message import Message
from bqfilter.scanning.line_edits import EditedBody, Splices
from bqfilter.scanning.output import Workspace

MEMORY = Workspace("/nowhere", 1 << 20)


def kept(*splices: Splice, workspace: Workspace = MEMORY) -> Splices:
    found = Splices(workspace)
    for splice in splices:
        found.add(splice)
    found.settle()
    return found


def test_without_any_there_is_nothing() -> None:
    assert not Splices(MEMORY)
    assert list(kept()) == []


def test_splices_come_back_in_the_order_of_the_body() -> None:
    found = Splices(MEMORY)
    late, early, decoded = Splice(90, 1, b"z"), Splice(10, 0, b"a"), Splice(5, 2, b"d", True, part=50)
    for splice in (late, early, decoded):
        found.add(splice)

    assert found
    assert list(found) == []  # something may still come in front of them
    found.settle(60)
    found.add(Splice(70, 1, b"y"))
    assert list(found) == [early, decoded]
    found.settle()
    assert list(found) == [early, decoded, Splice(70, 1, b"y"), late]
    assert list(found) == list(found)


@given(
    st.lists(
        st.builds(
            Splice, st.integers(0, 99), st.integers(0, 9), st.binary(max_size=40), st.booleans(), st.just(-1)
        ),
        max_size=20,
    )
)
def test_those_in_one_place_stay_in_their_order(splices: list[Splice]) -> None:
    assert list(kept(*splices)) == sorted(splices, key=lambda splice: splice.at)


def test_many_do_not_stay_in_memory(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path), 1000)
    found = Splices(workspace)
    for at in range(20_000):
        found.add(Splice(at, 1, b"x" * (at % 50)))
        found.settle(at)

    assert len(found._pending) <= 2
    found.settle()
    assert [splice.at for splice in found] == list(range(20_000))
    assert not any(tmp_path.iterdir())  # its file has no name


def test_too_many_are_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ScannerFailure, match="more than a message may have"):
        kept(Splice(0, 1, b"x" * 500), workspace=Workspace(str(tmp_path), 100, 400))


def test_a_body_has_the_edits_of_all_as_often_as_it_is_read() -> None:
    message = Message.in_memory(b"A: b\r\n\r\none\r\ntwo\r\nYQ==\r\n")
    mine, other = kept(Splice(0, 3, b"1")), kept(Splice(5, 3, b"", True), Splice(0, 1, b"b", part=10))
    other.note_part(EncodedPart(10, 14, "base64"))
    body = EditedBody(message, (mine,)).with_those_of(EditedBody(message, (other,)))

    assert b"".join(body()) == b"1\r\nYg==\r\n"
    assert b"".join(body()) == b"1\r\nYg==\r\n"
    assert list(body.changed_text()) == [(b"one", b"1"), (b"two\r\n", b""), (b"a", b"b")]


def test_bodies_with_the_same_edits_are_the_same() -> None:
    message, mine = Message.in_memory(b""), kept(Splice(0, 3, b"1"))

    assert EditedBody(message, (mine,)) == EditedBody(message, (mine,))
    assert hash(EditedBody(message, (mine,))) == hash(EditedBody(message, (mine,)))
    assert EditedBody(message, (mine,)) != EditedBody(message, (kept(Splice(0, 3, b"1")),))
