"""Comparison: whether a live pool behaves as the model says that it should.

A model that does not describe today's waits must not be trusted with tomorrow's workers. Compared is the
share of connections that had to wait, which is counted and not estimated; how much of it may be chance
follows from the length of the window. Where more wait than the model has it, `bursts` is the variation of
the arrivals that would explain it. A window that says too little is no error, it is a verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

from bqfilter.saturation.queueing import Load
from bqfilter.saturation.sizing import Figures, Measured

# A difference of less than this many standard errors is put down to chance...
_STANDARD_ERRORS = 3.0
# ... and one within both of these is none, however long was measured: the model is no better than that.
_SMALLEST_DIFFERENCE = 0.02
_SMALLEST_RATIO = 1.5

# In a window of fewer independent looks at the pool than this, nothing can be said.
_FEWEST_LOOKS = 20

_MOST_BURSTS = 50.0


class Verdict(Enum):
    """How measurement and model go together."""

    AGREES = "agrees"
    MORE_WAITS = "more waits than predicted"
    FEWER_WAITS = "fewer waits than predicted"
    TOO_LITTLE = "too little measured"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Measurement and model side by side for `workers` workers; waits in seconds."""

    verdict: Verdict
    workers: int
    p_wait_measured: float
    p_wait_predicted: float
    mean_wait_measured: float | None
    mean_wait_predicted: float | None  # None: without end
    bursts: float | None = None  # the arrival_cv2 with which the model would agree, if there is one


def compare(measured: Measured, figures: Figures) -> Comparison | None:
    """Measurement beside model, or None where one of the two does not say enough."""
    load = _measured_load(measured, figures)
    if load is None or measured.p_wait is None or measured.window is None or not figures.workers:
        return None
    verdict = _judge(measured.p_wait, measured.window, load, figures.workers)
    mean_wait = load.mean_wait(figures.workers)
    return Comparison(
        verdict=verdict,
        workers=figures.workers,
        p_wait_measured=measured.p_wait,
        p_wait_predicted=load.p_wait(figures.workers),
        mean_wait_measured=measured.mean_wait,
        mean_wait_predicted=mean_wait if math.isfinite(mean_wait) else None,
        bursts=_bursts(measured.p_wait, load, figures.workers) if verdict is Verdict.MORE_WAITS else None,
    )


def _measured_load(measured: Measured, figures: Figures) -> Load | None:
    """What was asked of the pool in the window itself: no growth, and with uploads where it had them."""
    if not measured.rate or not measured.service_time:
        return None
    cv2 = figures.service_cv2 if measured.service_cv2 is None else measured.service_cv2
    return Load(measured.rate, measured.service_time, cv2, figures.arrival_cv2)


def _judge(p_wait: float, window: float, load: Load, workers: int) -> Verdict:
    looks = window / _memory_of(load)
    if looks < _FEWEST_LOOKS:
        return Verdict.TOO_LITTLE
    predicted = load.p_wait(workers)
    error = math.sqrt(max(predicted * (1 - predicted), p_wait * (1 - p_wait)) / looks)
    if abs(p_wait - predicted) <= max(_STANDARD_ERRORS * error, _tolerance(p_wait, predicted)):
        return Verdict.AGREES
    return Verdict.MORE_WAITS if p_wait > predicted else Verdict.FEWER_WAITS


def _tolerance(p_wait: float, predicted: float) -> float:
    return max(_SMALLEST_DIFFERENCE, (_SMALLEST_RATIO - 1) * min(p_wait, predicted))


def _memory_of(load: Load) -> float:
    """For how many seconds a pool remembers how full it was; waits closer together count as one.

    Sessions that are seen under way last longer than the average one, by (1 + cv2)/2; twice that time parts
    two looks which have nothing to do with each other.
    """
    return load.service_time * (1 + load.service_cv2)


def _bursts(p_wait: float, load: Load, workers: int) -> float | None:
    smooth, bursty = load.arrival_cv2, _MOST_BURSTS
    if load.erlangs >= workers or replace(load, arrival_cv2=bursty).p_wait(workers) < p_wait:
        return None
    while bursty - smooth > 0.01:
        middle = (smooth + bursty) / 2
        explains = replace(load, arrival_cv2=middle).p_wait(workers) >= p_wait
        smooth, bursty = (smooth, middle) if explains else (middle, bursty)
    return bursty
