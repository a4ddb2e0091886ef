"""The real `bqfilterd serve`, started as a program of its own from the sample configuration, and ended again.

It listens on ports that the kernel chose, and says so in its log, which goes to a file: what it says is what
we know of it. Its other commands are run as an operator would run them.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import bqfilter
from bqfilter.demo import sample
from bqfilter.errors import BqfilterError, ConfigError
from bqfilter.net.address import Endpoint, SocketAddress, resolve

_START_TIMEOUT = 30.0  # seconds
_STOP_TIMEOUT = 15.0  # seconds; the drain timeout below and some more
_LINE_TIMEOUT = 15.0  # seconds for a line that is due in the log
_POLL_INTERVAL = 0.02

_READY = re.compile(r": ready .*\blisten=(\S+)")
_EXPORTER = re.compile(r": metrics served at=(\S+)")
_PREFIX = re.compile(r"^\S+ bqfilterd\[\d+\]: ", re.MULTILINE)


class DaemonFailed(BqfilterError):
    """bqfilterd did not start; the message holds what it wrote."""


class Daemon:
    """A running bqfilterd in `directory`, in front of the server at `upstream`. Raises DaemonFailed."""

    def __init__(self, directory: Path, upstream: SocketAddress) -> None:
        self.log_path = directory / "bqfilterd.log"
        self.configuration_path = self._configure(directory, upstream)
        self._process = self._start()
        try:
            self.address = self._await(_READY)
            self.exporter = self._await(_EXPORTER)
        except BaseException:
            self.stop()
            raise

    def log(self) -> str:
        """The log so far, without times and process ids."""
        return _PREFIX.sub("", self.log_path.read_text(encoding="utf-8", errors="replace"))

    def log_from(self, start: int, awaited: Sequence[str]) -> str:
        """The log from a position on, once it holds all words awaited or the time for them is over."""
        eventually(lambda: all(words in self.log()[start:] for words in awaited), _LINE_TIMEOUT)
        return self.log()[start:]

    def stop(self) -> int:
        """SIGTERM, and wait for the end; returns the exit status. A daemon that stays is killed."""
        self._process.terminate()
        try:
            return self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its workers notice that their master is gone, and leave
            return self._process.wait()

    def run(self, *words: str) -> str:
        """What `bqfilterd` says when it is run with these words and the demo's configuration."""
        shown = subprocess.run(  # noqa: S603 - our own interpreter, our own package
            self._command(*words),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment(), check=False,
        )  # fmt: skip
        return shown.stdout + shown.stderr

    def _configure(self, directory: Path, upstream: SocketAddress) -> Path:
        try:
            return sample.write(directory, upstream)
        except ConfigError as error:
            raise DaemonFailed(str(error)) from error

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter, our own package
                self._command("serve"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
            )

    def _command(self, *words: str) -> list[str]:
        # -P and PYTHONPATH: the very package that runs the demo, not one that lies in the current directory.
        return [sys.executable, "-P", "-m", "bqfilter", *words, "--config", str(self.configuration_path)]

    def _await(self, line: re.Pattern[str]) -> SocketAddress:
        """The address in a line of the log that belongs to the start."""

        def is_there_or_gone() -> bool:
            return bool(line.search(self._raw_log())) or self._process.poll() is not None

        eventually(is_there_or_gone, _START_TIMEOUT)
        found = line.search(self._raw_log())
        if found is None:
            raise DaemonFailed(f"bqfilterd did not start:\n{self._raw_log()}")
        return resolve(Endpoint.parse(found[1]))[0]

    def _raw_log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")


def eventually(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether the condition came true within `timeout` seconds; asked for again and again."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_INTERVAL)
    return True


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(_package_parent()), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


def _package_parent() -> Path:
    return Path(bqfilter.__file__).resolve().parent.parent
