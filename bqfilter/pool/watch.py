"""What the master notes and notices: its own doings, slow sessions, a full pool, servers out of reach.

Every turn of the master's loop comes by here. Nothing here waits, and nothing that fails here is of any
consequence to mail.

A session that lasts longer than `metrics.slow_session` is logged once, and its worker is sent SIGUSR2: then
it writes to slow.log where in the program it stands, and goes on. The file starts anew with every master and
whenever it has grown large; it lies where the scoreboard does, in memory as a rule.
"""

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from resource import struct_rusage

from bqfilter.config.schema import Settings
from bqfilter.log import Log
from bqfilter.pool.roster import Child
from bqfilter.saturation.report import duration, stage_name
from bqfilter.saturation.servers_notice import ServersNotice
from bqfilter.saturation.warning import SaturationWarning
from bqfilter.scoreboard import Exit, MasterWord, Scoreboard, Slot, Word, create_file

SLOW_LOG_NAME = "slow.log"

_SLOW_LOG_BYTES = 1 << 20  # beyond this it starts anew


class Watch:
    """The master's observations, published through `scoreboard`."""

    def __init__(self, scoreboard: Scoreboard, settings: Settings, log: Log) -> None:
        self._scoreboard = scoreboard
        self._header = scoreboard.header
        self._saturation = SaturationWarning(scoreboard)
        self._servers = ServersNotice(scoreboard)
        self._known_slow: dict[int, int] = {}  # slot to session
        self.slow_log = _open_slow_log(settings.runtime.directory, log)
        self.take(settings, 1, log)

    def take(self, settings: Settings, generation: int, log: Log) -> None:
        """These settings are in force from now on."""
        self._threshold = settings.metrics.slow_session
        self._log = log
        header = self._header
        header[MasterWord.GENERATION] = generation
        header[MasterWord.WORKERS] = settings.pool.workers
        header.set_seconds(MasterWord.PROXY_TIMEOUT, settings.budget.proxy_timeout)
        header.set_seconds(MasterWord.SESSION_LIMIT, settings.budget.session)
        header.set_seconds(MasterWord.LOADED_WALL, time.time())

    def turn(self, now: float, children: Iterable[Child]) -> None:
        """The master's loop has turned."""
        self._header.set_seconds(MasterWord.HEARTBEAT, now)
        self._saturation.look(now, self._log)
        self._servers.look(now, self._log)
        if self._threshold:
            for child in children:
                self._look_at(child, self._scoreboard.slots[child.slot], now)

    def count(self, word: MasterWord) -> None:
        """One more."""
        self._header.count(word)

    def note_exit(self, child: Child, exit_code: int, generation: int, now: float) -> None:
        """A worker was reaped; its slot is still as it left it."""
        self._scoreboard.slots[child.slot].was_cut_short(now)
        self._header.count(MasterWord.EXITS + _reason(child, exit_code, generation))

    def note_usage(self, usage: struct_rusage | None) -> None:
        """What a worker had used of the CPU, now that its slot does not name it any more."""
        if usage is None:
            return
        self._header.add_seconds(MasterWord.REAPED_USER_SECONDS, usage.ru_utime)
        self._header.add_seconds(MasterWord.REAPED_SYSTEM_SECONDS, usage.ru_stime)

    def note_drain(self) -> None:
        """SIGTERM came, or something like it; the first time counts."""
        if not self._header.seconds(MasterWord.DRAINING):
            self._header.set_seconds(MasterWord.DRAINING, time.monotonic())

    def end(self) -> None:
        """The master stops in good order."""
        self._header.set_seconds(MasterWord.HEARTBEAT, 0.0)

    def _look_at(self, child: Child, slot: Slot, now: float) -> None:
        since = slot.seconds(Word.SESSION_SINCE)
        if not since or now - since < self._threshold:
            return
        session = slot[Word.SESSION]
        if self._known_slow.get(slot.index) != session:
            self._known_slow[slot.index] = session
            self._on_slow(child, slot, f"{session:X}", now - since)

    def _on_slow(self, child: Child, slot: Slot, session: str, age: float) -> None:
        stage = slot.stage
        self._header.count(MasterWord.SLOW + stage)
        self._log.for_session(session).warning(
            "slow session", pid=child.pid, slot=slot.index, client=slot.client or None,
            lasting=duration(age), stage=stage_name(stage), limit=duration(self._threshold),
        )  # fmt: skip
        if self.slow_log is not None and _entitle(self.slow_log, session, child.pid, stage_name(stage)):
            os.kill(child.pid, signal.SIGUSR2)  # not reaped yet, so the pid is certainly its own


def _reason(child: Child, exit_code: int, generation: int) -> Exit:
    if child.was_killed:
        return Exit.KILLED
    if exit_code:
        return Exit.CRASHED if exit_code > 0 else Exit.SIGNALLED
    if child.generation != generation:
        return Exit.RELOADED
    return Exit.RECYCLED if child.is_retiring else Exit.STOPPED


def _open_slow_log(directory: str, log: Log) -> int | None:
    path = Path(directory) / SLOW_LOG_NAME
    try:
        fd = create_file(path, 0o640)
        os.set_blocking(fd, False)
        return fd
    except OSError as error:
        log.warning("no slow log", path=str(path), cause=error.strerror)
        return None


def _entitle(fd: int, session: str, pid: int, stage: str) -> bool:
    """A line above the stack that is to follow; False where there is no room for either."""
    line = f"\n{time.strftime('%Y-%m-%dT%H:%M:%S%z')} session {session}, worker {pid}, {stage}:\n"
    try:
        if os.fstat(fd).st_size > _SLOW_LOG_BYTES:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, line.encode("ascii"))
    except OSError:
        return False
    return True
