"""Scanners in the scoreboard: how each has fared, slot by slot, and whether the pool takes it for broken.

Layout, behind everything else in the file:

    labels   64 bytes for each place, written by the master (`LabelWord`, and the name's text)
    records  for each place, and in it for each slot, 128 bytes (`ScannerWord`), written by the slot's worker

A place belongs to a name for as long as the file lives, so that counters never fall when a reload drops a
scanner and another brings it back. There are a few more places than scanners at the start; a scanner that
finds none works without figures, and its breaker with those of its own worker.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from bqfilter.config.content import ScannerSettings
from bqfilter.scanning.report import Finding
from bqfilter.scoreboard import SCANNER_PLACE_BYTES, SCANNER_RECORD_BYTES, Histogram, Words, printable

SCAN_BOUNDS = (0.005, 0.05, 0.25, 1.0, 5.0, 20.0)  # seconds


class ScannerWord(IntEnum):
    """The words of a record: what one slot saw of one scanner."""

    CLEAN = 0  # counters, by Finding
    HIT = 1
    ERROR = 2
    UNSCANNED = 3
    FAILED_AT = 4  # seconds on CLOCK_MONOTONIC: the last failure that was one of the scanner
    SUCCEEDED_AT = 5  # the last answer
    STREAK = 6  # failures since the last answer that any slot had had when this one failed
    PROBED_AT = 7  # when this slot last tried a scanner that was left alone


class LabelWord(IntEnum):
    """The words of a place's label; the name's text is between the first and the others."""

    NAME_BYTES = 0  # its length; 0: nobody's place
    FAILURES = 5  # from the scanner's settings: when its breaker opens
    RETRY = 6  # seconds, likewise
    IS_PRESENT = 7  # 1 while the scanner is in the configuration


SCAN_SECONDS = Histogram(8, SCAN_BOUNDS)  # how long it took, failures included

_WORDS = SCANNER_RECORD_BYTES // 8
_NAME_BYTES = 32  # room for the text of a name
_FINDINGS = {
    Finding.CLEAN: ScannerWord.CLEAN,
    Finding.HIT: ScannerWord.HIT,
    Finding.ERROR: ScannerWord.ERROR,
    Finding.UNSCANNED: ScannerWord.UNSCANNED,
}


class Place:
    """One scanner's records: those of all slots to read, that of slot `index` to write."""

    def __init__(self, memory: memoryview, index: int, number: int = 0) -> None:
        self.number = number  # counted from 1; 0 for one of no scoreboard
        self._memory = memory
        self._instants = memory.cast("d")
        self._counts = memory.cast("Q")
        own = memory[index * SCANNER_RECORD_BYTES : (index + 1) * SCANNER_RECORD_BYTES]
        self.own = Words(own)
        self.index = index
        self.slot_count = len(memory) // SCANNER_RECORD_BYTES

    @classmethod
    def unseen(cls) -> "Place":
        """One of no scoreboard, for whoever works without."""
        return cls(memoryview(bytearray(SCANNER_RECORD_BYTES)), 0)

    def note(self, finding: Finding, seconds: float | None) -> None:
        """The scanner has reported, after so many seconds; None where it was not asked."""
        self.own.count(_FINDINGS[finding])
        if seconds is not None:
            self.own.observe(SCAN_SECONDS, seconds)

    def latest(self, word: ScannerWord, slots: int) -> float:
        """The latest instant that any of the first `slots` slots has in this word; 0 without one."""
        return max(self._instants[word : slots * _WORDS : _WORDS].tolist())

    def failures_since(self, instant: float, slots: int) -> int:
        """Failures that slots have counted, in those that failed after the instant."""
        failed_at = self._instants[ScannerWord.FAILED_AT : slots * _WORDS : _WORDS].tolist()
        streaks = self._counts[ScannerWord.STREAK : slots * _WORDS : _WORDS].tolist()
        return sum(streak for streak, at in zip(streaks, failed_at, strict=True) if at > instant)

    def records(self, slots: int) -> list[Words]:
        """The records of the first `slots` slots."""
        size = SCANNER_RECORD_BYTES
        return [Words(self._memory[slot * size : (slot + 1) * size]) for slot in range(slots)]

    def total(self, word: ScannerWord) -> int:
        """A counter, over all slots."""
        return sum(self._counts[word::_WORDS].tolist())


@dataclass(frozen=True, slots=True)
class Label:
    """Whose place it is; `failures` and `retry` say when its breaker opens, and for how many seconds."""

    name: str
    failures: int
    retry: float
    is_present: bool


class ScannerBoard:
    """The region of all scanners in `memory`, for scoreboards of `slot_count` slots."""

    def __init__(self, memory: memoryview, slot_count: int) -> None:
        self._memory = memory
        self._records_bytes = slot_count * SCANNER_RECORD_BYTES
        self._count = len(memory) // (SCANNER_PLACE_BYTES + self._records_bytes)

    def labels(self) -> list[Label]:
        """The labels of the places that have an owner, in their order."""
        found = (self._label(number) for number in range(self._count))
        return [label for label in found if label.name]

    def assign(self, scanners: Iterable[ScannerSettings]) -> list[str]:
        """In the master: give each scanner its place. Returns the names for which there is none left."""
        known, without = [label.name for label in self.labels()], []
        for number in range(len(known)):
            self._words(number)[LabelWord.IS_PRESENT] = 0
        for scanner in scanners:
            if scanner.name not in known and len(known) < self._count:
                known.append(scanner.name)
            if scanner.name in known:
                self._write_label(known.index(scanner.name), scanner)
            else:
                without.append(scanner.name)
        return without

    def places(self, names: Sequence[str], slot: int) -> Mapping[str, Place]:
        """The place of each name, as the worker in this slot has it; unseen ones for names without."""
        known = [label.name for label in self.labels()]
        return {
            name: self.place(known.index(name), slot) if name in known else Place.unseen() for name in names
        }

    def place(self, number: int, slot: int) -> Place:
        """A place by its number."""
        start = self._count * SCANNER_PLACE_BYTES + number * self._records_bytes
        return Place(self._memory[start : start + self._records_bytes], slot, number + 1)

    def _words(self, number: int) -> Words:
        return Words(self._memory[number * SCANNER_PLACE_BYTES : (number + 1) * SCANNER_PLACE_BYTES])

    def _label(self, number: int) -> Label:
        words = self._words(number)
        start = number * SCANNER_PLACE_BYTES + 8
        text = bytes(self._memory[start : start + min(words[LabelWord.NAME_BYTES], _NAME_BYTES)])
        return Label(
            printable(text.decode("ascii", "replace")),
            words[LabelWord.FAILURES],
            words.seconds(LabelWord.RETRY),
            bool(words[LabelWord.IS_PRESENT]),
        )

    def _write_label(self, number: int, scanner: ScannerSettings) -> None:
        """The text first, then its length: a reader sees no name or a whole one."""
        words, text = self._words(number), scanner.name.encode("ascii")[:_NAME_BYTES]
        start = number * SCANNER_PLACE_BYTES + 8
        self._memory[start : start + len(text)] = text
        words[LabelWord.FAILURES] = scanner.failures
        words.set_seconds(LabelWord.RETRY, scanner.retry)
        words[LabelWord.IS_PRESENT] = 1
        words[LabelWord.NAME_BYTES] = len(text)
