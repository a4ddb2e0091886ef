"""Queueing: how often a connection has to wait for one of N workers, and for how long.

Erlang C for the share that waits, Hayward's change of scale where arrivals come in bursts, Allen and
Cunneen's factor for uneven session times. Held against simulation (benchmarks/simulation.py), the share is
right to a few per cent of itself, or too large where bursts meet a pool that is not busy; waits come out too
long, the more so the more workers there are. So sizing errs on the safe side.

A pool that is given more than it can do has no steady state: everybody waits, for ever, and the answers are 1
and infinity. Deliberately absent: the finite number of clients, deadlines and memory; they bound the pool in
other ways (`law`, `sizing`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

# A pool that is busier than this on average has no room for the error in the figures it was sized with.
MOST_UTILISATION = 0.85

# Steps of bisection: enough for every digit that is shown, from any starting interval.
_STEPS = 60


def erlang_b(servers: float, erlangs: float) -> float:
    """The share of arrivals that would find all servers busy, if none of them could wait."""
    if erlangs == 0:
        return 0.0 if servers else 1.0
    whole = math.floor(servers)
    part = servers - whole
    # Szybicki's rational function for less than two servers; at 0 and 1 it is exact, and the recursion that
    # starts from it needs no factorials.
    blocked = ((2 - part) * erlangs + erlangs**2) / (part + 2 * erlangs + erlangs**2)
    for count in range(1, whole + 1):
        blocked = erlangs * blocked / (count + part + erlangs * blocked)
    return blocked


def erlang_c(servers: float, erlangs: float) -> float:
    """The share of arrivals that has to wait for a server."""
    if erlangs >= servers:
        return 1.0
    blocked = erlang_b(servers, erlangs)
    return blocked / (1 - erlangs / servers * (1 - blocked))


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a pool. "cv2" is a squared coefficient of variation: variance over squared mean."""

    rate: float  # sessions a second
    service_time: float  # mean seconds a session holds a worker
    service_cv2: float = 1.0
    arrival_cv2: float = 1.0  # 1: independent arrivals (Poisson); more: bursts

    @property
    def erlangs(self) -> float:
        """How many workers are busy on average, if there are enough (Little's law)."""
        return self.rate * self.service_time

    def utilisation(self, workers: int) -> float:
        """The share of the time in which a worker is busy; above 1 is what cannot be."""
        return self.erlangs / workers if workers else math.inf

    def p_wait(self, workers: int) -> float:
        """The share of sessions that have to wait."""
        scale = self._burst_scale
        return erlang_c(workers / scale, self.erlangs / scale)

    def mean_wait(self, workers: int) -> float:
        """Seconds, over all sessions, those that do not wait included."""
        return self.p_wait(workers) * self._mean_wait_of_waiting(workers)

    def p_wait_beyond(self, workers: int, seconds: float) -> float:
        """The share of sessions that wait longer than this."""
        if self.erlangs >= workers:
            return 1.0
        mean = self._mean_wait_of_waiting(workers)
        return self.p_wait(workers) * (math.exp(-seconds / mean) if mean else 0.0)

    def wait_exceeded_by(self, share: float, workers: int) -> float:
        """The wait in seconds that this share goes beyond; 0.01 asks for the 99th percentile."""
        waiting = self.p_wait(workers)
        if waiting <= share:
            return 0.0
        return math.log(waiting / share) * self._mean_wait_of_waiting(workers)

    @property
    def _burst_scale(self) -> float:
        # Hayward: N workers under peaked traffic behave like N/z under Poisson traffic that is thinner by z.
        # For arrivals with independent gaps z is 1 + (cv2 - 1)/2, if sessions are exponential. Allen and
        # Cunneen leave the share that waits alone, so with them no burst could explain a measured one.
        # Smoother arrivals than Poisson's are not counted on.
        return max(1.0, (1 + self.arrival_cv2) / 2)

    def _mean_wait_of_waiting(self, workers: int) -> float:
        spare = workers - self.erlangs
        if spare <= 0:
            return math.inf
        return self.service_time / spare * (self.arrival_cv2 + self.service_cv2) / 2


@dataclass(frozen=True, slots=True)
class Comfort:
    """What is asked for: no more than `share` of the sessions waits longer than `wait` seconds."""

    wait: float
    share: float

    def is_met(self, load: Load, workers: int) -> bool:
        """Whether so many workers give it, none of them busier than is wise."""
        return (
            load.utilisation(workers) <= MOST_UTILISATION
            and load.p_wait_beyond(workers, self.wait) <= self.share
        )

    def workers_for(self, load: Load) -> int:
        """The fewest that give it."""
        too_few, enough = 0, max(1, math.ceil(load.erlangs))
        while not self.is_met(load, enough):
            too_few, enough = enough, 2 * enough
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            too_few, enough = (too_few, middle) if self.is_met(load, middle) else (middle, enough)
        return enough

    def longest_service_time(self, load: Load, workers: int) -> float:
        """The mean session time that so many workers could still bear at this rate, in seconds."""
        return _largest(
            lambda seconds: self.is_met(replace(load, service_time=seconds), workers), workers / load.rate
        )

    def highest_rate(self, load: Load, workers: int) -> float:
        """The rate that so many workers could still bear with sessions of this length."""
        return _largest(
            lambda rate: self.is_met(replace(load, rate=rate), workers), workers / load.service_time
        )


def _largest(is_met: Callable[[float], bool], limit: float) -> float:
    """The largest number below `limit` that meets a condition which all smaller ones meet, too."""
    met, unmet = 0.0, limit
    for _ in range(_STEPS):
        middle = (met + unmet) / 2
        met, unmet = (middle, unmet) if is_met(middle) else (met, middle)
    return met
