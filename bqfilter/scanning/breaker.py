"""Breaker: a scanner that fails time and again is left alone for a while, by the whole pool.

Without it, a scanner that is down or hangs costs every message its timeout. Failures are counted over all
workers since the last answer that any of them had. At `failures` of them the breaker is open, and the scanner
is not asked; `retry` seconds after the last one a single worker asks it again: one answer closes the breaker,
one failure keeps it open as long again. Nobody else asks while that worker waits, for as long as it may wait:
so a scanner that hangs costs one worker at a time and not the pool. Workers tell each other by words in
shared memory of which each has one writer, so the count can be off by the failures of a moment, and two may
probe at once; neither matters.

Only failures that say something about the scanner count: see `is_its_fault`. The runner does not count that
one was too slow in the little time that others had left it.
"""

from enum import StrEnum

from bqfilter.errors import BqfilterError, ConversationLost
from bqfilter.net.deadline import Clock
from bqfilter.scanning.board import Place, ScannerWord


class State(StrEnum):
    """What the breaker says."""

    CLOSED = "closed"  # the scanner is asked
    OPEN = "open"  # it is left alone
    PROBING = "probing"  # it is time to try it again


def is_its_fault(failure: BqfilterError | OSError) -> bool:
    """A scanner that cannot be talked to, and not one that finds fault with a message."""
    return isinstance(failure, ConversationLost)


def state_of(
    place: Place, failures: int, retry: float, now: float, slots: int, timeout: float = 0.0
) -> State:
    """From the words of the first `slots` slots; `failures` 0 is a breaker that never opens.

    `timeout` is how long an attempt may take; an onlooker that does not know it may see the next one as due
    while one is under way.
    """
    if not failures:
        return State.CLOSED
    failed_at = place.latest(ScannerWord.FAILED_AT, slots)
    if place.own.seconds(ScannerWord.SUCCEEDED_AT) >= failed_at:  # as nearly always: no more need be read
        return State.CLOSED
    answered_at = place.latest(ScannerWord.SUCCEEDED_AT, slots)
    if place.failures_since(answered_at, slots) < failures:
        return State.CLOSED
    probed_at = place.latest(ScannerWord.PROBED_AT, slots)
    is_under_way = probed_at > failed_at  # or its worker is dead, or it ended in something else
    until = probed_at + max(retry, timeout) if is_under_way else failed_at + retry
    return State.OPEN if now < until else State.PROBING


class Breaker:
    """One scanner's breaker, in one worker; `slots` is how many slots of its place are looked at.

    `retry` and `timeout` are seconds: between attempts, and what one may take.
    """

    def __init__(
        self, place: Place, failures: int, retry: float, clock: Clock, slots: int, timeout: float = 0.0
    ) -> None:
        self._place = place
        self._failures = failures
        self._retry = retry
        self._clock = clock
        self._slots = slots
        self._timeout = timeout

    def allows(self) -> bool:
        """May the scanner be asked now? A yes while it was left alone is a probe, and this worker's."""
        now = self._clock()
        state = state_of(self._place, self._failures, self._retry, now, self._slots, self._timeout)
        if state is State.PROBING:
            self._place.own.set_seconds(ScannerWord.PROBED_AT, now)
        return state is not State.OPEN

    def answered(self) -> None:
        """It has answered, whatever it said."""
        self._place.own.set_seconds(ScannerWord.SUCCEEDED_AT, self._clock())
        self._place.own[ScannerWord.STREAK] = 0

    def failed(self) -> None:
        """It could not be talked to."""
        own = self._place.own
        is_first = own.seconds(ScannerWord.FAILED_AT) <= self._place.latest(
            ScannerWord.SUCCEEDED_AT, self._slots
        )
        own[ScannerWord.STREAK] = 1 if is_first else own[ScannerWord.STREAK] + 1
        own.set_seconds(ScannerWord.FAILED_AT, self._clock())
