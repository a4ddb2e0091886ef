"""Programs on loopback: a port of their own, a log of their own, ended by their own pid.

Promises that leaving `running()` leaves no process behind. A program that does not come up in time raises
`ProgramError` with the end of its log. Does not restart anything: a program that dies spoils the run, as it
should.
"""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.errors import ProgramError

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
BACKLOG = 512
SYSLOG_PORT = 514
READY_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where Debian keeps servers, root or not
UNPRIVILEGED_USER = "nobody"

# Below the range the kernel takes the clients' own ports from, or a run of many connections could meet one.
PORTS = range(20000, 32000)


class Program:
    """One started program and its log."""

    def __init__(self, name: str, argv: Sequence[str], directory: Path) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd=directory,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ProgramError(f"{self.name} is not ready; the end of its log:\n{self.last_words()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask the program, then all its processes (not every one tells its children), then ask no more."""
        self._process.terminate()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
        self._process.wait()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


@contextmanager
def running(name: str, argv: Sequence[str], directory: Path) -> Iterator[Program]:
    program = Program(name, argv, directory)
    try:
        yield program
    finally:
        program.stop()


@contextmanager
def unread_syslog() -> Iterator[None]:
    """The port of syslog, unless it is taken or not for us: what is sent there is not even read.

    Without it a program that logs there may spend more on its complaints than on mail.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        with suppress(OSError):
            port.bind((HOST, SYSLOG_PORT))
        yield


def _environment() -> dict[str, str]:
    """Only what a program needs: PYTHON* settings of the caller's shell would be measured along."""
    return {"PATH": SEARCH_PATH, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}


def is_root() -> bool:
    return os.geteuid() == 0


def free_port() -> int:
    """A port nobody listens on now; the caller binds it at once."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ProgramError(f"no free port in {PORTS.start}-{PORTS.stop}")


def greets(port: int) -> bool:
    """Whether an SMTP server answers there, through whatever stands in between. Leaves no message behind."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as client:
            welcomed = client.recv(1024).startswith(b"220")
            client.sendall(b"QUIT\r\n")
            return welcomed and client.recv(1024).startswith(b"221")
    except OSError:
        return False
