"""A list of kept messages as text, made in parts by as many processes as there are processors.

What takes the time of a long list is not the disk but the reading of its lines. A short one is made by this
process alone.
"""

import os
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from bqfilter.errors import QuarantineFailure
from bqfilter.quarantine.names import Name, State
from bqfilter.quarantine.store import Entry, Quarantine

_PART_FILES = 2000  # some 50 ms of work
_our_listing: "Listing"  # in a process that makes parts


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the lines, each with its end, and how many of them are about a file that cannot be read."""

    text: str
    flaws: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What is listed, in which order, and how: the entries of `names` that are in `states` and fit."""

    store: Quarantine
    names: Sequence[Name]
    states: Collection[State]
    fits: Callable[[Entry], bool]
    show: Callable[[Entry], str]

    def parts(self, processes: int) -> Iterator[Part]:
        """All of it, in order. Raises QuarantineFailure, OSError."""
        starts = range(0, len(self.names), _PART_FILES)
        if min(processes, len(starts)) < 2:
            yield from map(self.part, starts)
            return
        with ProcessPoolExecutor(processes, get_context("fork"), _begin, (self,)) as pool:
            try:
                yield from pool.map(_part, starts)
            except BrokenProcessPool:
                raise QuarantineFailure("a process that made a part of the list was killed") from None

    def part(self, start: int) -> Part:
        """The lines about one part's files."""
        names = self.names[start : start + _PART_FILES]
        lines, flaws = [], 0
        for entry in self.store.entries_of(names, self.states):  # one at a time: memory stays small
            if self.fits(entry):
                lines.append(self.show(entry))
                flaws += entry.stored is None
        return Part("".join(f"{line}\n" for line in lines), flaws)


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def _begin(listing: Listing) -> None:
    """In each process: the listing came with the fork; to end early is for the one that asked."""
    global _our_listing
    _our_listing = listing
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _part(start: int) -> Part:
    return _our_listing.part(start)
