"""The real `bqfilterd serve`, started as a program of its own from a sample configuration, and ended again.

It listens on a port that the kernel chose, and says so in its "ready" line. Its log goes to a file: what it
says is what we know of it. Where the demo runs as root, its workers become "nobody", since they never run as
root.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bqfilter
from bqfilter.config.kinds import quote
from bqfilter.errors import BqfilterError
from bqfilter.net.address import Endpoint, SocketAddress, resolve

_START_TIMEOUT = 30.0  # seconds
_STOP_TIMEOUT = 15.0  # seconds; the drain timeout below and some more
_LINE_TIMEOUT = 15.0  # seconds for a line that is due in the log
_POLL_INTERVAL = 0.02

_READY = re.compile(r": ready .*\blisten=(\S+)")
_PREFIX = re.compile(r"^\S+ bqfilterd\[\d+\]: ", re.MULTILINE)

_CONFIGURATION = """\
# What the demo runs with. A real installation needs the first and the third table; docs/postfix.md says which
# values of master.cf and main.cf go with them.

[[listen]]
endpoint = "inet:127.0.0.1:0"  # any free port; 10025 is usual

[pool]
workers = 2

[upstream]
endpoint = "{upstream}"

[metrics]
listen = ""  # no exporter; a real installation leaves this table out

[runtime]
directory = {directory}
drain_timeout = "5s"
hostname = "filter.demo.example"
{user}
[spool]
directory = {spool}
"""


class DaemonFailed(BqfilterError):
    """bqfilterd did not start; the message holds what it wrote."""


class Daemon:
    """A running bqfilterd in `directory`, in front of the server at `upstream`. Raises DaemonFailed."""

    def __init__(self, directory: Path, upstream: SocketAddress) -> None:
        self.log_path = directory / "bqfilterd.log"
        self.configuration_path = directory / "bqfilterd.toml"
        self.configuration_path.write_text(_configuration(directory, upstream), encoding="utf-8")
        self._process = self._start()
        try:
            self.address = self._await_ready()
        except BaseException:
            self.stop()
            raise

    def log(self) -> str:
        """The log so far, without times and process ids."""
        return _PREFIX.sub("", self.log_path.read_text(encoding="utf-8", errors="replace"))

    def log_from(self, start: int, awaited: str) -> str:
        """The log from a position on, once it holds the words awaited or the time for them is over."""
        eventually(lambda: awaited in self.log()[start:], _LINE_TIMEOUT)
        return self.log()[start:]

    def stop(self) -> int:
        """SIGTERM, and wait for the end; returns the exit status. A daemon that stays is killed."""
        self._process.terminate()
        try:
            return self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its workers notice that their master is gone, and leave
            return self._process.wait()

    def status(self) -> str:
        """What `bqfilterd status` says of it."""
        shown = subprocess.run(  # noqa: S603 - our own interpreter, our own package
            self._command("status", "--over", "0"),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment(), check=False,
        )  # fmt: skip
        return shown.stdout + shown.stderr

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter, our own package
                self._command("serve"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
            )

    def _command(self, name: str, *options: str) -> list[str]:
        # -P and PYTHONPATH: the very package that runs the demo, not one that lies in the current directory.
        options = ("--config", str(self.configuration_path), *options)
        return [sys.executable, "-P", "-m", "bqfilter", name, *options]

    def _await_ready(self) -> SocketAddress:
        def is_ready_or_gone() -> bool:
            return bool(_READY.search(self._raw_log())) or self._process.poll() is not None

        eventually(is_ready_or_gone, _START_TIMEOUT)
        ready = _READY.search(self._raw_log())
        if ready is None:
            raise DaemonFailed(f"bqfilterd did not start:\n{self._raw_log()}")
        return resolve(Endpoint.parse(ready[1]))[0]

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


def _configuration(directory: Path, upstream: SocketAddress) -> str:
    return _CONFIGURATION.format(
        upstream=upstream,
        directory=quote(str(directory / "run")),
        spool=quote(tempfile.gettempdir()),
        user='user = "nobody"\n' if os.geteuid() == 0 else "",
    )


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(_package_parent()), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path}


def _package_parent() -> Path:
    return Path(bqfilter.__file__).resolve().parent.parent
