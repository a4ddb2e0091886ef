"""Kill -9 of workers, exporter and master, one strike after the other, and how long until the pool is whole.

Most strikes fall at random. Some are aimed at a worker that is handing a message over, because the moment in
which a kill leaves a message in doubt is short, and a storm that never meets it shows nothing about it.
"""

import contextlib
import http.client
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from bqfilter.ledger import Stage
from bqfilter.scoreboard import Slot
from tests.doubles.programs import eventually
from tests.pool.scraper import fetch

from .boards import Board, Fall, wait_for
from .manager import Manager

# What is struck, and how often in a hundred strikes.
_AIMS = {
    "a worker": 46,
    "a worker that hands over": 20,
    "several workers": 10,
    "all workers": 4,
    "exporter": 5,
    "master": 9,
    "master, then an orphan": 6,
}
_LIMIT = 60.0  # seconds for a pool to be whole again: whether it is, and no measure of anything


@dataclass(frozen=True, slots=True)
class Strike:
    """What was hit, with how many processes killed, and the seconds until all was as before."""

    aim: str
    kills: int
    seconds: float


@dataclass(slots=True)
class Striker:
    """Kills what `manager` runs, a pool of `workers`; `metrics` is where its exporter answers."""

    manager: Manager
    runtime: Path
    workers: int
    metrics: tuple[str, int]
    chance: random.Random
    falls: list[Fall] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    _fallen: set[int] = field(default_factory=set)
    _dead_masters: set[int] = field(default_factory=set)

    @property
    def kills(self) -> int:
        return sum(strike.kills for strike in self.strikes)

    def strike(self) -> None:
        """One; return when every slot is filled and serving again, and the exporter answers."""
        board = self.board()
        aim = self.chance.choices(list(_AIMS), list(_AIMS.values()))[0]
        kills = self._hit(aim, board)
        if kills:
            self.strikes.append(Strike(aim, kills, self._seconds_until_whole(aim)))

    def board(self) -> Board:
        """That of the present master, which has made it by the time that it is ready."""
        return Board(self.runtime, self.workers)

    def _hit(self, aim: str, board: Board) -> int:
        match aim:
            case "a worker that hands over":
                wait_for(lambda: bool(board.at(Stage.HANDOVER)), 1.0)
                return self._kill_workers(board, board.at(Stage.HANDOVER), 1, by_aim=True)
            case "a worker":
                return self._kill_workers(board, board.serving(), 1)
            case "several workers":
                return self._kill_workers(board, board.serving(), self.chance.randint(2, self.workers - 1))
            case "all workers":
                return self._kill_workers(board, board.serving(), self.workers)
            case "exporter":
                return self._kill_exporter()
            case "master":
                return self._kill_master()
            case _:
                kills = self._kill_master()
                return kills + self._kill_workers(board, board.serving(), 1)

    def _kill_workers(self, board: Board, slots: dict[int, Slot], count: int, *, by_aim: bool = False) -> int:
        victims = self.chance.sample(sorted(slots), min(count, len(slots)))
        falls = board.kill({pid: slots[pid] for pid in victims})
        is_orphan = board.master in self._dead_masters
        self.falls += [replace(fall, by_aim=by_aim, is_orphan=is_orphan) for fall in falls]
        self._fallen.update(fall.pid for fall in falls)
        return len(falls)

    def _kill_exporter(self) -> int:
        for pid in children(self.manager.pid):
            if b"exporter" in title(pid):
                os.kill(pid, signal.SIGKILL)
                return 1
        return 0

    def _kill_master(self) -> int:
        master = self.manager.pid
        os.kill(master, signal.SIGKILL)
        self._dead_masters.add(master)
        return 1

    def _seconds_until_whole(self, aim: str) -> float:
        seconds = wait_for(self._exporter_answers if aim == "exporter" else self._is_whole, _LIMIT)
        assert seconds is not None, f"not whole {_LIMIT:g} s after {aim} was killed"
        return seconds

    def _is_whole(self) -> bool:
        with contextlib.suppress(OSError, ValueError):  # a scoreboard that is being replaced
            board = self.board()
            is_its_own = board.master == self.manager.pid and board.master not in self._dead_masters
            return is_its_own and board.is_full(but_for=self._fallen)
        return False

    def _exporter_answers(self) -> bool:
        connection = http.client.HTTPConnection(*self.metrics, timeout=10.0)
        with contextlib.suppress(OSError, http.client.HTTPException):
            return fetch(connection, "/-/healthy").status == 200
        return False

    def wait_for_exporter(self) -> None:
        """The last one killed is replaced too, however long that takes."""
        eventually(self._exporter_answers, "the exporter answers")

    def by_aim(self) -> dict[str, list[Strike]]:
        return {aim: [one for one in self.strikes if one.aim == aim] for aim in _AIMS}

    def stages(self) -> Counter[Stage]:
        """How many workers fell in which stage of a session."""
        return Counter(fall.stage for fall in self.falls)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
