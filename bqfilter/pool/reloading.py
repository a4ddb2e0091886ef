"""Reloading from outside: ask a running master to read its settings again, and wait for what comes of it.

The master is asked by SIGHUP; what it makes of that stands in the scoreboard. Nothing is promised about a
master that hangs: then the time is over. What was wrong with the settings is not told here, but in its log.
"""

import os
import signal
import time
from collections.abc import Callable
from enum import Enum

from bqfilter.saturation.reader import Board, Life, Snapshot
from bqfilter.scoreboard import Header, MasterWord, State, Word

_LOOK_INTERVAL = 0.05  # seconds
_UP = (State.IDLE, State.BUSY)


class Outcome(Enum):
    """What has come of it."""

    IN_FORCE = "in force"  # as many workers as wanted have the new settings, and no other one waits for mail
    REFUSED = "refused"  # the old ones stay
    UNFINISHED = "unfinished"  # not yet either of these
    NOBODY = "nobody"  # there is no master to ask


def reload(board: Board, timeout: float, sleep: Callable[[float], None] = time.sleep) -> Outcome:
    """Have the master of this scoreboard reload, and wait so many seconds. Raises OSError: not permitted."""
    before = board.snapshot()
    if before.life not in (Life.RUNNING, Life.HUNG):
        return Outcome.NOBODY
    os.kill(before.header[Header.MASTER_PID], signal.SIGHUP)
    until = time.monotonic() + timeout
    while True:
        outcome = _outcome(before, board.snapshot())
        if outcome is not Outcome.UNFINISHED or time.monotonic() > until:
            return outcome
        sleep(_LOOK_INTERVAL)


def _outcome(before: Snapshot, now: Snapshot) -> Outcome:
    if now.header[MasterWord.FAILED_RELOADS] > before.header[MasterWord.FAILED_RELOADS]:
        return Outcome.REFUSED
    generation = now.header[MasterWord.GENERATION]
    if generation == before.header[MasterWord.GENERATION]:
        return Outcome.UNFINISHED
    up = sum(1 for slot in now.slots if slot[Word.GENERATION] == generation and slot.state in _UP)
    elders = any(slot[Word.GENERATION] != generation and slot.state is State.IDLE for slot in now.slots)
    return Outcome.UNFINISHED if elders or up < now.worker_limit else Outcome.IN_FORCE
