"""Edits that make one header of another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.difference import edits_between
from bqfilter.mail.fields import Edit, Header, Insert, Remove, edited

HEADERS = st.lists(
    st.sampled_from([b"A: 1\r\n", b"A: 2\r\n", b"B: 1\r\n", b"C:\r\n x\r\n", b"D: 4\r\n"]), max_size=12
)


def header(*fields: bytes) -> Header:
    return Header(b"".join(field + b"\r\n" for field in fields))


@given(HEADERS, HEADERS)
def test_the_edits_make_the_new_header_of_the_old_one(old: list[bytes], new: list[bytes]) -> None:
    before, after = Header(b"".join(old)), Header(b"".join(new))
    assert edited(before, edits_between(before, after)) == after.raw


@given(HEADERS, HEADERS, HEADERS)
def test_what_begins_or_ends_alike_is_left_alone(
    head: list[bytes], middle: list[bytes], tail: list[bytes]
) -> None:
    before = Header(b"".join([*head, *tail]))
    edits = edits_between(before, Header(b"".join([*head, *middle, *tail])))
    assert [edit for edit in edits if isinstance(edit, Remove)] == []
    assert len(edits) == len(middle)


@pytest.mark.parametrize(
    ("old", "new", "edits"),
    [
        pytest.param([b"A: 1"], [b"A: 1"], (), id="nothing"),
        pytest.param([], [b"A: 1"], (Insert(0, b"A: 1\r\n"),), id="all is new"),
        pytest.param([b"A: 1"], [], (Remove(0),), id="all is gone"),
        pytest.param(
            [b"A: 1", b"B: 1", b"C: 1"],
            [b"X: 1", b"A: 1", b"B: 2", b"C: 1", b"Y: 1"],
            (Insert(0, b"X: 1\r\n"), Insert(1, b"B: 2\r\n"), Insert(3, b"Y: 1\r\n"), Remove(1)),
            id="one more at each end and another one in the middle",
        ),
        pytest.param(
            [b"A: 1", b"B: 1", b"C: 1", b"D: 1"],
            [b"D: 1", b"A: 1", b"B: 1", b"C: 1"],
            (Insert(0, b"D: 1\r\n"), Remove(3)),
            id="the last one moved to the top",
        ),
        pytest.param([b"A: 1", b"A: 1"], [b"A: 1"], (Remove(1),), id="one of two equal ones"),
    ],
)
def test_fields_that_stay_are_not_touched(
    old: list[bytes], new: list[bytes], edits: tuple[Edit, ...]
) -> None:
    assert edits_between(header(*old), header(*new)) == edits


def test_thirty_thousand_fields_are_compared_in_no_time_to_speak_of() -> None:
    """Quadratic time would be minutes."""
    old = Header(b"".join(b"X: %d\r\n" % number for number in range(30_000)))
    new = Header(b"".join(b"X: %d\r\n" % number for number in reversed(range(30_000))))
    assert edited(old, edits_between(old, new)) == new.raw
