"""How long a message takes: alone in line, and with others that begin by a timetable of their own.

Under the second load messages begin at random and independently (Poisson) at one rate for every contender: a
share of what the slowest of them gets through. Whether earlier messages are done makes no difference, so a
contender that stands still for a moment is charged for everybody who came meanwhile; a client that waits for
its turn would have sent nothing then, and seen nothing. The contenders take turns, and all have the same
timetable in a round.

The load generator can be late itself. How late is recorded beside the figures, and where it is more than
`TOLERANCE` of them the table says that they are not to be trusted.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, islice
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.deliveries import Deliveries
from benchmarks.distribution import CURVE, Distribution, distribution
from benchmarks.generator import Trace, content, play, play_alone
from benchmarks.loads import SMALL, send
from benchmarks.section import Section, number
from benchmarks.simulation import exponential

NAME = "latency"
SHARES = (0.3, 0.6)  # of the capacity of the slowest
TOLERANCE = 0.2  # of a figure, that may be lag: of the median by the median, of p99 by p99
SESSIONS = 20  # while capacity is measured
TURN_SECONDS = 20.0  # a turn has fewer messages where all of them would take longer

_MICROSECOND = 1000  # in nanoseconds


@dataclass(frozen=True, slots=True)
class Plan:
    """A load: `rate` in messages a second, none where the next begins when the last is done."""

    name: str
    title: str
    messages: int
    rate: float | None = None

    def timetable(self, number: int) -> list[float]:
        """The same for everybody in a round."""
        gap = exponential(random.Random(number), 1 / self.rate) if self.rate else lambda: 0.0
        return list(islice(accumulate(iter(gap, None)), self.messages))


@dataclass(frozen=True, slots=True)
class Figures:
    """Of some messages, in microseconds. `whole` counts from the begin that was intended, steps do not."""

    whole: Distribution
    banner: Distribution
    envelope: Distribution
    dot: Distribution
    lag: Distribution

    @property
    def is_trusted(self) -> bool:
        """Whether the generator was early enough for these figures to be the server's."""
        lag, whole = self.lag, self.whole
        return lag.p50 <= TOLERANCE * whole.p50 and lag.p99 <= TOLERANCE * whole.p99


@dataclass(frozen=True, slots=True)
class Turn:
    """One contender's turn in one round."""

    plan: Plan
    contender: str
    round: int
    traces: list[Trace]


def figures(traces: Sequence[Trace]) -> Figures:
    return Figures(
        whole=distribution(trace.whole / _MICROSECOND for trace in traces),
        banner=distribution(trace.banner / _MICROSECOND for trace in traces),
        envelope=distribution(trace.envelope / _MICROSECOND for trace in traces),
        dot=distribution(trace.dot / _MICROSECOND for trace in traces),
        lag=distribution(trace.lag / _MICROSECOND for trace in traces),
    )


def measure_latency(
    contenders: Sequence[tuple[Contender, Deliveries]], rounds: int, messages: int
) -> Section:
    capacities = {one.name: _capacity(one, deliveries, messages) for one, deliveries in contenders}
    plans = _plans(min(capacities.values()), messages)
    turns = [turn for plan in plans for turn in _in_turns(plan, contenders, rounds)]
    return section(capacities, turns)


def _capacity(contender: Contender, deliveries: Deliveries, messages: int) -> float:
    """Messages a second, with as many sessions as the loads of many have. It warms everything up, too."""
    return messages / send(contender, messages, min(SESSIONS, messages), SMALL, deliveries)


def _plans(slowest: float, messages: int) -> Iterator[Plan]:
    yield Plan("alone", "4 KiB, 1 session", messages)
    for share in SHARES:
        rate = share * slowest
        few = max(1, min(messages, round(rate * TURN_SECONDS)))
        yield Plan(f"open-{share:.0%}".rstrip("%"), f"4 KiB, {rate:.0f} a second at random", few, rate)


def _in_turns(plan: Plan, contenders: Sequence[tuple[Contender, Deliveries]], rounds: int) -> Iterator[Turn]:
    for number_of_round in range(1, rounds + 1):
        for contender, deliveries in contenders:
            turn = Turn(plan, contender.name, number_of_round, _play(plan, contender.port, number_of_round))
            deliveries.expect(len(turn.traces))
            deliveries.settle()
            _say(turn)
            yield turn


def _play(plan: Plan, port: int, number_of_round: int) -> list[Trace]:
    if plan.rate is None:
        return play_alone(port, plan.messages, content(SMALL), TURN_SECONDS)
    return play(port, plan.timetable(number_of_round), content(SMALL))


def _say(turn: Turn) -> None:
    found = figures(turn.traces)
    text = f"p50 {_ms(found.whole.p50)} ms, p99 {_ms(found.whole.p99)} ms, lag p99 {_ms(found.lag.p99)} ms"
    print(f"{turn.plan.title}, round {turn.round}, {turn.contender}: {text}", file=sys.stderr, flush=True)


def section(capacities: dict[str, float], turns: Sequence[Turn]) -> Section:
    pooled = [Turn(plan, name, 0, traces) for plan, name, traces in _pool(turns)]
    return Section(
        name=NAME,
        head=["latency", "contender", "p50 ms", "p99 ms", "p99.9 ms"]
        + [f"{step} p50, p99" for step in ("banner", "envelope", "dot")]
        + ["lag p99 ms", "trusted"],
        rows=_rows(pooled),
        record={
            "capacities": capacities,
            "curve": CURVE,
            "tolerance": TOLERANCE,
            "pooled": [_as_json(turn) for turn in pooled],
            "runs": [_as_json(turn) for turn in turns],
        },
        notes=_notes(pooled),
    )


def _pool(turns: Sequence[Turn]) -> Iterator[tuple[Plan, str, list[Trace]]]:
    """All rounds together."""
    for plan, name in dict.fromkeys((turn.plan, turn.contender) for turn in turns):
        own = [turn for turn in turns if (turn.plan, turn.contender) == (plan, name)]
        yield plan, name, [trace for turn in own for trace in turn.traces]


def _rows(pooled: Sequence[Turn]) -> list[list[str]]:
    rows, last = [], None
    for turn in pooled:
        found = figures(turn.traces)
        rows.append(
            [
                "" if turn.plan == last else turn.plan.title,
                turn.contender,
                *map(_ms, (found.whole.p50, found.whole.p99, found.whole.p999)),
                *(f"{_ms(step.p50)}, {_ms(step.p99)}" for step in (found.banner, found.envelope, found.dot)),
                _ms(found.lag.p99),
                "yes" if found.is_trusted else "no",
            ]
        )
        last = turn.plan
    return rows


def _notes(pooled: Sequence[Turn]) -> list[str]:
    if all(figures(turn.traces).is_trusted for turn in pooled):
        return []
    return [f'"trusted: no": more than {TOLERANCE:.0%} of the figure may be lateness of the load generator.']


def _ms(microseconds: float | None) -> str:
    return number(None if microseconds is None else microseconds / 1000)


def _as_json(turn: Turn) -> dict[str, Any]:
    found = figures(turn.traces)
    return {
        "load": turn.plan.name,
        "title": turn.plan.title,
        "rate": turn.plan.rate,
        "contender": turn.contender,
        "round": turn.round,
        "trusted": found.is_trusted,
        "microseconds": asdict(found),
    }
