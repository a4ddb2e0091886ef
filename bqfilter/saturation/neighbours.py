"""Neighbours: how many processes the Postfix services around us may have, to stand beside our workers.

`Survey.look()` asks postconf, which takes a twentieth of a second, and again only when main.cf or master.cf
has changed; `neighbours` is what it found last. It is for the exporter, which has no part in mail, and for
`bqfilterd tune`. It never raises: where Postfix cannot be asked nothing is known, and a failure is counted,
unless there is no Postfix.

Postfix's default instance is looked at, and those that postmulti(1) runs with it. Whether the numbers go
together is for alerts to say, and for `bqfilterd check --postfix`, which looks at much more.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bqfilter.config.schema import Settings
from bqfilter.saturation.chain import After, Client, find_chain
from bqfilter.saturation.postfix import Postfix, PostfixMissing, PostfixUnreadable, read_instances

_FILES = ("main.cf", "master.cf")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A service of master.cf that connects to us (role "before"), or to which we connect ("after").

    `process_limit` is None where there is none, `speed_adjust` where it means nothing; `directory` is that of
    its instance, empty for the default one.
    """

    service: str
    role: str
    process_limit: int | None
    speed_adjust: bool | None = None
    directory: str = ""

    @property
    def label(self) -> str:
        """Tells it from the service of the same name in another instance."""
        return f"{self.directory}:{self.service}" if self.directory else self.service


class Survey:
    """What is known of Postfix; made and looked at by one thread, read by others."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directories: tuple[str, ...] = ()
        self._seen: tuple[tuple[int, int], ...] | None = None
        self.neighbours: tuple[Neighbour, ...] = ()
        self.failures = 0

    def look(self) -> None:
        """Ask Postfix, if there may be something new."""
        if self._seen is not None and self._seen == self._stamps():
            return
        try:
            instances = read_instances()
            found = tuple(find_neighbours(self._settings, instances))
        except PostfixUnreadable as error:
            self.failures += not isinstance(error, PostfixMissing)
            self.neighbours, self._seen = (), None
            return
        self.neighbours = found
        self._directories = tuple(one.parameters.text("config_directory") for one in instances)
        self._seen = self._stamps()

    def _stamps(self) -> tuple[tuple[int, int], ...] | None:
        """By which a file is told from its earlier self; None where that cannot be told."""
        try:
            found = [(Path(place) / name).stat() for place in self._directories for name in _FILES]
        except OSError:
            return None
        return tuple((one.st_mtime_ns, one.st_size) for one in found)


def find_neighbours(settings: Settings, instances: Sequence[Postfix]) -> Iterator[Neighbour]:
    """The services on both sides of us, each of them once for each side."""
    chain = find_chain(settings, "", instances)
    yield from {client.service: _before(client) for client in chain.clients}.values()
    yield from {after.service: _after(after) for after in chain.after}.values()


def postfix_layer(neighbours: Iterable[Neighbour]) -> dict[str, Any]:
    """What sizing takes from them; None: not known, or without a limit."""
    before = [one for one in neighbours if one.role == "before"]
    after = [one for one in neighbours if one.role == "after"]
    adjusting = [one.speed_adjust for one in before if one.speed_adjust is not None]
    return {
        "before_maxproc": _summed(before),
        "after_maxproc": _summed(after),
        "speed_adjust": all(adjusting) if adjusting else None,
    }


def _summed(services: list[Neighbour]) -> int | None:
    limits = [one.process_limit for one in services]
    return None if None in limits else sum(filter(None, limits)) or None


def _before(client: Client) -> Neighbour:
    limit = int(client.processes) if math.isfinite(client.processes) else None
    has_proxy_filter = not client.sources
    return Neighbour(
        str(client.service),
        "before",
        limit,
        client.has_speed_adjust if has_proxy_filter else None,
        client.service.directory,
    )


def _after(after: After) -> Neighbour:
    limit = after.service.process_limit or None
    return Neighbour(str(after.service), "after", limit, directory=after.service.directory)
