"""What the kernel has counted for a program: processor time and memory, from /proc.

A process that ends while it is being read counts as nothing here; its processor time then shows up in its
parent's account of ended children. Linux only, like bqfilterd itself.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NANOSECONDS = 1_000_000_000
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """In KiB. `pss` shares out pages among their users; `private` is what ending the process would free."""

    pss: int
    private: int
    peak: int  # the highest resident size since `reset_peak`, shared pages included


def tree(pid: int) -> list[int]:
    """The process and all its descendants, parents first."""
    found = [pid]
    for parent in found:
        found += _children(parent)
    return found


def children(pid: int) -> list[int]:
    return list(_children(pid))


def title(pid: int) -> str:
    """What `ps` shows for the process; nothing once it has ended."""
    try:
        shown = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return shown.replace(b"\0", b" ").decode("utf-8", "replace")


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, its descendants, and its children that have ended.

    Live tasks are read from schedstat, which is exact; utime and stime in stat are the same sum cut to
    whole ticks, and with twenty workers the cut-off parts would be a tenth of the result. Only stat knows
    of threads that have ended, which is all there is of a program with a thread for each connection.
    """
    return sum(map(_own_seconds, tree(pid))) + _ended_children_seconds(pid)


def voluntary_switches(pid: int) -> int:
    """How often the process and its descendants went to sleep, and so were woken."""
    return sum(map(_own_switches, tree(pid)))


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for this signal."""
    caught = Path(f"/proc/{pid}/status").read_text().partition("\nSigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (number - 1) & 1)


def memory(pid: int) -> Memory:
    rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    return Memory(
        pss=rollup["Pss"],
        private=rollup["Private_Clean"] + rollup["Private_Dirty"],
        peak=_fields(Path(f"/proc/{pid}/status"))["VmHWM"],
    )


def pss_of_tree(pid: int) -> int:
    """Of the process and all its descendants together, in KiB."""
    return sum(map(_own_pss, tree(pid)))


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _children(pid: int) -> Iterator[int]:
    for task in _tasks(pid):
        try:
            yield from map(int, (task / "children").read_text().split())
        except OSError:
            continue


def _own_seconds(pid: int) -> float:
    total = 0
    for task in _tasks(pid):
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    try:
        return max(total / _NANOSECONDS, _ticks(pid, 14))
    except OSError:
        return 0.0


def _own_pss(pid: int) -> int:
    try:
        return _fields(Path(f"/proc/{pid}/smaps_rollup")).get("Pss", 0)
    except OSError:
        return 0


def _own_switches(pid: int) -> int:
    total = 0
    for task in _tasks(pid):
        try:
            status = (task / "status").read_text()
        except OSError:
            continue
        total += int(status.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return total


def _ended_children_seconds(pid: int) -> float:
    return _ticks(pid, 16)


def _ticks(pid: int, field: int) -> float:
    """Seconds from two fields of /proc/PID/stat, user and system time; numbered as in proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[field - 3]) + int(fields[field - 2])) / _TICKS


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _fields(path: Path) -> dict[str, int]:
    """The `Name: 123 kB` lines of a file under /proc."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[2:] == ["kB"]}
