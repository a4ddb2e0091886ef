"""Succession: a new version of the program takes over in the same process, with all that is open.

exec(2) keeps the process id, the children and the descriptors. What the new program needs to know of them is
its `Estate`, in a variable of the environment that names this process, so that no child takes it for its own.
It goes on listening on the same sockets and holds the same pid file; nothing is closed, and nobody has to
be told another number.

The workers of the old program are its children still: the elders. They go on serving until the new pool is
complete, finish what they have, and leave when they see that their lifeline is closed. Should the new
program fail instead, its end closes the lifeline, too. What an elder writes into its old scoreboard is seen
by nobody.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_VARIABLE = "BQFILTERD_ESTATE"


@dataclass(frozen=True, slots=True)
class Invocation:
    """How this program was started: so it can be started again, whatever lies at its place by then."""

    command: tuple[str, ...]
    directory: str

    @classmethod
    def present(cls) -> "Invocation":
        """Of this very process; asked before it changes its directory."""
        try:
            directory = os.getcwd()  # noqa: PTH109 - a string for chdir, no path to work with
        except FileNotFoundError:  # removed under our feet
            directory = "/"
        return cls((sys.executable or sys.orig_argv[0], *sys.orig_argv[1:]), directory)


@dataclass(frozen=True, slots=True)
class Estate:
    """What one program leaves to the next; descriptors, but for `pid`, `elders` and the addresses.

    `listeners` and `metrics` are pairs of the address that was asked for and the socket. `managers` are those
    among the listeners that belong to the service manager. `lifelines` and `reports` are the ends of the
    elders' pipes that the master holds.
    """

    pid: int
    listeners: tuple[tuple[str, int], ...] = ()
    managers: tuple[int, ...] = ()
    metrics: tuple[tuple[str, int], ...] = ()
    pid_file: int = -1
    elders: tuple[int, ...] = ()
    lifelines: tuple[int, ...] = ()
    reports: tuple[int, ...] = ()

    @classmethod
    def inherited(cls) -> "Estate | None":
        """What was left to this process, taken out of the environment; None where it began anew."""
        text = os.environ.pop(_VARIABLE, "")
        left = json.loads(text) if text else {}
        if left.get("pid") != os.getpid():
            return None
        known = {field.name for field in dataclasses.fields(cls)}
        # A program of another version may leave more than this one knows.
        estate = cls(**{name: _tupled(value) for name, value in left.items() if name in known})
        estate._set_inheritable(False)
        return estate

    @property
    def fds(self) -> list[int]:
        """Every descriptor in it."""
        pairs = (*self.listeners, *self.metrics)
        held = (self.pid_file,) if self.pid_file >= 0 else ()
        return [*(fd for _, fd in pairs), *held, *self.lifelines, *self.reports]

    def sockets(self) -> list[tuple[str, socket.socket]]:
        """The listening sockets, as objects."""
        return [(wanted, socket.socket(fileno=fd)) for wanted, fd in self.listeners]

    def bequeath(self, invocation: Invocation) -> None:
        """Become the program that lies there now. Where that raises OSError, nothing has changed."""
        here = os.open(".", os.O_PATH | os.O_CLOEXEC)
        environment = {**os.environ, _VARIABLE: json.dumps(dataclasses.asdict(self))}
        try:
            os.chdir(invocation.directory)
            self._set_inheritable(True)
            os.execve(invocation.command[0], invocation.command, environment)  # noqa: S606
        finally:
            self._set_inheritable(False)
            os.fchdir(here)
            os.close(here)

    def _set_inheritable(self, is_inheritable: bool) -> None:
        for fd in self.fds:
            os.set_inheritable(fd, is_inheritable)


class Elders:
    """In the new master: the workers that the old program has left."""

    def __init__(self, estate: Estate | None) -> None:
        self.pids: set[int] = set(estate.elders) if estate else set()
        self.lifelines: list[int] = list(estate.lifelines) if estate else []
        self.reports: list[int] = list(estate.reports) if estate else []

    def relieve(self) -> None:
        """The new pool is complete: those without a session leave, the others when it is over."""
        _close(self.lifelines)

    def tell(self, number: signal.Signals) -> None:
        """Send all of them a signal; they have not been reaped, so the pids are their own."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def was_reaped(self, pid: int) -> bool:
        """True where it was one of them. Behind the last one nobody needs their pipes."""
        if pid not in self.pids:
            return False
        self.pids.discard(pid)
        if not self.pids:
            _close(self.lifelines)
            _close(self.reports)
        return True

    def forget(self) -> None:
        """There are no children at all any more."""
        for pid in list(self.pids):
            self.was_reaped(pid)

    @property
    def fds(self) -> list[int]:
        """Not for children: the lifelines must end with the master."""
        return [*self.lifelines, *self.reports]


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _tupled(value: Any) -> Any:
    """JSON has lists only."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(_tupled(one) for one in value)
    return value
