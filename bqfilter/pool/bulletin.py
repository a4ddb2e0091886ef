"""Bulletin: what the service manager is told by the master: readiness, one line of status, signs of life.

The status is what `systemctl status` shows: how many workers are busy, how many connections wait, since when
the settings are in force, and what became of the last reload. It is sent when it has changed, at most every
five seconds, and at once when something has happened.

A sign of life goes out from the master's own loop, and only while a worker is there to take mail: a loop
that hangs, or turns around an empty pool, is silent.

Where there is no service manager, or it does not listen, nothing is lost but words: nothing here waits, and
nothing here is of consequence to mail.
"""

import time
from collections.abc import Sequence

from bqfilter import systemd
from bqfilter.saturation.queues import QueueProbe
from bqfilter.saturation.reader import Board, Snapshot, queues
from bqfilter.scoreboard import MasterWord, Scoreboard

_STATUS_INTERVAL = 5.0  # seconds between two looks at what may have changed
_LIVES_PER_TIMEOUT = 4  # so that one that is lost, or late, kills nobody
_MAX_CAUSE_LENGTH = 200  # characters
_STOP_GRACE = 8.0  # seconds for those who have to be told twice, before the service manager kills


class Bulletin:
    """The words of one master about the pool of one scoreboard."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self._board = Board(scoreboard.view)
        self._is_heard = systemd.is_listening()
        timeout = systemd.watchdog_timeout()
        self._alive_interval = timeout / _LIVES_PER_TIMEOUT if timeout else None
        self._alive_at = self._told_at = 0.0
        self._status = ""
        self._failure = ""  # of the last reload, or of the last upgrade
        self._restart_for = ""  # keys that a reload could not change
        self._accepts_until = 0.0
        self._drains_until: float | None = None

    def turn(self, now: float, has_workers: bool) -> None:
        """The master's loop has turned; `has_workers` tells whether anybody is there to take mail."""
        if not self._is_heard:
            return
        if self._alive_interval is not None and now - self._alive_at >= self._alive_interval and has_workers:
            self._show_life(now)
        if now - self._told_at >= _STATUS_INTERVAL and self._told_at:
            self._tell(now)

    def ready(self) -> None:
        """All workers that are wanted take mail, with the settings now in force."""
        self._tell(time.monotonic(), "READY=1")

    def reloading(self) -> None:
        """Settings are about to be read again, by this program or the next; that may take a while."""
        systemd.notify_reloading()
        self._show_life(time.monotonic())

    def reloaded(self, restart_for: Sequence[str]) -> None:
        """They are in force now, but for these keys, which take a restart."""
        self._failure, self._restart_for = "", ", ".join(restart_for)

    def reload_failed(self, cause: str) -> None:
        """They are not, and those before them are."""
        self._failure = f"reload failed at {_clock_time(time.time())}: {_one_line(cause)}"
        self._tell(time.monotonic(), "READY=1")

    def upgrade_failed(self, cause: str) -> None:
        """A new program was to take over, and this one goes on."""
        self._failure = f"new program is not fit at {_clock_time(time.time())}: {_one_line(cause)}"
        self._tell(time.monotonic(), "READY=1")

    def stopping(self, until: float, accepts_until: float) -> None:
        """Connections are taken until the second instant; what has begun by then may take until the first."""
        self._drains_until, self._accepts_until = until, accepts_until
        now = time.monotonic()
        patience = int((until - now + _STOP_GRACE) * 1_000_000)
        self._tell(now, "STOPPING=1", f"EXTEND_TIMEOUT_USEC={patience}")

    def _show_life(self, now: float) -> None:
        if self._alive_interval is not None and systemd.notify("WATCHDOG=1"):
            self._alive_at = now

    def _tell(self, now: float, *assignments: str) -> None:
        """The status if it has changed, and what else there is to say."""
        if not self._is_heard:
            return
        self._told_at = now
        status = self._composed(now)
        news = [f"STATUS={status}"] if status != self._status or assignments else []
        if (assignments or news) and systemd.notify(*assignments, *news):
            self._status = status

    def _composed(self, now: float) -> str:
        snapshot = self._board.snapshot()
        busy = len(snapshot.busy)
        if self._drains_until is not None:
            left = max(self._drains_until - now, 0.0)
            if now < self._accepts_until:
                accepts = self._accepts_until - now
                return f"about to stop: {busy} workers busy, connections taken for {accepts:.0f} s more"
            return f"stopping: {busy} workers have a message or a client to finish, at most {left:.0f} s"
        waiting, loaded = self._waiting(snapshot), snapshot.header.seconds(MasterWord.LOADED_WALL)
        parts = [
            f"accepting: {busy} of {snapshot.worker_limit} workers busy, {waiting} waiting",
            f"settings of {_clock_time(loaded)}",
        ]
        parts += [self._failure] if self._failure else []
        parts += [f"restart to change {self._restart_for}"] if self._restart_for else []
        return "; ".join(parts)

    def _waiting(self, snapshot: Snapshot) -> str:
        """Connections in the accept queues. While somebody is idle nobody waits, and nobody is asked."""
        if not self._scoreboard.is_exhausted:
            return "0"
        probe = QueueProbe()
        lengths = [queue.length for queue in queues(snapshot, probe)]
        probe.close()  # or every worker forked from now on would inherit it
        known = [length for length in lengths if length is not None]
        return str(sum(known)) if known else "unknown number"


def _clock_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _one_line(text: str) -> str:
    """A status is a line: the first of the cause, which quotes the file, which may hold anything."""
    first = text.partition("\n")[0]
    line = "".join(char if char.isprintable() else "?" for char in first)
    return line if len(line) <= _MAX_CAUSE_LENGTH else line[:_MAX_CAUSE_LENGTH] + "..."
