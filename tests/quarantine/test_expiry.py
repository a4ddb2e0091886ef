"""Expiry takes what is old, then what is too much, and never what only a person can settle."""

from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.quarantine import Quarantine, State
from bqfilter.quarantine.expiry import Limits, chosen, expire
from bqfilter.quarantine.names import SETTLED, Name, new_id
from bqfilter.quarantine.store import Sized
from tests.doubles.faults import Gone, failing
from tests.doubles.kept import keep

NOW = 1_764_077_243.0
DAY = 86400.0
NO_LIMITS = Limits(0, 0)


def aged(directory: Path, age: float, state: State = State.HELD) -> str:
    kept = keep(Quarantine(directory, lambda: NOW - age), state=State.PENDING)
    with Quarantine(directory).claim(kept.id) as claim:
        claim.turn(state)
    return kept.id


@pytest.fixture
def store(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path, lambda: NOW)


def left(store: Quarantine) -> set[str]:
    return {name.id for name in store.names()}


def test_without_limits_everything_stays(store: Quarantine) -> None:
    aged(store.directory, 1000 * DAY)
    assert expire(store, NO_LIMITS, NOW).deleted == []
    assert len(left(store)) == 1


def test_what_is_older_is_deleted(store: Quarantine) -> None:
    aged(store.directory, 31 * DAY)
    aged(store.directory, 40 * DAY, State.RELEASED)
    young = aged(store.directory, 29 * DAY)
    done = expire(store, Limits(30 * DAY, 0), NOW)
    assert left(store) == {young}
    assert (len(done.deleted), done.kept_count) == (2, 1)
    assert done.deleted_size > 0


def test_then_the_oldest_until_the_rest_is_small_enough(store: Quarantine) -> None:
    identifiers = [aged(store.directory, age * DAY) for age in (4, 3, 2, 1)]
    each = next(store.sizes()).size
    done = expire(store, Limits(0, 2 * each), NOW)
    assert left(store) == set(identifiers[2:])
    assert done.kept_size == 2 * each


@pytest.mark.parametrize("state", sorted(set(State) - SETTLED - {State.NEW}))
def test_what_is_under_way_or_in_doubt_stays_and_is_counted(store: Quarantine, state: State) -> None:
    aged(store.directory, 1000 * DAY, state)
    done = expire(store, Limits(DAY, 1), NOW)
    assert done.left == {state: 1}
    assert len(left(store)) == 1


SIZED = st.builds(
    lambda at, state, size: Sized(Name(new_id(at), state), size),
    st.integers(0, int(NOW)),
    st.sampled_from(State),
    st.integers(0, 1000),
)


@given(st.lists(SIZED, max_size=30), st.integers(0, int(NOW)), st.integers(0, 5000))
def test_by_its_choice_nothing_is_too_old_or_too_much_but_what_must_stay(
    files: list[Sized], max_age: int, max_size: int
) -> None:
    files.sort(key=lambda one: one.name.id)
    gone = list(chosen(files, Limits(max_age, max_size), NOW))
    kept = [one for one in files if one not in gone and one.name.state is not State.NEW]
    may_go = [one for one in kept if one.name.state in SETTLED]
    assert all(one.name.state in SETTLED for one in gone)
    if max_size:
        assert sum(one.size for one in kept) <= max_size or not may_go
    if not max_size and not max_age:
        assert not gone


def test_a_dry_run_deletes_nothing_and_tells_the_same(store: Quarantine) -> None:
    aged(store.directory, 31 * DAY)
    told = expire(store, Limits(30 * DAY, 0), NOW, dry_run=True)
    assert len(left(store)) == 1
    assert told.deleted == expire(store, Limits(30 * DAY, 0), NOW).deleted


def test_a_message_that_somebody_is_at_work_on_is_passed_over(store: Quarantine) -> None:
    identifier = aged(store.directory, 31 * DAY)
    with store.claim(identifier):
        done = expire(store, Limits(30 * DAY, 0), NOW)
    assert "another process is at work on it" in done.failures[0]
    assert left(store) == {identifier}


def test_a_message_whose_release_began_meanwhile_stays(store: Quarantine) -> None:
    identifier = aged(store.directory, 31 * DAY)
    sizes = list(store.sizes())
    with store.claim(identifier) as claim:
        claim.turn(State.UNKNOWN)
    with mock.patch.object(Quarantine, "sizes", return_value=sizes):
        done = expire(store, Limits(30 * DAY, 0), NOW)
    assert "is unknown now" in done.failures[0]
    assert left(store) == {identifier}


def test_a_damaged_message_expires_like_any_other(store: Quarantine) -> None:
    identifier = aged(store.directory, 31 * DAY)
    next(store.directory.rglob(f"{identifier}.*")).write_bytes(b"x")
    expire(store, Limits(30 * DAY, 0), NOW)
    assert left(store) == set()


@pytest.mark.parametrize(("age", "stays"), [(2 * DAY, False), (3600.0, True)])
def test_what_a_crash_has_left_half_written_goes_after_a_day(
    store: Quarantine, age: float, stays: bool
) -> None:
    with failing(at=6), pytest.raises(Gone):
        keep(Quarantine(store.directory, lambda: NOW - age))
    done = expire(store, NO_LIMITS, NOW)
    assert done.draft_count == (0 if stays else 1)
    assert len(left(store)) == (1 if stays else 0)


def test_empty_days_go(store: Quarantine) -> None:
    aged(store.directory, 31 * DAY)
    expire(store, Limits(30 * DAY, 0), NOW)
    assert list(store.directory.iterdir()) == []
