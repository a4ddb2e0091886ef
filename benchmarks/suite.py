"""The parts of the suite: loads between smtp-source and smtp-sink, memory, and two real Postfix servers."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from benchmarks import loads, proc
from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, Contender, Workshop
from benchmarks.deliveries import Deliveries, sink
from benchmarks.footprint import Row, footprint
from benchmarks.loads import Load, Run, Unit
from benchmarks.postfix import SPEED_ADJUST, after_filter, before_filter
from benchmarks.report import Result


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int
    messages: int
    alone_messages: int
    large_messages: int
    postfix_messages: int
    latency_messages: int


FULL = Scale(
    rounds=7,
    messages=5000,
    alone_messages=1000,
    large_messages=8,
    postfix_messages=1000,
    latency_messages=2000,
)
QUICK = Scale(
    rounds=2,
    messages=600,
    alone_messages=100,
    large_messages=4,
    postfix_messages=200,
    latency_messages=300,
)


def all_loads(scale: Scale) -> list[Load]:
    return [
        loads.many(scale.messages),
        loads.alone(scale.alone_messages),
        loads.large(1, scale.large_messages),
        loads.large(4, scale.large_messages),
    ]


def run_loads(workshop: Workshop, chosen: Sequence[Load], rounds: int) -> Iterator[Result]:
    """Every contender in front of a smtp-sink of its own."""
    with ExitStack() as stack:
        contenders = []
        for name in workshop.names:
            port, deliveries = stack.enter_context(sink(workshop.directory))
            contenders.append((stack.enter_context(workshop.contender(name, port)), deliveries))
        for load in chosen:
            yield _measure(load, contenders, rounds)


def run_postfix(workshop: Workshop, messages: int, rounds: int) -> Iterator[Result]:
    """Every contender between two real Postfix servers, without and with speed_adjust."""
    with ExitStack() as stack:
        upstream_port, deliveries = stack.enter_context(after_filter(workshop.directory / "after"))
        contenders = [stack.enter_context(workshop.contender(name, upstream_port)) for name in workshop.names]
        for options in ("", SPEED_ADJUST):
            load = _postfix_load(messages, options)
            with before_filter(workshop.directory / load.name, _ports(contenders), options) as ports:
                fronted = [replace(contender, port=ports[contender.name]) for contender in contenders]
                yield _measure(load, [(contender, deliveries) for contender in fronted], rounds)


def run_memory(workshop: Workshop, large_messages: int) -> list[Row]:
    with ExitStack() as stack:
        port, deliveries = stack.enter_context(sink(workshop.directory))
        contender = stack.enter_context(workshop.contender(FILTER_ONE, port))
        rows = footprint(contender, deliveries, workshop.workers, large_messages)
        haproxy = stack.enter_context(workshop.contender(HAPROXY, port)).program
        return [*rows, Row("for comparison: HAProxy, PSS", proc.memory(haproxy.pid).pss)] if haproxy else rows


def _postfix_load(messages: int, options: str) -> Load:
    return Load(
        name=f"postfix-{options}" if options else "postfix",
        title=f"4 KiB, 20 sessions, between two Postfix, {options or 'no ' + SPEED_ADJUST}",
        sessions=20,
        messages=messages,
        size=loads.SMALL,
        unit=Unit.MESSAGES_PER_SECOND,
        aims={FILTER_KEPT: 1.2},
    )


def _ports(contenders: Sequence[Contender]) -> dict[str, int]:
    return {contender.name: contender.port for contender in contenders}


def _measure(load: Load, contenders: Sequence[tuple[Contender, Deliveries]], rounds: int) -> Result:
    runs = []
    for run in loads.measure(load, contenders, rounds):
        _say(load, run)
        runs.append(run)
    return Result(load, runs)


def _say(load: Load, run: Run) -> None:
    score = f"{load.score(run.seconds):.2f} {load.unit.text}"
    print(f"{load.title}, round {run.round}, {run.contender}: {score}", file=sys.stderr, flush=True)
