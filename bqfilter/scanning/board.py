"""Scanners in the scoreboard: how each has fared, slot by slot (see `bqfilter.places`; a row is a slot).

There are a few more places than scanners at the start; a scanner that finds none works without figures, and
its breaker with those of its own worker.
"""

from collections.abc import Iterable
from enum import IntEnum

from bqfilter.config.content import ScannerSettings
from bqfilter.places import HealthWord, Label, Place, PlaceBoard, Terms
from bqfilter.scanning.report import Finding
from bqfilter.scoreboard import SCANNER_PLACE_BYTES, SCANNER_RECORD_BYTES, Histogram

SCAN_BOUNDS = (0.005, 0.05, 0.25, 1.0, 5.0, 20.0)  # seconds

_FIRST = len(HealthWord)


class ScannerWord(IntEnum):
    """The words of a record behind those of its health: counters, by Finding."""

    CLEAN = _FIRST
    HIT = _FIRST + 1
    ERROR = _FIRST + 2
    UNSCANNED = _FIRST + 3


SCAN_SECONDS = Histogram(_FIRST + 4, SCAN_BOUNDS)  # how long it took, failures included

_FINDINGS = {
    Finding.CLEAN: ScannerWord.CLEAN,
    Finding.HIT: ScannerWord.HIT,
    Finding.ERROR: ScannerWord.ERROR,
    Finding.UNSCANNED: ScannerWord.UNSCANNED,
}


class ScannerPlace(Place):
    """One scanner's records."""

    RECORD_BYTES = SCANNER_RECORD_BYTES

    def note(self, finding: Finding, seconds: float | None) -> None:
        """The scanner has reported, after so many seconds; None where it was not asked."""
        self.own.count(_FINDINGS[finding])
        if seconds is not None:
            self.own.observe(SCAN_SECONDS, seconds)


class ScannerBoard(PlaceBoard[ScannerPlace]):
    """The region of all scanners in `memory`, for scoreboards of `slot_count` slots."""

    def __init__(self, memory: memoryview, slot_count: int) -> None:
        super().__init__(memory, slot_count, ScannerPlace, SCANNER_PLACE_BYTES)

    def assign(self, scanners: Iterable[ScannerSettings]) -> list[str]:
        """In the master: give each scanner its place. Returns the names for which there is none left."""
        return self.give(Label(one.name, terms_of(one)) for one in scanners)


def terms_of(scanner: ScannerSettings) -> Terms:
    """When its breaker opens: a scanner is tried again always after the same time."""
    return Terms(scanner.failures, scanner.retry, scanner.retry)
