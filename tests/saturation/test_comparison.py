"""Measurement against model: what chance explains is agreement, what it does not is said."""

import random
from dataclasses import replace
from statistics import fmean, pvariance

import pytest

from benchmarks.simulation import Draw, bursty, exponential, lognormal, open_pool
from bqfilter.saturation import advice
from bqfilter.saturation.comparison import Comparison, Verdict, compare
from bqfilter.saturation.queueing import Load
from bqfilter.saturation.sizing import Measured, Source, gather

RATE, SERVICE_TIME, CV2 = 8.0, 2.5, 4.0
FIGURES = gather({Source.OPTION: {"workers": 26, "speed_adjust": True}})


def measured(window: float, arrival_cv2: float = 1.0, seed: int = 3) -> Measured:
    """What a pool that is simulated for so many seconds would say: what came, not what was meant to."""
    chance, sessions = random.Random(seed), int(RATE * window / 0.9)
    make_gap = exponential(chance, 1 / RATE) if arrival_cv2 == 1 else bursty(chance, 1 / RATE, arrival_cv2)
    gaps, times = _Kept(make_gap), _Kept(lognormal(chance, SERVICE_TIME, CV2))
    waits = open_pool(FIGURES.workers or 0, gaps, times, sessions)
    gaps.seen, times.seen = gaps.seen[sessions // 10 :], times.seen[sessions // 10 :]
    mean = fmean(times.seen)
    return Measured(
        rate=1 / fmean(gaps.seen),
        service_time=mean,
        service_cv2=pvariance(times.seen) / mean**2,
        p_wait=waits.p_wait,
        mean_wait=waits.mean,
        window=window,
    )


class _Kept:
    """A draw that remembers what it gave."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.seen: list[float] = []

    def __call__(self) -> float:
        self.seen.append(self._draw())
        return self.seen[-1]


def compared(found: Measured) -> Comparison:
    comparison = compare(found, FIGURES)
    assert comparison is not None
    return comparison


@pytest.mark.parametrize("seed", range(8))
def test_a_pool_that_is_as_the_model_has_it_agrees(seed: int) -> None:
    assert compared(measured(1200, seed=seed)).verdict is Verdict.AGREES


def test_chance_makes_more_of_a_short_window() -> None:
    twice_predicted = Measured(rate=RATE, service_time=SERVICE_TIME, service_cv2=CV2, p_wait=0.29)
    assert compared(replace(twice_predicted, window=600)).verdict is Verdict.AGREES
    assert compared(replace(twice_predicted, window=6000)).verdict is Verdict.MORE_WAITS


def test_bursts_are_noticed_and_their_variation_is_estimated() -> None:
    comparison = compared(measured(4 * 3600, arrival_cv2=4))
    assert comparison.verdict is Verdict.MORE_WAITS
    assert comparison.bursts is not None
    assert 2 < comparison.bursts < 5
    assert "--arrival-cv2" in advice.comparison_text(comparison)


def test_the_estimated_bursts_make_the_model_agree() -> None:
    found = measured(4 * 3600, arrival_cv2=4)
    bursts = compared(found).bursts
    explained = gather({Source.OPTION: {"workers": 26, "speed_adjust": True, "arrival_cv2": bursts}})
    again = compare(found, explained)
    assert again is not None
    assert again.verdict is Verdict.AGREES


def test_more_waits_than_any_bursts_explain_are_put_down_to_something_else() -> None:
    found = Measured(rate=1, service_time=1, service_cv2=1, p_wait=0.9, window=36000)
    comparison = compared(found)
    assert comparison.bursts is None
    assert "Bursts alone do not explain it" in advice.comparison_text(comparison)


def test_fewer_waits_than_predicted_are_on_the_safe_side() -> None:
    found = Measured(rate=9.5, service_time=2.5, service_cv2=4, p_wait=0.1, window=36000)
    comparison = compared(found)
    assert comparison.verdict is Verdict.FEWER_WAITS
    assert "safe side" in advice.comparison_text(comparison)


def test_a_minute_says_nothing() -> None:
    comparison = compared(measured(60))
    assert comparison.verdict is Verdict.TOO_LITTLE
    assert "Too little" in advice.comparison_text(comparison)


def test_an_overloaded_pool_is_predicted_to_wait_without_end() -> None:
    found = Measured(rate=20, service_time=2.5, service_cv2=4, p_wait=0.99, mean_wait=40, window=36000)
    comparison = compared(found)
    assert comparison.verdict is Verdict.AGREES
    assert "mean wait 40s, model without end" in advice.comparison_text(comparison)


@pytest.mark.parametrize("missing", ["rate", "service_time", "p_wait", "window"])
def test_nothing_is_compared_where_a_figure_is_missing(missing: str) -> None:
    known = {"rate": RATE, "service_time": SERVICE_TIME, "p_wait": 0.1, "window": 3600.0}
    assert compare(Measured(**{**known, missing: None}), FIGURES) is None


def test_a_measured_rate_is_compared_without_its_growth() -> None:
    found = Measured(rate=RATE, service_time=SERVICE_TIME, service_cv2=CV2, p_wait=0.14, window=3600)
    assert compared(found).p_wait_predicted == Load(RATE, SERVICE_TIME, CV2).p_wait(26)


def test_the_curve_of_the_slots_tells_how_many_workers_were_needed() -> None:
    found = Measured(busy_peak=9, slot_sessions=(79, 64, 61, 43, 23, 14, 5, 1, 0, 0))
    assert list(advice.usage_texts(found, 10)) == [
        "Busy at once: 9 of 10 at the most.",
        "7 of 10 workers had 99% of the sessions.",
    ]
