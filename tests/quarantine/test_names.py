"""Names of kept files: they sort by age, cannot be guessed, and hold nothing of a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.quarantine.names import Name, State, is_prefix, new_id, stamp

NOW = 1_764_077_243.482913


def test_a_name_tells_day_time_and_state() -> None:
    name = Name(new_id(NOW), State.HELD)
    assert name.day == "20251125"
    assert name.kept_at == "2025-11-25T13:27:23+00:00"
    assert name.file.startswith("20251125-132723-48291")
    assert name.file.endswith(".held")


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_later_ones_sort_behind_earlier_ones(one: float, other: float) -> None:
    assert (stamp(one) <= stamp(other)) or one > other


@pytest.mark.parametrize("state", list(State))
def test_a_name_is_read_back(state: State) -> None:
    name = Name(new_id(NOW), state)
    assert Name.parse(name.file) == name


def test_two_of_the_same_instant_differ() -> None:
    assert len({new_id(NOW) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("20251125-132723-482913-9f3ac41e77b1", id="no state"),
        pytest.param("20251125-132723-482913-9f3ac41e77b1.lost", id="no such state"),
        pytest.param("20251125-132723-482913-9f3ac41e77b1.held.gz", id="something behind it"),
        pytest.param("20251125-132723-482913-9F3AC41E77B1.held", id="capitals"),
        pytest.param("20251125-132723-482913-9f3ac41e77b1\n.held", id="a line end"),
        pytest.param("..held", id="dots"),
        pytest.param("", id="nothing"),
    ],
)
def test_other_files_are_none_of_ours(file: str) -> None:
    assert Name.parse(file) is None


@pytest.mark.parametrize("text", ["", "../..", "2025*", "2025 ", "2025\n", "x"])
def test_what_no_identifier_begins_with_is_refused(text: str) -> None:
    assert not is_prefix(text)


def test_a_beginning_is_accepted() -> None:
    assert is_prefix("20251125-1327")
