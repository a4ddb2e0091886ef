"""The contenders: what may stand between a client and the server behind it.

Each is started for one run of the suite and stays up over all rounds, as it would in production; all have the
same number of connections to spare. HAProxy in TCP mode is the yardstick: it only copies bytes, so what
bqfilterd needs beyond it is the price of understanding them. The peers are in `benchmarks.peers`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.programs import Program, free_port, greets, running, unread_syslog
from benchmarks.recipes import Recipe, literal, prepare

NO_FILTER = "no filter"
HAPROXY = "HAProxy, TCP"
FILTER_ONE = "bqfilterd, one message a connection"
FILTER_KEPT = "bqfilterd, kept connections"
OTHER_ONE = "the other, one message a connection"
OTHER_KEPT = "the other, kept connections"

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
endpoint = "inet:{{host}}:{{port}}"
backlog = {{backlog}}
[pool]
workers = {{children}}
[upstream]
endpoint = "inet:{{host}}:{{upstream_port}}"
max_messages_per_connection = {messages_per_connection}
{scanner}[metrics]
listen = "inet:{{host}}:0"
[runtime]
directory = "{{directory}}/run"
"""

_NO_FILTER = Recipe(name=NO_FILTER, source="", argv=(), trusted=True)
_HAPROXY = Recipe(
    name=HAPROXY,
    source="Debian: haproxy",
    argv=("haproxy", "-db", "-f", "{directory}/haproxy.cfg"),
    files={"haproxy.cfg": _HAPROXY_CONFIG},
    trusted=True,
)


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    port: int
    program: Program | None  # none for "no filter"
    trusted: bool = True
    asks_scanner: bool = False


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every contender is made from. `other` is a second filter, to compare two versions."""

    directory: Path
    workers: int
    command: tuple[str, ...]
    other: tuple[str, ...] | None = None
    peers: tuple[Recipe, ...] = ()
    wanted: tuple[str, ...] = ()  # parts of names; all take part where there are none

    @property
    def recipes(self) -> list[Recipe]:
        """Of those that take part, in the order in which they take turns."""
        return self._chosen([*self._own, *self.peers])

    @property
    def own_recipes(self) -> list[Recipe]:
        """Those without the peers."""
        return self._chosen(self._own)

    def with_scanner(self, scanner: str, table: str, files: Mapping[str, str]) -> list[Recipe]:
        """bqfilterd with that table in its configuration; `files` are what the table names."""
        return self._chosen(
            replace(recipe, name=f"{recipe.name}, {scanner}", files={**recipe.files, **files})
            for recipe in self._filters(table)
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(recipe.name for recipe in self.own_recipes)

    @contextmanager
    def contender(self, name: str, upstream_port: int) -> Iterator[Contender]:
        (recipe,) = (recipe for recipe in [*self._own, *self.peers] if recipe.name == name)
        with self.started(recipe, upstream_port) as contender:
            yield contender

    @contextmanager
    def started(self, recipe: Recipe, upstream_port: int, **values: object) -> Iterator[Contender]:
        """`values` are what the recipe's templates name beyond the usual."""
        if not recipe.argv:
            yield Contender(recipe.name, upstream_port, None)
            return
        port = free_port()
        values |= {"port": port, "upstream_port": upstream_port, "children": self.workers}
        name = f"{re.sub('[^a-z]+', '-', recipe.name.lower())}-{port}"
        argv = prepare(recipe, self.directory / name, values)
        logging = unread_syslog() if recipe.syslog else nullcontext()
        with logging, running(name, argv, self.directory) as program:
            program.wait_until(lambda: recipe.says_ready in program.log.read_bytes())
            program.wait_until(lambda: greets(port))
            yield Contender(recipe.name, port, program, recipe.trusted, recipe.asks_scanner)

    @property
    def _own(self) -> list[Recipe]:
        return [_NO_FILTER, _HAPROXY, *self._filters()]

    def _filters(self, scanner: str = "") -> list[Recipe]:
        one, kept = _bqfilterd(self.command, 1, scanner), _bqfilterd(self.command, 100, scanner)
        recipes = [replace(one, name=FILTER_ONE), replace(kept, name=FILTER_KEPT)]
        if self.other:
            one, kept = _bqfilterd(self.other, 1, scanner), _bqfilterd(self.other, 100, scanner)
            recipes += [replace(one, name=OTHER_ONE), replace(kept, name=OTHER_KEPT)]
        return recipes

    def _chosen(self, recipes: Iterable[Recipe]) -> list[Recipe]:
        return [recipe for recipe in recipes if recipe.is_called(self.wanted)]


def _bqfilterd(command: Sequence[str], messages_per_connection: int, scanner: str) -> Recipe:
    config = _FILTER_CONFIG.format(messages_per_connection=messages_per_connection, scanner=scanner)
    return Recipe(
        name="bqfilterd",
        source="this checkout",
        argv=(*map(literal, command), "serve", "--config", "{directory}/bqfilterd.toml"),
        files={"bqfilterd.toml": config},
        as_root='user = "{user}"\n',
        says_ready=b"ready",
        trusted=True,
    )
