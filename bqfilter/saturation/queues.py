"""Accept queues as the kernel keeps them: how many connections wait for a worker, how many may, since when.

A listener is found by its address and the inode of its socket, so whoever asks needs neither the socket nor
any privilege, only to be in the same network namespace. TCP is asked by inet_diag, a unix socket by unix_diag
(netlink, sock_diag(7)); where that fails, /proc/net gives the length and nothing else. What cannot be found
out is None, never 0: a queue of unknown length is not an empty one.

How long the oldest connection has waited is exact on TCP: it is the time since its handshake. A unix socket
keeps no such time, but the inodes of the waiting clients in their order, so that whoever looks often
(`Follower`) knows since when each has been there. An inode of 0 is a client that has gone away.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bqfilter.net.address import Endpoint
from bqfilter.scoreboard import Entrance

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # nlattr

_INET_REQUEST = struct.Struct("=BBBxI")  # inet_diag_req_v2 up to its id
_INET_ID = struct.Struct("!HH16s16s")  # inet_diag_sockid: ports and addresses; interface and cookie follow
_ANY_INTERFACE_NO_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_INET_MESSAGE = struct.Struct("=BBxxHH16s16s12xIIIII")  # inet_diag_msg
_INET_INFO, _INET_SKMEMINFO = 2, 7
_SKMEMINFO_DROPS = struct.Struct("=32xI")
_LAST_DATA_SENT = struct.Struct("=44xI")  # in tcp_info: milliseconds since the handshake, until we greet
_ESTABLISHED, _CLOSE_WAIT = 1, 8

_UNIX_REQUEST = struct.Struct("=BBHIIIII")  # unix_diag_req
_UNIX_MESSAGE_BYTES = 16
_UNIX_ICONS, _UNIX_RQLEN = 3, 4
_SHOW_ICONS, _SHOW_RQLEN = 0x8, 0x10
_RQLEN = struct.Struct("=II")
_ALL_STATES = 0xFFFFFFFF

_RECEIVE_BYTES = 1 << 16
_RECEIVE_TIMEOUT = 1.0  # seconds; the kernel answers within the call
_PROC_NET = Path("/proc/net")


@dataclass(frozen=True, slots=True)
class Queue:
    """What is known of one accept queue; None for what is not.

    `drops` counts the handshakes that found no room; `oldest_age` is in seconds; `gone` counts those in the
    queue whose client has closed its side; `waiting` has the inodes of a unix socket's waiting clients.
    """

    length: int | None = None
    limit: int | None = None
    drops: int | None = None
    oldest_age: float | None = None
    gone: int | None = None
    waiting: tuple[int, ...] | None = None


UNKNOWN = Queue()


class QueueProbe:
    """Asks the kernel about listeners; keeps a netlink socket. For one thread; never raises."""

    def __init__(self, proc_net: Path = _PROC_NET) -> None:
        self._proc_net = proc_net
        self._netlink: socket.socket | None = None

    def look(self, entrance: Entrance, *, with_ages: bool = False) -> Queue:
        """The queue of a listener. The ages of TCP connections cost a walk through all of the machine's."""
        is_unix = entrance.family == socket.AF_UNIX
        try:
            return self._ask_unix(entrance) if is_unix else self._ask_inet(entrance, with_ages)
        except (OSError, ValueError, struct.error):
            self.close()
        try:
            length = self._count_unix(entrance) if is_unix else self._count_inet(entrance)
        except (OSError, ValueError, IndexError):
            return UNKNOWN
        return Queue(length=length)

    def close(self) -> None:
        """Give the netlink socket back; the next look opens another."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _ask_inet(self, entrance: Entrance, with_ages: bool) -> Queue:
        own = _socket_id(entrance)
        request = _inet_request(entrance.family, _INET_SKMEMINFO, _ALL_STATES, own)
        for message in self._answers(request, dump=False):
            fields = _INET_MESSAGE.unpack_from(message)
            length, limit, _, inode = fields[7:11]
            if inode != entrance.inode:
                raise OSError(errno.ENOENT, "another socket has this address now")
            memory = _attributes(message[_INET_MESSAGE.size :]).get(_INET_SKMEMINFO)
            drops = _SKMEMINFO_DROPS.unpack_from(memory)[0] if memory else None
            if not with_ages:
                return Queue(length, limit, drops)
            ages, gone = self._waiting(entrance, own) if length else ([], 0)
            return Queue(length, limit, drops, max(ages, default=0.0), gone)
        raise OSError(errno.ENOENT, "no such listener")

    def _waiting(self, entrance: Entrance, own: bytes) -> tuple[list[float], int]:
        """The ages of connections that nobody has accepted yet, and how many of them have been given up."""
        states = 1 << _ESTABLISHED | 1 << _CLOSE_WAIT
        ages, gone = [], 0
        for message in self._answers(_inet_request(entrance.family, _INET_INFO, states, own), dump=True):
            fields = _INET_MESSAGE.unpack_from(message)
            state, port, address, inode = fields[1], fields[2], fields[4], fields[10]
            info = _attributes(message[_INET_MESSAGE.size :]).get(_INET_INFO)
            if inode or info is None or not _is_at(port, address, own):
                continue
            ages.append(_LAST_DATA_SENT.unpack_from(info)[0] / 1000)
            gone += state == _CLOSE_WAIT
        return ages, gone

    def _ask_unix(self, entrance: Entrance) -> Queue:
        show = _SHOW_ICONS | _SHOW_RQLEN
        request = _UNIX_REQUEST.pack(
            socket.AF_UNIX, 0, 0, _ALL_STATES, entrance.inode, show, 0xFFFFFFFF, 0xFFFFFFFF
        )
        for message in self._answers(request, dump=False):
            found = _attributes(message[_UNIX_MESSAGE_BYTES:])
            length, limit = _RQLEN.unpack_from(found[_UNIX_RQLEN]) if _UNIX_RQLEN in found else (None, None)
            icons = found.get(_UNIX_ICONS, b"")
            waiting = struct.unpack(f"={len(icons) // 4}I", icons)
            if length and not waiting:
                return Queue(length, limit)
            return Queue(length, limit, gone=waiting.count(0), waiting=waiting)
        raise OSError(errno.ENOENT, "no such listener")

    def _answers(self, request: bytes, *, dump: bool) -> Iterator[bytes]:
        """The kernel's messages to one request. Raises OSError."""
        if self._netlink is None:
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
            self._netlink.settimeout(_RECEIVE_TIMEOUT)
        flags = _NLM_F_REQUEST | (_NLM_F_DUMP if dump else 0)
        length = _HEADER.size + len(request)
        self._netlink.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, flags, 0, 0) + request)
        while True:
            for kind, message in _messages(self._netlink.recv(_RECEIVE_BYTES)):
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", message)[0], "refused by the kernel")
                yield message
            if not dump:
                return

    def _count_unix(self, entrance: Entrance) -> int:
        """Sockets with the listener's path that are connected to no process yet (state 02)."""
        path = entrance.address.removeprefix("unix:").encode("utf-8", "surrogateescape")
        lines = [line.split(None, 7) for line in (self._proc_net / "unix").read_bytes().splitlines()[1:]]
        if not any(int(line[6]) == entrance.inode for line in lines):
            raise ValueError("no such listener")
        return sum(1 for line in lines if len(line) == 8 and line[7] == path and line[5] == b"02")

    def _count_inet(self, entrance: Entrance) -> int:
        """A listener's receive queue is its accept queue."""
        name = "tcp" if entrance.family == socket.AF_INET else "tcp6"
        for line in (self._proc_net / name).read_bytes().splitlines()[1:]:
            words = line.split()
            if int(words[9]) == entrance.inode:
                return int(words[4].partition(b":")[2], 16)
        raise ValueError("no such listener")


@dataclass(slots=True)
class Follower:
    """Knows since when each client of a unix socket's queue has been there, if it is shown the queue often.

    The queue is first in, first out: what is missing at its head since the last look has been accepted.
    """

    _since: list[float] = field(default_factory=list)
    _inodes: tuple[int, ...] = ()

    def follow(self, waiting: tuple[int, ...], now: float) -> list[float]:
        """The seconds for which each connection accepted since the last look had been seen waiting."""
        taken = _taken_from(self._inodes, waiting)
        waits = [now - since for since in self._since[:taken]]
        staying = self._since[taken:]
        self._since = staying + [now] * (len(waiting) - len(staying))
        self._inodes = waiting
        return waits

    @property
    def oldest_since(self) -> float | None:
        """The instant at which the first in the queue was first seen."""
        return self._since[0] if self._since else None


def _taken_from(before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """How many have left the head of a queue at least; a client that has gone away meanwhile shows as 0."""
    for taken in range(max(len(before) - len(after), 0), len(before)):
        if all(new in (old, 0) for old, new in zip(before[taken:], after, strict=False)):
            return taken
    return len(before)


def _socket_id(entrance: Entrance) -> bytes:
    """The local port and address of a listener, as inet_diag has them."""
    endpoint = Endpoint.parse(entrance.address)
    packed = socket.inet_pton(entrance.family, endpoint.host)
    return _INET_ID.pack(endpoint.port, 0, packed.ljust(16, b"\0"), bytes(16))


def _inet_request(family: int, extension: int, states: int, socket_id: bytes) -> bytes:
    head = _INET_REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (extension - 1), states)
    return head + socket_id + _ANY_INTERFACE_NO_COOKIE


def _is_at(port: int, address: bytes, own: bytes) -> bool:
    """A connection's local end is the listener's; a wildcard listener has every address."""
    own_port, _, own_address, _ = _INET_ID.unpack(own)
    return socket.ntohs(port) == own_port and (address == own_address or not any(own_address))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            raise ValueError("malformed netlink message")
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            raise ValueError("malformed netlink attribute")
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def entrance_of(sock: socket.socket, address: str) -> Entrance:
    """What others need to find a listener's queue. Raises OSError."""
    return Entrance(address, sock.family, os.fstat(sock.fileno()).st_ino)
