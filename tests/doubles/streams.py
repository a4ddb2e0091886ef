"""Streams without sockets: `FakeStream` keeps Stream's promises over bytes, `ScriptedStream` has a script.

What waits in reality calls `on_wait` here, which must change something: put bytes into `inbox`, let the peer
leave, move the clock. By itself nothing happens until the deadline, and the read times out.
"""

import errno
import math
import os
from collections.abc import Callable, Sequence

from bqfilter.errors import PeerLost, PeerTimeout, PeerUnreachable
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.dialling import Dialler
from tests.doubles.clock import FakeClock


class FakeStream:
    """All of Stream's methods; what was written is kept in `written`."""

    def __init__(self, clock: FakeClock, peer: str = "192.0.2.1:1") -> None:
        self.clock = clock
        self.peer = peer
        self.inbox = bytearray()  # sent by the peer, not read yet
        self.written = bytearray()
        self.has_left = False  # the peer has closed its side
        self.is_reset = False  # and takes nothing any more
        self.is_stuck = False  # the peer reads nothing
        self.is_shut = False  # we have closed our side
        self.is_closed = False  # by us
        self.unreachable = 0  # what connecting fails with, an errno
        self.until = math.inf

    def read(self, deadline: Deadline, limit: int = 65536) -> bytes:
        self.until = deadline.at
        while True:
            if self.clock() >= self.until:
                raise PeerTimeout("nothing received")
            if self.inbox:
                data = bytes(self.inbox[:limit])
                del self.inbox[:limit]
                return data
            if self.has_left:
                raise PeerLost("connection reset" if self.is_reset else "connection closed")
            self.on_wait()

    def read_into(self, buffer: bytearray, deadline: Deadline) -> int:
        data = self.read(deadline, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def hasten(self, seconds: float) -> None:
        self.until = min(self.until, self.clock() + seconds)

    def write(self, data: bytes, deadline: Deadline) -> None:
        self.on_look()
        if self.is_stuck:
            self.clock.now = max(self.clock.now, deadline.at)
        if deadline.has_passed:
            raise PeerTimeout("peer takes no data")
        if self.is_reset:
            raise PeerLost("broken pipe")
        self.written += data
        self.on_write(data)

    def write_file(self, fd: int, count: int, deadline: Deadline) -> None:
        self.write(os.pread(fd, count, 0), deadline)

    def shutdown_write(self) -> None:
        if self.is_reset:
            raise PeerLost("not connected")
        self.is_shut = True

    def has_input(self) -> bool:
        self.on_look()
        return bool(self.inbox or self.has_left or self.unreachable)

    def peer_has_left(self) -> bool:
        self.on_look()
        return self.has_left

    def begin_connecting(self, address: SocketAddress) -> None:
        self.peer = str(address)

    def finish_connecting(self, deadline: Deadline) -> None:
        self.on_look()
        if self.unreachable == errno.ETIMEDOUT:
            self.clock.now = max(self.clock.now, deadline.at)
        if self.unreachable:
            raise PeerUnreachable(os.strerror(self.unreachable))

    def close(self) -> None:
        self.is_closed = True

    def on_wait(self) -> None:
        """A read waits. This peer is silent."""
        assert self.until < math.inf, "this read would wait for ever"
        self.clock.now = self.until

    def on_look(self) -> None:
        """Somebody asks what has happened so far, without waiting."""

    def on_write(self, data: bytes) -> None:
        """The peer takes what we wrote."""


CLOSE = "close"
RESET = "reset"
Event = bytes | float | str | Callable[[], None]


class ScriptedStream(FakeStream):
    """A client with a script: bytes are sent, numbers are seconds that pass, CLOSE and RESET end it.

    Each of them happens when we wait for the client, a callable too (it stands for a signal). A client whose
    script says that it leaves can be seen to have left at once, though, behind whatever it sends before; at
    the end of the script it just has nothing more to say, and closes when we wait for it.
    """

    def __init__(self, clock: FakeClock, events: Sequence[Event]) -> None:
        super().__init__(clock)
        self._events = list(events)

    def on_wait(self) -> None:
        match self._events.pop(0) if self._events else CLOSE:
            case bytes() as data:
                self.inbox += data
            case str() as ending:
                self.has_left, self.is_reset = True, ending == RESET
            case float() | int() as seconds:
                self.clock.advance(seconds)
            case signal:
                signal()

    def on_look(self) -> None:
        ahead = next((event for event in self._events if not isinstance(event, bytes)), None)
        while isinstance(ahead, str) and not self.has_left:
            self.on_wait()


def dialler_to(stream: FakeStream) -> Dialler:
    """One that has this connection to give, whomever it calls."""
    anywhere = SocketAddress(1, "/somewhere")
    return Dialler([anywhere], stream.clock, lambda *_: stream)  # type: ignore[arg-type,return-value]  # keeps Stream's promises
