"""A set of measured times, told as percentiles.

A percentile here is a time that was measured: the smallest one that at least so many per cent of all do not
exceed (nearest rank), never a value between two. One that fewer than `WITNESSES` times lie above says more
about those few than about the load; p99.9 is left out then, and p99 has to be read with the number of times
beside it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WITNESSES = 10
CURVE = (*(number / 100 for number in range(1, 100)), 0.995, 0.999)


@dataclass(frozen=True, slots=True)
class Distribution:
    """In the unit of what it was made of. `curve` is for pictures: the values at the shares of `CURVE`."""

    count: int
    mean: float
    p50: float
    p99: float
    p999: float | None
    highest: float
    curve: list[float]


def distribution(times: Iterable[float]) -> Distribution:
    """Of at least one time."""
    ordered = sorted(times)
    return Distribution(
        count=len(ordered),
        mean=math.fsum(ordered) / len(ordered),
        p50=percentile(ordered, 0.5),
        p99=percentile(ordered, 0.99),
        p999=percentile(ordered, 0.999) if is_witnessed(len(ordered), 0.999) else None,
        highest=ordered[-1],
        curve=[percentile(ordered, share) for share in CURVE],
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank, counted from 1: 0.5 of four times is the second one, of five the third."""
    if not ordered:
        raise ValueError("no times were measured")
    return ordered[_rank(len(ordered), share) - 1]


def is_witnessed(count: int, share: float) -> bool:
    return count - _rank(count, share) >= WITNESSES


def _rank(count: int, share: float) -> int:
    """In millionths, because 0.999 of a thousand is a little more than 999 in binary fractions."""
    return max(1, -(-count * round(share * 1_000_000) // 1_000_000))
