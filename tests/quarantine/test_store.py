"""The store keeps its word: what `keep` returned for is safe, what it did not return for is not there."""

import dataclasses
import errno
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import QuarantineFailure
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited
from bqfilter.quarantine import Quarantine, State
from bqfilter.quarantine.history import Event, What
from bqfilter.quarantine.letter import Letter, edits, read
from bqfilter.quarantine.names import Name, stamp
from tests.doubles.faults import Gone, failing
from tests.doubles.kept import CONTENT, keep, record

NOW = 1_764_077_243.0
DAY = "20251125"
DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def store(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine", lambda: NOW)


def files(store: Quarantine) -> list[Path]:
    return sorted(path for path in store.directory.rglob("*") if not path.is_dir())


def states(store: Quarantine) -> list[State]:
    return [name.state for name in store.names()]


def content(store: Quarantine, identifier: str) -> bytes:
    with store.open(identifier) as kept:
        return b"".join(kept.content())


def test_making_one_touches_no_file(tmp_path: Path) -> None:
    Quarantine(tmp_path / "quarantine")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_empty(store: Quarantine) -> None:
    assert list(store.names()) == []
    assert list(store.entries()) == []
    assert store.usage()[State.HELD].count == 0


def test_what_was_kept_is_there_byte_for_byte(store: Quarantine) -> None:
    kept = store.keep(record(), [CONTENT[:10], b"", CONTENT[10:]])
    with store.open(kept.id) as file:
        assert file.stored.record == record()
        assert file.stored.size == len(CONTENT)
        assert b"".join(file.content()) == CONTENT
        assert file.name.state is State.HELD
        assert str(store.directory / DAY / file.name.file) == kept.path


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_content_comes_back(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    store = Quarantine(tmp_path_factory.mktemp("quarantine"))
    assert content(store, store.keep(record(), pieces).id) == b"".join(pieces)


def test_a_file_can_be_taken_apart_with_tail_and_head(store: Quarantine) -> None:
    kept = keep(store)
    with store.claim(kept.id) as claim:
        claim.note(Event(what=What.FAILED, at="now"))
    command = f"tail -n +2 {kept.path} | head -c {len(CONTENT)}"
    done = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert done.stdout == CONTENT


def test_content_is_written_while_it_is_read(store: Quarantine) -> None:
    """A large message is never in memory as a whole."""
    sizes = []

    def pieces() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * 100_000
            sizes.append(files(store)[0].stat().st_size)

    keep_of = store.keep(record(), pieces())
    assert sizes == sorted(set(sizes))
    assert content(store, keep_of.id) == b"x" * 300_000


def test_the_order_is_write_flush_rename_flush(store: Quarantine) -> None:
    """Nothing is called kept before it would survive a power cut: not the file, not its name."""
    keep(store)  # from the second on the directories are there and known to be on disk
    with failing(at=1000) as calls:
        keep(store)
    assert calls.made[0] == "mkdir"  # "it exists"
    assert [name for name in calls.made if name in ("fsync", "rename")] == ["fsync", "rename", "fsync"]
    assert calls.made.index("fsync") > max(at for at, name in enumerate(calls.made) if name == "write")


def test_the_names_of_new_directories_are_flushed_as_well(store: Quarantine) -> None:
    with failing(at=1000) as calls:
        keep(store)
    assert calls.made.count("fsync") == 4  # the parent, the file, its day, and the name of the day


def test_a_directory_that_another_process_made_is_flushed_as_well(store: Quarantine) -> None:
    """It may have died before it did so itself."""
    keep(Quarantine(store.directory, lambda: NOW))
    with failing(at=1000) as calls:
        keep(store)
    assert calls.made.count("fsync") == 3


def crash_points() -> int:
    """How many calls it takes to keep a message in a new directory."""
    return 16


@pytest.mark.parametrize("at", range(1, crash_points() + 1))
def test_a_crash_anywhere_while_keeping_leaves_a_draft_or_the_whole_message(
    store: Quarantine, at: int
) -> None:
    with failing(at) as calls:
        try:
            keep(store)
        except Gone:
            assert calls.is_over
    for name in store.names():
        if name.state is not State.NEW:
            assert content(store, name.id) == CONTENT
    assert len(files(store)) <= 1


def test_the_crash_points_are_all_there_are(store: Quarantine) -> None:
    with failing(at=crash_points() + 1) as calls:
        keep(store)
    assert not calls.is_over
    assert crash_points() - len(calls.made) in range(3)


@pytest.mark.parametrize("at", range(1, crash_points() + 1))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failure_anywhere_is_told_and_leaves_nothing_behind(store: Quarantine, at: int, code: int) -> None:
    with failing(at, OSError(code, os.strerror(code))) as calls:
        result = errno_of(lambda: keep(store))
    assert result == (code if calls.is_over else None)
    assert len(files(store)) == (0 if calls.is_over else 1)


def errno_of(work: Callable[[], object]) -> int | None:
    try:
        work()
    except OSError as error:
        return error.errno
    return None


def test_no_descriptor_is_left_open(store: Quarantine) -> None:
    keep(store)
    before = list(DESCRIPTORS.iterdir())
    for at in range(1, crash_points()):
        with failing(at, OSError(errno.EIO, "x")), pytest.raises(OSError, match="x"):
            Quarantine(store.directory.parent / f"other{at}", lambda: NOW).keep(record(), [CONTENT])
    list(store.entries())
    with store.claim(next(store.names()).id), store.open(next(store.names()).id):
        pass
    assert len(list(DESCRIPTORS.iterdir())) == len(before)


def test_content_that_cannot_be_read_leaves_nothing_behind(store: Quarantine) -> None:
    def broken() -> Iterator[bytes]:
        yield CONTENT
        raise OSError(errno.EIO, "spool file is shorter")

    with pytest.raises(OSError, match="shorter"):
        store.keep(record(), broken())
    assert files(store) == []


def test_a_short_write_is_continued(store: Quarantine) -> None:
    real = os.write
    with mock.patch("os.write", lambda fd, data: real(fd, bytes(data)[:7])):
        kept = keep(store)
    assert content(store, kept.id) == CONTENT


@contextmanager
def little_room(directory: Path) -> Iterator[None]:
    """A file system of 64 KiB; where none may be mounted, a limit of that size for each file."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)]
    may_mount = os.geteuid() == 0 and shutil.which("mount") is not None
    if may_mount and subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", str(directory)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_file_system_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with little_room(tmp_path):
        store = Quarantine(tmp_path)
        assert errno_of(lambda: store.keep(record(), [b"x" * 10_000] * 100)) in (errno.ENOSPC, errno.EFBIG)
        assert files(store) == []
        assert content(store, keep(store).id) == CONTENT


def test_nobody_else_may_read_what_is_kept(store: Quarantine) -> None:
    before = os.umask(0)
    try:
        kept = Path(keep(store).path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700


def test_only_the_last_part_of_the_path_is_made(tmp_path: Path) -> None:
    """A file system that is not mounted must not be replaced by a directory below it."""
    with pytest.raises(FileNotFoundError, match="not/there"):
        keep(Quarantine(tmp_path / "not" / "there"))


def test_a_day_that_is_a_link_is_refused(store: Quarantine, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    store.directory.mkdir()
    (store.directory / DAY).symlink_to(target)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        keep(store)
    assert list(target.iterdir()) == []
    assert list(store.names()) == []
    assert list(store.sizes()) == []


def planted(store: Quarantine, kind: str, target: Path) -> Name:
    """What somebody else has put where a kept file would be."""
    kept = keep(store)
    name, path = store.find(kept.id), Path(kept.path)
    path.rename(target)
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "hard link":
        path.hardlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    return name


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "directory"])
def test_what_is_no_plain_file_is_neither_read_nor_changed(
    store: Quarantine, tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "target"
    name = planted(store, kind, target)
    before = target.read_bytes()
    for take in (store.claim, store.open):
        with pytest.raises(QuarantineFailure, match=r"none of ours|cannot be opened"), take(name.id) as kept:
            b"".join(kept.content())
    (entry,) = store.entries()
    assert entry.stored is None
    assert entry.flaw
    assert target.read_bytes() == before


def test_other_files_are_passed_over(store: Quarantine) -> None:
    keep(store)
    (store.directory / "lost+found").mkdir()
    (store.directory / "README").write_text("hello")
    (store.directory / DAY / "core").write_text("dumped")
    (store.directory / DAY / "20200101-000000-000000-000000000000.held").write_text("of another day")
    assert len(list(store.names())) == len(list(store.sizes())) == len(list(store.entries())) == 1


def test_a_safety_copy_is_withdrawn_without_a_trace(store: Quarantine) -> None:
    kept = keep(store, state=State.PENDING)
    assert states(store) == [State.PENDING]
    with failing(at=1000) as calls:
        store.withdraw(kept.id)
    assert calls.made[-2:] == ["unlink", "fsync"]
    assert files(store) == []


def test_a_safety_copy_is_held_when_its_delivery_went_well(store: Quarantine) -> None:
    kept = keep(store, state=State.PENDING)
    store.delivered(kept.id, [b"b@example.org"], "4Q1", "250 2.0.0 Ok")
    with store.open(kept.id) as file:
        assert file.name.state is State.HELD
        (event,) = file.events()
    assert (event.what, event.queue_id, event.by) == (What.DELIVERED, "4Q1", "bqfilterd")


def test_a_safety_copy_is_held_with_the_reason_when_it_did_not(store: Quarantine) -> None:
    kept = keep(store, state=State.PENDING)
    store.undelivered(kept.id, [b"b@example.org"], "after-filter server unavailable")
    with store.open(kept.id) as file:
        assert file.name.state is State.HELD
        (event,) = file.events()
    assert (event.what, event.text) == (What.FAILED, "after-filter server unavailable")


def test_what_is_not_there_cannot_be_withdrawn(store: Quarantine) -> None:
    with pytest.raises(QuarantineFailure, match="no such message"):
        store.withdraw("20251125-132723-482913-9f3ac41e77b1")


def test_a_message_is_found_by_the_beginning_of_its_identifier(store: Quarantine) -> None:
    first, second = keep(store), keep(Quarantine(store.directory, lambda: NOW + 86400))
    assert store.find(first.id).id == first.id
    assert store.find(first.id[:-1]).id == first.id
    assert store.find("20251126").id == second.id
    with pytest.raises(QuarantineFailure, match="2 messages begin like this"):
        store.find("2025")
    with pytest.raises(QuarantineFailure, match="no such message"):
        store.find("2024")
    with pytest.raises(QuarantineFailure, match="not how an identifier begins"):
        store.find("../20251125")


def test_one_message_in_two_states_is_not_guessed_at(store: Quarantine) -> None:
    """A backup was restored beside what has been released since: to take either could deliver it twice."""
    kept = Path(keep(store).path)
    kept.with_suffix(".released").write_bytes(kept.read_bytes())
    with pytest.raises(QuarantineFailure, match=r"\.held and .*\.released; move one"):
        store.claim(kept.stem)


def test_a_draft_is_nobodys_message(store: Quarantine) -> None:
    with failing(at=9), pytest.raises(Gone):
        keep(store)
    (draft,) = store.names()
    assert draft.state is State.NEW
    assert list(store.entries()) == []
    with pytest.raises(QuarantineFailure, match="no such message"):
        store.find(draft.id)
    store.discard_draft(draft)
    assert files(store) == []


def test_only_a_draft_is_discarded_as_one(store: Quarantine) -> None:
    name = store.find(keep(store).id)
    with pytest.raises(ValueError, match="is no draft"):
        store.discard_draft(name)


def test_entries_come_by_age_and_by_what_their_names_say(store: Quarantine) -> None:
    for age in (0, 3600, 86400, 3 * 86400):
        keep(Quarantine(store.directory, lambda age=age: NOW - age))
    keep(store, state=State.PENDING)
    identifiers = [entry.name.id for entry in store.entries()]
    assert identifiers == sorted(identifiers)
    assert len(identifiers) == 5
    assert len(list(store.entries([State.PENDING]))) == 1
    assert len(list(store.names(since=NOW - 86400))) == 4
    assert len(list(store.names(before=NOW - 86400))) == 1
    assert len(list(store.names(since=NOW - 3600, before=NOW))) == 1


def test_a_damaged_file_is_listed_and_said_to_be_damaged(store: Quarantine) -> None:
    Path(keep(store).path).write_bytes(b"not ours\n")
    (entry,) = store.entries()
    assert entry.stored is None
    assert "first line cannot be read" in entry.flaw


def test_damaged_content_is_noticed(store: Quarantine) -> None:
    path = Path(keep(store).path)
    path.write_bytes(path.read_bytes().replace(b"Hello", b"Hallo"))
    with pytest.raises(QuarantineFailure, match="damaged"):
        content(store, path.stem)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(QuarantineFailure, match="damaged"):
        content(store, path.stem)


def test_a_message_that_changes_while_it_is_listed_is_listed(
    store: Quarantine, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store)
    gone = Name("20200101-000000-000000-000000000000", State.HELD)
    listed = [gone, *store.names()]
    with store.claim(listed[1].id) as claim:
        claim.turn(State.RELEASED)
    monkeypatch.setattr(store, "names", lambda *_: iter(listed))
    assert [entry.name for entry in store.entries()] == [listed[1].turned(State.RELEASED)]
    assert list(store.entries([State.HELD])) == []


def test_usage_counts_files_and_bytes_by_state(store: Quarantine) -> None:
    paths = [Path(keep(store).path) for _ in range(3)]
    keep(store, state=State.PENDING)
    found = store.usage()
    assert (found[State.HELD].count, found[State.PENDING].count, found[State.NEW].count) == (3, 1, 0)
    assert found[State.HELD].size == sum(path.stat().st_size for path in paths)


def test_to_list_takes_three_calls_a_message_and_two_a_day(store: Quarantine) -> None:
    """How long 100,000 take is measured in benchmarks/quarantine.py; what they cost is counted here."""
    for age in range(4):
        for _ in range(25):
            keep(Quarantine(store.directory, lambda age=age: NOW - age * 86400))
    calls: list[str] = []

    def counted(name: str) -> None:
        real = getattr(os, name)
        patches.append(mock.patch.object(os, name, lambda *a, **k: calls.append(name) or real(*a, **k)))

    patches: list[mock._patch[object]] = []
    for name in ("open", "pread", "read", "stat", "fstat", "scandir"):
        counted(name)
    for patch in patches:
        patch.start()
    try:
        assert len(list(store.entries())) == 100
    finally:
        for patch in patches:
            patch.stop()
    assert calls.count("pread") == calls.count("fstat") == 100
    assert calls.count("open") == 100 + 2 * 4  # each day to list it and to open its files
    assert calls.count("scandir") == 1 + 4
    assert "read" not in calls


def test_what_time_and_state_rule_out_is_not_opened(store: Quarantine) -> None:
    keep(Quarantine(store.directory, lambda: NOW - 86400))
    keep(store)
    keep(store, state=State.PENDING)
    with failing(at=1000) as calls:
        assert len(list(store.entries([State.PENDING], since=NOW - 3600))) == 1
    assert calls.made == ["open"] * 3  # the day to list it, the day again, and the one message


def test_to_count_opens_no_message(store: Quarantine) -> None:
    for _ in range(20):
        keep(store)
    with failing(at=1000) as calls:
        store.usage()
    assert calls.made == ["open"]


def test_a_long_list_of_recipients_is_read_whole(store: Quarantine) -> None:
    recipients = [b"%d-%b@example.org" % (number, b"x" * 50) for number in range(2000)]
    keep(store, *recipients)
    (entry,) = store.entries()
    assert entry.stored is not None
    assert [one.address for one in entry.stored.record.recipients] == recipients


def test_many_processes_keep_at_once_without_a_lock(store: Quarantine) -> None:
    program = (
        "import sys; from bqfilter.quarantine import Quarantine; from tests.doubles.kept import keep\n"
        "store = Quarantine(sys.argv[1])\n"
        "for _ in range(25): keep(store)\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", program, str(store.directory)]
    writers = [subprocess.Popen(command, cwd=root) for _ in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    entries = list(store.entries())
    assert len(entries) == 100
    assert {content(store, entry.name.id) for entry in entries} == {CONTENT}


def test_a_process_killed_while_it_keeps_has_lost_nothing_that_it_told_about(store: Quarantine) -> None:
    program = (
        "import sys; from bqfilter.quarantine import Quarantine; from tests.doubles.kept import keep\n"
        "store = Quarantine(sys.argv[1])\n"
        "while True: print(keep(store).id, flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(store.directory)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline().strip() for _ in range(50)]
        writer.kill()
        told += writer.stdout.read().split("\n")[:-1]
    assert {content(store, identifier) for identifier in told} == {CONTENT}
    whole = [name for name in store.names() if name.state is not State.NEW]
    assert {content(store, name.id) for name in whole} == {CONTENT}
    assert len(list(store.names())) - len(told) in (0, 1)


def test_a_directory_that_is_tidied_away_before_its_first_file_is_made_again(tmp_path: Path) -> None:
    """It is the one of a past day, because midnight has come in between."""
    store = Quarantine(tmp_path, lambda: NOW)
    tomorrow = Quarantine(tmp_path, lambda: NOW + 86400)
    real, opened = os.open, []

    def tidied(path: str | Path, flags: int, *mode: int, **others: int) -> int:
        opened.append(path)
        if len(opened) in (1, 3):  # before the directory is opened, and then before the draft is made in it
            tomorrow.tidy()
        return real(path, flags, *mode, **others)

    with mock.patch("os.open", tidied):
        kept = keep(store)
    assert len(opened) > 3
    assert content(store, kept.id) == CONTENT
    tomorrow.withdraw(kept.id)
    tomorrow.tidy()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_always_tidied_away_is_told(tmp_path: Path) -> None:
    real = os.open

    def tidied(path: str | Path, flags: int, *mode: int, **others: int) -> int:
        Quarantine(tmp_path, lambda: NOW + 86400).tidy()
        return real(path, flags, *mode, **others)

    with mock.patch("os.open", tidied), pytest.raises(FileNotFoundError, match=r"No such file"):
        keep(Quarantine(tmp_path, lambda: NOW))


def test_the_directory_of_today_stays(store: Quarantine) -> None:
    store.withdraw(keep(store).id)
    store.tidy()
    assert [path.name for path in store.directory.iterdir()] == [stamp(NOW)[:8]]


def letter(identifier: str, *recipients: bytes, content: bytes = CONTENT, reason: str = "odd") -> Letter:
    """What another host has sent to a mailbox, and a file has."""
    message = Message.in_memory(content)
    added = edits(message, record(*recipients, reason=reason), identifier)
    sent = b"".join(Edited(message, added, None, is_small=True).cleaned())
    return read(Message.in_memory(sent))


ELSEWHERE = "20251124-080000-000000-0123456789ab"


def test_a_message_of_another_host_is_adopted_once_under_its_own_name(store: Quarantine) -> None:
    name = store.adopt(letter(ELSEWHERE))
    assert (name.id, name.state) == (ELSEWHERE, State.HELD)
    assert content(store, ELSEWHERE) == CONTENT
    with store.claim(ELSEWHERE) as claim:
        claim.turn(State.RELEASED)

    assert store.adopt(letter(ELSEWHERE)).state is State.RELEASED
    assert states(store) == [State.RELEASED]


@pytest.mark.parametrize("reason", ["x" * 499 + " y", "a\x07b", "x" * 2000], ids=["cut", "cleaned", "long"])
def test_a_message_with_texts_that_are_cut_is_known_again(store: Quarantine, reason: str) -> None:
    for _ in range(2):
        store.adopt(letter(ELSEWHERE, reason=reason))
    assert states(store) == [State.HELD]


def test_another_message_under_the_same_name_is_refused(store: Quarantine) -> None:
    store.adopt(letter(ELSEWHERE, b"b@y"))
    for other in (letter(ELSEWHERE, b"king@y"), letter(ELSEWHERE, b"b@y", content=b"Subject: y\r\n\r\n")):
        with pytest.raises(QuarantineFailure, match="there is another message of this identifier"):
            store.adopt(other)
    assert content(store, ELSEWHERE) == CONTENT


def test_what_is_not_whole_is_not_adopted(store: Quarantine) -> None:
    whole = letter(ELSEWHERE)
    changed = dataclasses.replace(whole, message=Message.in_memory(b"Subject: x\r\n\r\nsomething else\r\n"))
    with pytest.raises(QuarantineFailure, match="its body is not what was kept"):
        store.adopt(changed)
    assert files(store) == []


def test_of_two_that_adopt_at_the_same_time_one_does(store: Quarantine) -> None:
    """The other comes when the draft is there already, or has just got its name."""
    draft = store.directory / ELSEWHERE[:8] / f"{ELSEWHERE}.new"
    draft.parent.mkdir(parents=True)
    draft.touch()
    with pytest.raises(QuarantineFailure, match="another process is at work on it"):
        store.adopt(letter(ELSEWHERE))
    assert files(store) == [draft]
    draft.unlink()

    late = letter(ELSEWHERE)
    known = [None, Name(ELSEWHERE, State.RELEASED)]
    with (
        mock.patch.object(Quarantine, "_known", side_effect=known),
        pytest.raises(QuarantineFailure, match="another process is at work on it"),
    ):
        store.adopt(late)
    assert files(store) == []
