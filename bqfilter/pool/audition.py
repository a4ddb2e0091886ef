"""Audition: the program that lies there now is started for trial, before this one makes way for it.

A child runs the same command once more, with an option that makes it do all of a start but serve: modules are
imported, the configuration is read with its own understanding, scanners are made and the site's filters
loaded, and addresses that are not ours already are bound and let go. The master does not wait for it: it
looks with every turn of its loop, kills what takes longer than the limit, and keeps the last words.

The trial holds none of the master's descriptors and hears nothing from the service manager.
"""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bqfilter.config import Settings
from bqfilter.log import open_log
from bqfilter.net.address import SocketAddress
from bqfilter.net.listeners import bind_inet, bind_unix
from bqfilter.pool.outfit import make_outfit
from bqfilter.pool.startup import listen_addresses
from bqfilter.pool.succession import Invocation

if TYPE_CHECKING:
    import subprocess

OPTION = "--dry-run"

_KEPT = "BQFILTERD_KEPT"  # the addresses that are open already
_TIME_LIMIT = 30.0  # seconds
_WORDS_BYTES = 2000  # of the last ones; a log line takes no more
_NOT_ITS_BUSINESS = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


class Audition:
    """In the master: at most one trial at a time. `verdict` is asked with every turn of the loop."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._process: subprocess.Popen[bytes] | None = None
        self._until = 0.0
        self._words = b""

    @property
    def pid(self) -> int:
        """Of the trial, 0 without one."""
        return self._process.pid if self._process else 0

    def begin(self, now: float, kept: Iterable[str]) -> None:
        """Start the trial. Raises OSError."""
        import subprocess  # here: the workers are copies of the master, and have no use for it

        environment = {name: value for name, value in os.environ.items() if name not in _NOT_ITS_BUSINESS}
        self._words = b""
        self._until = now + _TIME_LIMIT
        self._process = subprocess.Popen(  # noqa: S603 - our own command once more
            [*self._invocation.command, OPTION],
            cwd=self._invocation.directory,
            env={**environment, _KEPT: json.dumps(list(kept))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        if self._process.stderr is not None:
            os.set_blocking(self._process.stderr.fileno(), False)

    def was_reaped(self, pid: int, status: int) -> None:
        """Somebody else has waited for it."""
        if self._process is not None and pid == self._process.pid:
            self._process.returncode = os.waitstatus_to_exitcode(status)

    def verdict(self, now: float) -> str | None:
        """None while it goes on or where there is none; "" for a good one; else what is wrong."""
        process = self._process
        if process is None:
            return None
        self._listen(process)
        if process.poll() is None:
            if now <= self._until:
                return None
            self.end()
            return f"not ready within {_TIME_LIMIT:g} s"
        self._listen(process)
        self._settle(process)
        return "" if process.returncode == 0 else self._complaint(process.returncode)

    def end(self) -> None:
        """Break it off, if there is one."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._settle(process)

    @property
    def fds(self) -> list[int]:
        """Not for children: it is not for them to wait for its end."""
        if self._process is None or self._process.stderr is None:
            return []
        return [self._process.stderr.fileno()]

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        while process.stderr is not None and (piece := _piece(process.stderr.fileno())):
            self._words = (self._words + piece)[-_WORDS_BYTES:]

    def _settle(self, process: "subprocess.Popen[bytes]") -> None:
        if process.stderr is not None:
            process.stderr.close()
        self._process = None

    def _complaint(self, status: int) -> str:
        lines = self._words.decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{lines[-1].removeprefix('bqfilterd: ')} ({how})" if lines else how


def stand(load: Callable[[], Settings]) -> None:
    """In the trial: all of a start but serving. Raises ConfigError, or whatever a broken program raises."""
    # Imported here: what cannot be imported must be found now, and it imports this module itself.
    from bqfilter.pool import master, pages  # noqa: F401

    settings = load()
    addresses = [address for listen in settings.listen for address in listen_addresses(listen)]
    make_outfit(settings, addresses, open_log(settings.log))
    _bind_for_trial(addresses, json.loads(os.environ.get(_KEPT, "[]")))


def _bind_for_trial(addresses: Iterable[SocketAddress], kept: Sequence[str]) -> None:
    """Bind what is not open already: another program, or a directory that is missing, would be in the way."""
    for address in addresses:
        if str(address) in kept:
            continue
        if isinstance(address.sockaddr, str):
            bind_unix(address.sockaddr, 1, 0o600, "").close()
            Path(address.sockaddr).unlink()
        else:
            bind_inet(address, 1).close()


def _piece(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return b""
