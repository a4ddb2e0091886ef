"""Reach: whether the after-filter server is there, as far as load balancers have to know.

The workers' counters tell when it has gone: several times no connection to it came about, and none did in
between. When it is back they cannot tell, because a machine that is said to be down gets no mail to try it
with. So from then on it is called once a second, without a message, until it answers EHLO.
"""

from collections.abc import Callable

from bqfilter.log import Log
from bqfilter.scoreboard import UPSTREAM_READY, Scoreboard, Word

INTERVAL = 1.0  # seconds between two looks
_FAILURES = 3  # in a row: one may be a process that the after-filter server was just short of


class Reach:
    """The after-filter server of one pool. `call` asks whether it answers; it may take its time."""

    def __init__(self, scoreboard: Scoreboard, call: Callable[[], bool], log: Log) -> None:
        self._scoreboard = scoreboard
        self._call = call
        self._log = log
        self._failures, self._successes = self._count()
        self._streak = 0
        self.is_gone = False

    def look(self) -> None:
        """Once every INTERVAL, in a thread of its own."""
        failures, successes = self._count()
        if successes > self._successes:
            self._streak = 0
        else:
            self._streak += failures - self._failures
        self._failures, self._successes = failures, successes
        if not self.is_gone and self._streak >= _FAILURES:
            self.is_gone = True
            self._log.warning("after-filter server is gone, load balancers are told", failures=self._streak)
        elif self.is_gone and self._call():
            self._streak, self.is_gone = 0, False
            self._log.info("after-filter server is back, load balancers are told")

    def _count(self) -> tuple[int, int]:
        """How often no connection came about, and how often one did, over all slots."""
        failures = successes = 0
        for slot in self._scoreboard.slots:
            if not slot[Word.GENERATION]:  # nor has anybody been in those behind it
                break
            failures += slot[Word.UNREACHED]
            successes += sum(slot.buckets(UPSTREAM_READY))
        return failures, successes
