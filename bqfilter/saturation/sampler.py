"""What only somebody can know who looks often: how long queues are over time, and how long unix clients wait.

The exporter looks ten times a second and adds to words of its own in the scoreboard, so that they go on when
another exporter takes over. A unix client's wait is the time from the look that first saw it in the queue to
the look that no longer did, so it is a tenth of a second wrong at the most; one that was never seen waited
for less than that, and counts as 0. For TCP the workers know better.
"""

import socket

from bqfilter.saturation.queues import Follower, Queue, QueueProbe
from bqfilter.saturation.reader import Board
from bqfilter.scoreboard import (
    WAIT,
    Entrance,
    ExporterWord,
    Scoreboard,
    Tally,
    TallyWord,
    Word,
)

INTERVAL = 0.1  # seconds between two looks

# After a pause (a stopped process, a suspended machine) nobody knows what it was like in between.
_LONGEST_STEP = 1.0


class Sampler:
    """Looks at the queues of one scoreboard and adds up what it sees."""

    def __init__(self, scoreboard: Scoreboard, probe: QueueProbe, now: float) -> None:
        self._scoreboard = scoreboard
        self._probe = probe
        self._watchers = [
            _Watcher(entrance, scoreboard, index, tally)
            for index, (entrance, tally) in enumerate(
                zip(Board(scoreboard.view).entrances, scoreboard.exporter_tallies, strict=True)
            )
        ]
        self._sampled_at = now

    def sample(self, now: float) -> None:
        """One look; `now` is its instant."""
        step = min(max(now - self._sampled_at, 0.0), _LONGEST_STEP)
        self._sampled_at = now
        header = self._scoreboard.header
        if self._scoreboard.is_exhausted:
            header.add_seconds(ExporterWord.EXHAUSTED_SECONDS, step)
        for watcher in self._watchers:
            watcher.look(self._probe, now, step)
        header.set_seconds(ExporterWord.SAMPLED, now)


class _Watcher:
    """One listener's queue; `tally` is the exporter's."""

    def __init__(self, entrance: Entrance, scoreboard: Scoreboard, index: int, tally: Tally) -> None:
        self._entrance = entrance
        self._scoreboard = scoreboard
        self._index = index
        self._tally = tally
        self._tallies: list[Tally] = []  # the workers'
        self._follower = Follower() if entrance.family == socket.AF_UNIX else None
        self._accepted = self._count_accepted()
        self._unseen = 0  # accepted, and not seen in the queue; below 0 when seen to leave before counted

    def look(self, probe: QueueProbe, now: float, step: float) -> None:
        """Add what is there to what has been."""
        accepted = self._count_accepted()
        queue = probe.look(self._entrance)
        if queue.length is not None:
            self._tally.add_seconds(TallyWord.QUEUE_SECONDS, queue.length * step)
        if self._follower is not None and queue.waiting is not None:
            self._follow(self._follower, queue, accepted, now)

    def _follow(self, follower: Follower, queue: Queue, accepted: int, now: float) -> None:
        waits = follower.follow(queue.waiting or (), now)
        for wait in waits:
            self._tally.observe(WAIT, wait)
        self._unseen += accepted - self._accepted - len(waits)
        self._accepted = accepted
        while self._unseen > 0:
            self._tally.observe(WAIT, 0.0)
            self._unseen -= 1
        self._tally.set_seconds(TallyWord.OLDEST_SINCE, follower.oldest_since or 0.0)

    def _count_accepted(self) -> int:
        """Over all slots; more of them may have come into use, from the lowest on."""
        slots, known = self._scoreboard.slots, self._tallies
        while len(known) < len(slots) and slots[len(known)][Word.GENERATION]:
            known.append(self._scoreboard.tallies(len(known))[self._index])
        return sum(tally[TallyWord.ACCEPTED] for tally in known)
