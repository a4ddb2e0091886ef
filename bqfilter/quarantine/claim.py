"""One kept message: a KeptFile to be read, a Claim to be changed as well, by nobody else at the same time.

A claim is a flock(2) on the file, which ends with its process however that ends. So a file in the state
`releasing` that can be claimed was left by a crash. Every change is on disk before the call returns: first an
event behind the content, then the state, by rename.

A claim is a context manager; leaving it closes the file and changes nothing.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from functools import cached_property
from typing import Self

from bqfilter.errors import QuarantineFailure
from bqfilter.quarantine import history
from bqfilter.quarantine import record as records
from bqfilter.quarantine.history import Event
from bqfilter.quarantine.names import Name, State

_PIECE_BYTES = 65536
_LINE_BYTES = 4096  # nearly every first line is within one read of these
_MAX_LINE_BYTES = 64 * 1024 * 1024  # a thousand recipients with lines of six KiB, tenfold
_MAX_HISTORY_BYTES = 1024 * 1024  # of which the end is read; nobody releases a message so often


class KeptFile:
    """An open file of the quarantine; a context manager. It owns both descriptors."""

    def __init__(self, day: int, file: int, name: Name) -> None:
        self._day = day
        self._file = file
        self.name = name

    @cached_property
    def stored(self) -> records.Stored:
        """What its first line tells. Raises QuarantineFailure."""
        return read_first_line(self._file, self.name)

    @classmethod
    def read_only(cls, day: int, name: Name) -> Self:
        """Open it. Takes the day's descriptor over. Raises FileNotFoundError, QuarantineFailure."""
        try:
            return cls(day, open_file(day, name, os.O_RDONLY), name)
        except BaseException:
            os.close(day)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        os.close(self._day)

    def content(self) -> Iterator[bytes]:
        """The message, byte for byte. Raises QuarantineFailure at its end where it is not what was kept."""
        digest = hashlib.sha256()
        at, left = self.stored.content_at, self.stored.size
        while left and (piece := self._read(min(left, _PIECE_BYTES), at)):
            digest.update(piece)
            at, left = at + len(piece), left - len(piece)
            yield piece
        if left or digest.hexdigest() != self.stored.sha256:
            raise QuarantineFailure(f"{self.name.id}: the file is damaged: its content is not what was kept")

    def events(self) -> tuple[Event, ...]:
        """What happened to it, in order."""
        start = self.stored.content_at + self.stored.size
        start = max(start, os.fstat(self._file).st_size - _MAX_HISTORY_BYTES)
        return history.decode(self._read(_MAX_HISTORY_BYTES, start))

    def _read(self, count: int, at: int) -> bytes:
        return os.pread(self._file, count, at)


class Claim(KeptFile):
    """A kept message that this process alone may change."""

    @classmethod
    def take(cls, day: int, name: Name) -> Self:
        """Open and lock it. Takes the day's descriptor over. Raises FileNotFoundError, QuarantineFailure."""
        try:
            file = open_file(day, name, os.O_RDWR)
        except BaseException:
            os.close(day)
            raise
        claim = cls(day, file, name)
        try:
            _lock(day, file, name)
        except BaseException:
            claim.__exit__()
            raise
        return claim

    def note(self, event: Event) -> None:
        """Write an event behind all others. Raises OSError."""
        os.lseek(self._file, 0, os.SEEK_END)
        rest = memoryview(history.encode(event))
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fsync(self._file)

    def turn(self, state: State) -> None:
        """Change the state. Raises OSError."""
        if state is self.name.state:
            return
        name = self.name.turned(state)
        os.rename(self.name.file, name.file, src_dir_fd=self._day, dst_dir_fd=self._day)
        self.name = name
        os.fsync(self._day)

    def delete(self) -> None:
        """Remove it. Raises OSError."""
        os.unlink(self.name.file, dir_fd=self._day)
        os.fsync(self._day)


def open_file(day: int, name: Name, flags: int) -> int:
    """A plain file with this one name, and nothing else. Raises FileNotFoundError, QuarantineFailure."""
    try:
        file = os.open(name.file, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=day)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise QuarantineFailure(f"{name.id}: cannot be opened: {error.strerror}") from error
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(file)
        raise QuarantineFailure(f"{name.id}: is no plain file of its own: none of ours")
    return file


def read_first_line(file: int, name: Name) -> records.Stored:
    """What the file tells about itself. Raises QuarantineFailure."""
    head = os.pread(file, _LINE_BYTES, 0)
    if b"\n" not in head:
        head = _read_on(file, head)
    line, end, _ = head.partition(b"\n")
    try:
        return records.decode(line + end, name.id)
    except QuarantineFailure as failure:
        raise QuarantineFailure(f"{name.id}: {failure.cause}") from None


def _read_on(file: int, head: bytes) -> bytes:
    """As far as the line goes; each byte is looked at once."""
    found = bytearray(head)
    while len(found) < _MAX_LINE_BYTES and (more := os.pread(file, 16 * _LINE_BYTES, len(found))):
        found += more
        if b"\n" in more:
            break
    return bytes(found)


def _lock(day: int, file: int, name: Name) -> None:
    """Have the file, and see that it still has the name by which it was found."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise QuarantineFailure(f"{name.id}: another process is at work on it") from None
    ours, found = os.fstat(file), os.stat(name.file, dir_fd=day, follow_symlinks=False)
    if (ours.st_dev, ours.st_ino) != (found.st_dev, found.st_ino):
        raise FileNotFoundError(name.file)
