"""How long bqfilterd takes to start, to reload and to stop, by number of workers, beside HAProxy.

    greeting  from exec until a client has been greeted
    ready     from exec until all workers are up, as the program says in its log
    reload    from the signal until all workers of the new generation are up: at rest, and under load
    stop      from SIGTERM until the process is gone, at rest

Each start is one of a program that has run before, so its files are in the page cache and its Python is
compiled. While bqfilterd is reloaded under load messages are sent without a pause, and one that is refused or
lost ends the run. HAProxy runs under its own master here, which is how it reloads, and it is reloaded at rest
only: what becomes of connections that reach it meanwhile is not the subject.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from statistics import median

from benchmarks import proc
from benchmarks.contenders import FILTER_ONE, HAPROXY, Contender, Workshop
from benchmarks.deliveries import Deliveries, sink
from benchmarks.errors import ProgramError
from benchmarks.loads import SMALL, send
from benchmarks.programs import Program, greets, running
from benchmarks.section import Section, number

NAME = "life"
COUNTS = (1, 20, 100, 200)
LIMIT = 60.0  # seconds for any of these
POLL_INTERVAL = 0.0005
BATCH = 40  # messages sent at a time while a reload goes on
SESSIONS = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """How a contender says that it is ready, and what makes it read its configuration again."""

    name: str
    options: tuple[str, ...]
    says_ready: bytes  # once for each generation
    reload: signal.Signals
    reloads_under_load: bool


FILTER = Kind(FILTER_ONE, (), b": ready ", signal.SIGHUP, reloads_under_load=True)
YARDSTICK = Kind(HAPROXY, ("-W",), b"Loading success", signal.SIGUSR2, reloads_under_load=False)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """One start with all that followed; seconds. `workers` is none where there is no number of them."""

    contender: str
    workers: int | None
    round: int
    greeting: float
    ready: float
    reload: float
    reload_under_load: float | None
    stop: float


def measure_life(workshop: Workshop, rounds: int, counts: Sequence[int] = COUNTS) -> Section:
    lives: list[Lifetime] = []
    with sink(workshop.directory) as (port, deliveries):
        for life in _lives(workshop, port, deliveries, rounds, counts):
            print(_told(life), file=sys.stderr, flush=True)
            lives.append(life)
    return section(lives)


def _lives(
    workshop: Workshop, upstream_port: int, deliveries: Deliveries, rounds: int, counts: Sequence[int]
) -> Iterator[Lifetime]:
    kinds: list[tuple[Kind, int | None]] = [(FILTER, count) for count in counts]
    for kind, workers in [*kinds, (YARDSTICK, None)]:
        sized = replace(workshop, workers=workers) if workers else workshop
        with sized.contender(kind.name, upstream_port) as contender:
            pass  # its configuration is written now, and its files have been read
        for number_of_round in range(1, rounds + 1):
            yield _live(kind, workers, contender, deliveries, number_of_round)


def _live(
    kind: Kind, workers: int | None, contender: Contender, deliveries: Deliveries, number_of_round: int
) -> Lifetime:
    if contender.program is None:
        raise ValueError("only a program has a life")
    argv = [contender.program.argv[0], *kind.options, *contender.program.argv[1:]]
    started = time.perf_counter()
    with running(f"life-{contender.port}", argv, contender.program.log.parent) as program:
        seen = _first_seen(
            program,
            started,
            greeting=lambda: greets(contender.port),
            ready=lambda: _generations(kind, program) >= 1,
        )
        reload = _reload(kind, program)
        reload_under_load = None
        if kind.reloads_under_load:
            with _mail(contender, deliveries):
                reload_under_load = _reload(kind, program)
        stop = _stop(program)
    return Lifetime(
        contender=kind.name,
        workers=workers,
        round=number_of_round,
        greeting=seen["greeting"],
        ready=seen["ready"],
        reload=reload,
        reload_under_load=reload_under_load,
        stop=stop,
    )


def _reload(kind: Kind, program: Program) -> float:
    # HAProxy says that it is there before it listens to this signal, and drops one that comes between.
    _first_seen(program, time.perf_counter(), handler=lambda: proc.catches(program.pid, kind.reload))
    before = _generations(kind, program)
    sent = time.perf_counter()
    os.kill(program.pid, kind.reload)
    return _first_seen(program, sent, ready=lambda: _generations(kind, program) > before)["ready"]


def _stop(program: Program) -> float:
    """A process descriptor becomes readable when the process ends."""
    descriptor = os.pidfd_open(program.pid)
    try:
        sent = time.perf_counter()
        os.kill(program.pid, signal.SIGTERM)
        if not select.select([descriptor], [], [], LIMIT)[0]:
            raise ProgramError(f"{program.name} does not stop; the end of its log:\n{program.last_words()}")
        return time.perf_counter() - sent
    finally:
        os.close(descriptor)


def _generations(kind: Kind, program: Program) -> int:
    return program.log.read_bytes().count(kind.says_ready)


def _first_seen(program: Program, since: float, **conditions: Callable[[], bool]) -> Mapping[str, float]:
    """Seconds until each condition was true."""
    seen: dict[str, float] = {}
    while len(seen) < len(conditions):
        for name, condition in conditions.items():
            if name not in seen and condition():
                seen[name] = time.perf_counter() - since
        if time.perf_counter() - since > LIMIT:
            missing = ", ".join(conditions.keys() - seen.keys())
            raise ProgramError(f"{program.name}: not seen: {missing}; its log:\n{program.last_words()}")
        time.sleep(POLL_INTERVAL)
    return seen


@contextmanager
def _mail(contender: Contender, deliveries: Deliveries) -> Iterator[None]:
    """Messages come all the time; the block begins when the first have been taken."""
    is_flowing, is_over = threading.Event(), threading.Event()

    def flow() -> None:
        try:
            while not is_over.is_set():
                send(contender, BATCH, SESSIONS, SMALL, deliveries)
                is_flowing.set()
        finally:
            is_flowing.set()

    with ThreadPoolExecutor(1) as pool:
        flowing = pool.submit(flow)
        is_flowing.wait()
        try:
            yield
        finally:
            is_over.set()
        flowing.result()


def section(lives: Sequence[Lifetime]) -> Section:
    groups = dict.fromkeys((life.contender, life.workers) for life in lives)
    return Section(
        name=NAME,
        head=["life", "workers", "greeting ms", "ready ms", "reload ms", "reload under load ms", "stop ms"],
        rows=[_row([life for life in lives if (life.contender, life.workers) == group]) for group in groups],
        record={"runs": [asdict(life) for life in lives]},
    )


def _row(lives: Sequence[Lifetime]) -> list[str]:
    first = lives[0]
    return [
        first.contender,
        "" if first.workers is None else str(first.workers),
        *(_median([getattr(life, what) for life in lives]) for what in _FIGURES),
    ]


_FIGURES = ("greeting", "ready", "reload", "reload_under_load", "stop")


def _median(seconds: Sequence[float | None]) -> str:
    measured = [one for one in seconds if one is not None]
    return number(1000 * median(measured), 1) if measured else ""


def _told(life: Lifetime) -> str:
    workers = "" if life.workers is None else f", {life.workers} workers"
    figures = ", ".join(
        f"{what} {number(getattr(life, what), 3)} s" for what in _FIGURES if getattr(life, what)
    )
    return f"{life.contender}{workers}, round {life.round}: {figures}"
