"""What goes wrong around bqfilterd in a long run: its servers, its scanner, and those who run it.

Each fault is over after a moment, and the next one comes after a pause. All of them happen in a site's life.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks import proc
from tests.doubles.programs import eventually

from .rig import Rig
from .scanner import Mode

_SHORT, _LONG = 0.2, 4.0  # seconds that a fault lasts; some are longer than the scanner's timeout
_READY = " ready "
_UPGRADES = "upgrades in place"


@dataclass(slots=True)
class Faults:
    """Brings faults upon `rig`, by `chance`; `counts` says how often which one."""

    rig: Rig
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    def bring_one(self) -> None:
        """One fault of other people's; return when it is over."""
        name, fault = self.chance.choice(list(self._all().items()))
        fault()
        self.counts[name] += 1

    def reload(self) -> None:
        """SIGHUP with settings that are a little different; return when workers with these serve."""
        self.rig.manager.configure(self.rig.settings(more_messages=self.counts["reloads"] % 2))
        self._signal("reloads", signal.SIGHUP)

    @property
    def has_upgraded(self) -> bool:
        return _UPGRADES in self.counts

    def upgrade(self) -> None:
        """SIGUSR2: the program in place of itself; return when it serves."""
        self._signal(_UPGRADES, signal.SIGUSR2)

    def _signal(self, name: str, number: signal.Signals) -> None:
        program = self.rig.manager.program
        before = program.log().count(_READY)
        program.signal(number)
        eventually(lambda: program.log().count(_READY) > before, f"ready again after {name}", 120.0)
        self.counts[name] += 1

    def _all(self) -> dict[str, Callable[[], None]]:
        return {
            "after-filter server stalls": self._stall,
            "after-filter server dies": self._kill_servers,
            "after-filter server stalls, then dies": self._stall_and_kill,
            "scanner hangs up": lambda: self._misbehave("fails"),
            "scanner hangs": lambda: self._misbehave("hangs"),
        }

    def _stall(self) -> None:
        servers = self._servers()
        for pid in servers:
            _send(pid, signal.SIGSTOP)
        self._wait()
        for pid in servers:
            _send(pid, signal.SIGCONT)

    def _stall_and_kill(self) -> None:
        """Most workers have a message there when it dies, some of them behind the final dot."""
        for pid in self._servers():
            _send(pid, signal.SIGSTOP)
        self._wait()
        self._kill_servers()

    def _kill_servers(self) -> None:
        for pid in self._servers():
            _send(pid, signal.SIGKILL)

    def _misbehave(self, mode: Mode) -> None:
        self.rig.scanner.mode = mode
        self._wait()
        self.rig.scanner.mode = "well"

    def _wait(self) -> None:
        time.sleep(self.chance.uniform(_SHORT, _LONG))

    def _servers(self) -> list[int]:
        """The processes of the after-filter service."""
        master = self.rig.postfix.master_pid()
        return [pid for pid in proc.children(master or 0) if "syslog_name=postfix/after" in _title(pid)]


def _title(pid: int) -> str:
    try:
        return proc.title(pid)
    except OSError:
        return ""


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
