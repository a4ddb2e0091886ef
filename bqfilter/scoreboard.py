"""Scoreboard: shared memory in which each process says what it is doing, for the master and for onlookers.

Layout (version 3; native byte order; every word is 8 bytes, aligned, written with one store):

    0       header: words 0 to 7 say what this is (`Header`); the master's words (`MasterWord`) and the
            exporter's (`ExporterWord`) follow; at 3072 one byte for each slot, its `State`
    4096    slots of 1024 bytes; the words of a slot are listed in `Word`, its histograms behind them
    then    listeners, 256 bytes each: inode, family, and the address as text
    then    tallies of 1024 bytes (`TallyWord`): for each slot, and one more for the exporter, as many as
            there are listeners
    then    what scanners need (`bqfilter.scanning.board`), for `Header.SCANNER_PLACES` of them
    then    what is known of after-filter servers (`bqfilter.upstream.board`), for `Header.UPSTREAM_PLACES`

One writer a word: the worker in a slot writes that slot, its byte and its tallies; the master writes them
only before the worker is forked and after it has been reaped. Counters belong to the slot, not to the
process, so a sum over all slots never goes down. A worker killed half way loses one increment at the most.

Words that go together are written between two increments of SEQUENCE, so a reader who finds it odd, or
changed, looks again. A stage and its instants are written without, because that happens many times a message:
there two equal looks do. Histograms hold a count for each bucket, not cumulative, the last one without a
bound; how many there were is their sum, so the two always agree.

The file lies in the runtime directory so that others can map it read-only, even while the master hangs or is
dead. Where it cannot be made, the same memory is anonymous: statistics never stop mail.
"""

import mmap
import os
import socket
import struct
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from bqfilter.ledger import STAGES, Stage

MAGIC = int.from_bytes(b"BQFILTER", "little")
VERSION = 3
FILE_NAME = "scoreboard"
MAX_SLOTS = 1024  # a byte for each fits behind the other words of the header

_HEADER_BYTES = 4096
_STATES_AT = 3072
_SLOT_BYTES = 1024
_LISTENER_BYTES = 256
_TALLY_BYTES = 1024
SCANNER_PLACE_BYTES = 72  # of each scanner, for its name
SCANNER_RECORD_BYTES = 136  # of each scanner and slot
UPSTREAM_PLACE_BYTES = 160  # of each after-filter server, for its address
UPSTREAM_RECORD_BYTES = 80  # of each after-filter server and row: one a slot, and the exporter's
_TEXT_AT = 24  # in a listener: behind inode, family and the length of the text

# Upper bounds, with edges at the reply budget (100 s) and at deadlines that divide it.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 100.0)
STAGE_BOUNDS = (0.005, 0.05, 0.25, 1.0, 5.0, 20.0, 60.0)  # seconds
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
# Bytes, with edges at the limits that people set: Postfix's own default, 25 MiB and 50 MiB.
SIZES = (
    1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 10240000.0, 26214400.0, 52428800.0,
)  # fmt: skip


class State(IntEnum):
    """What a slot's worker is, as a whole."""

    FREE = 0  # no worker
    STARTING = 1
    IDLE = 2  # waits for a connection
    BUSY = 3
    LEAVING = 4  # finishes what it has, then exits


class Header(IntEnum):
    """Words that do not change, most of them the file's first. "Seconds" are doubles, here as everywhere."""

    MAGIC = 0
    VERSION = 1
    SLOT_COUNT = 2
    MASTER_PID = 3
    CREATED = 4  # seconds on CLOCK_MONOTONIC
    CREATED_WALL = 5  # seconds since the epoch
    MASTER_BIRTH = 6  # clock ticks since boot at which the master began: a pid alone may be somebody else's
    LISTENER_COUNT = 7
    SCANNER_PLACES = 20  # how many scanners there is room for; it came later than the master's words
    UPSTREAM_PLACES = 22  # how many after-filter servers


class MasterWord(IntEnum):
    """Words written by the master, in the header."""

    HEARTBEAT = 8  # seconds: the last turn of its loop
    GENERATION = 9
    WORKERS = 10  # how many there should be
    PROXY_TIMEOUT = 11  # seconds: what a client waits for a reply
    SESSION_LIMIT = 12  # seconds; 0 without a limit
    LOADED_WALL = 13  # seconds since the epoch: since when the present settings are in force
    FAILED_RELOADS = 14
    FORKS = 15
    FAILED_FORKS = 16
    EXPORTER_FORKS = 17
    REAPED_USER_SECONDS = 18  # seconds of CPU that workers had used when they were reaped, summed
    REAPED_SYSTEM_SECONDS = 19
    DRAINING = 21  # seconds: when SIGTERM came; 0 while all is well
    EXITS = 24  # this word plus the number of an `Exit`
    SLOW = 32  # sessions over the threshold, by stage: this word plus the stage's number


class ExporterWord(IntEnum):
    """Words written by the exporter, in the header."""

    SAMPLED = 64  # seconds: when it last looked at the queues
    EXHAUSTED_SECONDS = 65  # seconds without an idle worker, summed


class Exit(IntEnum):
    """Why a worker is no more."""

    RECYCLED = 0  # done its share
    RELOADED = 1  # replaced by one with newer settings
    STOPPED = 2  # the pool was made smaller or stopped
    KILLED = 3  # by the master, for outliving every limit
    CRASHED = 4  # ended by itself with an error
    SIGNALLED = 5  # ended by a signal from elsewhere


class Word(IntEnum):
    """The words of a slot; "seconds" are doubles on CLOCK_MONOTONIC, all others unsigned integers."""

    PID = 0
    GENERATION = 1  # of the settings the worker runs with; 0: nobody has ever been here
    STATE = 2
    STAGE = 3
    STAGE_SINCE = 4  # seconds
    SESSION_SINCE = 5  # seconds; 0 without a session
    UNTIL = 6  # seconds: the stage must be over by then; 0 without a limit
    JOBS = 7  # sessions held by the present process
    SEQUENCE = 8  # odd while words that go together are written
    LISTENER = 9  # which one the session came in by
    SESSION = 10  # its name in the log, a hexadecimal number there
    CLIENT_HIGH = 11  # the remote client's address: 16 bytes, an IPv4 one mapped into IPv6, 0 where unknown
    CLIENT_LOW = 12
    UPSTREAM_OPEN = 13  # 1 with a connection to the after-filter server
    MEMORY = 14  # bytes (PSS), as of the last weighing
    BUSY_SINCE = 15  # seconds: when the worker last ceased to be idle
    SESSIONS = 16  # counters, from here on
    QUEUED = 17  # accepted while the worker had not gone idle in between
    ABANDONED = 18  # closed by the client before it was greeted
    DENIED = 19  # peers outside `allow`, or of a proxy that did not announce them
    ACCEPTED = 20  # messages, by Result
    REJECTED = 21
    TEMPFAILED = 22
    OUTCOME_UNKNOWN = 23
    CLIENT_ABORT = 24
    WAIT_SECONDS = 25  # seconds in the accept queue, summed over TCP connections
    BUSY_SECONDS = 26  # seconds with a session, summed
    OVERTIME = 27  # sessions that used up budget.session
    UNREACHED = 28  # no connection to an after-filter server came about
    UPSTREAM_LOST = 29  # it was lost in the middle of a message
    EXHAUSTED = 30  # took the last idle worker
    DISCARDED = 100  # messages, by Result, as ACCEPTED and those behind it
    QUARANTINED = 101
    COPIES_KEPT = 102  # copies in the quarantine of messages that something else was done with as well
    KEEP_FAILURES = 103  # messages that the quarantine could not take
    SCANNER = 104  # the scanner that is asked now: the number of its place, counted from 1; 0 for none
    UNHEARD = 105  # messages answered 250 whose client had left before it could hear that
    STAGE_SECONDS = 32  # seconds per stage, summed: this word plus the stage's number


class TallyWord(IntEnum):
    """The words of a tally: what one slot saw of one listener; the exporter's has what it alone can see."""

    ACCEPTED = 0
    QUEUED = 1
    ABANDONED = 2
    DENIED = 3
    DURATION_SQUARES = 4  # the sum of the squares of sessions' seconds
    QUEUE_SECONDS = 5  # exporter: the length of the queue, integrated over time
    OLDEST_SINCE = 6  # exporter: instant from which the first in the queue was seen there; 0 without one
    PROBES = 7  # connections that only looked whether somebody is there


@dataclass(frozen=True, slots=True)
class Histogram:
    """Where a histogram lies in its slot or tally: counts from word `first`, the sum behind the last one."""

    first: int
    bounds: tuple[float, ...]
    sum: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sum", self.first + len(self.bounds) + 1)


BUSY_SHARE = Histogram(40, SHARES)  # in a slot: busy workers by workers, this one included, at each accept
MESSAGE_SIZE = Histogram(112, SIZES)  # in a slot: bytes of content of each message that came to its end
UPSTREAM_READY = Histogram(49, SECONDS)  # in a slot: from connecting to the after-filter server to MAIL
WAIT = Histogram(8, SECONDS)  # in a tally, as all below: seconds in the accept queue
DURATION = Histogram(26, SECONDS)  # from accept to the end of the session
BUDGET_SHARE = Histogram(44, SHARES)  # wait and duration, by what a client waits for a reply
STAGE_TIMES = {  # seconds that a session spent in each stage, those without any left out
    stage: Histogram(53 + 9 * index, STAGE_BOUNDS)
    for index, stage in enumerate(stage for stage in STAGES if stage is not Stage.IDLE)
}

# What is written with every session or stage, as plain numbers: to look up a member of an enumeration costs
# more than to store a word.
(
    _STATE, _STAGE, _STAGE_SINCE, _SESSION_SINCE, _UNTIL, _JOBS, _SEQUENCE, _LISTENER, _SESSION, _CLIENT_HIGH,
    _CLIENT_LOW, _BUSY_SINCE, _SESSIONS, _QUEUED, _WAIT_SECONDS, _BUSY_SECONDS, _STAGE_SECONDS,
) = map(int, (
    Word.STATE, Word.STAGE, Word.STAGE_SINCE, Word.SESSION_SINCE, Word.UNTIL, Word.JOBS, Word.SEQUENCE,
    Word.LISTENER, Word.SESSION, Word.CLIENT_HIGH, Word.CLIENT_LOW, Word.BUSY_SINCE, Word.SESSIONS,
    Word.QUEUED, Word.WAIT_SECONDS, Word.BUSY_SECONDS, Word.STAGE_SECONDS,
))  # fmt: skip
_TALLY_ACCEPTED, _TALLY_QUEUED, _TALLY_SQUARES = map(
    int, (TallyWord.ACCEPTED, TallyWord.QUEUED, TallyWord.DURATION_SQUARES)
)
_STAGE_COLUMNS = tuple((int(stage), histogram) for stage, histogram in STAGE_TIMES.items())
_IDLE, _IS_IDLE, _IS_BUSY = int(Stage.IDLE), int(State.IDLE), int(State.BUSY)
_IDLE_BYTE, _BUSY_BYTE = bytes([State.IDLE]), bytes([State.BUSY])
_PAIR = struct.Struct("=QQ")
_LEAST_SECONDS, _MOST_SECONDS = 1e-9, 1e15  # squares, sums and quotients of such numbers are still numbers
_V4_MAPPED = b"\0" * 10 + b"\xff\xff"
_UNKNOWN_CLIENT = bytes(16)


class Words:
    """Memory as words: integers by index, seconds by `seconds`."""

    __slots__ = ("_counts", "_seconds")

    def __init__(self, memory: memoryview) -> None:
        self._counts = memory.cast("Q")
        self._seconds = memory.cast("d")

    def __getitem__(self, word: int) -> int:
        return int(self._counts[word])

    def __setitem__(self, word: int, value: int) -> None:
        self._counts[word] = value

    def seconds(self, word: int) -> float:
        """A word that holds seconds; 0 where it holds nothing that could be."""
        value = float(self._seconds[word])
        return value if _LEAST_SECONDS <= abs(value) < _MOST_SECONDS else 0.0  # nor is "not a number" there

    def set_seconds(self, word: int, value: float) -> None:
        """Write a word that holds seconds."""
        self._seconds[word] = value

    def add_seconds(self, word: int, value: float) -> None:
        """Add to a word that holds seconds."""
        self._seconds[word] += value

    def count(self, word: int) -> None:
        """One more."""
        self._counts[word] += 1

    def observe(self, histogram: Histogram, value: float) -> None:
        """Count a value in its bucket, and add it to the sum."""
        self._counts[histogram.first + bisect_left(histogram.bounds, value)] += 1
        self._seconds[histogram.sum] += value

    def buckets(self, histogram: Histogram) -> list[int]:
        """How many values fell between each bound and the one before it; the last have no bound."""
        return self._counts[histogram.first : histogram.sum].tolist()


class Tally(Words):
    """What a slot saw of one listener. For the worker, as `Slot` is."""

    __slots__ = ()

    def accept(self, waited: float | None, is_queued: bool) -> None:
        """A connection was accepted."""
        self._counts[_TALLY_ACCEPTED] += 1
        if is_queued:
            self._counts[_TALLY_QUEUED] += 1
        if waited is not None:
            self.observe(WAIT, waited)

    def end(self, seconds: float, budget_share: float, stage_seconds: Sequence[float]) -> None:
        """A session is over; it spent these seconds in each stage."""
        self._seconds[_TALLY_SQUARES] += seconds * seconds
        self.observe(DURATION, seconds)
        self.observe(BUDGET_SHARE, budget_share)
        for stage, histogram in _STAGE_COLUMNS:
            if stage_seconds[stage] > 0:
                self.observe(histogram, stage_seconds[stage])


# A worker may write what it likes into its slot, and one that has gone mad into all of the memory: numbers
# that mean nothing, and texts with control characters, must not hurt whoever reads them.
_KNOWN_STATES = {int(state): state for state in State}
_KNOWN_STAGES = {int(stage): stage for stage in Stage}


class Slot(Words):
    """One worker's kilobyte. Methods in the past tense are for the master, the others for the worker."""

    __slots__ = ("_states", "index")

    def __init__(self, memory: memoryview, index: int, states: memoryview | None = None) -> None:
        super().__init__(memory)
        self.index = index
        self._states = memoryview(bytearray(index + 1)) if states is None else states

    @classmethod
    def unseen(cls) -> "Slot":
        """A slot of no scoreboard, for whoever works without one."""
        return cls(memoryview(bytearray(_SLOT_BYTES)), 0)

    @property
    def state(self) -> State:
        """What the worker is."""
        return _KNOWN_STATES.get(self._counts[Word.STATE], State.FREE)

    @property
    def stage(self) -> Stage:
        """What the worker waits for."""
        return _KNOWN_STAGES.get(self._counts[Word.STAGE], Stage.IDLE)

    @property
    def client(self) -> str:
        """The remote client's address, empty where unknown."""
        packed = self._counts[Word.CLIENT_HIGH : Word.CLIENT_LOW + 1].tobytes()
        if packed[:12] == _V4_MAPPED:
            return socket.inet_ntop(socket.AF_INET, packed[12:])
        return socket.inet_ntop(socket.AF_INET6, packed) if any(packed) else ""

    def was_given(self, generation: int) -> None:
        """In the master, before the fork: a worker is about to move in."""
        self._counts[Word.PID] = 0
        self._counts[Word.GENERATION] = generation
        self._counts[Word.JOBS] = 0
        self._counts[Word.MEMORY] = self._counts[Word.UPSTREAM_OPEN] = 0
        self._clear(State.STARTING)

    def was_cut_short(self, now: float) -> None:
        """In the master, after the worker was reaped: a session that it did not end counts until now."""
        if self._seconds[Word.SESSION_SINCE]:
            self._seconds[Word.BUSY_SECONDS] += now - self._seconds[Word.SESSION_SINCE]
            self._seconds[Word.SESSION_SINCE] = 0.0

    def was_vacated(self) -> None:
        """In the master, after the worker was reaped."""
        self._counts[Word.PID] = 0
        self._counts[_SEQUENCE] += self._counts[_SEQUENCE] % 2
        self._counts[Word.MEMORY] = self._counts[Word.UPSTREAM_OPEN] = 0
        self._clear(State.FREE)

    def move_in(self, pid: int) -> None:
        """In the worker, first thing."""
        self._counts[Word.PID] = pid

    def wait(self) -> None:
        """In the worker: no session."""
        self._clear(_IS_IDLE)

    def leave(self) -> None:
        """In the worker: about to exit."""
        self._become(State.LEAVING)

    def begin(
        self, now: float, waited: float | None, is_queued: bool, listener: int = 0, session: int = 0
    ) -> None:
        """In the worker: a connection was accepted."""
        counts = self._counts
        counts[_SEQUENCE] += 1
        counts[_LISTENER] = listener
        counts[_SESSION] = session
        self._seconds[_SESSION_SINCE] = now
        if is_queued:
            counts[_QUEUED] += 1
        else:
            self._seconds[_BUSY_SINCE] = now
        if waited:
            self._seconds[_WAIT_SECONDS] += waited
        self._become(_IS_BUSY)
        counts[_SESSIONS] += 1  # not before: for the master a session without a busy worker is over
        counts[_SEQUENCE] += 1

    def meet(self, worker_count: int, is_queued: bool) -> None:
        """In the worker, right after `begin`: note how many are busy, of the workers there should be."""
        states = self._states.tobytes()
        self.observe(BUSY_SHARE, states.count(_BUSY_BYTE) / worker_count)
        if not is_queued and _IDLE_BYTE not in states:
            self._counts[Word.EXHAUSTED] += 1

    def enter(self, stage: Stage, now: float, until: float) -> None:
        """In the worker: the session enters a stage that must be over at the instant `until`."""
        self._counts[_STAGE] = stage
        self._seconds[_STAGE_SINCE] = now
        self._seconds[_UNTIL] = until

    def serve(self, address: bytes) -> None:
        """In the worker: the message on its way comes from this remote client."""
        self._counts[_CLIENT_HIGH], self._counts[_CLIENT_LOW] = _PAIR.unpack(_packed(address))

    def end(self, now: float, stage_seconds: Iterable[float] = ()) -> None:
        """In the worker: the session is over; it spent these seconds in each stage."""
        counts, totals = self._counts, self._seconds
        counts[_SEQUENCE] += 1
        counts[_STAGE] = _IDLE
        totals[_STAGE_SINCE], totals[_UNTIL] = now, 0.0
        for word, seconds in enumerate(stage_seconds, start=_STAGE_SECONDS):
            if seconds:
                totals[word] += seconds
        totals[_BUSY_SECONDS] += now - totals[_SESSION_SINCE]
        totals[_SESSION_SINCE] = 0.0
        counts[_CLIENT_HIGH] = counts[_CLIENT_LOW] = 0
        counts[_JOBS] += 1
        counts[_SEQUENCE] += 1

    def ask(self, scanner: int) -> None:
        """In the worker: the scanner in the place of this number, counted from 1, is asked; 0 for none."""
        self._counts[Word.SCANNER] = scanner

    def _clear(self, state: int) -> None:
        self._become(state)
        self._counts[Word.SCANNER] = 0
        self._counts[_STAGE] = _IDLE
        self._seconds[_SESSION_SINCE] = 0.0
        self._seconds[_UNTIL] = 0.0

    def _become(self, state: int) -> None:
        self._counts[_STATE] = state
        self._states[self.index] = state


@dataclass(frozen=True, slots=True)
class Entrance:
    """A listener as onlookers see it: the socket's inode finds its queue, whoever holds the socket."""

    address: str
    family: int
    inode: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in a scoreboard of this many slots and listeners."""

    slot_count: int
    listener_count: int
    scanner_places: int = 0
    upstream_places: int = 0

    @property
    def size(self) -> int:
        return int(self.upstreams.stop)

    @property
    def scanners(self) -> slice:
        start = self._tallies_at + (self.slot_count + 1) * self.listener_count * _TALLY_BYTES
        place = SCANNER_PLACE_BYTES + self.slot_count * SCANNER_RECORD_BYTES
        return slice(start, start + self.scanner_places * place)

    @property
    def upstreams(self) -> slice:
        start = int(self.scanners.stop)
        place = UPSTREAM_PLACE_BYTES + (self.slot_count + 1) * UPSTREAM_RECORD_BYTES
        return slice(start, start + self.upstream_places * place)

    @property
    def header(self) -> slice:
        return slice(0, _STATES_AT)

    @property
    def states(self) -> slice:
        return slice(_STATES_AT, _STATES_AT + self.slot_count)

    def slot(self, index: int) -> slice:
        return _piece(_HEADER_BYTES, index, _SLOT_BYTES)

    def listener(self, index: int) -> slice:
        return _piece(self._listeners_at, index, _LISTENER_BYTES)

    def tally(self, slot: int, listener: int) -> slice:
        """The exporter's is that of the slot behind the last one."""
        return _piece(self._tallies_at, slot * self.listener_count + listener, _TALLY_BYTES)

    @property
    def _listeners_at(self) -> int:
        return _HEADER_BYTES + self.slot_count * _SLOT_BYTES

    @property
    def _tallies_at(self) -> int:
        return self._listeners_at + self.listener_count * _LISTENER_BYTES


def _piece(start: int, index: int, size: int) -> slice:
    return slice(start + index * size, start + (index + 1) * size)


class Scoreboard:
    """The master's mapping of everything, inherited by its children."""

    def __init__(
        self,
        memory: mmap.mmap,
        slot_count: int,
        listeners: Sequence[Entrance] = (),
        scanner_places: int = 0,
        upstream_places: int = 0,
    ) -> None:
        self.view = memoryview(memory)
        self.layout = layout = Layout(slot_count, len(listeners), scanner_places, upstream_places)
        self.header = Words(self.view[layout.header])
        self._states = self.view[layout.states]
        self.slots = [Slot(self.view[layout.slot(index)], index, self._states) for index in range(slot_count)]
        for index, entrance in enumerate(listeners):
            _write_entrance(self.view[layout.listener(index)], entrance)
        _write_header(self.header, layout)

    @classmethod
    def in_file(
        cls,
        directory: str,
        slot_count: int,
        listeners: Sequence[Entrance] = (),
        group: int = -1,
        scanner_places: int = 0,
        upstream_places: int = 0,
    ) -> "Scoreboard":
        """A new scoreboard file in `directory`, put in place in one step. Raises OSError.

        Members of `group` may read it, others may not: it names clients.
        """
        path = Path(directory) / FILE_NAME
        scratch = path.with_suffix(".new")
        size = size_of(slot_count, len(listeners), scanner_places, upstream_places)
        fd = create_file(scratch, 0o640)
        try:
            os.fchown(fd, -1, group)
            # Room is taken now: a tmpfs that is full later must not kill whoever touches the page (SIGBUS).
            os.posix_fallocate(fd, 0, size)
            memory = mmap.mmap(fd, size)
        except OSError:
            scratch.unlink()
            raise
        finally:
            os.close(fd)
        board = cls(memory, slot_count, listeners, scanner_places, upstream_places)
        scratch.rename(path)
        return board

    @classmethod
    def anonymous(
        cls,
        slot_count: int,
        listeners: Sequence[Entrance] = (),
        scanner_places: int = 0,
        upstream_places: int = 0,
    ) -> "Scoreboard":
        """The same, seen by the master and its children only."""
        memory = mmap.mmap(-1, size_of(slot_count, len(listeners), scanner_places, upstream_places))
        return cls(memory, slot_count, listeners, scanner_places, upstream_places)

    def tallies(self, slot: int) -> tuple[Tally, ...]:
        """A slot's tallies, one a listener; made where they are needed, because there are many."""
        layout = self.layout
        return tuple(
            Tally(self.view[layout.tally(slot, listener)]) for listener in range(layout.listener_count)
        )

    @property
    def scanners(self) -> memoryview:
        """The region of `bqfilter.scanning.board`."""
        return self.view[self.layout.scanners]

    def count(self, state: State) -> int:
        """How many workers are in this state."""
        return self._states.tobytes().count(state)

    @property
    def upstreams(self) -> memoryview:
        """The region of `bqfilter.upstream.board`."""
        return self.view[self.layout.upstreams]

    @property
    def is_exhausted(self) -> bool:
        """Nobody is idle, and somebody is busy."""
        states = self._states.tobytes()
        return _IDLE_BYTE not in states and _BUSY_BYTE in states

    @property
    def exporter_tallies(self) -> tuple[Tally, ...]:
        """Those that no worker writes."""
        return self.tallies(self.layout.slot_count)


def create_file(path: Path, mode: int) -> int:
    """A new file, whatever stood there before; its descriptor. Raises OSError.

    The directory belongs to the workers' account while the master may be root: no link that somebody put
    there is followed, and no file that somebody else holds open is written.
    """
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def size_of(
    slot_count: int, listener_count: int = 0, scanner_places: int = 0, upstream_places: int = 0
) -> int:
    """Bytes of a scoreboard with this many slots, listeners, and places for scanners and servers."""
    return Layout(slot_count, listener_count, scanner_places, upstream_places).size


def birth_of(pid: int) -> int:
    """Clock ticks from boot to the start of a process, by which it is told from a later one of the same pid.

    0 where there is no such process (a zombie is none), or none that we may know of.
    """
    try:
        # The second field is a name in parentheses, which may hold anything.
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = text.rpartition(")")[2].split()
        return 0 if state == "Z" else int(fields[18])
    except (OSError, ValueError, IndexError):
        return 0


def read_entrance(memory: memoryview) -> Entrance:
    """A listener as `Scoreboard` wrote it."""
    inode, family, length = memory[:_TEXT_AT].cast("Q")
    text = bytes(memory[_TEXT_AT : _TEXT_AT + length])
    return Entrance(printable(text.decode("utf-8", "replace")), family, inode)


def printable(text: str) -> str:
    """Text out of the memory, as it may be shown on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _write_entrance(memory: memoryview, entrance: Entrance) -> None:
    text = entrance.address.encode("utf-8", "surrogateescape")[: _LISTENER_BYTES - _TEXT_AT]
    words = memory[:_TEXT_AT].cast("Q")
    words[0], words[1], words[2] = entrance.inode, entrance.family, len(text)
    memory[_TEXT_AT : _TEXT_AT + len(text)] = text


def _write_header(header: Words, layout: Layout) -> None:
    header[Header.VERSION] = VERSION
    header[Header.SLOT_COUNT] = layout.slot_count
    header[Header.LISTENER_COUNT] = layout.listener_count
    header[Header.SCANNER_PLACES] = layout.scanner_places
    header[Header.UPSTREAM_PLACES] = layout.upstream_places
    header[Header.MASTER_PID] = os.getpid()
    header[Header.MASTER_BIRTH] = birth_of(os.getpid())
    header.set_seconds(Header.CREATED, time.monotonic())
    header.set_seconds(Header.CREATED_WALL, time.time())
    header[Header.MAGIC] = MAGIC


def _packed(address: bytes) -> bytes:
    """An address as 16 bytes, whatever the client wrote in its place."""
    text = address.decode("ascii", "replace")
    for family, prefix in ((socket.AF_INET, _V4_MAPPED), (socket.AF_INET6, b"")):
        try:
            return prefix + socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
    return _UNKNOWN_CLIENT
