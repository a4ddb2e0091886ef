"""A claim: one process at a time, and every change is on disk in an order that a crash cannot confuse."""

import contextlib
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bqfilter.errors import QuarantineFailure
from bqfilter.quarantine import Quarantine, State
from bqfilter.quarantine.history import Event, What
from tests.doubles.faults import Gone, failing
from tests.doubles.kept import CONTENT, keep

EVENT = Event(what=What.FAILED, at="2025-11-25T13:27:23+00:00", by="root", text="450 4.2.0 later")
ROOT = Path(__file__).resolve().parents[2]
HOLD = (
    "import sys; from bqfilter.quarantine import Quarantine, State\n"
    "claim = Quarantine(sys.argv[1]).claim(sys.argv[2])\n"
    "claim.turn(State.RELEASING)\n"
    "print('here', flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def store(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path)


def test_a_claimed_message_is_nobody_elses(store: Quarantine) -> None:
    kept = keep(store)
    with store.claim(kept.id), pytest.raises(QuarantineFailure, match="another process is at work on it"):
        store.claim(kept.id)
    with store.claim(kept.id) as claim:
        assert b"".join(claim.content()) == CONTENT


def test_a_claimed_message_can_be_looked_at(store: Quarantine) -> None:
    kept = keep(store)
    with store.claim(kept.id), store.open(kept.id) as file:
        assert b"".join(file.content()) == CONTENT


def test_a_claim_ends_with_its_process(store: Quarantine) -> None:
    """What a killed process was releasing can be released: it is known that it was not handed over."""
    kept = keep(store)
    command = [sys.executable, "-c", HOLD, str(store.directory), kept.id]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"here\n"
        with pytest.raises(QuarantineFailure, match="another process"):
            store.claim(kept.id)
        holder.kill()
        holder.wait()
    with store.claim(kept.id) as claim:
        assert claim.name.state is State.RELEASING


def test_a_message_that_changes_while_it_is_being_claimed_is_looked_for_again(
    store: Quarantine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep(store)
    real, found = store.find, []

    def find(identifier: str) -> object:
        name = real(identifier)
        found.append(name)
        if len(found) == 1:  # somebody else is faster
            Path(kept.path).rename(Path(kept.path).with_suffix(".released"))
        return name

    monkeypatch.setattr(store, "find", find)
    with store.claim(kept.id) as claim:
        assert claim.name.state is State.RELEASED


def test_a_file_that_was_replaced_while_it_was_opened_is_looked_for_again(
    store: Quarantine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Path(keep(store).path)
    real = os.stat
    seen = []

    def stat(path: str, **others: object) -> os.stat_result:
        if path == kept.name and not seen:
            seen.append(path)
            copy = kept.read_bytes()
            kept.unlink()
            kept.write_bytes(copy)
        return real(path, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat)
    with store.claim(kept.stem) as claim:
        assert b"".join(claim.content()) == CONTENT
    assert seen


def test_events_stand_behind_the_content_in_order(store: Quarantine) -> None:
    kept = keep(store)
    with store.claim(kept.id) as claim:
        claim.note(EVENT)
        claim.note(EVENT)
        assert claim.events() == (EVENT, EVENT)
        assert b"".join(claim.content()) == CONTENT


def test_events_and_states_are_flushed(store: Quarantine) -> None:
    kept = keep(store)
    with store.claim(kept.id) as claim, failing(at=1000) as calls:
        claim.note(EVENT)
        claim.turn(State.RELEASED)
        claim.turn(State.RELEASED)
    assert calls.made == ["write", "fsync", "rename", "fsync"]


@pytest.mark.parametrize("at", range(1, 5))
def test_a_crash_between_any_two_steps_leaves_one_whole_file(store: Quarantine, at: int) -> None:
    kept = keep(store)
    with store.claim(kept.id) as claim, failing(at) as calls, contextlib.suppress(Gone):
        claim.note(EVENT)
        claim.turn(State.RELEASED)
    assert calls.is_over
    with store.open(kept.id) as file:
        assert b"".join(file.content()) == CONTENT
        assert file.name.state is (State.RELEASED if at == 4 else State.HELD)
        assert file.events() == (() if at == 1 else (EVENT,))


def test_what_is_deleted_is_gone(store: Quarantine) -> None:
    kept = keep(store)
    with store.claim(kept.id) as claim:
        claim.delete()
    with pytest.raises(QuarantineFailure, match="no such message"):
        store.claim(kept.id)


def test_a_damaged_message_can_still_be_deleted(store: Quarantine) -> None:
    kept = keep(store)
    Path(kept.path).write_bytes(b"")
    with store.claim(kept.id) as claim:
        claim.delete()
    assert list(store.names()) == []


def test_an_endless_first_line_is_not_read_to_its_end(store: Quarantine) -> None:
    kept = keep(store)
    with Path(kept.path).open("wb") as file:
        file.truncate(1 << 32)
    with store.open(kept.id) as opened, pytest.raises(QuarantineFailure, match="first line cannot be read"):
        _ = opened.stored


def test_a_file_that_took_the_name_before_it_was_locked_is_the_one_that_is_claimed(
    store: Quarantine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locked would be a file that nobody finds any more, and two could have one message."""
    kept = keep(store)
    another = tmp_path / "another"
    another.write_bytes(Path(kept.path).read_bytes())
    real, replaced = fcntl.flock, another.stat().st_ino

    def lock(file: int, how: int) -> None:
        if another.exists():
            another.rename(kept.path)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", lock)

    with store.claim(kept.id) as claim:
        assert os.fstat(claim._file).st_ino == replaced
