"""Where a session's time goes: one stage at a time, each instant in exactly one of them.

Whoever is about to wait says for what. The ledger adds up the seconds of each stage for the log line and
passes the news on, one way, to whoever publishes it (the scoreboard, the process title); nothing that a
session does depends on them.
"""

from collections.abc import Callable
from enum import IntEnum
from operator import add

from bqfilter.net.deadline import Clock


class Stage(IntEnum):
    """What a worker is waiting for. The numbers are part of the scoreboard's layout."""

    IDLE = 0  # no connection
    GREETING = 1  # client: from accept to MAIL
    ENVELOPE = 2  # client: from MAIL to DATA
    DATA = 3  # client: content
    FILTER = 4  # scanners
    UPSTREAM_CONNECT = 5  # after-filter server: connection, greeting, EHLO
    UPSTREAM_WAIT = 6  # after-filter server: replies to XFORWARD, MAIL and RCPT
    HANDOVER = 7  # after-filter server: DATA, content, final reply


STAGES = tuple(Stage)
STAGE_NAMES = tuple(stage.name.lower() for stage in STAGES)

Report = Callable[[Stage, float, float], None]
"""Called with the stage entered, the instant, and the instant by which it must be left."""


class Ledger:
    """Adds up seconds per stage, from the moment it is made; `totals` has those that were taken."""

    __slots__ = ("_clock", "_is_held", "_report", "_since", "_spent", "stage", "totals")

    def __init__(self, clock: Clock, report: Report) -> None:
        self._clock = clock
        self._report = report
        self._spent = [0.0] * len(STAGES)
        self._since = clock()
        self._is_held = False
        self.stage = Stage.IDLE
        self.totals = [0.0] * len(STAGES)

    def enter(self, stage: Stage, until: float) -> None:
        """From now on time counts for `stage`, which must be over at the instant `until`."""
        if self._is_held:
            return
        now = self._clock()
        self._spent[self.stage] += now - self._since
        self._since = now
        self.stage = stage
        self._report(stage, now, until)

    def hold(self) -> None:
        """Whatever is entered until time is taken next is part of the present stage."""
        self._is_held = True

    @property
    def is_held(self) -> bool:
        """Since `hold`, no time has been taken."""
        return self._is_held

    def take(self) -> dict[Stage, float]:
        """Seconds per stage since the last call, stages without any left out; counting starts anew."""
        spent = self.settle()
        return {stage: seconds for stage, seconds in zip(STAGES, spent, strict=True) if seconds > 0}

    def settle(self) -> list[float]:
        """The same with all stages, by their numbers; `totals` have them from now on."""
        now = self._clock()
        self._is_held = False
        self._spent[self.stage] += now - self._since
        self._since = now
        spent, self._spent = self._spent, [0.0] * len(STAGES)
        self.totals = list(map(add, self.totals, spent))
        return spent
