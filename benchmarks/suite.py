"""The parts of the suite: loads through to smtp-sink, scanners, memory, and two real Postfix servers."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import loads, proc, samples, scanners
from benchmarks.contenders import FILTER_ONE, HAPROXY, Contender, Workshop
from benchmarks.deliveries import Deliveries, sink
from benchmarks.entrants import Alone, Through
from benchmarks.errors import ProgramError
from benchmarks.footprint import Row, footprint
from benchmarks.loads import Entrant, Fault, Load, Run, Unit
from benchmarks.matrix import cells
from benchmarks.postfix import SPEED_ADJUST, after_filter, before_filter
from benchmarks.recipes import Recipe
from benchmarks.report import Result
from benchmarks.scanners import Kind

Behind = tuple[int, Deliveries]  # the port of the server behind a contender, and the count of what came there


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int
    messages: int
    alone_messages: int
    large_messages: int
    postfix_messages: int
    turn_seconds: float
    matrix_rounds: int
    latency_messages: int


FULL = Scale(
    rounds=7,
    messages=5000,
    alone_messages=1000,
    large_messages=8,
    postfix_messages=1000,
    turn_seconds=3.0,
    matrix_rounds=3,
    latency_messages=2000,
)
QUICK = Scale(
    rounds=2,
    messages=600,
    alone_messages=100,
    large_messages=4,
    postfix_messages=200,
    turn_seconds=0.3,
    matrix_rounds=1,
    latency_messages=300,
)


def all_loads(scale: Scale) -> list[Load]:
    aimed = [
        loads.many(scale.messages),
        loads.alone(scale.alone_messages),
        loads.large(1, scale.large_messages),
        loads.large(4, scale.large_messages),
    ]
    return [
        *(replace(load, rounds=scale.rounds, seconds=scale.turn_seconds) for load in aimed),
        *cells(scale.matrix_rounds, scale.turn_seconds / 2),
    ]


def run_loads(workshop: Workshop, chosen: Sequence[Load]) -> Iterator[Result]:
    """Every contender in front of a smtp-sink of its own."""
    with ExitStack() as stack:
        started, absent = _start(stack, workshop, workshop.recipes, _sinks(stack, workshop))
        for load in chosen:
            yield _measure(load, [Through(*pair) for pair in started], absent)


def run_scanner(workshop: Workshop, kind: Kind, peers: Sequence[Recipe], scale: Scale) -> Iterator[Result]:
    """bqfilterd with a scanner, beside itself without one, the scanner alone, and peers that ask it too."""
    with ExitStack() as stack:
        scanner = stack.enter_context(scanners.started(kind, workshop.directory, workshop.workers))
        alone = [Alone(f"{kind.name} alone", kind.ask, scanner.port, scanner.program)] if scanner else []
        recipes = [*workshop.with_scanner(kind.name, kind.table, kind.files), *peers]
        values = {"scanner_port": scanner.port, "scanner_directory": scanner.directory} if scanner else {}
        sinks = _sinks(stack, workshop)
        plain, _ = _start(stack, workshop, workshop.own_recipes, sinks)
        scanning, absent = _start(stack, workshop, recipes, sinks, **values)
        program = scanner.program if scanner else None
        entrants: list[Entrant] = [
            *(Through(*pair) for pair in plain),
            *alone,
            *(Through(*pair, program) for pair in scanning),
        ]
        for load in _letters(workshop.directory, kind, scale):
            yield _measure(load, entrants, absent)


def run_postfix(workshop: Workshop, scale: Scale) -> Iterator[Result]:
    """Every contender between two real Postfix servers, without and with speed_adjust."""
    with ExitStack() as stack:
        behind = stack.enter_context(after_filter(workshop.directory / "after"))
        started, absent = _start(stack, workshop, workshop.recipes, lambda: behind)
        for options in ("", SPEED_ADJUST):
            load = _postfix_load(scale, options)
            filter_ports = {contender.name: contender.port for contender, _ in started}
            with before_filter(workshop.directory / load.name, filter_ports, options) as ports:
                fronted = [
                    (replace(contender, port=ports[contender.name]), count) for contender, count in started
                ]
                yield _measure(load, [Through(*pair) for pair in fronted], absent)


def run_memory(workshop: Workshop, large_messages: int) -> list[Row]:
    with ExitStack() as stack:
        port, deliveries = stack.enter_context(sink(workshop.directory))
        contender = stack.enter_context(workshop.contender(FILTER_ONE, port))
        rows = footprint(contender, deliveries, workshop.workers, large_messages)
        haproxy = stack.enter_context(workshop.contender(HAPROXY, port)).program
        return [*rows, Row("for comparison: HAProxy, PSS", proc.memory(haproxy.pid).pss)] if haproxy else rows


def _start(
    stack: ExitStack,
    workshop: Workshop,
    recipes: Iterable[Recipe],
    behind: Callable[[], Behind],
    **values: object,
) -> tuple[list[tuple[Contender, Deliveries]], list[Fault]]:
    """The contenders, and the peers that do not come up: this is their result under every load."""
    started, absent = [], []
    for recipe in recipes:
        port, deliveries = behind()
        try:
            started.append((stack.enter_context(workshop.started(recipe, port, **values)), deliveries))
        except ProgramError as failure:
            if recipe.trusted:
                raise
            absent.append(Fault(recipe.name, str(failure)))
    return started, absent


def _sinks(stack: ExitStack, workshop: Workshop) -> Callable[[], Behind]:
    return lambda: stack.enter_context(sink(workshop.directory))


def _letters(directory: Path, kind: Kind, scale: Scale) -> Iterator[Load]:
    """What scanners look at is no run of one letter."""
    for name, size in (("4k", 4 << 10), ("100k", 100 << 10)):
        message = directory / f"letter-{name}"
        message.write_bytes(samples.letter(size))
        yield Load(
            name=f"{kind.name}-{name}",
            title=f"{kind.name}, {size >> 10} KiB, 20 sessions",
            sessions=20,
            messages=scale.messages,
            size=len(samples.as_sent(message.read_bytes())),
            unit=Unit.MESSAGES_PER_SECOND,
            rounds=scale.matrix_rounds,
            seconds=scale.turn_seconds / 2,
            message=message,
        )


def _postfix_load(scale: Scale, options: str) -> Load:
    return Load(
        name=f"postfix-{options}" if options else "postfix",
        title=f"4 KiB, 20 sessions, between two Postfix, {options or 'no ' + SPEED_ADJUST}",
        sessions=20,
        messages=scale.postfix_messages,
        size=loads.SMALL,
        unit=Unit.MESSAGES_PER_SECOND,
        aims=loads.POSTFIX_AIMS,
        rounds=scale.rounds,
        seconds=scale.turn_seconds,
    )


def _measure(load: Load, entrants: Sequence[Entrant], absent: Sequence[Fault]) -> Result:
    runs, faults = [], list(absent)
    for outcome in loads.measure(load, entrants):
        _say(load, outcome)
        runs += [outcome] if isinstance(outcome, Run) else []
        faults += [outcome] if isinstance(outcome, Fault) else []
    return Result(load, runs, faults)


def _say(load: Load, outcome: Run | Fault) -> None:
    match outcome:
        case Run():
            told = f"round {outcome.round}, {outcome.contender}: {load.score(outcome):.2f} {load.unit.text}"
        case Fault():
            told = f"{outcome.contender} did not do its work: {outcome.reason}"
    print(f"{load.title}, {told}", file=sys.stderr, flush=True)
