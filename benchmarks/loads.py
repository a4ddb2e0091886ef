"""Loads, and the running of them in turns.

A load is a number of messages played by Debian's smtp-source. `measure` plays it through one contender after
the other, round after round, so that whatever else the machine does hits all of them alike; a ratio is only
ever taken within a round. Every contender gets a short turn that does not count first.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from benchmarks import proc
from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, Contender
from benchmarks.deliveries import Deliveries
from benchmarks.errors import LoadError
from benchmarks.programs import HOST

SMALL = 4096
LARGE = 25_000_000
RUN_TIMEOUT = 300.0


class Unit(Enum):
    """What a run is told in: the text, and whether more of it is better."""

    MESSAGES_PER_SECOND = ("messages/s", True)
    MILLISECONDS = ("ms/message", False)
    MEGABYTES_PER_SECOND = ("MB/s", True)

    @property
    def text(self) -> str:
        return self.value[0]

    @property
    def more_is_better(self) -> bool:
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Load:
    """`aims` are the ratios to HAProxy that bqfilterd wants: at least, or at most where less is better."""

    name: str
    title: str
    sessions: int
    messages: int
    size: int
    unit: Unit
    aims: dict[str, float]

    def score(self, seconds: float) -> float:
        match self.unit:
            case Unit.MESSAGES_PER_SECOND:
                return self.messages / seconds
            case Unit.MILLISECONDS:
                return 1000 * seconds / self.messages
            case Unit.MEGABYTES_PER_SECOND:
                return self.messages * self.size / seconds / 1e6


@dataclass(frozen=True, slots=True)
class Run:
    """One contender's turn in one round."""

    contender: str
    round: int
    seconds: float
    cpu_seconds: float | None  # the contender's own; none where there is no contender


def many(messages: int) -> Load:
    aims = {FILTER_ONE: 0.8, FILTER_KEPT: 1.0}
    return Load("many", "4 KiB, 20 sessions", 20, messages, SMALL, Unit.MESSAGES_PER_SECOND, aims)


def alone(messages: int) -> Load:
    aims = {FILTER_ONE: 1.2, FILTER_KEPT: 1.2}
    return Load("alone", "4 KiB, 1 session", 1, messages, SMALL, Unit.MILLISECONDS, aims)


def large(sessions: int, messages: int) -> Load:
    aims = {FILTER_ONE: 0.9, FILTER_KEPT: 0.9}
    title = f"25 MB, {sessions} session{'s' if sessions > 1 else ''}"
    return Load(f"large-{sessions}", title, sessions, messages, LARGE, Unit.MEGABYTES_PER_SECOND, aims)


def measure(load: Load, contenders: Sequence[tuple[Contender, Deliveries]], rounds: int) -> Iterator[Run]:
    for contender, deliveries in contenders:
        few = max(1, load.messages // 20)
        send(contender, few, min(few, load.sessions), load.size, deliveries)
    for number in range(1, rounds + 1):
        for contender, deliveries in contenders:
            yield _turn(load, contender, deliveries, number)
    for _, deliveries in contenders:
        deliveries.settle()


def _turn(load: Load, contender: Contender, deliveries: Deliveries, number: int) -> Run:
    cpu_before = _cpu_seconds(contender)
    seconds = send(contender, load.messages, load.sessions, load.size, deliveries)
    cpu_after = _cpu_seconds(contender)
    cpu = None if cpu_before is None or cpu_after is None else cpu_after - cpu_before
    return Run(contender.name, number, seconds, cpu)


def _cpu_seconds(contender: Contender) -> float | None:
    return proc.cpu_seconds(contender.program.pid) if contender.program else None


def send(contender: Contender, messages: int, sessions: int, size: int, deliveries: Deliveries) -> float:
    """Play messages, one a connection; seconds until the last is acknowledged. Raises unless all arrived."""
    argv = ["smtp-source", "-4", "-M", "client.example", "-f", "sender@example.com", "-t", "user@example.net"]
    argv += ["-s", str(sessions), "-m", str(messages), "-l", str(size), f"{HOST}:{contender.port}"]
    deliveries.expect(messages)
    started = time.perf_counter()
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise LoadError(f"{contender.name}: {' '.join(argv)}: not done after {RUN_TIMEOUT:.0f} s") from None
    seconds = time.perf_counter() - started
    if done.returncode or done.stderr:
        raise LoadError(f"{contender.name}: {' '.join(argv)}: {done.stderr.strip()}")
    deliveries.settle()
    return seconds
