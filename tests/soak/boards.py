"""The scoreboard of a pool that is being killed, and what a worker was doing when it fell.

A victim is stopped before it is killed, for as long as it takes to read its slot: so what is read is what it
was doing when it died, and not what it did a moment before.
"""

import mmap
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bqfilter.ledger import Stage
from bqfilter.scoreboard import FILE_NAME, Header, Layout, Slot, State, Word, Words
from tests.pool.daemon import is_gone, status_of

_LOOK_INTERVAL = 0.002  # seconds


@dataclass(frozen=True, slots=True)
class Fall:
    """A worker that was killed: what it was doing, for the remote client of this address ("" for none)."""

    pid: int
    state: State
    stage: Stage
    client: str
    session: str  # its name in the log
    by_aim: bool = False  # picked for its stage, not by chance
    is_orphan: bool = False  # its master was dead already


class Board:
    """The scoreboard of the master that runs now; it can be looked at even after that one is dead."""

    def __init__(self, directory: Path, workers: int) -> None:
        self._workers = workers
        with (directory / FILE_NAME).open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        header = Words(view[:4096])
        layout = Layout(header[Header.SLOT_COUNT], header[Header.LISTENER_COUNT])
        self.master = header[Header.MASTER_PID]
        # The lowest free slot is taken first, so the others are never used.
        self._slots = [Slot(view[layout.slot(index)], index) for index in range(4 * workers)]

    def serving(self) -> dict[int, Slot]:
        """Workers that wait for a connection or have one, by their pid."""
        return {slot[Word.PID]: slot for slot in self._slots if slot.state in (State.IDLE, State.BUSY)}

    def at(self, stage: Stage) -> dict[int, Slot]:
        """Workers in this stage of a session."""
        return {pid: slot for pid, slot in self.serving().items() if slot.stage is stage}

    def jobs(self, slot: Slot) -> int:
        """Sessions held by the process that is in the slot now."""
        return slot[Word.JOBS]

    def is_full(self, but_for: set[int]) -> bool:
        """As many workers serve as there should be, those that have fallen not counted."""
        return len(self.serving().keys() - but_for) >= self._workers

    def kill(self, victims: dict[int, Slot]) -> list[Fall]:
        """Kill these workers all at once; those that were gone already are left out."""
        stopped = {pid: slot for pid, slot in victims.items() if _stop(pid)}
        falls = [_looked_at(pid, slot) for pid, slot in stopped.items()]
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
        return falls


def _looked_at(pid: int, slot: Slot) -> Fall:
    return Fall(pid, slot.state, slot.stage, slot.client, f"{slot[Word.SESSION]:X}")


def wait_for(condition: Callable[[], bool], limit: float) -> float | None:
    """Look again and again; the seconds until it came true, None where it did not."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + limit:
            return None
        time.sleep(_LOOK_INTERVAL)
    return time.monotonic() - began


def _stop(pid: int) -> bool:
    """Return when it executes nothing more; False where it has ended."""
    try:
        os.kill(pid, signal.SIGSTOP)
        while not is_gone(pid):
            if status_of(pid)["State"][0] == "T":
                return True
    except ProcessLookupError:
        pass
    return False
