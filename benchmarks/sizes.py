"""What a message costs by its size: processor time and bytes a second, from 1 KiB to 25 MiB.

Few sessions, and for each size so many messages that a turn carries about the same number of bytes, as far as
the limits allow. The contenders take turns, size by size.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, Contender, Workshop
from benchmarks.cost import cost
from benchmarks.deliveries import Deliveries, sink
from benchmarks.section import Section, number

NAME = "sizes"
NAMES = (HAPROXY, FILTER_ONE, FILTER_KEPT)
KIB, MIB = 1024, 1024 * 1024
SIZES = (KIB, 4 * KIB, 16 * KIB, 100 * KIB, MIB, 5 * MIB, 25 * MIB)
SESSIONS = 4
TURN_BYTES = 100 * MIB


@dataclass(frozen=True, slots=True)
class Turn:
    """One contender's turn in one round with messages of one size."""

    contender: str
    size: int
    round: int
    messages: int
    seconds: float
    cpu_seconds: float


def measure_sizes(
    workshop: Workshop, rounds: int, fewest: int, most: int, sizes: Sequence[int] = SIZES
) -> Section:
    turns: list[Turn] = []
    with ExitStack() as stack:
        contenders = []
        for name in NAMES:
            port, deliveries = stack.enter_context(sink(workshop.directory))
            contenders.append((stack.enter_context(workshop.contender(name, port)), deliveries))
        for size in sizes:
            messages = max(1, min(most, max(fewest, TURN_BYTES // size)))
            turns += _turns(contenders, size, messages, rounds)
    return section(turns)


def _turns(
    contenders: Sequence[tuple[Contender, Deliveries]], size: int, messages: int, rounds: int
) -> Iterator[Turn]:
    for contender, deliveries in contenders:
        cost(contender, deliveries, max(1, messages // 20), SESSIONS, size)
    for number_of_round in range(1, rounds + 1):
        for contender, deliveries in contenders:
            yield _turn(contender, deliveries, size, messages, number_of_round)


def _turn(
    contender: Contender, deliveries: Deliveries, size: int, messages: int, number_of_round: int
) -> Turn:
    spent = cost(contender, deliveries, messages, SESSIONS, size)
    text = f"{1e6 * spent.cpu_seconds / messages:.0f} µs/message"
    print(f"{_size(size)}, round {number_of_round}, {contender.name}: {text}", file=sys.stderr, flush=True)
    return Turn(contender.name, size, number_of_round, messages, spent.seconds, spent.cpu_seconds)


def section(turns: Sequence[Turn]) -> Section:
    groups = dict.fromkeys((turn.size, turn.contender) for turn in turns)
    rows = [_row([turn for turn in turns if (turn.size, turn.contender) == group], turns) for group in groups]
    return Section(
        name=NAME,
        head=["size", "contender", "messages/s", "MB/s", "CPU µs/message", "CPU to HAProxy"],
        rows=rows,
        record={"runs": [asdict(turn) for turn in turns]},
    )


def _row(own: Sequence[Turn], turns: Sequence[Turn]) -> list[str]:
    first = own[0]
    rate = median(turn.messages / turn.seconds for turn in own)
    yardstick = {t.round: t.cpu_seconds for t in turns if (t.contender, t.size) == (HAPROXY, first.size)}
    ratios = [turn.cpu_seconds / yardstick[turn.round] for turn in own if yardstick.get(turn.round)]
    return [
        _size(first.size),
        first.contender,
        number(rate, 0 if rate >= 100 else 2),
        number(rate * first.size / 1e6),
        number(median(1e6 * turn.cpu_seconds / turn.messages for turn in own), 0),
        number(median(ratios) if ratios else None),
    ]


def _size(size: int) -> str:
    return f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB"
