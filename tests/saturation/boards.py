"""Scoreboards as a master would have made them, with the time that a test says it is."""

import dataclasses
import socket
from collections.abc import Sequence

from bqfilter.config.content import ClamdSettings
from bqfilter.ledger import Stage
from bqfilter.net.address import SocketAddress
from bqfilter.places import Terms
from bqfilter.saturation.reader import Board, Snapshot
from bqfilter.scanning.board import ScannerBoard
from bqfilter.scoreboard import Entrance, MasterWord, Scoreboard, Slot
from bqfilter.upstream.board import UpstreamBoard

TCP = Entrance("inet:127.0.0.1:10025", socket.AF_INET, 1)
UNIX = Entrance("unix:/run/bqfilter/smtp.sock", socket.AF_UNIX, 2)
AFTER, SPARE = (SocketAddress(socket.AF_INET, ("127.0.0.1", port)) for port in (10026, 10027))
NOW = 100000.0


def scoreboard(workers: int = 2, listeners: Sequence[Entrance] = (TCP,)) -> Scoreboard:
    """All workers idle, and a master that was here a moment ago.

    There is one scanner, which nobody has asked, and two after-filter servers, which nobody has called.
    """
    made = Scoreboard.anonymous(workers + 2, listeners, scanner_places=2, upstream_places=3)
    ScannerBoard(made.scanners, workers + 2).assign([ClamdSettings(endpoints=(), name="clamav")])
    servers = UpstreamBoard(made.upstreams, workers + 2)
    servers.assign([AFTER, SPARE], Terms(1, 1.0, 60.0))
    made.header[MasterWord.WORKERS] = workers
    made.header[MasterWord.GENERATION] = 1
    made.header.set_seconds(MasterWord.PROXY_TIMEOUT, 100.0)
    made.header.set_seconds(MasterWord.HEARTBEAT, NOW)
    for slot in made.slots[:workers]:
        slot.was_given(1)
        slot.move_in(4000000 + slot.index)  # beyond every pid there can be (kernel.pid_max)
        slot.wait()
    return made


def snapshot(board: Scoreboard, now: float = NOW) -> Snapshot:
    """What an onlooker sees at the instant `now`."""
    return dataclasses.replace(Board(board.view).snapshot(), taken_at=now, wall=1.7e9 + now)


def occupy(slot: Slot, since: float, stage: Stage, stage_since: float, *, is_queued: bool = False) -> None:
    """A session in a stage, without a limit."""
    slot.begin(since, None, is_queued, 0, 0xABC)
    slot.enter(stage, stage_since, 0.0)
