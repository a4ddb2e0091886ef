"""Live: what a running pool says of itself, as figures for sizing.

Read from the scoreboard in a runtime directory: since the pool was started, or between two looks. Nobody is
asked, so it works while every worker is busy and while the master hangs. A pool that has stopped is none, and
one that has held only a few sessions says nothing that a number of workers could be computed from.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from bqfilter.saturation.reader import Board, Life, Snapshot
from bqfilter.saturation.report import Period, measured
from bqfilter.saturation.sizing import Measured
from bqfilter.scoreboard import MasterWord

# Fewer sessions than this have no mean worth the name.
FEWEST_SESSIONS = 100

_RUNNING = (Life.RUNNING, Life.HUNG)


@dataclass(frozen=True, slots=True)
class Live:
    """A pool that runs with so many `workers`, and what was measured there.

    `is_whole`: since the start, and not between two looks; `has_changed`: a reload has come in between, so
    the measurement may be that of other settings.
    """

    measured: Measured
    workers: int
    is_whole: bool
    has_changed: bool

    @property
    def is_enough(self) -> bool:
        """There is something to compute with."""
        return (self.measured.sessions or 0) >= FEWEST_SESSIONS


def look(directory: str, over: float, sleep: Callable[[float], None] = time.sleep) -> Live | None:
    """The pool of this runtime directory, None where none runs; `over` 0 looks back to its start.

    Raises OSError or ValueError where there is something that cannot be read.
    """
    try:
        board = Board.open(directory)
    except FileNotFoundError:
        return None
    earlier = board.snapshot() if over else None
    sleep(over)
    later = board.snapshot()
    if later.life not in _RUNNING or not later.worker_limit:
        return None
    found = Measured.parse(measured(Period(later, earlier), later))
    return Live(found, later.worker_limit, earlier is None, _has_changed(later, earlier))


def _has_changed(later: Snapshot, earlier: Snapshot | None) -> bool:
    first = earlier.header[MasterWord.GENERATION] if earlier else 1
    return later.header[MasterWord.GENERATION] != first
