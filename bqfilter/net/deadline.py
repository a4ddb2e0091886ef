"""Deadline: an instant on a clock. It is passed down, never restarted on the way.

A timeout per system call lets a peer that sends one byte a second live for ever; a deadline is made once,
when the phase begins, and every read and write of that phase asks it how much is left. The clock comes from
outside (`time.monotonic` in the daemon), so tests move time instead of waiting for it.
"""

import math
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since some fixed moment, never going backwards."""


class Deadline:
    """The instant `at`, in seconds on `clock`."""

    __slots__ = ("_clock", "at")

    def __init__(self, clock: Clock, at: float) -> None:
        self._clock = clock
        self.at = at

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> "Deadline":
        """The instant `seconds` from now."""
        return cls(clock, clock() + seconds)

    @classmethod
    def never(cls, clock: Clock) -> "Deadline":
        """An instant that does not come."""
        return cls(clock, math.inf)

    def remaining(self) -> float:
        """Seconds left; zero or less when it has passed."""
        return self.at - self._clock()

    @property
    def has_passed(self) -> bool:
        """Nothing is left."""
        return self.at <= self._clock()

    def within(self, seconds: float) -> "Deadline":
        """The earlier one of this and `seconds` from now: a phase's own limit inside a larger budget."""
        return Deadline(self._clock, min(self.at, self._clock() + seconds))
