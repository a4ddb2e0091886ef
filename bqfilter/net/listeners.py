"""Listening sockets: bound here or inherited, and what an accepted connection tells before its first byte.

Listeners are non-blocking and shared by all workers: the kernel's queue is the only queue. On Linux an
accepted TCP socket takes TCP_NODELAY over from its listener.

How long a connection waited in the accept queue is read from TCP_INFO right after accept: the server speaks
first, so `tcpi_last_data_sent` counts the milliseconds since the handshake until our greeting changes it. A
unix-domain socket has no such clock: its wait is None, "not known", never 0.
"""

import contextlib
import errno
import grp
import mmap
import os
import socket
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from bqfilter.errors import ConfigError, StartFailure
from bqfilter.net.address import AllowList, Endpoint, SocketAddress

_TCP_INFO = struct.Struct("=B43xI")  # tcpi_state at 0, tcpi_last_data_sent (ms) at 44
_TCP_INFO_BYTES = 104  # the part that every kernel of this century has
_TCP_DEAD = frozenset({7, 8})  # CLOSE (reset), CLOSE_WAIT (closed by the peer)
_INSTANT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Accepted:
    """A connection fresh from the queue.

    `host` is the peer's address ("" for unix); `waited` the seconds in the accept queue, None where unknown;
    `is_abandoned` tells that the peer has closed it already.
    """

    socket: socket.socket
    peer: str
    host: str
    waited: float | None
    is_abandoned: bool


class Listener:
    """One listening socket with the addresses that may use it.

    `wanted` is the address that was asked for, which with port 0 is not the one that it has. Where there are
    `proxies` they are the peers, each connection begins with a header of theirs, and `allow` is about the
    address in it. `latest` is when the connection came that was accepted last, by any process that has the
    listener since a fork.
    """

    def __init__(
        self,
        sock: socket.socket,
        endpoint: Endpoint,
        allow: AllowList,
        wanted: str = "",
        proxies: AllowList | None = None,
    ) -> None:
        self.socket = sock
        self.endpoint = endpoint
        self.allow = allow
        self.wanted = wanted
        self.proxies = proxies
        self._latest = memoryview(mmap.mmap(-1, _INSTANT_BYTES)).cast("d")

    @property
    def tells_waits(self) -> bool:
        """Whether it is known of connections how long they have waited."""
        return self.socket.family != socket.AF_UNIX

    @property
    def latest(self) -> float:
        """On the monotonic clock; 0 before the first, and where waits are unknown."""
        return self._latest[0]

    def accept(self) -> Accepted | None:
        """The connection that has waited longest, or None if there is none.

        Raises OSError where the process is out of descriptors or memory: the connection stays in the queue.
        """
        try:
            sock, address = self.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:  # shut down by the master: nobody will come any more
                return None
            raise
        if self.socket.family == socket.AF_UNIX:
            return Accepted(sock, str(self.endpoint), "", None, _peek_says_closed(sock))
        host = str(address[0])
        state, milliseconds = _tcp_facts(sock)
        self._latest[0] = max(self.latest, time.monotonic() - milliseconds / 1000)
        return Accepted(sock, f"{host}:{address[1]}", host, milliseconds / 1000, state in _TCP_DEAD)

    def permits(self, accepted: Accepted) -> bool:
        """The peer may use this listener; on a unix socket file permissions have decided already."""
        peers = self.allow if self.proxies is None else self.proxies
        return accepted.host == "" or peers.permits(accepted.host)


def _tcp_facts(sock: socket.socket) -> tuple[int, int]:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    state, milliseconds = _TCP_INFO.unpack_from(info)
    return state, milliseconds


def _peek_says_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def bind_inet(address: SocketAddress, backlog: int) -> socket.socket:
    """Listen on a TCP address. Raises ConfigError."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address.sockaddr)
    except OSError as error:
        sock.close()
        kind = StartFailure if error.errno == errno.EADDRINUSE else ConfigError
        raise kind(f"cannot listen on {address}: {error.strerror}") from error
    return adopt(sock, backlog)


def bind_unix(path: str, backlog: int, mode: int, group: str) -> socket.socket:
    """Listen on a unix-domain socket with the given file mode and group. Raises ConfigError.

    A socket file that nobody listens on any more is replaced; any other file is left alone.
    """
    gid = _gid_of(path, group)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~mode)
    try:
        sock.bind(path)
        if group:
            # Not through a link: the directory may belong to the workers' account, and we may be root.
            os.chown(path, -1, gid, follow_symlinks=False)
    except OSError as error:
        sock.close()
        raise ConfigError(f"cannot listen on unix:{path}: {error}") from error
    finally:
        os.umask(mask)
    return adopt(sock, backlog)


def adopt(sock: socket.socket, backlog: int) -> socket.socket:
    """Make a bound or inherited socket one of ours: listening with `backlog`, non-blocking, without delay."""
    sock.listen(backlog)
    sock.setblocking(False)
    sock.set_inheritable(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _gid_of(path: str, group: str) -> int:
    """The group's number, -1 ("leave it") for none."""
    try:
        return grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        raise ConfigError(f'cannot listen on unix:{path}: there is no group "{group}"') from None


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"cannot listen on unix:{path}: the file exists and is not a socket")
    except FileNotFoundError:
        return
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise StartFailure(f"cannot listen on unix:{path}: another program listens there")
    Path(path).unlink()
