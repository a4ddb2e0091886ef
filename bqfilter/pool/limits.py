"""Limits: what the system lets the daemon have, compared with what the configuration may need.

Each shortage names the limit, what it is, what may be needed, and how it is raised: for systemd and for a
shell. Needs are estimates for the worst hour: every worker busy, each with the largest message. What cannot
be read counts as no limit; nothing here keeps a daemon from starting.

Limits belong to a process: `bqfilterd check` sees those of the shell that it is run from.
"""

import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bqfilter.config import Settings

_FDS_OF_A_WORKER = 32  # standard streams, pipes, memory, client, after-filter server, spool, a library's own
_FDS_OF_A_SCANNER = 4  # a program has three pipes and a descriptor for its end
_PROCESSES_BESIDES = 8  # master, exporter, a rehearsal or trial, and some room
_BYTES_OF_A_WORKER = 8 << 20  # that no other process shares, without filters of the site
_LARGEST_MESSAGE = 10_240_000  # bytes: Postfix's message_size_limit where nobody has set it
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Shortage:
    """One limit that is too low."""

    limit: str
    found: str
    needed: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.limit} is {self.found}, and {self.needed} may be needed: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Host:
    """Where limits are read."""

    root: Path = Path("/")
    soft_limit: Callable[[int], int] = lambda kind: resource.getrlimit(kind)[0]

    def number(self, path: str) -> int | None:
        """The first number in a file; None where there is none, as with "max"."""
        try:
            return int((self.root / path).read_text(encoding="utf-8").split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def groups(self) -> Iterator[str]:
        """The control group of this process, and those around it."""
        try:
            text = (self.root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        place = next((line[3:] for line in text.splitlines() if line.startswith("0::/")), None)
        while place:
            yield f"sys/fs/cgroup{place.rstrip('/')}"
            place = place.rstrip("/").rpartition("/")[0]

    def memory_left(self) -> int | None:
        """Bytes that can still be had: of the machine, and of each control group."""
        left = [self._memory_available()]
        for group in self.groups():
            limit, used = self.number(f"{group}/memory.max"), self.number(f"{group}/memory.current")
            left.append(None if limit is None else max(limit - (used or 0), 0))
        return min((bytes_left for bytes_left in left if bytes_left is not None), default=None)

    def _memory_available(self) -> int | None:
        try:
            lines = (self.root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
        return int(found[0]) * 1024 if found else None


def shortages(settings: Settings, host: Host | None = None) -> Iterator[Shortage]:
    """Everything that is too low for these settings."""
    host = host or Host()
    yield from _descriptors(settings, host)
    yield from _processes(settings, host)
    yield from _tasks(settings, host)
    yield from _backlogs(settings, host)
    yield from _spool_room(settings)
    yield from _memory(settings, host)


def _descriptors(settings: Settings, host: Host) -> Iterator[Shortage]:
    limit = host.soft_limit(resource.RLIMIT_NOFILE)
    needed = _FDS_OF_A_WORKER + len(settings.listen) + _FDS_OF_A_SCANNER * len(settings.scanners)
    if 0 <= limit < needed:
        yield Shortage(
            "number of open files", str(limit), str(needed), f"LimitNOFILE={needed}, or ulimit -n {needed}"
        )


def _processes(settings: Settings, host: Host) -> Iterator[Shortage]:
    limit, needed = host.soft_limit(resource.RLIMIT_NPROC), _process_count(settings)
    if 0 <= limit < needed:
        yield Shortage(
            "number of processes of the account",
            str(limit),
            str(needed),
            f"LimitNPROC={needed}, or ulimit -u {needed}",
        )


def _tasks(settings: Settings, host: Host) -> Iterator[Shortage]:
    limits = [limit for group in host.groups() if (limit := host.number(f"{group}/pids.max")) is not None]
    needed = _process_count(settings)
    if limits and min(limits) < needed:
        yield Shortage(
            "number of tasks of the control group", str(min(limits)), str(needed), f"TasksMax={needed}"
        )


def _process_count(settings: Settings) -> int:
    """A reload has workers of both generations for a while, and each may run a program."""
    workers = settings.pool.workers
    programs = any(scanner.kind == "command" for scanner in settings.scanners)
    return 2 * workers + (workers if programs else 0) + _PROCESSES_BESIDES


def _backlogs(settings: Settings, host: Host) -> Iterator[Shortage]:
    limit = host.number("proc/sys/net/core/somaxconn")
    needed = max(listen.backlog for listen in settings.listen)
    if limit is not None and limit < needed:
        yield Shortage(
            "net.core.somaxconn",
            str(limit),
            f"listen.backlog = {needed}",
            f"sysctl -w net.core.somaxconn={needed}",
        )


def _spool_room(settings: Settings) -> Iterator[Shortage]:
    largest = settings.limits.message_size or _LARGEST_MESSAGE
    needed = settings.pool.workers * largest if largest > settings.spool.memory else 0
    try:
        room = os.statvfs(settings.spool.directory)
    except OSError:  # what a missing directory means is told elsewhere
        return
    free = room.f_bavail * room.f_frsize
    if free < needed:
        yield Shortage(
            f"room in {settings.spool.directory}",
            _mib(free),
            f"{_mib(needed)} ({settings.pool.workers} messages of {_mib(largest)})",
            "make room there, or change spool.directory, limits.message_size or pool.workers",
        )


def _memory(settings: Settings, host: Host) -> Iterator[Shortage]:
    left = host.memory_left()
    needed = settings.pool.workers * (_BYTES_OF_A_WORKER + settings.spool.memory)
    if left is not None and left < needed:
        yield Shortage(
            "memory that is left",
            _mib(left),
            _mib(needed),
            "MemoryMax= where that is set, or fewer pool.workers, or less spool.memory",
        )


def _mib(count: int) -> str:
    return f"{-(-count // _MIB)} MiB"
