"""Started as by systemd, without one: by systemd-socket-activate, with a notify socket of the test's own."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.components import program
from tests.doubles.programs import REPOSITORY, eventually, short_directory, toml
from tests.doubles.sink import Sink
from tests.pool.daemon import settings_for
from tests.postfix.postfix_instance import free_ports, own_loopback_address
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory("bqfilter-sa-") as path:
        yield path


class Manager:
    """The service manager's end of the notify socket: all that it was told, in order."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(60)
        path.chmod(0o777)
        self.told: list[str] = []

    def wait_for(self, pattern: str) -> str:
        """The next message that matches; what comes before it is remembered, too."""
        while True:
            self.told.append(self._socket.recv(8192).decode())
            if re.search(pattern, self.told[-1]):
                return self.told[-1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(directory: Path) -> Iterator[Manager]:
    with contextlib.closing(Manager(directory / "notify")) as manager:
        yield manager


def greeted(address: tuple[str, int] | str) -> bytes:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(60)
        client.connect(address)
        return client.recv(4096)


def test_a_connection_starts_it_and_the_manager_hears_the_whole_life(
    directory: Path, manager: Manager
) -> None:
    address = own_loopback_address()
    inet, unix = (address, free_ports(address, ["smtp"])["smtp"]), str(directory / "smtp.sock")
    with Sink() as sink:
        listen = [{"endpoint": "inet:{}:{}".format(*inet)}, {"endpoint": f"unix:{unix}"}]
        settings = settings_for(sink.endpoint, directory, listen=listen)
        (directory / "bqfilterd.toml").write_text(toml(settings))
        with activated(directory, inet, unix) as process:
            eventually(lambda: Path(unix).is_socket(), "listening sockets")
            assert greeted(inet).startswith(b"220 ")
            assert re.search(
                r"^READY=1\nSTATUS=accepting: \d of 2 workers busy, 0 waiting; settings of \S+ \S+$",
                manager.wait_for("READY=1"),
            )
            assert greeted(unix).startswith(b"220 ")
            manager.wait_for("^WATCHDOG=1$")
            manager.wait_for("^WATCHDOG=1$")
            process.send_signal(signal.SIGHUP)
            assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", manager.wait_for("RELOADING=1"))
            manager.wait_for("^READY=1\n")
            with SmtpClient(inet) as client:
                client.begin(SENDER, ["b@example.org"])
                process.send_signal(signal.SIGTERM)
                stopping = manager.wait_for("STOPPING=1")
                assert client.end(PLAIN).startswith(b"250 ")
            assert process.wait(60) == 0
    # As long as the drain may take, and a little longer, whatever the unit says.
    assert (
        100_000_000 < int(re.findall(r"^EXTEND_TIMEOUT_USEC=(\d+)$", stopping, re.MULTILINE)[0]) < 115_000_000
    )
    assert re.search(r"^STATUS=stopping: \d workers", stopping, re.MULTILINE)
    assert Path(unix).is_socket(), "a socket of the manager's is the manager's to remove"


@contextlib.contextmanager
def activated(directory: Path, inet: tuple[str, int], unix: str) -> Iterator["subprocess.Popen[bytes]"]:
    """It passes on nothing of the environment but what it is told to."""
    given = {
        "PYTHONPATH": str(REPOSITORY),
        "NOTIFY_SOCKET": str(directory / "notify"),
        "WATCHDOG_USEC": "1000000",
        "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
    }
    command = [
        program("systemd-socket-activate", "systemd"),
        "-l",
        "{}:{}".format(*inet),
        "-l",
        unix,
        "--fdname=smtp:smtp",
    ]
    for name, value in given.items():
        command += ["-E", f"{name}={value}"]
    serve = [sys.executable, "-m", "bqfilter", "serve", "--config", str(directory / "bqfilterd.toml")]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*command, *serve], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
