"""A daemon that stays in the foreground, in a directory of its own.

It is ready when it answers its own PING; starting one that does not fails with what it wrote. Only processes
started here are signalled: each is the leader of a group of its own, which its children belong to.
"""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from errno import ECONNREFUSED, ENOENT
from pathlib import Path

from bqfilter.net.address import Endpoint, SocketAddress, resolve
from tests.doubles.programs import eventually

START_LIMIT = 60.0
STOP_LIMIT = 30.0
PING_LIMIT = 5.0


@dataclass(slots=True)
class Daemon:
    """A running daemon; `unix` and `inet` are where it listens."""

    directory: Path
    process: subprocess.Popen[bytes]
    unix: Endpoint
    inet: Endpoint

    @property
    def address(self) -> SocketAddress:
        """The first address that comes to mind."""
        return resolve(self.unix)[0]

    def log(self) -> str:
        return (self.directory / "output").read_text(encoding="utf-8", errors="replace")

    def pause(self) -> None:
        """It hangs: connections are still made, by the kernel, and nothing is said on them."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """At once, with its children, and without a word to anybody; then nobody listens any more."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_LIMIT)
        for address in (*resolve(self.unix), *resolve(self.inet)):
            eventually(lambda address=address: _refuses(address), f"nobody listens at {address}")  # type: ignore[misc]

    def stop(self) -> None:
        """Politely, and if that does not help, otherwise."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_LIMIT)
        self.kill()


def start(
    directory: Path, command: Sequence[str], unix: Endpoint, inet: Endpoint, ping: bytes, pong: bytes
) -> Daemon:
    """Start it and return once both endpoints answer `ping` with something that holds `pong`."""
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            start_new_session=True,
        )
    daemon = Daemon(directory, process, unix, inet)
    try:
        for address in (*resolve(unix), *resolve(inet)):
            eventually(
                lambda address=address: process.poll() is not None or answers(address, ping, pong),  # type: ignore[misc]
                f"{command[0]} answers at {address}",
                START_LIMIT,
            )
        assert process.poll() is None, f"ended with {process.returncode}"
    except AssertionError as failure:
        daemon.kill()
        raise AssertionError(f"{failure}\n{daemon.log()}") from None
    return daemon


def answers(address: SocketAddress, ping: bytes, pong: bytes) -> bool:
    """A new connection to it is taken, and `ping` answered with something that holds `pong`."""
    with socket.socket(address.family) as sock, contextlib.suppress(OSError):
        sock.settimeout(PING_LIMIT)
        sock.connect(address.sockaddr)
        sock.sendall(ping)
        return pong in sock.recv(1000)
    return False


def _refuses(address: SocketAddress) -> bool:
    """A child that is about to die may hold the socket a little longer than its parent."""
    with socket.socket(address.family) as sock:
        sock.settimeout(PING_LIMIT)
        return sock.connect_ex(address.sockaddr) in (ECONNREFUSED, ENOENT)
