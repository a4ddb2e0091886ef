"""How many system calls a message takes, by name: what strace(1) counts of one worker.

    strace -c -f -p WORKER

It is attached to a pool of one worker that has carried messages before, so neither start-up nor what a worker
does once is counted; what it does between two messages is. Messages come one after the other, one a
connection. strace makes every call many times slower: nothing is timed here.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, Workshop
from benchmarks.deliveries import sink
from benchmarks.errors import ProgramError
from benchmarks.footprint import worker_pids
from benchmarks.loads import SMALL, send
from benchmarks.programs import SEARCH_PATH, STOP_TIMEOUT, Program
from benchmarks.section import Section, number

NAME = "syscalls"
NAMES = (HAPROXY, FILTER_ONE, FILTER_KEPT)
MOST_MESSAGES = 500  # a worker that has carried about a thousand makes room for another one
NEGLIGIBLE = 0.005  # calls a message, below which a call is only in the record

_LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Count:
    """The calls of one contender for so many messages."""

    contender: str
    messages: int
    calls: Mapping[str, int]

    def a_message(self, name: str) -> float:
        return self.calls.get(name, 0) / self.messages

    @property
    def total(self) -> float:
        return sum(self.calls.values()) / self.messages


def measure_syscalls(workshop: Workshop, messages: int) -> Section:
    counts = []
    for name in NAMES:
        counts.append(_count(replace(workshop, workers=1), name, min(messages, MOST_MESSAGES)))
        print(f"{name}: {counts[-1].total:.1f} system calls a message", file=sys.stderr, flush=True)
    return section(counts)


def _count(workshop: Workshop, name: str, messages: int) -> Count:
    with sink(workshop.directory) as (port, deliveries), workshop.contender(name, port) as contender:
        send(contender, max(1, messages // 5), 1, SMALL, deliveries)
        summary = workshop.directory / f"strace-{contender.port}"
        with _traced(_subject(contender.program), summary):
            send(contender, messages, 1, SMALL, deliveries)
        return Count(name, messages, parse(summary.read_text()))


def _subject(program: Program | None) -> int:
    """The only worker; of HAProxy, which has threads instead, the process."""
    if program is None:
        raise ValueError("only a program makes system calls")
    return next(iter(worker_pids(program.pid)), program.pid)


@contextmanager
def _traced(pid: int, summary: Path) -> Iterator[None]:
    """strace is attached before the block begins, and has written its summary when it has ended."""
    argv = ["strace", "-c", "-f", "-p", str(pid), "-o", str(summary)]
    with subprocess.Popen(
        argv, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env={"PATH": SEARCH_PATH}
    ) as strace:
        try:
            _await_attachment(strace)
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait(STOP_TIMEOUT)


def _await_attachment(strace: "subprocess.Popen[str]") -> None:
    said = []
    for line in strace.stderr or ():
        said.append(line)
        if "attached" in line:
            return
    raise ProgramError(f"strace: {''.join(said).strip() or 'ended without a word'}")


def parse(summary: str) -> dict[str, int]:
    """The calls column of `strace -c`, without its last line, which is the sum."""
    return {name: int(calls) for calls, name in _LINE.findall(summary) if name != "total"}


def section(counts: list[Count]) -> Section:
    names = {name for count in counts for name in count.calls}
    most = {name: max(count.a_message(name) for count in counts) for name in names}
    shown = sorted((name for name in names if most[name] >= NEGLIGIBLE), key=lambda name: (-most[name], name))
    rows = [[name, *(number(count.a_message(name)) for count in counts)] for name in shown]
    return Section(
        name=NAME,
        head=["system calls a message", *(count.contender for count in counts)],
        rows=[*rows, ["all", *(number(count.total) for count in counts)]],
        record={"runs": [asdict(count) for count in counts]},
    )
