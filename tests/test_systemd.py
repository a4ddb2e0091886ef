"""The service manager's two conversations: what it is told, and what it hands over."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter import systemd
from tests.doubles.components import needs
from tests.doubles.programs import REPOSITORY, eventually, short_directory

needs_socket_activate = needs("systemd-socket-activate", "systemd")

REPORT_SOCKETS = """
import json, os
from bqfilter.systemd import inherited_sockets
found = inherited_sockets()
print(json.dumps({
    "fds": [sock.fileno() for sock in found],
    "names": [str(sock.getsockname()) for sock in found],
    "again": len(inherited_sockets()),
    "left": [name for name in os.environ if name.startswith("LISTEN_")],
}), flush=True)
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory("bqfilter-systemd-") as path:
        yield path


@pytest.fixture
def manager(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end, where NOTIFY_SOCKET points to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(directory / "notify"))
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(directory / "notify"))
        yield sock


def test_assignments_arrive_as_one_datagram(manager: socket.socket) -> None:
    assert systemd.notify("READY=1", "STATUS=accepting with 20 workers")
    assert manager.recv(4096) == b"READY=1\nSTATUS=accepting with 20 workers"


def test_a_reload_carries_the_instant_on_the_monotonic_clock(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic_ns", lambda: 123_456_789_012)
    assert systemd.notify_reloading()
    assert manager.recv(4096) == b"RELOADING=1\nMONOTONIC_USEC=123456789"


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"bqfilter-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert systemd.notify("READY=1")
        assert manager.recv(4096) == b"READY=1"


def test_without_a_service_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")


def test_a_service_manager_that_is_gone_does_no_harm(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(directory / "nobody"))
    assert not systemd.notify("READY=1")


def test_a_service_manager_that_does_not_listen_does_not_hold_us_up(manager: socket.socket) -> None:
    told = [systemd.notify("STATUS=x" * 100) for _ in range(2000)]  # more than its socket holds
    assert told[0]
    assert not told[-1]


@pytest.mark.parametrize(
    ("pid", "count"),
    [
        pytest.param("1", "1", id="meant for another process"),
        pytest.param("", "1", id="no pid"),
        pytest.param("own", "", id="no count"),
        pytest.param("own", "-1", id="a count that is none"),
        pytest.param("own", "0", id="no sockets"),
    ],
)
def test_sockets_that_are_not_for_us_are_left_alone(
    pid: str, count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if pid == "own" else pid)
    monkeypatch.setenv("LISTEN_FDS", count)
    monkeypatch.setenv("LISTEN_FDNAMES", "smtp")
    assert systemd.inherited_sockets() == []
    assert not [name for name in os.environ if name.startswith("LISTEN_")]


def test_without_the_variables_there_are_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    assert systemd.inherited_sockets() == []


@needs_socket_activate
def test_sockets_of_socket_activation_are_taken_over_in_order_and_once(directory: Path) -> None:
    first, second = str(directory / "a.sock"), str(directory / "b.sock")
    command = ["systemd-socket-activate", "-l", first, "-l", second, "-E", f"PYTHONPATH={REPOSITORY}"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", REPORT_SOCKETS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        eventually(lambda: Path(second).exists(), "listening sockets")
        with socket.socket(socket.AF_UNIX) as client:
            eventually(lambda: client.connect_ex(first) == 0, "a connection")  # it starts the program
            output, _ = process.communicate(timeout=30)
    found = json.loads(output)
    assert found == {"fds": [3, 4], "names": [first, second], "again": 0, "left": []}


def test_sockets_of_the_process_that_was_started_go_to_the_daemon_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "2")
    assert systemd.inherited_fds(1) == [3, 4]
    assert systemd.inherited_fds(2) == []
    systemd.adopt_inheritance(2)
    assert os.environ["LISTEN_PID"] == "1"
    systemd.adopt_inheritance(1)
    assert os.environ["LISTEN_PID"] == str(os.getpid())
