"""Reading the scoreboard from outside: whole, and on its own terms, while the master runs, hangs or is dead.

`Board` looks at the live memory, `Snapshot` is what was there at one moment. Nothing is written and nobody is
asked. A file that is no scoreboard, or one of another version, is refused; one whose master is gone is read
all the same, and says so.
"""

import mmap
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from bqfilter import breaker
from bqfilter.ledger import Stage
from bqfilter.places import HealthWord, Label
from bqfilter.saturation.queues import Queue, QueueProbe
from bqfilter.scanning.board import SCAN_SECONDS, ScannerBoard, ScannerPlace, ScannerWord
from bqfilter.scoreboard import (
    FILE_NAME,
    MAGIC,
    MAX_SLOTS,
    VERSION,
    Entrance,
    ExporterWord,
    Header,
    Histogram,
    Layout,
    MasterWord,
    Slot,
    State,
    Tally,
    TallyWord,
    Word,
    Words,
    birth_of,
    read_entrance,
)
from bqfilter.upstream.board import UpstreamBoard, UpstreamPlace, UpstreamWord, row_of

HUNG_AFTER = 10.0  # seconds without a heartbeat; the master's loop turns four times a second
_FRESH = 2.0  # seconds: within them a heartbeat, or a sample, needs no further proof
_GONE_AFTER = 2.0  # seconds without any after-filter server: they have been called again meanwhile
_LOOKS = 3  # at a slot that changes under our eyes
_HEADER_WORDS = 23

_W = TypeVar("_W", bound=Words)


class Life(StrEnum):
    """What has become of the master."""

    RUNNING = "running"
    HUNG = "hung"  # there, but its loop does not turn
    STOPPED = "stopped"  # ended in good order
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values by bucket: `counts` has one number more than `bounds`, for what lies above them all."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Their mean, None without any."""
        return self.sum / self.count if self.count else None

    def share_above(self, bound: float) -> float | None:
        """The part of the values above one of the bounds."""
        above = sum(self.counts[self.bounds.index(bound) + 1 :])
        return above / self.count if self.count else None

    def less(self, earlier: "Distribution") -> "Distribution":
        """What has come since an earlier look."""
        counts = tuple(new - old for new, old in zip(self.counts, earlier.counts, strict=True))
        return Distribution(self.bounds, counts, self.sum - earlier.sum)


@dataclass(frozen=True, slots=True)
class ListenerFigures:
    """One listener, with the tallies of all slots; the last of them is the exporter's."""

    entrance: Entrance
    tallies: tuple[Tally, ...]

    def total(self, word: TallyWord) -> int:
        """A counter, over all slots."""
        return sum(tally[word] for tally in self.tallies)

    def seconds(self, word: TallyWord) -> float:
        """A sum of seconds, over all slots."""
        return sum(tally.seconds(word) for tally in self.tallies)

    def distribution(self, histogram: Histogram) -> Distribution:
        """A histogram, over all slots."""
        return _distribution(histogram, self.tallies)


@dataclass(frozen=True, slots=True)
class ScannerFigures:
    """One scanner, over all slots."""

    label: Label
    place: ScannerPlace
    slot_count: int  # slots that have ever been used

    def total(self, word: ScannerWord) -> int:
        """A counter."""
        return self.place.total(word)

    @property
    def seconds(self) -> Distribution:
        """How long it took over messages."""
        return _distribution(SCAN_SECONDS, self.place.records(self.slot_count))

    def breaker(self, now: float) -> breaker.State:
        """What its breaker says at this instant."""
        return breaker.state_of(self.place, self.label.terms, now, max(self.slot_count, 1))


@dataclass(frozen=True, slots=True)
class UpstreamFigures:
    """One after-filter server, over all rows."""

    label: Label
    place: UpstreamPlace
    row_count: int  # rows that have ever been used

    def total(self, word: UpstreamWord) -> int:
        """A counter."""
        return self.place.total(word)

    @property
    def is_up(self) -> bool | None:
        """It answered whoever called it last; None where nobody has called it."""
        answered = self.place.latest(HealthWord.SUCCEEDED_AT, self.row_count)
        failed = self.place.latest(HealthWord.FAILED_AT, self.row_count)
        return answered >= failed if answered or failed else None

    @property
    def out_since(self) -> float | None:
        """When it began to be out of reach; None where it is not, as far as is known."""
        return None if self.is_up is not False else breaker.failing_since(self.place, self.row_count)

    def state(self, now: float, timeout: float = 0.0) -> breaker.State:
        """What its breaker says at this instant."""
        return breaker.state_of(self.place, self.label.terms, now, self.row_count, timeout)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The scoreboard at the instant `taken_at` (CLOCK_MONOTONIC), which was `wall` since the epoch."""

    taken_at: float
    wall: float
    header: Words
    slots: tuple[Slot, ...]  # those that have ever been used
    listeners: tuple[ListenerFigures, ...]
    scanners: tuple[ScannerFigures, ...] = ()
    upstreams: tuple[UpstreamFigures, ...] = ()

    @property
    def upstream_gone_for(self) -> float | None:
        """Seconds since the last after-filter server went out of reach; None while one may be there."""
        since = [one.out_since for one in self.upstreams if one.label.is_present]
        known = [instant for instant in since if instant is not None]
        return max(self.taken_at - max(known), 0.0) if known and len(known) == len(since) else None

    @property
    def is_upstream_gone(self) -> bool:
        """Are they out of reach for so long that it is no accident? Each was called again meanwhile."""
        return self.upstream_gone_for is not None and self.upstream_gone_for >= _GONE_AFTER

    @property
    def life(self) -> Life:
        """What has become of the master."""
        beat = self.header.seconds(MasterWord.HEARTBEAT)
        if abs(self.taken_at - beat) < _FRESH:
            return Life.RUNNING
        birth = self.header[Header.MASTER_BIRTH]
        if birth and birth_of(self.header[Header.MASTER_PID]) == birth:
            return Life.HUNG if self.taken_at - beat > HUNG_AFTER else Life.RUNNING
        return Life.DEAD if beat else Life.STOPPED

    @property
    def heartbeat_age(self) -> float | None:
        """Seconds since the master's last turn; None when it has stopped, or before the first one."""
        beat = self.header.seconds(MasterWord.HEARTBEAT)
        return max(self.taken_at - beat, 0.0) if beat else None

    @property
    def sample_age(self) -> float | None:
        """Seconds since the exporter last looked at the queues; None where it never did."""
        sampled = self.header.seconds(ExporterWord.SAMPLED)
        return max(self.taken_at - sampled, 0.0) if sampled else None

    @property
    def is_sampled(self) -> bool:
        """The exporter looks at the queues these days."""
        return self.sample_age is not None and self.sample_age < _FRESH

    @property
    def worker_limit(self) -> int:
        """How many workers there should be."""
        return self.header[MasterWord.WORKERS]

    @property
    def is_draining(self) -> bool:
        """SIGTERM came: it takes connections no longer, or not for long."""
        return self.header.seconds(MasterWord.DRAINING) > 0

    @property
    def busy(self) -> list[Slot]:
        """Slots with a session, the oldest first."""
        found = [slot for slot in self.slots if slot.state is State.BUSY]
        return sorted(found, key=lambda slot: slot.seconds(Word.SESSION_SINCE) or self.taken_at)

    def count(self, state: State) -> int:
        """How many workers are in this state."""
        return sum(1 for slot in self.slots if slot.state is state)

    def session_age(self, slot: Slot) -> float:
        """Seconds since the slot's session began; 0 without one."""
        since = slot.seconds(Word.SESSION_SINCE)
        return max(self.taken_at - since, 0.0) if since else 0.0

    def stage_age(self, slot: Slot) -> float:
        """Seconds that the slot's worker has been waiting for the same thing."""
        since = slot.seconds(Word.STAGE_SINCE)
        return max(self.taken_at - since, 0.0) if since else 0.0

    def scanner(self, slot: Slot) -> str:
        """The name of the scanner that the slot's worker is asking; empty without one."""
        number = slot[Word.SCANNER]
        is_known = slot.stage is Stage.FILTER and 0 < number <= len(self.scanners)
        return self.scanners[number - 1].label.name if is_known else ""

    @property
    def exhausted_for(self) -> float | None:
        """Seconds since the last idle worker was taken; None while one is idle, or nobody is busy."""
        if self.count(State.IDLE) or not self.busy:
            return None
        return max(self.taken_at - max(slot.seconds(Word.BUSY_SINCE) for slot in self.busy), 0.0)

    @property
    def busy_seconds(self) -> float:
        """Seconds with a session, those that go on included."""
        return self.seconds(Word.BUSY_SECONDS) + sum(self.session_age(slot) for slot in self.slots)

    def total(self, word: Word) -> int:
        """A counter, over all slots."""
        return sum(slot[word] for slot in self.slots)

    def seconds(self, word: Word) -> float:
        """A sum of seconds, over all slots."""
        return sum(slot.seconds(word) for slot in self.slots)

    def distribution(self, histogram: Histogram) -> Distribution:
        """A histogram of the slots."""
        return _distribution(histogram, self.slots)

    def tally_distribution(self, histogram: Histogram) -> Distribution:
        """A histogram of the tallies, over all listeners."""
        return _distribution(histogram, [tally for one in self.listeners for tally in one.tallies])


class Board:
    """A live scoreboard, in memory that somebody else writes. Raises ValueError where it is none."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        if len(view) < _HEADER_WORDS * 8 or Words(view[: _HEADER_WORDS * 8])[Header.MAGIC] != MAGIC:
            raise ValueError("not a scoreboard")
        head = Words(view[: _HEADER_WORDS * 8])
        if head[Header.VERSION] != VERSION:
            raise ValueError(f"a scoreboard of version {head[Header.VERSION]}, and {VERSION} is wanted")
        self._layout = Layout(
            head[Header.SLOT_COUNT],
            head[Header.LISTENER_COUNT],
            head[Header.SCANNER_PLACES],
            head[Header.UPSTREAM_PLACES],
        )
        if self._layout.slot_count > MAX_SLOTS or len(view) < self._layout.size:
            raise ValueError("a scoreboard cut short")
        listeners = range(self._layout.listener_count)
        self.entrances = tuple(read_entrance(view[self._layout.listener(index)]) for index in listeners)

    @classmethod
    def open(cls, directory: str) -> "Board":
        """The scoreboard in a runtime directory, mapped read-only. Raises OSError or ValueError."""
        with (Path(directory) / FILE_NAME).open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("an empty file")
            return cls(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

    def snapshot(self) -> Snapshot:
        """What is there now.

        The instant is taken first: a session that goes on is never older in one snapshot than it turns out
        to have been in the next, so that time summed over sessions does not fall.
        """
        now, wall = time.monotonic(), time.time()
        header = _copy(Words, self._view[self._layout.header])
        slots = tuple(self._used_slots())
        listeners = tuple(self._figures(len(slots)))
        scanners, upstreams = self._scanner_figures(len(slots)), self.upstreams(len(slots))
        return Snapshot(now, wall, header, slots, listeners, tuple(scanners), upstreams)

    def upstreams(self, used: int | None = None) -> tuple[UpstreamFigures, ...]:
        """The after-filter servers, over this many slots, or as many as there are."""
        rows = row_of(self._layout.slot_count if used is None else used)
        board = UpstreamBoard(memoryview(bytes(self._view[self._layout.upstreams])), self._layout.slot_count)
        return tuple(UpstreamFigures(label, place, rows) for label, place in board.owned(0))

    def _used_slots(self) -> Iterable[Slot]:
        """Slots are given away from the lowest on, so behind the first that never was there are none."""
        for index in range(self._layout.slot_count):
            copy = _steady(self._view[self._layout.slot(index)])
            slot = Slot(memoryview(copy), index)
            if not slot[Word.GENERATION]:
                return
            yield slot

    def _figures(self, used: int) -> Iterable[ListenerFigures]:
        rows = [*range(used), self._layout.slot_count]
        for index, entrance in enumerate(self.entrances):
            views = [self._view[self._layout.tally(row, index)] for row in rows]
            yield ListenerFigures(entrance, tuple(_copy(Tally, view) for view in views))

    def _scanner_figures(self, used: int) -> Iterable[ScannerFigures]:
        board = ScannerBoard(memoryview(bytes(self._view[self._layout.scanners])), self._layout.slot_count)
        for label, place in board.owned(0):
            yield ScannerFigures(label, place, used)


def queues(snapshot: Snapshot, probe: QueueProbe) -> list[Queue]:
    """The accept queue of each listener now; the age of a unix client is the exporter's, who looks often."""
    found = []
    for listener in snapshot.listeners:
        queue = probe.look(listener.entrance, with_ages=True)
        if queue.oldest_age is None and queue.waiting is not None:
            queue = replace(queue, oldest_age=_followed_age(snapshot, listener, queue))
        found.append(queue)
    return found


def _followed_age(snapshot: Snapshot, listener: ListenerFigures, queue: Queue) -> float | None:
    if not queue.length:
        return 0.0
    since = listener.tallies[-1].seconds(TallyWord.OLDEST_SINCE)
    if not snapshot.is_sampled:
        return None
    return max(snapshot.taken_at - since, 0.0) if since else 0.0


def _steady(view: memoryview) -> bytes:
    """A slot as it was at one moment: two looks alike, and not in the middle of a change."""
    for _ in range(_LOOKS):
        first = bytes(view)
        if first == bytes(view) and Words(memoryview(first))[Word.SEQUENCE] % 2 == 0:
            break
    return first


def _copy(kind: type[_W], view: memoryview) -> _W:
    return kind(memoryview(bytes(view)))


def _distribution(histogram: Histogram, where: Iterable[Words]) -> Distribution:
    words = list(where)
    columns = zip(*(one.buckets(histogram) for one in words), strict=True)
    counts = tuple(sum(column) for column in columns) or (0,) * (len(histogram.bounds) + 1)
    return Distribution(histogram.bounds, counts, sum(one.seconds(histogram.sum) for one in words))
