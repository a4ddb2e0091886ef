"""What counts as growth: a trend from the second quarter to the last, and nothing else."""

from collections.abc import Callable, Mapping

import pytest

from .growth import MEASURES, Growth, Trend

COUNT = 40
MEMORY = MEASURES[0]


def growth(value: Callable[[float], float]) -> Trend:
    """The trend of a program whose master has so many KiB at each share of the run."""
    samples = [sample(value(number / COUNT)) for number in range(COUNT)]
    (trend,) = (one for one in Growth(samples).trends() if one.measure == MEMORY)
    return trend


def sample(memory: float) -> Mapping[str, float]:
    return {measure.name: 10.0 for measure in MEASURES} | {MEMORY.name: memory}


FLAT = {
    "always the same": lambda _: 8000.0,
    "grows while it warms up": lambda at: 4000.0 + 16000.0 * min(at, 0.25),
    "a moment's peak": lambda at: 90000.0 if 0.80 < at < 0.85 else 8000.0,
    "falls": lambda at: 9000.0 - 1000.0 * at,
}
GROWING = {
    "steadily": lambda at: 8000.0 + 2000.0 * at,
    "late": lambda at: 8000.0 if at < 0.7 else 9000.0,
    "in steps": lambda at: 8000.0 + 500.0 * int(4 * at),
}


@pytest.mark.parametrize("value", FLAT.values(), ids=FLAT)
def test_what_is_flat(value: Callable[[float], float]) -> None:
    assert growth(value).is_flat


@pytest.mark.parametrize("value", GROWING.values(), ids=GROWING)
def test_what_grows(value: Callable[[float], float]) -> None:
    assert not growth(value).is_flat


def test_too_few_samples_are_no_trend() -> None:
    assert Growth([sample(1.0)] * 3).trends() == []


def test_the_growth_of_workers_is_that_by_their_messages() -> None:
    workers = {1: [(100, 5000), (600, 5010)], 2: [(100, 6000), (600, 6030)], 3: [(100, 4000)]}
    assert Growth(workers=workers).per_thousand_messages() == 40.0
    assert Growth().per_thousand_messages() is None
