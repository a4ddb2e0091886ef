"""Breaker: what fails time and again is left alone for a while, by the whole pool: a scanner, a server.

Without it, a scanner that is down or hangs costs every message its timeout. Failures are counted over all
workers since the last answer that any of them had. At `failures` of them the breaker is open, and nobody
asks; after a pause a single worker asks again: one answer closes the breaker, one failure keeps it open. The
pause is `retry` seconds, or where that is less than `longest` grows with the time for which it has been
failing. Nobody else asks while that worker waits, for as long as it may wait: so a scanner that hangs costs
one worker at a time and not the pool. Workers tell each other by words in shared memory of which each has one
writer, so the count can be off by the failures of a moment, and two may probe at once; neither matters.

What counts as a failure is for the caller to say.
"""

from enum import StrEnum

from bqfilter.net.deadline import Clock
from bqfilter.places import HealthWord, Place, Terms


class State(StrEnum):
    """What the breaker says."""

    CLOSED = "closed"  # it is asked
    OPEN = "open"  # it is left alone
    PROBING = "probing"  # it is time to try it again


def state_of(place: Place, terms: Terms, now: float, rows: int, timeout: float = 0.0) -> State:
    """From the words of the first `rows` rows; `failures` 0 is a breaker that never opens.

    `timeout` is how long an attempt may take; an onlooker that does not know it may see the next one as due
    while one is under way.
    """
    if not terms.failures:
        return State.CLOSED
    failed_at = place.latest(HealthWord.FAILED_AT, rows)
    if place.own.seconds(HealthWord.SUCCEEDED_AT) >= failed_at:  # as nearly always: no more need be read
        return State.CLOSED
    answered_at = place.latest(HealthWord.SUCCEEDED_AT, rows)
    if place.failures_since(answered_at, rows) < terms.failures:
        return State.CLOSED
    pause = terms.pause(failed_at - place.failing_since(answered_at, rows))
    probed_at = place.latest(HealthWord.PROBED_AT, rows)
    is_under_way = probed_at > failed_at  # or its worker is dead, or it ended in something else
    until = probed_at + max(pause, timeout) if is_under_way else failed_at + pause
    return State.OPEN if now < until else State.PROBING


def failing_since(place: Place, rows: int) -> float:
    """When the first failure after the last answer was; 0 where nothing has failed since."""
    return place.failing_since(place.latest(HealthWord.SUCCEEDED_AT, rows), rows)


class Breaker:
    """One breaker, in one process; `rows` is how many rows of its place are looked at.

    `timeout` is how many seconds an attempt may take.
    """

    def __init__(self, place: Place, terms: Terms, clock: Clock, rows: int, timeout: float = 0.0) -> None:
        self._place = place
        self._terms = terms
        self._clock = clock
        # After a reload with fewer workers ours may be a row behind those of the pool.
        self._rows = min(max(rows, place.index + 1), place.row_count)
        self._timeout = timeout

    @property
    def state(self) -> State:
        """What it says, for whoever only looks."""
        return state_of(self._place, self._terms, self._clock(), self._rows, self._timeout)

    @property
    def failing_since(self) -> float:
        """When the first failure after the last answer was; 0 where nothing has failed since."""
        return failing_since(self._place, self._rows)

    def allows(self) -> bool:
        """May it be asked now? A yes while it was left alone is a probe, and this worker's."""
        state = self.state
        if state is State.PROBING:
            self.probe()
        return state is not State.OPEN

    def probe(self) -> None:
        """It is tried now: all others shall wait for what comes of it."""
        self._place.own.set_seconds(HealthWord.PROBED_AT, self._clock())

    def withdraw(self) -> None:
        """Nothing came of the attempt, good or bad: somebody else may make one."""
        self._place.own.set_seconds(HealthWord.PROBED_AT, 0.0)

    def answered(self) -> None:
        """It has answered, whatever it said."""
        self._place.own.set_seconds(HealthWord.SUCCEEDED_AT, self._clock())
        self._place.own[HealthWord.STREAK] = 0

    def failed(self) -> None:
        """It could not be talked to."""
        own, now = self._place.own, self._clock()
        answered_at = self._place.latest(HealthWord.SUCCEEDED_AT, self._rows)
        if own.seconds(HealthWord.FAILED_AT) <= answered_at:
            own[HealthWord.STREAK] = 0
            own.set_seconds(HealthWord.FAILING_SINCE, now)
        own[HealthWord.STREAK] += 1
        own.set_seconds(HealthWord.FAILED_AT, now)
