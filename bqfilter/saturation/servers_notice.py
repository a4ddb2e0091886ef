"""Lines in the log about after-filter servers: which one is out of reach now, and which one is back.

Called in the master with every turn of its loop; workers tell of single attempts and of messages, not of
states. A server that comes and goes gets a line now and then, and the last one is always right.
"""

from dataclasses import dataclass

from bqfilter.log import Log
from bqfilter.saturation.reader import UpstreamFigures
from bqfilter.saturation.report import duration
from bqfilter.scoreboard import Scoreboard
from bqfilter.upstream.board import UpstreamBoard, row_of

_LOOK_INTERVAL = 1.0  # seconds
_QUIET_FOR = 10.0  # seconds between two lines about the same server


@dataclass(slots=True)
class _Told:
    """What the log says of a server."""

    out_since: float | None = None
    at: float = -_QUIET_FOR


class ServersNotice:
    """Watches one scoreboard."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._board = UpstreamBoard(scoreboard.upstreams, scoreboard.layout.slot_count)
        self._rows = row_of(scoreboard.layout.slot_count)
        self._looked_at = -_LOOK_INTERVAL
        self._told: dict[str, _Told] = {}

    def look(self, now: float, log: Log) -> None:
        """Say it if it is time to say something."""
        if now - self._looked_at < _LOOK_INTERVAL:
            return
        self._looked_at = now
        figures = [
            UpstreamFigures(label, place, self._rows)
            for label, place in self._board.owned(0)
            if label.is_present
        ]
        out = [one.out_since for one in figures]
        in_reach = f"{out.count(None)} of {len(out)}"
        self._told = {one.label.name: self._told.get(one.label.name, _Told()) for one in figures}
        for one, since in zip(figures, out, strict=True):
            told = self._told[one.label.name]
            if (since is None) != (told.out_since is None) and now - told.at >= _QUIET_FOR:
                _tell(one.label.name, told.out_since, since, now, in_reach, log)
                told.out_since, told.at = since, now


def _tell(
    name: str, was_out_since: float | None, since: float | None, now: float, left: str, log: Log
) -> None:
    if since is not None:
        log.warning("after-filter server out of reach", upstream=name, in_reach=left)
    elif was_out_since is not None:
        log.info("after-filter server is back", upstream=name, after=duration(now - was_out_since))
