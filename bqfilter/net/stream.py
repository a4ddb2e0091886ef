"""Stream: a connected socket whose every read and write ends by a Deadline.

The socket stays in blocking mode and the kernel keeps the time (SO_RCVTIMEO, SO_SNDTIMEO), so that a read is
one system call and not a poll and a read. The kernel's timer is set shorter than what is left and only
touched again when it no longer fits; when it fires, we look at the clock and wait for the rest.

A deadline is extended neither by a byte that arrives nor by a signal: after a signal the interpreter starts
the system call anew, with the whole timer, and does not come back to us. So the timer is never longer than
half a second.

Errors of the operating system get their names here and nowhere else: PeerTimeout, PeerLost, PeerUnreachable,
NoSocket. A caller never sees an OSError or an empty read.
"""

import contextlib
import os
import select
import socket
import struct
from dataclasses import dataclass
from errno import EAGAIN, EINPROGRESS, ETIMEDOUT

from bqfilter.errors import NoSocket, PeerLost, PeerTimeout, PeerUnreachable
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Clock, Deadline

READ_BYTES = 65536
_WRITE_PIECE_BYTES = (
    65536  # one send call: within it a unix socket restarts the kernel's timer for each buffer
)
_FILE_PIECE_BYTES = 1 << 20  # one sendfile call; between two of them the clock is looked at

_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_TIMEVAL = struct.Struct("@ll")
_SHORTEST = 0.001  # a kernel timer of zero would mean "for ever"
_LONGEST = 0.5  # shorter than the second after which the master reminds a draining worker with a signal


class Stream:
    """A connection to `peer` (its name in messages), owned by one session or one upstream leg."""

    __slots__ = (
        "_clock",
        "_connecting",
        "_glance",
        "_receive_timer",
        "_send_timer",
        "_socket",
        "_until",
        "peer",
    )

    def __init__(self, sock: socket.socket, peer: str, clock: Clock) -> None:
        self._socket = sock
        self._clock = clock
        self._receive_timer = _KernelTimer(sock, socket.SO_RCVTIMEO)
        self._send_timer = _KernelTimer(sock, socket.SO_SNDTIMEO)
        self._until = 0.0  # the deadline of the read that is waiting now
        self._connecting: _Attempt | None = None
        self._glance = select.poll()
        self._glance.register(sock, select.POLLIN | select.POLLRDHUP)
        self.peer = peer

    def read(self, deadline: Deadline, limit: int = READ_BYTES) -> bytes:
        """One to `limit` bytes, as soon as there are any. Raises PeerTimeout or PeerLost."""
        self._until = deadline.at
        while True:
            self._receive_timer.fit(self._left("nothing received"))
            try:
                data = self._socket.recv(limit)
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerLost(_sentence(error)) from error
            if not data:
                raise PeerLost("connection closed")
            return data

    def read_into(self, buffer: bytearray, deadline: Deadline) -> int:
        """Like `read`, into the front of `buffer`; returns how many bytes came."""
        self._until = deadline.at
        while True:
            self._receive_timer.fit(self._left("nothing received"))
            try:
                count = self._socket.recv_into(buffer)
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerLost(_sentence(error)) from error
            if not count:
                raise PeerLost("connection closed")
            return count

    def hasten(self, seconds: float) -> None:
        """Let a read that is waiting at this moment end within `seconds`; a signal handler may call this."""
        self._until = min(self._until, self._clock() + seconds)
        with contextlib.suppress(OSError):  # closed meanwhile: nothing waits
            self._receive_timer.fit(max(self._until - self._clock(), _SHORTEST))

    def write(self, data: bytes, deadline: Deadline) -> None:
        """All of `data`. Raises PeerTimeout or PeerLost, which say how much the kernel had taken."""
        written = 0
        rest = memoryview(data)
        while rest:
            left = deadline.remaining()
            if left <= 0:
                raise PeerTimeout("peer takes no data", written)
            self._send_timer.fit(left)
            try:
                written += self._socket.send(rest[:_WRITE_PIECE_BYTES])
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerLost(_sentence(error), written) from error
            rest = memoryview(data)[written:]

    def write_file(self, fd: int, count: int, deadline: Deadline) -> None:
        """The first `count` bytes of the file `fd`, without copying them through this process.

        Done in non-blocking mode: a blocking sendfile restarts the kernel's timer for every piece it moves.
        """
        out = self._socket.fileno()
        os.set_blocking(out, False)
        try:
            offset = 0
            while offset < count:
                offset += self._send_piece(fd, offset, count - offset, deadline)
        finally:
            os.set_blocking(out, True)

    def shutdown_write(self) -> None:
        """Close our side: behind what was written the peer reads an end of file. Raises PeerLost."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise PeerLost(_sentence(error)) from error

    def has_input(self) -> bool:
        """Something can be read at once: bytes, or the news that the peer is gone."""
        return bool(self._glance.poll(0))

    def peer_has_left(self) -> bool:
        """The peer has closed or reset its side, even if bytes of it are still to be read."""
        return any(events & _GONE for _, events in self._glance.poll(0))

    def begin_connecting(self, address: SocketAddress) -> None:
        """Start the handshake without waiting; an error shows in `finish_connecting`."""
        self._connecting = _Attempt(address, self._socket.connect_ex(address.sockaddr))

    def finish_connecting(self, deadline: Deadline) -> None:
        """Wait until the connection stands. Raises PeerUnreachable."""
        attempt, self._connecting = self._connecting, None
        if attempt is None:
            return
        error = attempt.error
        if error == EINPROGRESS:
            error = self._await_handshake(deadline)
        self._socket.setblocking(True)
        if error == EAGAIN:
            error = self._await_room(attempt.address, deadline)
        if error:
            raise PeerUnreachable(os.strerror(error))

    def close(self) -> None:
        """Give the connection up; what the peer has not taken yet is still delivered by the kernel."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor, for tests and for whoever must close inherited ones."""
        return self._socket.fileno()

    def _left(self, complaint: str) -> float:
        left = self._until - self._clock()
        if left <= 0:
            raise PeerTimeout(complaint)
        return left

    def _send_piece(self, fd: int, offset: int, count: int, deadline: Deadline) -> int:
        try:
            sent = os.sendfile(self._socket.fileno(), fd, offset, min(count, _FILE_PIECE_BYTES))
        except BlockingIOError:
            left = deadline.remaining()
            if left <= 0 or not _poll(self._socket, select.POLLOUT, left):
                raise PeerTimeout("peer takes no data", offset) from None
            return 0
        except OSError as error:
            raise PeerLost(_sentence(error), offset) from error
        if sent == 0:
            raise PeerLost("spool file is shorter than expected", offset)
        return sent

    def _await_room(self, address: SocketAddress, deadline: Deadline) -> int:
        """In the full backlog of a unix socket: only a blocking connect waits for it."""
        error = EAGAIN
        while error == EAGAIN:
            self._send_timer.fit(max(deadline.remaining(), _SHORTEST))
            error = self._socket.connect_ex(address.sockaddr)
            if not error and not self._is_connected():  # a signal, which the interpreter takes for success
                error = EAGAIN
            if deadline.remaining() <= 0:
                break
        return error

    def _is_connected(self) -> bool:
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def _await_handshake(self, deadline: Deadline) -> int:
        events = _poll(self._socket, select.POLLOUT, deadline.remaining())
        if not events:
            return ETIMEDOUT
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & _GONE else 0


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A connection being made: where to, and what connect(2) said at once (0: it stands)."""

    address: SocketAddress
    error: int


class _KernelTimer:
    """SO_RCVTIMEO or SO_SNDTIMEO of one socket: always shorter than what is left, short, and seldom set."""

    __slots__ = ("_option", "_seconds", "_socket")

    def __init__(self, sock: socket.socket, option: int) -> None:
        self._socket = sock
        self._option = option
        self._seconds = 0.0  # not set

    def fit(self, left: float) -> None:
        """Make the kernel give up within `left` seconds, half a second at the most, and not much too soon."""
        if self._seconds <= left and (self._seconds == _LONGEST or left <= 4 * self._seconds):
            return
        seconds = min(max(left * 0.9, _SHORTEST), _LONGEST)
        timeval = _TIMEVAL.pack(0, int(seconds * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, self._option, timeval)
        self._seconds = seconds


def connect(address: SocketAddress, clock: Clock) -> Stream:
    """Begin to connect; `Stream.finish_connecting` waits for the outcome. Raises NoSocket.

    Nothing blocks here, so the handshake runs while the client is still talking.
    """
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise NoSocket(_sentence(error)) from error
    stream = Stream(sock, str(address), clock)
    if address.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.begin_connecting(address)
    return stream


def _poll(sock: socket.socket, events: int, seconds: float) -> int:
    """The events of `events` (errors included) that are there within `seconds`, 0 for none."""
    poll = select.poll()
    poll.register(sock, events)
    ready = poll.poll(max(seconds, 0) * 1000)
    return ready[0][1] if ready else 0


def _sentence(error: OSError) -> str:
    return error.strerror or str(error)
