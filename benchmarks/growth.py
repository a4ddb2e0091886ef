"""What a larger pool costs: memory, work while there is none, and the rate under the same load.

For each number of workers a pool is started, looked at while it has served nothing, left alone for a while,
and then given messages over twenty sessions, in turns with HAProxy. Memory is proportional (PSS). A wake-up
is a voluntary context switch: of an idle pool there are those of timers, and processor time is what they
take; under load more of them for a message, with more workers, would be a herd that is woken for one
connection.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from statistics import mean, median

from benchmarks import proc
from benchmarks.contenders import FILTER_ONE, HAPROXY, Contender, Workshop
from benchmarks.cost import cost
from benchmarks.deliveries import Deliveries, sink
from benchmarks.errors import ProgramError
from benchmarks.footprint import busy_worker, worker_pids
from benchmarks.loads import SMALL
from benchmarks.programs import Program
from benchmarks.section import Section, number

NAME = "growth"
COUNTS = (1, 2, 5, 20, 50, 100, 200)
IDLE_SECONDS = 10.0
TRIES = 5
SESSIONS = 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """Proportional sizes in KiB."""

    master: int
    worker: float  # on average
    all_processes: int


@dataclass(frozen=True, slots=True)
class Work:
    """Of some processes."""

    cpu_seconds: float
    wakeups: int

    def since(self, before: "Work") -> "Work":
        return Work(self.cpu_seconds - before.cpu_seconds, self.wakeups - before.wakeups)


@dataclass(frozen=True, slots=True)
class Rest:
    """What was done in a time without mail: by all processes, and by the workers among them."""

    seconds: float
    all_processes: Work
    workers: Work


@dataclass(frozen=True, slots=True)
class Turn:
    """The same messages through the pool, and through HAProxy next to it."""

    round: int
    messages: int
    seconds: float
    cpu_seconds: float
    wakeups: int | None  # of workers; unknown where one was replaced meanwhile: it takes its account with it
    haproxy_seconds: float
    haproxy_cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    @property
    def ratio(self) -> float:
        """Of the rate to HAProxy's."""
        return self.haproxy_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Pool:
    """Everything about one number of workers."""

    workers: int
    fresh: Sizes
    rest: Rest
    turns: list[Turn]
    used: Sizes
    busy_worker: int  # KiB, of one that holds a message of 25 MB


def measure_growth(
    workshop: Workshop,
    rounds: int,
    messages: int,
    counts: Sequence[int] = COUNTS,
    idle_seconds: float = IDLE_SECONDS,
) -> Section:
    with ExitStack() as stack:
        port, deliveries = stack.enter_context(sink(workshop.directory))
        haproxy = stack.enter_context(workshop.contender(HAPROXY, port))
        pools = []
        for workers in counts:
            with replace(workshop, workers=workers).contender(FILTER_ONE, port) as contender:
                turns = _turns(contender, haproxy, deliveries, rounds, messages)
                pools.append(_pool(workers, contender, deliveries, turns, idle_seconds))
            _say(pools[-1])
    return section(pools)


def _pool(
    workers: int, contender: Contender, deliveries: Deliveries, turns: Iterator[Turn], idle_seconds: float
) -> Pool:
    master = _program(contender).pid
    return Pool(
        workers=workers,
        fresh=_sizes(master),
        rest=_rest(master, idle_seconds),
        turns=list(turns),
        used=_sizes(master),
        busy_worker=busy_worker(contender, deliveries, master),
    )


def _program(contender: Contender) -> Program:
    if contender.program is None:
        raise ValueError("only a program has a cost")
    return contender.program


def _sizes(master: int) -> Sizes:
    return Sizes(
        master=proc.memory(master).pss,
        worker=mean(proc.memory(pid).pss for pid in worker_pids(master)),
        all_processes=proc.pss_of_tree(master),
    )


def _rest(master: int, seconds: float) -> Rest:
    """Once more where a process has come or gone: one that ends takes its account with it."""
    for _ in range(TRIES):
        family = proc.tree(master)
        rest = _measure_rest(master, seconds)
        if proc.tree(master) == family:
            return rest
    raise ProgramError(f"processes come and go all the time: {len(family)}, then {len(proc.tree(master))}")


def _measure_rest(master: int, seconds: float) -> Rest:
    everything, workers, started = _work([master]), _work(worker_pids(master)), time.perf_counter()
    time.sleep(seconds)
    return Rest(
        seconds=time.perf_counter() - started,
        all_processes=_work([master]).since(everything),
        workers=_work(worker_pids(master)).since(workers),
    )


def _work(pids: Sequence[int]) -> Work:
    """Descendants included."""
    return Work(sum(map(proc.cpu_seconds, pids)), sum(map(proc.voluntary_switches, pids)))


def _turns(
    contender: Contender, haproxy: Contender, deliveries: Deliveries, rounds: int, messages: int
) -> Iterator[Turn]:
    for one in (contender, haproxy):
        cost(one, deliveries, max(1, messages // 20), SESSIONS, SMALL)
    for number_of_round in range(1, rounds + 1):
        master = _program(contender).pid
        workers = worker_pids(master)
        before = _work(workers)
        own = cost(contender, deliveries, messages, SESSIONS, SMALL)
        is_same = worker_pids(master) == workers  # the exporter's children come and go, and carry no mail
        wakeups = _work(workers).since(before).wakeups if is_same else None
        other = cost(haproxy, deliveries, messages, SESSIONS, SMALL)
        yield Turn(
            round=number_of_round,
            messages=messages,
            seconds=own.seconds,
            cpu_seconds=own.cpu_seconds,
            wakeups=wakeups,
            haproxy_seconds=other.seconds,
            haproxy_cpu_seconds=other.cpu_seconds,
        )


_HEAD = (
    "workers", "all, PSS MiB", "worker unused, KiB", "idle, KiB", "busy, KiB", "CPU ms/s at rest",
    "wake-ups/s at rest", "of workers", "messages/s", "to HAProxy", "CPU µs/message", "wake-ups/message",
)  # fmt: skip


def section(pools: Sequence[Pool]) -> Section:
    return Section(
        name=NAME,
        head=_HEAD,
        rows=[_row(pool) for pool in pools],
        record={"pools": [asdict(pool) for pool in pools]},
    )


def _row(pool: Pool) -> list[str]:
    return [
        str(pool.workers),
        number(pool.used.all_processes / 1024, 1),
        number(pool.fresh.worker, 0),
        number(pool.used.worker, 0),
        number(pool.busy_worker, 0),
        number(1000 * pool.rest.all_processes.cpu_seconds / pool.rest.seconds),
        number(pool.rest.all_processes.wakeups / pool.rest.seconds, 1),
        number(pool.rest.workers.wakeups / pool.rest.seconds, 1),
        number(median(turn.rate for turn in pool.turns), 0),
        number(median(turn.ratio for turn in pool.turns)),
        number(median(1e6 * turn.cpu_seconds / turn.messages for turn in pool.turns), 0),
        number(_wakeups(pool.turns), 1),
    ]


def _wakeups(turns: Sequence[Turn]) -> float | None:
    """For a message, over the turns of which it is known."""
    known = [turn.wakeups / turn.messages for turn in turns if turn.wakeups is not None]
    return median(known) if known else None


def _say(pool: Pool) -> None:
    turns = ", ".join(f"{turn.rate:.0f} messages/s" for turn in pool.turns)
    rest = f"{1000 * pool.rest.all_processes.cpu_seconds / pool.rest.seconds:.2f} ms/s at rest"
    print(f"{pool.workers} workers: {rest}, {turns}", file=sys.stderr, flush=True)
