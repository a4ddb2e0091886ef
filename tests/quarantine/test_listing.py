"""A long list is made by several processes, and reads as if one had made it."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from bqfilter.errors import QuarantineFailure
from bqfilter.quarantine import Quarantine, State
from bqfilter.quarantine import listing as listings
from bqfilter.quarantine.listing import Listing, Part, processors
from bqfilter.quarantine.names import Name
from bqfilter.quarantine.store import Entry
from bqfilter.quarantine.view import as_line
from tests.doubles.kept import keep

COUNT = 11


@pytest.fixture
def store(tmp_path: Path) -> Quarantine:
    store = Quarantine(tmp_path / "quarantine")
    for _ in range(COUNT):
        keep(store)
    return store


@pytest.fixture(autouse=True)
def small_parts() -> Iterator[None]:
    with mock.patch.object(listings, "_PART_FILES", 2):
        yield


def made(
    store: Quarantine, fits: Callable[[Entry], bool] = lambda _: True, show: Callable[[Entry], str] = as_line
) -> Listing:
    return Listing(store, list(store.names()), (), fits, show)


def whole(parts: list[Part]) -> tuple[str, int]:
    return "".join(part.text for part in parts), sum(part.flaws for part in parts)


def test_several_processes_make_the_same_list_as_one(store: Quarantine) -> None:
    identifiers = [name.id for name in store.names()]
    text, flaws = whole(list(made(store).parts(3)))
    assert [line.split()[0] for line in text.splitlines()] == identifiers
    assert (text, flaws) == whole(list(made(store).parts(1)))


def test_they_are_really_several(store: Quarantine) -> None:
    text, _ = whole(list(made(store, show=lambda _: str(os.getpid())).parts(3)))
    assert str(os.getpid()) not in text.split()


def test_one_process_forks_no_other(store: Quarantine) -> None:
    text, _ = whole(list(made(store, show=lambda _: str(os.getpid())).parts(1)))
    assert set(text.split()) == {str(os.getpid())}


def test_a_short_list_forks_none_either(store: Quarantine) -> None:
    with mock.patch.object(listings, "_PART_FILES", COUNT):
        text, _ = whole(list(made(store, show=lambda _: str(os.getpid())).parts(8)))
    assert set(text.split()) == {str(os.getpid())}


def test_what_does_not_fit_is_left_out(store: Quarantine) -> None:
    wanted = list(store.names())[3].id
    text, _ = whole(list(made(store, fits=lambda entry: entry.name.id == wanted).parts(2)))
    assert [line.split()[0] for line in text.splitlines()] == [wanted]


def test_files_that_cannot_be_read_are_counted_wherever_they_are(store: Quarantine) -> None:
    names = list(store.names())
    for name in (names[1], names[-1]):
        path_of(store, name).write_bytes(b"nothing\n")
    text, flaws = whole(list(made(store).parts(2)))
    assert flaws == 2
    assert text.count("  cannot be read: ") == 2


def test_drafts_are_no_part_of_it(store: Quarantine) -> None:
    first = next(iter(store.names()))
    path_of(store, first).rename(path_of(store, first.turned(State.NEW)))
    text, _ = whole(list(made(store).parts(2)))
    assert first.id not in text


def test_a_directory_that_cannot_be_read_fails_the_list(store: Quarantine) -> None:
    def fail(entry: Entry) -> str:
        raise PermissionError(13, "Permission denied", entry.name.day)

    with pytest.raises(PermissionError, match=r"Permission denied: '[0-9]{8}'"):
        list(made(store, show=fail).parts(2))


def test_a_process_that_is_killed_fails_the_list_and_nobody_waits(store: Quarantine) -> None:
    def die(_: Entry) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with pytest.raises(QuarantineFailure, match="was killed"):
        list(made(store, show=die).parts(2))


def test_there_is_a_processor() -> None:
    assert processors() >= 1


def path_of(store: Quarantine, name: Name) -> Path:
    return store.directory / name.day / name.file
