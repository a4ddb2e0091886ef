"""The saturation line in the log: all workers busy, since when, with what, who waits, and what to do.

Called in the master with every turn of its loop. As long as somebody is idle that costs a look at one byte a
slot; the kernel is asked for the queues only when there is a line to write. That is when the pool has been
full for a moment, then once a minute while it lasts, and there is another when it is over.
"""

from bqfilter.log import Log
from bqfilter.saturation.queues import QueueProbe
from bqfilter.saturation.reader import Board, queues
from bqfilter.saturation.report import Verdict, duration, verdict
from bqfilter.scoreboard import Scoreboard

_LOOK_INTERVAL = 1.0  # seconds
_WORTH_A_LINE = 2.0  # seconds: a pool that is full for shorter does what it is for
_REPEAT_AFTER = 60.0  # seconds


class SaturationWarning:
    """Watches one scoreboard."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self._board = Board(scoreboard.view)
        self._probe = QueueProbe()
        self._looked_at = 0.0
        self._warned_at = -_REPEAT_AFTER
        self._full_since: float | None = None  # since when, if it has been said

    def look(self, now: float, log: Log) -> None:
        """Say it if it is time to say something."""
        if not self._scoreboard.is_exhausted:
            self._relieve(now, log)
        elif now - self._looked_at >= _LOOK_INTERVAL:
            self._looked_at = now
            self._warn(now, log)

    def _warn(self, now: float, log: Log) -> None:
        if now - self._warned_at < _REPEAT_AFTER:
            return
        snapshot = self._board.snapshot()
        exhausted_for = snapshot.exhausted_for
        if exhausted_for is None or exhausted_for < _WORTH_A_LINE:
            return
        self._warned_at = now
        if self._full_since is None:
            self._full_since = now - exhausted_for
        _write(verdict(snapshot, queues(snapshot, self._probe)), log)
        self._probe.close()  # or every worker forked from now on would inherit it

    def _relieve(self, now: float, log: Log) -> None:
        if self._full_since is not None:
            log.info("pool has room again", after=duration(now - self._full_since))
            self._full_since = None


def _write(found: Verdict, log: Log) -> None:
    log.warning(
        "pool saturated",
        busy=f"{found.busy}/{found.limit}",
        **{"for": duration(found.exhausted_for)},
        oldest=found.oldest_words or None,
        waiting="unknown" if found.waiting is None else found.waiting,
        longest_wait=duration(found.oldest_wait) if found.waiting else None,
        remedy=found.remedy or None,
    )
