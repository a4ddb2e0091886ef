"""Hosts reach each other and nobody else, and nothing is left of them, however it ends."""

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.doubles.components import require
from tests.doubles.programs import REPOSITORY, eventually

from .network import network, residents, why_not


@pytest.fixture(autouse=True)
def _possible() -> None:
    require(why_not())


def test_each_has_its_address_and_they_reach_each_other() -> None:
    with network(1, 2) as hosts:
        with hosts[1].entered():
            listener = socket.create_server(("192.0.2.1", 25))
        with listener:
            with hosts[2].entered(), socket.create_connection(("192.0.2.1", 25), 30) as caller:
                caller.sendall(b"here")
            accepted, (caller_address, _) = listener.accept()
            with accepted:
                assert (accepted.recv(10), caller_address) == (b"here", "192.0.2.2")


def own_network() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def test_nobody_else_has_their_network() -> None:
    own = own_network()
    with network(1) as hosts, hosts[1].entered():
        assert own_network() == hosts[1].network() != own
    assert own_network() == own


def test_what_is_started_there_is_there_and_can_be_killed_all_at_once() -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(subprocess.Popen(["sleep", "600"]))

    with network(1) as hosts:
        with hosts[1].entered():
            start()
            thread = threading.Thread(target=start)
            thread.start()
            thread.join()
        assert hosts[1].processes() == {process.pid for process in started}
        hosts[1].kill_everything()
        assert [process.wait() for process in started] == [-signal.SIGKILL] * 2


def test_nothing_is_left_after_a_failure() -> None:
    networks: list[str] = []

    def fail() -> None:
        with network(1, 2) as hosts:
            networks.extend(host.network() for host in hosts.values())
            assert all(residents(name) for name in networks)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(residents(name) for name in networks)


def test_nothing_is_left_of_a_run_that_is_killed() -> None:
    code = """
from tests.hosts.network import network
with network(1) as hosts:
    print(hosts[1].network(), flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        name = run.stdout.readline().decode().strip()
        assert residents(name)
        run.kill()
    eventually(lambda: not residents(name), "nobody there")
