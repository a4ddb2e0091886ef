"""Accept queues of real sockets: how long, how deep, since when, and what is said where nothing is known."""

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.saturation.queues import UNKNOWN, Follower, QueueProbe, entrance_of
from bqfilter.scoreboard import Entrance
from tests.doubles.programs import eventually, short_directory

BACKLOG = 5


class Listening:
    """A listening socket that accepts only when told to, with clients in its queue."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.sock = sock
        self.entrance = entrance_of(sock, address)
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        client = socket.socket(self.sock.family)
        self.clients.append(client)
        client.connect(self.sock.getsockname())
        return client

    def close(self) -> None:
        for sock in [self.sock, *self.clients]:
            sock.close()


@contextlib.contextmanager
def listening(kind: str) -> Iterator[Listening]:
    with contextlib.ExitStack() as cleaning:
        if kind == "unix":
            path = cleaning.enter_context(short_directory("bqfilter-queue-")) / "s"
            sock, address = socket.socket(socket.AF_UNIX), f"unix:{path}"
            sock.bind(str(path))
        else:
            host = {"tcp": "127.0.0.1", "tcp6": "::1"}[kind]
            sock = socket.socket(socket.AF_INET6 if kind == "tcp6" else socket.AF_INET)
            sock.bind((host, 0))
            shown = f"[{host}]" if kind == "tcp6" else host
            address = f"inet:{shown}:{sock.getsockname()[1]}"
        sock.listen(BACKLOG)
        made = Listening(sock, address)
        cleaning.callback(made.close)
        yield made


@pytest.fixture(params=["tcp", "tcp6", "unix"])
def listener(request: pytest.FixtureRequest) -> Iterator[Listening]:
    with listening(request.param) as made:
        yield made


@pytest.fixture
def probe() -> Iterator[QueueProbe]:
    made = QueueProbe()
    yield made
    made.close()


def test_an_empty_queue_has_length_0_and_its_limit(listener: Listening, probe: QueueProbe) -> None:
    found = probe.look(listener.entrance, with_ages=True)
    assert (found.length, found.limit, found.gone) == (0, BACKLOG, 0)


def test_those_who_wait_are_counted_until_they_are_accepted(listener: Listening, probe: QueueProbe) -> None:
    for _ in range(3):
        listener.connect()
    assert probe.look(listener.entrance).length == 3
    accepted, _ = listener.sock.accept()
    with accepted:
        assert probe.look(listener.entrance).length == 2


def test_the_kernel_caps_the_limit(probe: QueueProbe) -> None:
    somaxconn = int(Path("/proc/sys/net/core/somaxconn").read_text())
    with listening("tcp") as listener:
        listener.sock.listen(somaxconn + 1000)
        assert probe.look(listener.entrance).limit == somaxconn


def test_clients_that_have_gone_are_counted(listener: Listening, probe: QueueProbe) -> None:
    listener.connect()
    listener.connect().close()
    eventually(lambda: probe.look(listener.entrance, with_ages=True).gone == 1, "one that is gone")
    assert probe.look(listener.entrance, with_ages=True).length == 2


def test_the_clients_of_a_unix_socket_are_seen_in_their_order(probe: QueueProbe) -> None:
    with listening("unix") as listener:
        inodes = [os.fstat(listener.connect().fileno()).st_ino for _ in range(3)]
        assert probe.look(listener.entrance).waiting == tuple(inodes)
        listener.clients[1].close()
        assert probe.look(listener.entrance).waiting == (inodes[0], 0, inodes[2])


@pytest.mark.parametrize("kind", ["tcp", "tcp6"])
def test_the_age_of_the_oldest_tcp_connection_is_exact(kind: str, probe: QueueProbe) -> None:
    with listening(kind) as listener:
        before = time.monotonic()
        listener.connect()
        connected = time.monotonic()
        eventually(lambda: time.monotonic() - connected > 0.3, "some time")
        listener.connect()
        asked = time.monotonic()
        age = probe.look(listener.entrance, with_ages=True).oldest_age
        answered = time.monotonic()
        jiffy = 0.011  # at 100 Hz, and the kernel counts whole milliseconds
        assert age is not None
        assert asked - connected - jiffy <= age <= answered - before + jiffy


def test_connections_that_found_no_room_are_counted(probe: QueueProbe) -> None:
    with listening("tcp") as listener:
        for _ in range(BACKLOG + 3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.sock.getsockname())
            listener.clients.append(client)
        eventually(lambda: (probe.look(listener.entrance).drops or 0) > 0, "drops")
        assert probe.look(listener.entrance).length == BACKLOG + 1  # the kernel lets in one more than it says


def test_a_unix_socket_has_no_count_of_drops(probe: QueueProbe) -> None:
    with listening("unix") as listener:
        assert probe.look(listener.entrance).drops is None


def test_neither_the_socket_nor_any_privilege_is_needed(listener: Listening) -> None:
    listener.connect()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        listener.sock.close()
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        os.write(writer, repr(QueueProbe().look(listener.entrance).length).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "1"


def test_a_listener_that_is_gone_is_unknown(listener: Listening, probe: QueueProbe) -> None:
    listener.sock.close()
    assert probe.look(listener.entrance, with_ages=True) == UNKNOWN


def test_another_socket_in_its_place_is_not_taken_for_it(probe: QueueProbe) -> None:
    with listening("tcp") as listener:
        stranger = Entrance(listener.entrance.address, socket.AF_INET, listener.entrance.inode + 1)
        assert probe.look(stranger) == UNKNOWN


class _WithoutNetlink(QueueProbe):
    def _answers(self, request: bytes, *, dump: bool) -> Iterator[bytes]:  # noqa: ARG002
        raise OSError(97, "Address family not supported by protocol")


def test_without_netlink_the_length_is_found_all_the_same_and_nothing_is_made_up(listener: Listening) -> None:
    listener.connect()
    listener.connect()
    found = _WithoutNetlink().look(listener.entrance, with_ages=True)
    assert (found.length, found.limit, found.oldest_age, found.drops, found.gone) == (
        2,
        None,
        None,
        None,
        None,
    )


def test_an_error_of_the_kernel_with_any_code_is_no_answer(tmp_path: Path) -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for code in (-errno.ENOENT, 0, 1, -(2**31)):
        probe = QueueProbe(tmp_path)
        probe._netlink = ours.dup()
        kernel.send(struct.pack("=IHHIIi", 20, 2, 0, 0, 0, code))
        assert probe.look(Entrance("inet:127.0.0.1:1", socket.AF_INET, 1)) == UNKNOWN
    ours.close()
    kernel.close()


def test_with_neither_nothing_is_known(listener: Listening, tmp_path: Path) -> None:
    assert _WithoutNetlink(tmp_path).look(listener.entrance) == UNKNOWN


class TestFollower:
    def test_a_wait_lasts_from_the_first_look_to_the_one_that_misses_it(self) -> None:
        follower = Follower()
        assert follower.follow((11,), 10.0) == []
        assert follower.oldest_since == 10.0
        assert follower.follow((11, 12), 10.5) == []
        assert follower.follow((12,), 11.0) == [1.0]
        assert follower.oldest_since == 10.5
        assert follower.follow((), 12.0) == [1.5]
        assert follower.oldest_since is None

    def test_a_client_that_goes_away_keeps_its_place(self) -> None:
        follower = Follower()
        follower.follow((11, 12), 0.0)
        assert follower.follow((0, 12), 1.0) == []
        assert follower.follow((12,), 2.0) == [2.0]

    def test_an_inode_that_is_used_again_is_somebody_new(self) -> None:
        follower = Follower()
        follower.follow((11, 12), 0.0)
        assert follower.follow((12, 11), 3.0) == [3.0]
        assert follower.follow((11,), 4.0) == [4.0]
        assert follower.follow((), 5.0) == [2.0]

    def test_all_replaced_at_once_have_all_been_accepted(self) -> None:
        follower = Follower()
        follower.follow((11, 12), 0.0)
        assert follower.follow((13, 14), 1.0) == [1.0, 1.0]
