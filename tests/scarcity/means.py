"""How scarcity is brought about: limits of a running process, small file systems, a clock that jumps."""

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.doubles.programs import eventually
from tests.pool.daemon import is_gone, status_of


@contextlib.contextmanager
def limited(pid: int, resource: str, soft: int) -> Iterator[None]:
    """Within the block a running process has this soft limit; `resource` is the name that prlimit(1) has."""
    usual = _soft_limit(pid, resource)
    _prlimit(pid, f"--{resource}={soft}:")
    try:
        yield
    finally:
        try:
            _prlimit(pid, f"--{resource}={usual}:")
        except (OSError, subprocess.CalledProcessError):
            if not is_gone(pid):  # as it may have to be for want of what is limited
                raise


def without_descriptors(pid: int, but: int = 0) -> contextlib.AbstractContextManager[None]:
    """Within the block the process can open so many descriptors, and beyond them gets EMFILE."""
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in taken)
    return limited(pid, "nofile", next(itertools.islice(free, but, None)))


def _soft_limit(pid: int, resource: str) -> str:
    return _prlimit(pid, f"--{resource}", "--noheadings", "--raw", "--output=SOFT").strip()


def _prlimit(pid: int, *options: str) -> str:
    """As the account of that process: to be root is not enough where CAP_SYS_RESOURCE is missing."""
    uid, gid = (int(status_of(pid)[name][0]) for name in ("Uid", "Gid"))
    command = ["prlimit", f"--pid={pid}", *options]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, user=uid, group=gid, extra_groups=[]
    ).stdout


@contextlib.contextmanager
def small_file_system(place: Path, kibibytes: int) -> Iterator[Path]:
    """A tmpfs of this size at `place`, which is made; anybody may write there."""
    place.mkdir()
    options = f"size={kibibytes}k,mode=1777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextlib.contextmanager
def filled(place: Path, *, but: int = 0) -> Iterator[None]:
    """Within the block there is no room left in this file system, or only so many pages."""
    padding = place / "padding"
    room = os.statvfs(place)
    with padding.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (room.f_bavail - but) * room.f_bsize)
    try:
        yield
    finally:
        padding.unlink()


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Within the block these processes do not run (SIGSTOP)."""
    stop(pids)
    try:
        yield
    finally:
        go_on(pids)


def stop(pids: Iterable[int]) -> None:
    """Return when they have stopped."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        wait_until_stopped(pid)


def go_on(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def wait_until_stopped(pid: int) -> None:
    eventually(lambda: status_of(pid)["State"][0] == "T", f"process {pid} stopped")


class Jump:
    """Clocks of a daemon that jump: every process of it reads how far from a file.

    The monotonic clock does so where a whole machine stood still, or where nobody wants to wait for a limit;
    the wall clock whenever somebody sets it. `prelude` is for `serving`.
    """

    _PATCH = """
import os, time

def ahead(name, unit, real):
    def read():
        with open("{place}/" + name, "rb") as file:
            return real() + int(file.read() or b"0") * unit
    return read

for name, unit in (("monotonic", 1), ("monotonic_ns", 10**9), ("time", 1), ("time_ns", 10**9)):
    setattr(time, name, ahead(name.removesuffix("_ns"), unit, getattr(time, name)))
"""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._passed = 0
        for name in ("monotonic", "time"):
            (place / name).write_text("0")

    @property
    def prelude(self) -> str:
        return self._PATCH.format(place=self._place)

    def pass_by(self, seconds: int) -> None:
        """So many seconds have passed for all of it, at once."""
        self._passed += seconds
        self._set("monotonic", self._passed)

    def wall(self, seconds: int) -> None:
        """So far ahead of the real one, or behind it, from now on."""
        self._set("time", seconds)

    def _set(self, name: str, seconds: int) -> None:
        draft = self._place / f"{name}.new"
        draft.write_text(str(seconds))
        draft.rename(self._place / name)
