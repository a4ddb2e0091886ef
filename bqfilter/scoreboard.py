"""Scoreboard: shared memory in which each worker says what it is doing, for the master and for onlookers.

Layout (version 1; native byte order; every word is 8 bytes, aligned, written with one store):

    0      magic "BQFILTER", version, slot count, master's pid, instant of creation (CLOCK_MONOTONIC seconds)
    4096   slots of 1024 bytes; the words of a slot are listed in `Word`

One writer a word: the worker in a slot writes that slot; the master writes it only before the worker is
forked and after it has been reaped. Counters belong to the slot, not to the process, so a sum over
all slots never goes down. A worker that is killed half way loses one increment at the most.

The file lies in the runtime directory so that others can map it read-only, even while the master hangs or is
dead. Where it cannot be made, the same memory is anonymous: statistics never stop mail.
"""

import mmap
import os
import time
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

from bqfilter.ledger import Stage

MAGIC = int.from_bytes(b"BQFILTER", "little")
VERSION = 1
FILE_NAME = "scoreboard"

_HEADER_BYTES = 4096
_SLOT_BYTES = 1024


class State(IntEnum):
    """What a slot's worker is, as a whole."""

    FREE = 0  # no worker
    STARTING = 1
    IDLE = 2  # waits for a connection
    BUSY = 3
    LEAVING = 4  # finishes what it has, then exits


class Word(IntEnum):
    """The words of a slot; "seconds" are doubles on CLOCK_MONOTONIC, all others unsigned integers."""

    PID = 0
    GENERATION = 1  # of the settings the worker runs with
    STATE = 2
    STAGE = 3
    STAGE_SINCE = 4  # seconds
    SESSION_SINCE = 5  # seconds; 0 without a session
    UNTIL = 6  # seconds: the stage must be over by then; 0 without a limit
    JOBS = 7  # sessions held by the present process
    SESSIONS = 16  # counters, from here on
    QUEUED = 17  # accepted while the worker had not gone idle in between
    ABANDONED = 18  # closed by the client before it was greeted
    DENIED = 19  # peers outside `allow`
    ACCEPTED = 20  # messages, by Result
    REJECTED = 21
    TEMPFAILED = 22
    OUTCOME_UNKNOWN = 23
    CLIENT_ABORT = 24
    WAIT_SECONDS = 25  # seconds in the accept queue, summed over TCP connections
    BUSY_SECONDS = 26  # seconds with a session, summed
    STAGE_SECONDS = 32  # seconds per stage, summed: this word plus the stage's number


# The words that are written with every stage, many times a message, as plain numbers.
_STAGE, _STAGE_SINCE, _UNTIL = int(Word.STAGE), int(Word.STAGE_SINCE), int(Word.UNTIL)


class Slot:
    """One worker's kilobyte. Methods in the past tense are for the master, the others for the worker."""

    __slots__ = ("_counts", "_seconds", "index")

    def __init__(self, memory: memoryview, index: int) -> None:
        self.index = index
        self._counts = memory.cast("Q")
        self._seconds = memory.cast("d")

    def __getitem__(self, word: Word) -> int:
        return int(self._counts[word])

    def seconds(self, word: Word) -> float:
        """A word that holds seconds."""
        return float(self._seconds[word])

    @property
    def state(self) -> State:
        """What the worker is."""
        return State(self._counts[Word.STATE])

    @property
    def stage(self) -> Stage:
        """What the worker waits for."""
        return Stage(self._counts[Word.STAGE])

    def was_given(self, generation: int) -> None:
        """In the master, before the fork: a worker is about to move in."""
        self._counts[Word.PID] = 0
        self._counts[Word.GENERATION] = generation
        self._counts[Word.JOBS] = 0
        self._clear(State.STARTING)

    def was_vacated(self) -> None:
        """In the master, after the worker was reaped."""
        self._counts[Word.PID] = 0
        self._clear(State.FREE)

    def move_in(self, pid: int) -> None:
        """In the worker, first thing."""
        self._counts[Word.PID] = pid

    def wait(self) -> None:
        """In the worker: no session."""
        self._clear(State.IDLE)

    def leave(self) -> None:
        """In the worker: about to exit."""
        self._counts[Word.STATE] = State.LEAVING

    def begin(self, now: float, waited: float | None, is_queued: bool) -> None:
        """In the worker: a connection was accepted."""
        counts = self._counts
        counts[Word.SESSIONS] += 1
        counts[Word.QUEUED] += is_queued
        self._seconds[Word.WAIT_SECONDS] += waited or 0.0
        self._seconds[Word.SESSION_SINCE] = now
        counts[Word.STATE] = State.BUSY

    def enter(self, stage: Stage, now: float, until: float) -> None:
        """In the worker: the session enters a stage that must be over at the instant `until`."""
        self._counts[_STAGE] = stage
        self._seconds[_STAGE_SINCE] = now
        self._seconds[_UNTIL] = until

    def end(self, now: float, stage_seconds: Iterable[float] = ()) -> None:
        """In the worker: the session is over; it spent these seconds in each stage."""
        self.enter(Stage.IDLE, now, 0.0)
        for word, seconds in enumerate(stage_seconds, start=Word.STAGE_SECONDS):
            self._seconds[word] += seconds
        self._seconds[Word.BUSY_SECONDS] += now - self._seconds[Word.SESSION_SINCE]
        self._seconds[Word.SESSION_SINCE] = 0.0
        self._counts[Word.JOBS] += 1

    def count(self, word: Word) -> None:
        """In the worker: one more."""
        self._counts[word] += 1

    def _clear(self, state: State) -> None:
        self._counts[Word.STATE] = state
        self._counts[Word.STAGE] = Stage.IDLE
        self._seconds[Word.SESSION_SINCE] = 0.0
        self._seconds[Word.UNTIL] = 0.0


class Scoreboard:
    """The master's mapping of all slots."""

    def __init__(self, memory: mmap.mmap, slot_count: int) -> None:
        self._memory = memory
        view = memoryview(memory)
        self.slots = [
            Slot(view[start : start + _SLOT_BYTES], index)
            for index, start in enumerate(range(_HEADER_BYTES, size_of(slot_count), _SLOT_BYTES))
        ]

    @classmethod
    def in_file(cls, directory: str, slot_count: int) -> "Scoreboard":
        """A new scoreboard file in `directory`, put in place in one step. Raises OSError."""
        path = Path(directory) / FILE_NAME
        scratch = path.with_suffix(".new")
        fd = create_file(scratch, 0o640)
        try:
            # Room is taken now: a tmpfs that is full later must not kill whoever touches the page (SIGBUS).
            os.posix_fallocate(fd, 0, size_of(slot_count))
            memory = mmap.mmap(fd, size_of(slot_count))
        finally:
            os.close(fd)
        _write_header(memory, slot_count)
        scratch.rename(path)
        return cls(memory, slot_count)

    @classmethod
    def anonymous(cls, slot_count: int) -> "Scoreboard":
        """The same, seen by the master and its children only."""
        memory = mmap.mmap(-1, size_of(slot_count))
        _write_header(memory, slot_count)
        return cls(memory, slot_count)


def create_file(path: Path, mode: int) -> int:
    """A new file, whatever stood there before; its descriptor. Raises OSError.

    The directory belongs to the workers' account while the master may be root: no link that somebody put
    there is followed, and no file that somebody else holds open is written.
    """
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def size_of(slot_count: int) -> int:
    """Bytes of a scoreboard with this many slots."""
    return _HEADER_BYTES + slot_count * _SLOT_BYTES


def _write_header(memory: mmap.mmap, slot_count: int) -> None:
    words = memoryview(memory)[:64].cast("Q")
    words[1], words[2], words[3] = VERSION, slot_count, os.getpid()
    memoryview(memory)[:64].cast("d")[4] = time.monotonic()
    words[0] = MAGIC
