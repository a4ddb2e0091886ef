"""The parts of the suite that are no load between smtp-source and smtp-sink: by name, what each measures.

A part is a module of its own; here is only what it needs to run, and under which name.
"""

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import growth, latency, life, sizes, syscalls
from benchmarks.contenders import Workshop
from benchmarks.deliveries import sink
from benchmarks.section import Section
from benchmarks.suite import Scale

Part = Callable[[Workshop, Scale], Section]


def _latency(workshop: Workshop, scale: Scale) -> Section:
    """Every contender in front of a smtp-sink of its own."""
    with ExitStack() as stack:
        contenders = []
        for name in workshop.names:
            port, deliveries = stack.enter_context(sink(workshop.directory))
            contenders.append((stack.enter_context(workshop.contender(name, port)), deliveries))
        return latency.measure_latency(contenders, scale.rounds, scale.latency_messages)


def _life(workshop: Workshop, scale: Scale) -> Section:
    return life.measure_life(workshop, scale.rounds)


def _growth(workshop: Workshop, scale: Scale) -> Section:
    return growth.measure_growth(workshop, scale.rounds, scale.messages)


def _sizes(workshop: Workshop, scale: Scale) -> Section:
    return sizes.measure_sizes(workshop, scale.rounds, scale.large_messages, scale.alone_messages)


def _syscalls(workshop: Workshop, scale: Scale) -> Section:
    return syscalls.measure_syscalls(workshop, scale.alone_messages)


PARTS: dict[str, Part] = {
    latency.NAME: _latency,
    life.NAME: _life,
    growth.NAME: _growth,
    sizes.NAME: _sizes,
    syscalls.NAME: _syscalls,
}
