"""Roster: which children there are, which are missing, and which should go; decisions without system calls.

The number of workers is fixed. A worker that leaves in good order, or dies, is replaced at once, unless
workers keep dying on their first job: then something is wrong with every one of them, and forking more would
only burn the machine, so replacements wait longer each time (as Postfix's master throttles a service).

A worker is replaced before it retires: its successor must be serving first. So neither a reload nor recycling
makes the pool smaller for a moment.
"""

from dataclasses import dataclass, field
from itertools import islice

_FIRST_DELAY = 0.5  # seconds before the second replacement in a row
_LONGEST_DELAY = 60.0
_LONGEST_DELAY_OF_FORK = 5.0  # a fork that fails burns nothing, and the pool is short of workers meanwhile
_DOUBLINGS = 7  # from the first delay to beyond the longest
_FORGIVEN_AFTER = 10.0  # a worker that has lived this long did not die of its start


@dataclass(slots=True)
class Child:
    """A worker process, as the master sees it."""

    pid: int
    slot: int
    generation: int
    forked_at: float
    is_up: bool = False  # it has been seen serving
    has_done_share: bool = False  # it has asked for a successor
    is_retiring: bool = False  # its successor is on the way
    is_leaving: bool = False  # it has been told to finish
    was_killed: bool = False  # by us, for outliving every limit


@dataclass(slots=True)
class Throttle:
    """How long to wait before forking again after early deaths in a row."""

    deaths: int = 0
    noted_at: float = -1.0
    closed_until: float = 0.0

    def on_early_death(self, now: float) -> float:
        """Note one; returns the delay in seconds, 0 for the first. Those found at one look count as one."""
        return self._wait_longer(now, _LONGEST_DELAY)

    def on_failed_fork(self, now: float) -> float:
        """The same where there is no process to be had: that may be over at any moment."""
        return self._wait_longer(now, _LONGEST_DELAY_OF_FORK)

    def _wait_longer(self, now: float, longest: float) -> float:
        if now == self.noted_at:
            return self.closed_until - now
        doublings = min(self.deaths - 1, _DOUBLINGS)
        delay = min(_FIRST_DELAY * 2**doublings, longest) if self.deaths else 0.0
        self.deaths += 1
        self.noted_at = now
        self.closed_until = now + delay
        return delay

    def forgive(self) -> None:
        """A worker has proved that workers can work."""
        self.deaths = 0


@dataclass(slots=True)
class Roster:
    """The children of one master; `size` is the number of workers wanted, of generation `generation`."""

    size: int
    slot_count: int
    generation: int = 1
    children: dict[int, Child] = field(default_factory=dict)
    throttle: Throttle = field(default_factory=Throttle)

    def free_slots(self, count: int) -> list[int]:
        """The lowest slots without a worker, so many of them or as many as there are."""
        taken = {child.slot for child in self.children.values()}
        return list(islice((index for index in range(self.slot_count) if index not in taken), count))

    def missing_count(self, now: float) -> int:
        """How many workers to fork now: to replace the dead, the retiring and those of an old generation."""
        if now < self.throttle.closed_until:
            return 0
        staying = sum(1 for child in self._present() if not child.is_retiring)
        return max(self.size - staying, 0)

    def surplus(self) -> list[Child]:
        """Children to be told to leave now: they are too many, or have successors that are up."""
        up = [child for child in self._present() if child.is_up and not child.is_retiring]
        replaceable = [
            child
            for child in self.children.values()
            if child.is_up
            and not child.is_leaving
            and (child.generation != self.generation or child.is_retiring)
        ]
        # Each one that goes needs one that is up in its place.
        serving = len(up) + len(replaceable)
        excess = max(serving - self.size, 0)
        leaving = replaceable[:excess]
        return leaving + up[self.size :]

    def on_exit(self, child: Child, now: float, *, abnormally: bool, on_first_job: bool) -> float:
        """Strike a child off; returns the seconds for which no other is forked."""
        del self.children[child.pid]
        if not abnormally:
            return 0.0
        if on_first_job and now - child.forked_at < _FORGIVEN_AFTER:
            return self.throttle.on_early_death(now)
        return 0.0

    def grant_retirements(self) -> None:
        """Recycling is staggered: at most a tenth of the pool, and at least one, is replaced at a time."""
        retiring = sum(1 for child in self.children.values() if child.is_retiring)
        for child in self._present():
            if retiring >= max(self.size // 10, 1):
                return
            if child.has_done_share and not child.is_retiring:
                child.is_retiring = True
                retiring += 1

    def _present(self) -> list[Child]:
        """Workers of the present generation that have not been told to leave."""
        return [
            child
            for child in self.children.values()
            if child.generation == self.generation and not child.is_leaving
        ]
