"""The scripted daemon does as it is told, and leaves nothing behind."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.doubles.programs import short_directory
from tests.doubles.scanning_daemon import (
    ScriptedDaemon,
    flood,
    hang,
    hear,
    hear_all,
    hear_some,
    reset,
    say,
    scripted_daemon,
    trickle,
)

LONG = 60.0


@contextmanager
def call(daemon: ScriptedDaemon) -> Iterator[socket.socket]:
    with socket.socket(daemon.address.family) as sock:
        sock.settimeout(LONG)
        sock.connect(daemon.address.sockaddr)
        yield sock


def read(sock: socket.socket, count: int) -> bytes:
    with sock.makefile("rb") as file:
        return file.read(count)


def test_it_hears_and_says_what_is_in_its_script() -> None:
    with scripted_daemon(hear(b"?"), say(b"an", b"swer"), hear_all) as daemon, call(daemon) as sock:
        sock.sendall(b"question?")
        assert read(sock, 6) == b"answer"
        sock.sendall(b" thanks")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        assert daemon.heard == b"question? thanks"


def test_every_connection_gets_the_same_at_a_unix_socket_too() -> None:
    with (
        short_directory("bqsd-") as directory,
        scripted_daemon(say(b"hello"), path=directory / "s") as daemon,
    ):
        for _ in range(2):
            with call(daemon) as sock:
                assert read(sock, 5) == b"hello"
        assert len(daemon.talks) == 2


def test_it_can_hang_up_without_a_farewell() -> None:
    with scripted_daemon(hear_some, reset) as daemon, call(daemon) as sock:
        sock.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


@pytest.mark.parametrize("step", [hang, trickle(b"x"), flood(b"x" * 65536), hear(b"never"), hear_all])
def test_what_would_go_on_for_ever_ends_with_the_test(step: object) -> None:
    before = threading.active_count()
    with scripted_daemon(step) as daemon, call(daemon):  # type: ignore[arg-type]  # each of them is a step
        pass

    assert threading.active_count() == before
