"""bqfilterd as a program of its own: started from settings, watched through its log, ended by its pid.

A started program is ready for connections, or starting it fails with what it wrote. Nothing here waits for
a fixed time: every wait polls a condition and fails, with the log, when the limit has passed. The stderr of
the program goes to a file, because a pipe nobody empties would stop it. Only the one process started here
is ever signalled, by its pid.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

COMMAND: tuple[str, ...] = (sys.executable, "-m", "bqfilter")
REPOSITORY = Path(__file__).resolve().parents[2]
POLL_INTERVAL = 0.02
START_LIMIT = 60.0
TROUBLE = re.compile(r"\berror: |Traceback|possible duplicate")

Settings = Mapping[str, Any]
T = TypeVar("T")


def eventually(condition: Callable[[], T | None], what: str, limit: float = 30.0) -> T:
    """Poll until `condition` gives something true, and return that; what it gave last is in the failure."""
    end = time.monotonic() + limit
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:g} s: {what} (last seen: {found!r})")
        time.sleep(POLL_INTERVAL)
    return found


@contextlib.contextmanager
def short_directory(prefix: str) -> Iterator[Path]:
    """A directory that unprivileged users may enter, with a path that leaves room for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))  # pytest's own ones are long, and root's alone
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def toml(settings: Settings) -> str:
    """Settings as TOML: a mapping is a table, a list of mappings is an array of tables."""
    blocks: list[str] = []
    for name, value in settings.items():
        tables = value if isinstance(value, list) else [value]
        header = f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
        blocks += ["\n".join([header, *(f"{key} = {_value(v)}" for key, v in t.items())]) for t in tables]
    return "\n\n".join(blocks) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f'"{key}" = {_value(item)}' for key, item in value.items()) + " }"
    return str(value) if isinstance(value, int) else '"' + str(value).replace("\\", "\\\\") + '"'


@dataclass(slots=True)
class Bqfilterd:
    """A running `bqfilterd serve`."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def config_path(self) -> Path:
        return self.directory / "bqfilterd.toml"

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def results(self) -> list[str]:
        """The verdict word of every message logged so far."""
        return re.findall(r"\bresult=(\S+)", self.log())

    def wait_for_results(self, count: int) -> list[str]:
        """As many or more of them; a message is logged after its verdict has been sent."""
        eventually(lambda: len(self.results()) >= count, f"{count} messages in the log")
        return self.results()

    def queue_ids(self) -> list[str]:
        """The after-filter queue ids of every message logged so far."""
        return re.findall(r"\bqueued_as=\"?(\w+)", self.log())

    def trouble(self) -> list[str]:
        """The lines that no run may have in which nothing went wrong, however busy it was."""
        return [line for line in self.log().splitlines() if TROUBLE.search(line)]

    def wait_for_log(self, pattern: str, limit: float = 30.0) -> re.Match[str]:
        try:
            return eventually(lambda: re.search(pattern, self.log()), f"{pattern!r} in the log", limit)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.log()}") from None

    def workers(self) -> set[int]:
        """The pids of the workers: children of the master that say so in their title.

        Before a child has its own title it has that of the master: then it is looked at again.
        """

        def titled() -> dict[int, str] | None:
            titles = {pid: title_of(pid) for pid in children_of(self.process.pid)}
            return None if any(": master " in title for title in titles.values()) else titles or {0: ""}

        found = eventually(titled, "children with titles of their own")
        return {pid for pid, title in found.items() if ": worker " in title}

    def configure(self, settings: Settings) -> None:
        """Write new settings, all of them at once; they count from the next reload on."""
        draft = self.config_path.with_suffix(".new")
        draft.write_text(toml(settings), encoding="utf-8")
        draft.rename(self.config_path)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, limit: float = 30.0) -> int:
        """SIGTERM and wait; a program that does not end in time is killed and fails the test."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"not ended {limit:g} s after SIGTERM:\n{self.log()}") from None

    def kill(self) -> None:
        """End the whole family at once, the master first, because it would replace the others."""
        family = [self.process.pid, *children_of(self.process.pid)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def start_bqfilterd(directory: Path, settings: Settings) -> Bqfilterd:
    """Start it with these settings and return once it has said that the pool accepts connections."""
    directory.mkdir(exist_ok=True)
    config = directory / "bqfilterd.toml"
    config.write_text(toml(settings), encoding="utf-8")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
        )
    program = Bqfilterd(directory, process)
    _wait_until_ready(program)
    return program


def _wait_until_ready(program: Bqfilterd) -> None:
    def ready_or_ended() -> bool:
        return bool(re.search(r"\bready\b", program.log())) or program.process.poll() is not None

    try:
        eventually(ready_or_ended, "bqfilterd says that it is ready", START_LIMIT)
    except AssertionError as failure:
        program.kill()
        raise AssertionError(f"{failure}\n{program.log()}") from None
    if program.process.poll() is not None:
        raise AssertionError(f"ended with {program.process.returncode} instead of serving:\n{program.log()}")


def children_of(pid: int) -> list[int]:
    """None of a process that has ended."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def title_of(pid: int) -> str:
    """What ps shows; empty for a process that has ended, as one may between being listed and being read."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().strip(b"\0 ").decode()
    except OSError:
        return ""
