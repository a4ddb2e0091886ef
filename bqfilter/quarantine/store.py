"""Quarantine: the directory of kept messages.

`keep` returns when the message is safe: its file has been written, flushed to disk and renamed to its state,
and so has the directory. It raises OSError otherwise, and then leaves nothing behind; a 250 may be based on
its return. A file is

    one line of JSON (see `record`), the content byte for byte, lines about what happened since (`history`)

with mode 0600, in a directory for its day with mode 0700, in one of these states (the end of its name):

    new         being written, or left by a crash while it was: nobody was told that it is kept
    pending     safety copy of a delivery under way, or left by a crash during it: the client was told nothing
    held        kept
    releasing   being released, or left by a crash before the final dot: certainly not delivered by that
    unknown     released, and no reply to the final dot is known: it may have been delivered
    released    delivered to all its recipients

Any number of processes may keep messages at once: nothing is shared but the directory, and no lock is taken.
To change a file takes the lock on it (`claim`).

Files are opened relative to their day's directory, and no link is followed: what somebody else has put there
is not read, and its target never written. Nothing here sends mail, and nothing decides what is to be deleted.
"""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bqfilter.errors import QuarantineFailure
from bqfilter.mail.durable import flush_directory
from bqfilter.quarantine import record as records
from bqfilter.quarantine.claim import Claim, KeptFile, open_file, read_first_line
from bqfilter.quarantine.history import Event, What, instant
from bqfilter.quarantine.letter import Letter
from bqfilter.quarantine.names import Name, State, is_day, is_id, is_prefix, new_id, stamp
from bqfilter.quarantine.record import Record

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS = 5  # at what another process may change between two of our steps


@dataclass(frozen=True, slots=True)
class Kept:
    """A message that is safe now."""

    id: str
    path: str


class Entry(NamedTuple):
    """A kept message, without its content; `stored` is None where the file cannot be read, because `flaw`."""

    name: Name
    stored: records.Stored | None
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class Sized:
    """A file and its size in bytes, all that it holds."""

    name: Name
    size: int


@dataclass(slots=True)
class Usage:
    """How many files there are in a state, and what they take."""

    count: int = 0
    size: int = 0


class Quarantine:
    """The messages in `directory`; to make one of these touches no file."""

    def __init__(self, directory: str | Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = Path(directory)
        self._clock = clock
        self._safe_day = ""  # whose directory's own name is known to be on disk

    @property
    def directory(self) -> Path:
        return self._directory

    def keep(self, record: Record, content: Iterable[bytes], state: State = State.HELD) -> Kept:
        """Make a message safe, as HELD, or as PENDING for a safety copy. Raises OSError."""
        draft = Name(new_id(self._clock()), State.NEW)
        name = draft.turned(state)
        self._keep(draft, name, record, content)
        return Kept(name.id, str(self._directory / name.day / name.file))

    def adopt(self, letter: Letter) -> Name:
        """Have a message that was sent to a mailbox, as HELD, under the identifier that it has had there.

        Where it is here already it stays what it is, with its history. Raises OSError, QuarantineFailure.
        """
        known = self._known(letter)
        if known is None:
            draft = Name(letter.id, State.NEW)
            known = draft.turned(State.HELD)
            try:
                # Whoever has the draft is alone; somebody else may have been so a moment before.
                self._keep(draft, known, letter.record, letter.content(), lambda: self._known(letter) is None)
            except FileExistsError:
                raise QuarantineFailure(f"{letter.id}: another process is at work on it") from None
        return known

    def _known(self, letter: Letter) -> Name | None:
        """The same message, if it is here. Another one of that name has come by no way of ours."""
        if not any(self._beginning_with(letter.id)):
            return None
        with self.open(letter.id) as kept:
            if (kept.stored.record, kept.stored.sha256) != (letter.record, letter.stored.sha256):
                raise QuarantineFailure(f"{letter.id}: there is another message of this identifier")
            return kept.name

    def withdraw(self, identifier: str) -> None:
        """Remove what was kept a moment ago and is not needed. Raises OSError, QuarantineFailure."""
        with self.claim(identifier) as claim:
            claim.delete()

    def delivered(self, identifier: str, recipients: Sequence[bytes], queue_id: str, reply: str) -> None:
        """A safety copy's message has been passed on: hold the copy. Raises OSError, QuarantineFailure."""
        self._hold(identifier, What.DELIVERED, recipients, reply, queue_id)

    def undelivered(self, identifier: str, recipients: Sequence[bytes], reason: str) -> None:
        """It has certainly not been: hold it for somebody to release. Raises OSError, QuarantineFailure."""
        self._hold(identifier, What.FAILED, recipients, reason)

    def claim(self, identifier: str) -> Claim:
        """Have one message for oneself, by its identifier or the beginning of that.

        Raises QuarantineFailure, or OSError where the directory cannot be read.
        """
        for _ in range(_ATTEMPTS):
            name = self.find(identifier)
            with contextlib.suppress(FileNotFoundError):  # turned or deleted meanwhile: look again
                return Claim.take(self._open_day(name.day), name)
        raise QuarantineFailure(f"{identifier}: another process is at work on it")

    def open(self, identifier: str) -> KeptFile:
        """One message, to be read only; found and failing as for `claim`."""
        for _ in range(_ATTEMPTS):
            name = self.find(identifier)
            with contextlib.suppress(FileNotFoundError):
                return KeptFile.read_only(self._open_day(name.day), name)
        raise QuarantineFailure(f"{identifier}: another process is at work on it")

    def find(self, prefix: str) -> Name:
        """The one message whose identifier begins like this. Raises QuarantineFailure, OSError."""
        if not is_prefix(prefix):
            raise QuarantineFailure("that is not how an identifier begins")
        found = list(self._beginning_with(prefix))
        if not found:
            raise QuarantineFailure(f"{prefix}: there is no such message")
        if len({name.id for name in found}) > 1:
            raise QuarantineFailure(f"{prefix}: {len(found)} messages begin like this")
        if len(found) > 1:  # not by our doing: a restored backup, say. Whichever is taken could be wrong
            files = " and ".join(name.file for name in found)
            raise QuarantineFailure(f"{prefix}: there are {files}; move one of them out of the way")
        return found[0]

    def names(self, since: float | None = None, before: float | None = None) -> Iterator[Name]:
        """All files, oldest first; those kept in [since, before). No file is opened. Raises OSError."""
        first, last = ("" if at is None else stamp(at) for at in (since, before))
        for day in self._days():
            if day < first[:8] or (last and day > last[:8]):
                continue
            for name in self._names_of(day):
                if name.id >= first and (not last or name.id < last):
                    yield name

    def entries(
        self, states: Collection[State] = (), since: float | None = None, before: float | None = None
    ) -> Iterator[Entry]:
        """The same with what their first lines say. Without `states` all but NEW."""
        return self.entries_of(self.names(since, before), states)

    def entries_of(self, names: Iterable[Name], states: Collection[State] = ()) -> Iterator[Entry]:
        """What the first lines of these files say, as far as they are in these states; one read a file."""
        day, opened = "", -1
        try:
            for name in names:
                if not _is_wanted(name.state, states):
                    continue
                if name.day != day:
                    opened, day = self._reopened(opened, name.day), name.day
                entry = None if opened < 0 else _entry(opened, name) or _turned_entry(opened, name, states)
                if entry is not None:
                    yield entry
        finally:
            if opened >= 0:
                os.close(opened)

    def sizes(self) -> Iterator[Sized]:
        """All files with their sizes, oldest first. Raises OSError."""
        for day in self._days():
            with self._scanned(day) as found:
                sized = [one for one in map(_sized, found) if one is not None and one.name.day == day]
            yield from sorted(sized, key=lambda one: one.name.id)

    def usage(self) -> dict[State, Usage]:
        """What there is in each state: one stat a file, so for once a minute and not for every scrape."""
        found = {state: Usage() for state in State}
        for sized in self.sizes():
            found[sized.name.state].count += 1
            found[sized.name.state].size += sized.size
        return found

    def discard_draft(self, name: Name) -> None:
        """Remove what a crash has left half-written. Raises OSError."""
        if name.state is not State.NEW:
            raise ValueError(f"{name.file} is no draft")
        opened = self._open_day(name.day)
        try:
            os.unlink(name.file, dir_fd=opened)
        finally:
            os.close(opened)

    def tidy(self) -> None:
        """Remove the directories of past days that are empty. One in which `keep` is at work is not."""
        today = stamp(self._clock())[:8]
        for day in self._days():
            if day < today:
                with contextlib.suppress(OSError):  # not empty, or somebody else was faster
                    (self._directory / day).rmdir()

    def _keep(
        self,
        draft: Name,
        name: Name,
        record: Record,
        content: Iterable[bytes],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Write it and give it its name; `is_wanted` is asked when the draft is there. Raises OSError."""
        with contextlib.ExitStack() as opened:
            day, file = self._create(draft)
            opened.callback(os.close, day)
            try:
                _write(file, draft.id, record, content)
                if not is_wanted():
                    raise FileExistsError(name.file)
                os.rename(draft.file, name.file, src_dir_fd=day, dst_dir_fd=day)
                self._make_durable(day, name.day)
            except FileExistsError:
                _remove(day, draft)  # and not what somebody else has put there
                raise
            except BaseException:
                _remove(day, draft, name)
                raise

    def _hold(
        self, identifier: str, what: What, recipients: Sequence[bytes], text: str, queue_id: str = ""
    ) -> None:
        with self.claim(identifier) as claim:
            claim.note(
                Event(
                    what=what, at=instant(self._clock()), by="bqfilterd", recipients=tuple(recipients),
                    queue_id=queue_id, text=text,
                )
            )  # fmt: skip
            claim.turn(State.HELD)

    def _days(self) -> list[str]:
        """A directory that is not there yet has none."""
        try:
            with os.scandir(self._directory) as found:
                return sorted(one.name for one in found if is_day(one.name))
        except FileNotFoundError:
            return []

    def _names_of(self, day: str) -> list[Name]:
        with self._scanned(day) as found:
            files = sorted(one.name for one in found)
        return [name for name in map(Name.parse, files) if name is not None and name.day == day]

    def _beginning_with(self, prefix: str) -> Iterator[Name]:
        """All files but drafts; where the identifier is whole, without a look at the others."""
        if is_id(prefix):
            names = [Name(prefix, state) for state in State]
            yield from (name for name in names if name.state is not State.NEW and self._is_there(name))
            return
        for day in self._days():
            if day.startswith(prefix[:8]):
                names = self._names_of(day)
                yield from (one for one in names if one.id.startswith(prefix) and one.state is not State.NEW)

    def _is_there(self, name: Name) -> bool:
        return os.path.lexists(self._directory / name.day / name.file)

    @contextlib.contextmanager
    def _scanned(self, day: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        """What is in a day's directory; nothing where it was tidied up meanwhile, or is no directory."""
        try:
            opened = self._open_day(day)
        except (FileNotFoundError, NotADirectoryError):
            yield iter(())
            return
        try:
            with os.scandir(opened) as found:
                yield found
        finally:
            os.close(opened)

    def _create(self, draft: Name) -> tuple[int, int]:
        """The draft, open for writing, and its directory, which may be tidied away while it is empty."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._make_day(draft.day)
                return self._create_in(self._open_day(draft.day), draft)
            except FileNotFoundError:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _create_in(self, day: int, draft: Name) -> tuple[int, int]:
        try:
            return day, os.open(draft.file, _CREATE, _FILE_MODE, dir_fd=day)
        except BaseException:
            os.close(day)
            raise

    def _make_day(self, day: str) -> None:
        try:
            (self._directory / day).mkdir(_DIRECTORY_MODE)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_directory()
            (self._directory / day).mkdir(_DIRECTORY_MODE, exist_ok=True)
        self._safe_day = ""

    def _make_directory(self) -> None:
        """The last part of its path only: what is above is the operator's, a mount point perhaps."""
        self._directory.mkdir(_DIRECTORY_MODE, exist_ok=True)
        flush_directory(self._directory.parent)

    def _open_day(self, day: str) -> int:
        return os.open(self._directory / day, _OPEN_DIRECTORY)

    def _reopened(self, opened: int, day: str) -> int:
        if opened >= 0:
            os.close(opened)
        try:
            return self._open_day(day)
        except FileNotFoundError:
            return -1

    def _make_durable(self, opened_day: int, day: str) -> None:
        """The file's name, and once a day the name of the directory that it is in."""
        os.fsync(opened_day)
        if self._safe_day != day:
            flush_directory(self._directory)
            self._safe_day = day


def _write(file: int, identifier: str, record: Record, content: Iterable[bytes]) -> None:
    """The whole file, flushed and closed. The first line comes last: it tells the size."""
    try:
        digest, size = hashlib.sha256(), 0
        content_at = len(records.encode(record, identifier, 0, digest.hexdigest()))
        _write_all(file, b"\n".rjust(content_at))
        for piece in content:
            digest.update(piece)
            size += len(piece)
            _write_all(file, piece)
        os.lseek(file, 0, os.SEEK_SET)
        _write_all(file, records.encode(record, identifier, size, digest.hexdigest()))
        os.fsync(file)
    finally:
        os.close(file)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _remove(day: int, *names: Name) -> None:
    """Whichever of these is there. There is an error to be told already: a second one would hide it."""
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(name.file, dir_fd=day)


def _is_wanted(state: State, states: Collection[State]) -> bool:
    return state in states if states else state is not State.NEW


def _turned_entry(day: int, name: Name, states: Collection[State]) -> Entry | None:
    """A message whose state was changed between the listing and now is not left out."""
    wanted = (name.turned(state) for state in State if _is_wanted(state, states))
    return next((entry for turned in wanted if (entry := _entry(day, turned))), None)


def _entry(day: int, name: Name) -> Entry | None:
    """None for a file that was turned or deleted meanwhile."""
    try:
        file = open_file(day, name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except QuarantineFailure as failure:
        return Entry(name, None, failure.cause)
    try:
        return Entry(name, read_first_line(file, name))
    except QuarantineFailure as failure:
        return Entry(name, None, failure.cause)
    finally:
        os.close(file)


def _sized(found: os.DirEntry[str]) -> Sized | None:
    name = Name.parse(found.name)
    if name is None:
        return None
    try:
        status = found.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return Sized(name, status.st_size) if stat.S_ISREG(status.st_mode) else None
