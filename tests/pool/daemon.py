"""bqfilterd as these tests need it: small, on ports of the kernel's choice, and looked at from all sides.

`prelude` is Python that runs before the daemon's own code: the way to break something inside it that cannot
be broken from outside, such as fork. It is always a few lines, shown beside the test that needs it.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bqfilter.scoreboard import FILE_NAME, Slot, State, Word
from tests.doubles.programs import REPOSITORY, START_LIMIT, Bqfilterd, eventually, toml
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

HEADER_BYTES = 4096  # the layout of the scoreboard, as its module states it
SLOT_BYTES = 1024
SLOTS_LOOKED_AT = 64
MAIN = "from bqfilter.cli import main\nmain()"

Address = tuple[str, int]


def settings_for(endpoint: str, directory: Path, /, **tables: Any) -> dict[str, Any]:
    """Settings of a small pool; `tables` add to them key by key."""
    base: dict[str, Any] = {
        "listen": [{"endpoint": "inet:127.0.0.1:0"}],
        "upstream": {"endpoint": endpoint},
        "pool": {"workers": 2},
        "metrics": {"listen": ""},
        "timeouts": {"client_drain": "300ms"},
        "runtime": {"user": "nobody", "directory": str(directory / "run"), "hostname": "filter.example"},
        "quarantine": {"directory": str(directory / "quarantine")},
    }
    for name, table in tables.items():
        base[name] = table if isinstance(table, list) else {**base.get(name, {}), **table}
    return base


@dataclass(slots=True)
class Daemon(Bqfilterd):
    """A running daemon whose scoreboard and processes can be looked at."""

    @property
    def addresses(self) -> list[Address]:
        """Where it listens by TCP, in the order of its configuration."""
        places = re.findall(r"inet:([0-9.]+):(\d+)", self._first_ready_line())
        return [(host, int(port)) for host, port in places]

    @property
    def address(self) -> Address:
        return self.addresses[0]

    def _first_ready_line(self) -> str:
        return self.wait_for_log(r"\bready .*")[0]

    def wait_for_generation(self, generation: int) -> None:
        """Return when all wanted workers are up with these settings; old ones may still be finishing."""
        self.wait_for_log(rf"\bready .*generation={generation}\b")

    def slots(self) -> list[Slot]:
        """The scoreboard's first slots, as of now."""
        with (self.directory / "run" / FILE_NAME).open("rb") as file:
            data = file.read(HEADER_BYTES + SLOTS_LOOKED_AT * SLOT_BYTES)
        starts = range(HEADER_BYTES, len(data), SLOT_BYTES)
        return [Slot(memoryview(data)[at : at + SLOT_BYTES], i) for i, at in enumerate(starts)]

    def total(self, word: Word) -> int:
        return sum(slot[word] for slot in self.slots())

    def seconds_waited(self) -> float:
        return sum(slot.seconds(Word.WAIT_SECONDS) for slot in self.slots())

    def pids(self, state: State) -> set[int]:
        """The workers in this state."""
        return {slot[Word.PID] for slot in self.slots() if slot.state is state}

    def wait_until_idle(self, count: int) -> set[int]:
        """Return the pids of all workers when `count` of them wait for connections, and nobody else is there.

        By then what they have done is in log and scoreboard, who was leaving has been reaped, and who was
        killed has been replaced.
        """

        def are_idle() -> set[int] | None:
            slots = [slot for slot in self.slots() if slot.state is not State.FREE]
            pids = {slot[Word.PID] for slot in slots}
            is_calm = all(slot.state is State.IDLE for slot in slots) and not any(map(is_gone, pids))
            return pids if is_calm and len(pids) == count else None

        return eventually(are_idle, f"{count} idle workers")

    def the_busy_one(self) -> int:
        """The pid of the only worker that holds a session, once those before it are over."""

        def only() -> int | None:
            busy = self.pids(State.BUSY)
            return busy.pop() if len(busy) == 1 else None

        return eventually(only, "one busy worker")


@contextlib.contextmanager
def launched(
    directory: Path,
    settings: Mapping[str, Any],
    *,
    prelude: str = "",
    stderr: int | None = None,
    environment: Mapping[str, str] | None = None,
    groups: Sequence[int] | None = None,
) -> Iterator[Daemon]:
    """Start it, and end it whatever happens. Without `stderr` the log goes to the daemon's file."""
    (directory / "bqfilterd.toml").write_text(toml(settings), encoding="utf-8")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                prelude + "\n" + MAIN,
                "serve",
                "--config",
                str(directory / "bqfilterd.toml"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log if stderr is None else stderr,
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            extra_groups=groups,
        )
    daemon = Daemon(directory, process)
    try:
        yield daemon
    finally:
        daemon.kill()


@contextlib.contextmanager
def serving(directory: Path, settings: Mapping[str, Any], **options: Any) -> Iterator[Daemon]:
    """The same, and wait until the pool accepts connections."""
    with launched(directory, settings, **options) as daemon:
        eventually(
            lambda: " ready " in daemon.log() or daemon.process.poll() is not None,
            "a ready daemon",
            START_LIMIT,
        )
        assert daemon.process.poll() is None, daemon.log()
        yield daemon


def deliver(daemon: Daemon) -> bytes:
    """A whole message over a connection of its own; the verdict. As in Postfix, nobody waits behind QUIT."""
    with SmtpClient(daemon.address) as client:
        client.begin(SENDER, ["b@example.org"])
        verdict = client.end(PLAIN)
        with contextlib.suppress(ConnectionError):
            client.send(b"QUIT\r\n")
        return verdict


def news(manager: socket.socket) -> bytes:
    """The next that a service manager is told to have happened; how busy the pool is it hears in between."""
    said = manager.recv(4096)
    while said.startswith(b"STATUS="):
        said = manager.recv(4096)
    return said


def status_of(pid: int) -> dict[str, list[str]]:
    """/proc/PID/status: every line's words by the line's name."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}


def is_asleep(pid: int) -> bool:
    return status_of(pid)["State"][0] == "S"


def is_gone(pid: int) -> bool:
    """The process has ended; a zombie has."""
    try:
        return status_of(pid)["State"][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill_hard(pid: int) -> None:
    """SIGKILL, for a process known to belong to the test's own daemon; return when it has ended."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_gone(pid), f"the end of {pid}")
