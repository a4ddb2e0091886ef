"""Loads, and the running of them in turns.

A load is a number of messages played by Debian's smtp-source. `measure` plays it through one contender after
the other, round after round, so that whatever else the machine does hits all of them alike; a ratio is only
ever taken within a round. Every contender gets short turns first that do not count. They say how many
messages it gets, so that one takes about as long as another that is a hundred times as fast.
"""

import math
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, Contender
from benchmarks.deliveries import Deliveries
from benchmarks.errors import BenchmarkError, LoadError
from benchmarks.programs import HOST

SMALL = 4096
LARGE = 25_000_000
POSTFIX_AIMS = {FILTER_KEPT: 1.2}  # of a load between two Postfix servers
RUN_TIMEOUT = 300.0
PEER_PATIENCE = 10.0  # without a message, and what a peer has not passed on by then it has lost
PEER_TIMEOUT = 60.0  # a peer that has not done a turn by then has not done its work
_LONG_ENOUGH = 8  # a turn of an eighth of the time says how many messages fill it


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
    """`messages` is how many at most. `aims` are the ratios to HAProxy that bqfilterd wants: at least, or at
    most where less is better."""

    name: str
    title: str
    sessions: int
    messages: int
    size: int
    unit: Unit
    aims: dict[str, float] = field(default_factory=dict)
    rounds: int = 1
    seconds: float = math.inf  # a turn is to take no longer, but has one message a session at least
    message: Path | None = None  # a file with the message; smtp-source's own where there is none

    def score(self, run: "Run") -> float:
        match self.unit:
            case Unit.MESSAGES_PER_SECOND:
                return run.messages / run.seconds
            case Unit.MILLISECONDS:
                return 1000 * run.seconds / run.messages
            case Unit.MEGABYTES_PER_SECOND:
                return run.messages * self.size / run.seconds / 1e6


@dataclass(frozen=True, slots=True)
class Run:
    """One contender's turn in one round."""

    contender: str
    round: int
    messages: int
    seconds: float
    cpu_seconds: float | None  # the contender's own; none where there is no contender
    scanner_cpu_seconds: float | None = None  # of the scanning daemon that it asked


@dataclass(frozen=True, slots=True)
class Fault:
    """A peer did not do its work: refused, lost or doubled mail, or did not start. No more turns for it."""

    contender: str
    reason: str


class Entrant(Protocol):
    """Whatever takes turns. Where it is not trusted, a fault is its result and does not end the run."""

    @property
    def name(self) -> str: ...

    @property
    def trusted(self) -> bool: ...

    def play(self, load: Load, messages: int) -> float:
        """Seconds that so many messages took. Raises `BenchmarkError` unless all went well."""
        ...

    def cpu_seconds(self) -> float | None: ...

    def scanner_cpu_seconds(self) -> float | None: ...

    def start_over(self) -> None:
        """Forget what went wrong."""
        ...


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


def measure(load: Load, entrants: Sequence[Entrant]) -> Iterator[Run | Fault]:
    messages: dict[Entrant, int] = {}
    for entrant in entrants:
        try:
            messages[entrant] = _fitting(load, entrant)
        except BenchmarkError as failure:
            yield _forgiven(entrant, failure)
    for number in range(1, load.rounds + 1):
        for entrant in list(messages):
            try:
                yield _turn(load, entrant, messages[entrant], number)
            except BenchmarkError as failure:
                del messages[entrant]
                yield _forgiven(entrant, failure)


def _fitting(load: Load, entrant: Entrant) -> int:
    """How many messages it gets; found by turns that do not count, each longer than the one before."""
    few = max(1, load.messages // 20)
    trial = few if load.seconds == math.inf else min(few, load.sessions)
    while (seconds := entrant.play(load, trial)) < load.seconds / _LONG_ENOUGH and trial < few:
        trial = min(few, 4 * trial)
    fitting = load.messages if load.seconds == math.inf else int(trial * load.seconds / seconds)
    messages = min(load.messages, max(load.sessions, fitting))
    if not entrant.trusted and (needed := messages * seconds / trial) > PEER_TIMEOUT:
        raise LoadError(
            f"{entrant.name}: too slow for this load: {messages} messages would take {needed:.0f} s"
        )
    return messages


def _turn(load: Load, entrant: Entrant, messages: int, number: int) -> Run:
    cpu, scanner_cpu = entrant.cpu_seconds(), entrant.scanner_cpu_seconds()
    seconds = entrant.play(load, messages)
    return Run(
        contender=entrant.name,
        round=number,
        messages=messages,
        seconds=seconds,
        cpu_seconds=_since(cpu, entrant.cpu_seconds()),
        scanner_cpu_seconds=_since(scanner_cpu, entrant.scanner_cpu_seconds()),
    )


def _since(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _forgiven(entrant: Entrant, failure: BenchmarkError) -> Fault:
    if entrant.trusted:
        raise failure
    entrant.start_over()
    return Fault(entrant.name, str(failure))


def send(
    contender: Contender,
    messages: int,
    sessions: int,
    size: int,
    deliveries: Deliveries,
    message: Path | None = None,
) -> float:
    """Play messages, one a connection; seconds until the last is acknowledged. Raises unless all arrived."""
    argv = ["smtp-source", "-4", "-M", "client.example", "-f", "sender@example.com", "-t", "user@example.net"]
    argv += ["-s", str(min(sessions, messages)), "-m", str(messages)]
    argv += ["-F", str(message)] if message else ["-l", str(size)]
    argv += [f"{HOST}:{contender.port}"]
    timeout = RUN_TIMEOUT if contender.trusted else PEER_TIMEOUT
    deliveries.expect(messages)
    started = time.perf_counter()
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise LoadError(f"{contender.name}: {' '.join(argv)}: not done after {timeout:.0f} s") from None
    seconds = time.perf_counter() - started
    if done.returncode or done.stderr:
        raise LoadError(f"{contender.name}: {' '.join(argv)}: {done.stderr.strip()}")
    deliveries.settle(None if contender.trusted else PEER_PATIENCE)
    return seconds
