"""The contenders: what may stand between a client and the server behind it.

Each is started for one run of the suite and stays up over all rounds, as it would in production; all have the
same number of connections to spare. HAProxy in TCP mode is the yardstick: it only copies bytes, so what
bqfilterd needs beyond it is the price of understanding them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import BACKLOG, HOST, UNPRIVILEGED_USER, Program, free_port, greets, is_root, running

NO_FILTER = "no filter"
HAPROXY = "HAProxy, TCP"
FILTER_ONE = "bqfilterd, one message a connection"
FILTER_KEPT = "bqfilterd, kept connections"
OTHER_ONE = "the other, one message a connection"
OTHER_KEPT = "the other, kept connections"

_MESSAGES_PER_CONNECTION = {FILTER_ONE: 1, FILTER_KEPT: 100, OTHER_ONE: 1, OTHER_KEPT: 100}

_HAPROXY_CONFIG = """\
global
  maxconn 2000
defaults
  mode tcp
  timeout connect 5s
  timeout client 5m
  timeout server 5m
listen smtp
  bind {host}:{port} backlog {backlog}
  server upstream {host}:{upstream_port}
"""

_FILTER_CONFIG = """\
[[listen]]
endpoint = "inet:{host}:{port}"
backlog = {backlog}
[pool]
workers = {workers}
[upstream]
endpoint = "inet:{host}:{upstream_port}"
max_messages_per_connection = {messages_per_connection}
[metrics]
listen = "inet:{host}:0"
[runtime]
directory = "{directory}"
"""


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    port: int
    program: Program | None  # none for "no filter"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every contender is made from. `other` is a second filter, to compare two versions."""

    directory: Path
    workers: int
    command: tuple[str, ...]
    other: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they take turns."""
        names = (NO_FILTER, HAPROXY, FILTER_ONE, FILTER_KEPT)
        return (*names, OTHER_ONE, OTHER_KEPT) if self.other else names

    @contextmanager
    def contender(self, name: str, upstream_port: int) -> Iterator[Contender]:
        if name == NO_FILTER:
            yield Contender(name, upstream_port, None)
        elif name == HAPROXY:
            with self._haproxy(upstream_port) as contender:
                yield contender
        else:
            with self._bqfilterd(name, upstream_port) as contender:
                yield contender

    @contextmanager
    def _haproxy(self, upstream_port: int) -> Iterator[Contender]:
        port = free_port()
        config = self.directory / f"haproxy-{port}.cfg"
        config.write_text(
            _HAPROXY_CONFIG.format(host=HOST, port=port, backlog=BACKLOG, upstream_port=upstream_port)
        )
        with running(f"haproxy-{port}", ["haproxy", "-db", "-f", str(config)], self.directory) as program:
            program.wait_until(lambda: greets(port))
            yield Contender(HAPROXY, port, program)

    @contextmanager
    def _bqfilterd(self, name: str, upstream_port: int) -> Iterator[Contender]:
        port = free_port()
        config = self.directory / f"bqfilterd-{port}.toml"
        config.write_text(self._filter_config(name, port, upstream_port))
        command = self.other if self.other and name in (OTHER_ONE, OTHER_KEPT) else self.command
        argv = [*command, "serve", "--config", str(config)]
        with running(f"bqfilterd-{port}", argv, self.directory) as program:
            program.wait_until(_says_ready(program))
            program.wait_until(lambda: greets(port))
            yield Contender(name, port, program)

    def _filter_config(self, name: str, port: int, upstream_port: int) -> str:
        text = _FILTER_CONFIG.format(
            host=HOST,
            port=port,
            backlog=BACKLOG,
            workers=self.workers,
            upstream_port=upstream_port,
            messages_per_connection=_MESSAGES_PER_CONNECTION[name],
            directory=self.directory / f"run-{port}",
        )
        return text + (f'user = "{UNPRIVILEGED_USER}"\n' if is_root() else "")


def _says_ready(program: Program) -> Callable[[], bool]:
    return lambda: b"ready" in program.log.read_bytes()
