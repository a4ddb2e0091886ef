"""Pid file: says who the master is, and is locked (flock(2)) while that is so; one directory, one master.

The lock ends with the process, however it ends, so a file that was left behind is recognised: it is not
locked, and is used again. It survives exec(2), by `fd`. Children close theirs at once: the lock must not
outlive the master in a worker that still finishes. Where a file system has no locks, a file counts as left
behind when no process has its number, or only one that was born after the file was written.

The directory belongs to the workers' account while the master may be root. So no symbolic link is followed,
and no file that is somebody else's, or that has a second name, is written: that is an OSError. A lock that
somebody holds is a StartFailure, with the pid of who does.
"""

import errno
import fcntl
import os
import stat
import time
from pathlib import Path

from bqfilter.errors import StartFailure
from bqfilter.scoreboard import birth_of

PID_FILE_NAME = "bqfilterd.pid"

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_MAX_BYTES = 32
_CLOCK_SLACK = 2.0  # seconds: a birth is told in ticks, and the clock may have been set a little
_RACES = 10  # with somebody who removes the file at the same moment


class PidFile:
    """The file of a running master, locked by this process; `fd` holds the lock, and children close it."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    @classmethod
    def take(cls, path: Path) -> "PidFile":
        """Lock the file and write our pid into it. Raises OSError, or StartFailure where it is taken."""
        for _ in range(_RACES):
            fd = _opened(path)
            try:
                _lock(fd, path)
                if _is_at(fd, path):
                    _write_pid(fd)
                    return cls(path, fd)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise OSError(errno.EAGAIN, "it is removed again and again", str(path))

    @classmethod
    def inherited(cls, path: Path, fd: int) -> "PidFile":
        """The same file over exec(2). Where another one is wanted now, the old one goes."""
        old = cls(Path(f"/proc/self/fd/{fd}").readlink(), fd)
        if _is_at(fd, path):
            return cls(path, fd)
        new = cls.take(path)
        old.remove()
        return new

    def remove(self) -> None:
        """The master stops. A file that is not ours any more stays. Raises OSError."""
        if _is_at(self.fd, self.path):
            self.path.unlink()
        os.close(self.fd)


def running_pid(path: Path) -> int | None:
    """Who wrote a pid file, if that process still runs."""
    pid = _written_pid(path)
    try:
        written_at = path.lstat().st_mtime
    except OSError:
        return None
    born_at = None if pid is None else _born_at(pid)
    return pid if born_at is not None and born_at <= written_at + _CLOCK_SLACK else None


def _written_pid(path: Path) -> int | None:
    """Of a process that runs, whoever it is. While the file is locked it is the one that holds the lock."""
    try:
        pid = int(path.read_bytes()[:_MAX_BYTES])
    except (OSError, ValueError):
        return None
    return pid if birth_of(pid) else None


def _opened(path: Path) -> int:
    try:
        fd = os.open(path, _FLAGS, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a symbolic link, which is not followed", str(path)) from error
        raise
    trouble = _trouble_with(os.fstat(fd))
    if trouble:
        os.close(fd)
        raise OSError(errno.EPERM, trouble, str(path))
    return fd


def _trouble_with(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_uid != os.geteuid():
        return f"belongs to somebody else (uid {status.st_uid})"
    return "has a second name" if status.st_nlink > 1 else ""


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartFailure(f"is running already, {_named(_written_pid(path))} ({path} is locked)") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        pid = running_pid(path)
        if pid is not None and pid != os.getpid():
            raise StartFailure(f"is running already, {_named(pid)} (by {path})") from None


def _named(pid: int | None) -> str:
    return f"pid {pid}" if pid else "its pid is not known yet"


def _is_at(fd: int, path: Path) -> bool:
    try:
        there, ours = path.lstat(), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _write_pid(fd: int) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)


def _born_at(pid: int) -> float | None:
    """Seconds since the epoch; None where there is no such process."""
    ticks = birth_of(pid)
    if not ticks:
        return None
    booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted_at + ticks / os.sysconf("SC_CLK_TCK")
