"""What the kernel says about queues, and what other processes have left in the scoreboard."""

import json
import math
import socket
import struct
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from bqfilter.saturation import report
from bqfilter.saturation.collector import BoardCollector
from bqfilter.saturation.live import Live
from bqfilter.saturation.queues import UNKNOWN, Follower, Queue, QueueProbe
from bqfilter.saturation.reader import Board
from bqfilter.saturation.sizing import Measured
from bqfilter.scoreboard import Entrance, Slot
from tests.fuzz.cuts import pieces
from tests.saturation.boards import TCP, UNIX, occupy, scoreboard

_PATCH = struct.Struct("<H8s")
_ENTRANCES = (TCP, UNIX, Entrance("inet:[::1]:10025", socket.AF_INET6, 3))


def queues(data: bytes) -> None:
    """Whatever netlink and /proc/net say, a look at a queue comes to figures or to "unknown", and ends."""
    for entrance in _ENTRANCES:
        for said in ([data], pieces(data)):
            probe = QueueProbe(_Proc(data))  # type: ignore[arg-type]  # it has what is needed of a path
            probe._netlink = _Netlink(said)  # type: ignore[assignment]
            queue = probe.look(entrance, with_ages=True)
            probe.close()
            _check_queue(queue)
            follower = Follower()
            for now, inodes in enumerate([queue.waiting or (), tuple(data[:40]), tuple(data[5:])]):
                assert all(wait >= 0 for wait in follower.follow(inodes, float(now)))


def board(data: bytes) -> None:
    """A scoreboard with anything in it is read, shown, and scraped; one that is none raises ValueError.

    Data of an even number of bytes is patches of a scoreboard in order (where, eight bytes), any other is
    the whole file.
    """
    if len(data) % 2:
        file = bytearray(data)
    else:
        file = bytearray(_BOARD)
        for at, word in _PATCH.iter_unpack(data[: len(data) - len(data) % _PATCH.size]):
            at = at * 8 % len(file)
            file[at : at + 8] = word
    try:
        read = Board(memoryview(file))
    except ValueError:
        return
    snapshot = read.snapshot()
    found = [UNKNOWN for _ in snapshot.listeners]
    text = report.as_text(snapshot, found)
    assert all(character == "\n" or character.isprintable() for character in text), text
    json.dumps(report.as_value(snapshot, found), allow_nan=False)
    assert report.verdict(snapshot, found).sentence.isprintable()
    Live(Measured.parse(report.measured(report.Period(snapshot), snapshot)), 1, True, False)
    registry = CollectorRegistry()
    collector = BoardCollector(read)
    collector._probe = _NoProbe()
    registry.register(collector)
    assert generate_latest(registry).endswith(b"\n")


class _NoProbe(QueueProbe):
    """Nothing is known."""

    def look(self, entrance: Entrance, *, with_ages: bool = False) -> Queue:  # noqa: ARG002
        return UNKNOWN


class _Netlink:
    """Says what it was given, then nothing more."""

    def __init__(self, said: list[bytes]) -> None:
        self._said = said[::-1]

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, _limit: int) -> bytes:
        if not self._said:
            raise TimeoutError
        return self._said.pop()

    def close(self) -> None:
        """Nothing is held."""


class _Proc:
    """Every file of /proc/net holds the same."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __truediv__(self, _name: str) -> "_Proc":
        return self

    def read_bytes(self) -> bytes:
        return self._data


def _check_queue(queue: Queue) -> None:
    for number in (queue.length, queue.limit, queue.drops, queue.gone):
        assert number is None or number >= 0
    assert queue.oldest_age is None or (math.isfinite(queue.oldest_age) and queue.oldest_age >= 0)


def _made() -> bytes:
    made = scoreboard(workers=2, listeners=(TCP, UNIX))
    occupy(made.slots[0], 99990.0, _stage(), 99995.0)
    return bytes(made.view)


def _stage() -> Any:
    return Slot.unseen().stage


_BOARD = _made()
