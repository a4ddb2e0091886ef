"""What systemd is to bqfilterd: holds its listening socket, starts it, and again when it was killed.

As with KillMode=process, workers of a master that was killed are left alone. The log is one file for all
masters. Nothing is started again once `stop` was called, and that is the only way in which a run may end: a
master that ends by itself is written down in `endings`.
"""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.doubles.programs import REPOSITORY, Bqfilterd, Settings, eventually, toml

_RESTART_DELAY = 0.1  # seconds; systemd's own default
_HAND_THE_SOCKET_ON = 'export LISTEN_PID=$$ LISTEN_FDS=1; fd=$1; shift; exec 3<&$fd; exec "$@"'
_START_LIMIT = 60.0


@dataclass(slots=True)
class Manager:
    """Runs bqfilterd in `directory`; `pid` is the present master's."""

    directory: Path
    listener: socket.socket
    prelude: str = ""  # Python that runs before the daemon's own code
    endings: list[int] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _keeper: threading.Thread | None = None

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    @property
    def program(self) -> Bqfilterd:
        """The present one."""
        assert self._process is not None
        return Bqfilterd(self.directory, self._process)

    def start(self) -> None:
        self._launch()
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()

    def configure(self, settings: Settings) -> None:
        draft = self.directory / "bqfilterd.new"
        draft.write_text(toml(settings), encoding="utf-8")
        draft.rename(self.directory / "bqfilterd.toml")

    def log_lines(self) -> Iterator[str]:
        """What all masters and their workers have logged."""
        with (self.directory / "log").open(encoding="utf-8", errors="replace") as log:
            yield from log

    def wait_for_log(self, pattern: str, limit: float = _START_LIMIT) -> None:
        def found() -> bool:
            return any(re.search(pattern, line) for line in self.log_lines())

        eventually(found, f"{pattern!r} in the log of bqfilterd", limit)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        with self._lock:
            self._over.set()
        status = self.program.stop(60.0)
        if self._keeper is not None:
            self._keeper.join()
        return status

    def _keep(self) -> None:
        while not self._over.is_set():
            assert self._process is not None
            status = self._process.wait()
            if self._over.is_set():
                return
            if status != -signal.SIGKILL:
                self.endings.append(status)
            time.sleep(_RESTART_DELAY)
            with self._lock:
                if self._over.is_set():
                    return
                self._launch()

    def _launch(self) -> None:
        fd = self.listener.fileno()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", _HAND_THE_SOCKET_ON, "bash", str(fd), *self._argv()],
                pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=REPOSITORY,
            )  # fmt: skip

    def _argv(self) -> list[str]:
        main = f"{self.prelude}\nfrom bqfilter.cli import main\nmain()"
        return [sys.executable, "-c", main, "serve", "--config", str(self.directory / "bqfilterd.toml")]


@contextmanager
def managed(
    directory: Path, address: tuple[str, int], settings: Settings, prelude: str = ""
) -> Iterator[Manager]:
    """Running and ready; whatever happens, nothing of it is left."""
    with socket.create_server(address, backlog=256) as listener:
        manager = Manager(directory, listener, prelude)
        manager.configure(settings)
        try:
            manager.start()
            manager.wait_for_log(r"\bready ")
            yield manager
        finally:
            manager.stop()
