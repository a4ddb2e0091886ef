"""After-filter servers in the scoreboard: how each has fared, process by process (see `bqfilter.places`).

A place belongs to an address, so a name that stands for several addresses has as many. The first row is the
exporter's, which calls servers that are out of reach without a message; then there is one for each slot.
"""

from collections.abc import Iterable
from enum import IntEnum

from bqfilter.config.schema import Settings
from bqfilter.net.address import SocketAddress
from bqfilter.places import HealthWord, Label, Place, PlaceBoard, Terms
from bqfilter.scoreboard import UPSTREAM_PLACE_BYTES, UPSTREAM_RECORD_BYTES

EXPORTER_ROW = 0

_FIRST = len(HealthWord)
_FAILURES = 1  # are enough: a server that is there answers everybody who calls
_RETRY = 1.0  # seconds that it is left alone at first


class UpstreamWord(IntEnum):
    """The words of a record behind those of its health."""

    TRANSACTIONS = _FIRST  # begun there; the others but the last are counters, too
    UNREACHED = _FIRST + 1  # no connection to it came about
    LOST = _FIRST + 2  # it was lost in the middle of a message
    OPEN = _FIRST + 3  # 1 with a connection to it


class UpstreamPlace(Place):
    """One server's records."""

    RECORD_BYTES = UPSTREAM_RECORD_BYTES


class UpstreamBoard(PlaceBoard[UpstreamPlace]):
    """The region of all after-filter servers in `memory`, for scoreboards of `slot_count` slots."""

    def __init__(self, memory: memoryview, slot_count: int) -> None:
        super().__init__(memory, slot_count + 1, UpstreamPlace, UPSTREAM_PLACE_BYTES)

    def assign(self, addresses: Iterable[SocketAddress], terms: Terms) -> list[str]:
        """In the master: give each server its place. Returns the addresses for which there is none left."""
        return self.give(Label(str(address), terms) for address in addresses)

    def vacate(self, slot: int) -> None:
        """In the master, after the worker in this slot was reaped: its connection is gone with it."""
        for _, place in self.owned(row_of(slot)):
            place.own[UpstreamWord.OPEN] = 0


def row_of(slot: int) -> int:
    """The row of a slot."""
    return slot + 1


def terms_of(settings: Settings) -> Terms:
    """When a server is left alone, and for how long."""
    return Terms(_FAILURES, min(_RETRY, settings.upstream.retry), settings.upstream.retry)


def call_timeout(settings: Settings) -> float:
    """Seconds that it may take to find out whether a server answers."""
    timeouts = settings.timeouts
    return timeouts.connect + timeouts.greeting + timeouts.ehlo
