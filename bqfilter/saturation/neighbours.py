"""Neighbours: how many processes the Postfix services around us may have, to stand beside our workers.

`Survey.look()` asks postconf, which takes a twentieth of a second, and again only when main.cf or master.cf
has changed; `neighbours` is what it found last. It is for the exporter, which has no part in mail, and for
`bqfilterd tune`. It never raises: where Postfix cannot be asked nothing is known, and a failure is counted,
unless there is no Postfix.

Postfix's default instance alone is looked at. Whether the numbers go together is for alerts to say, and for
`bqfilterd check --postfix`, which looks at much more.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bqfilter.config.schema import Settings
from bqfilter.saturation.chain import After, Client, find_chain
from bqfilter.saturation.postfix import Postfix, PostfixMissing, PostfixUnreadable, read_postfix

_FILES = ("main.cf", "master.cf")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A service of master.cf that connects to us (role "before"), or to which we connect ("after").

    `process_limit` is None where there is none, `speed_adjust` where it means nothing.
    """

    service: str
    role: str
    process_limit: int | None
    speed_adjust: bool | None = None


class Survey:
    """What is known of Postfix; made and looked at by one thread, read by others."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = ""
        self._seen: tuple[tuple[int, int], ...] | None = None
        self.neighbours: tuple[Neighbour, ...] = ()
        self.failures = 0

    def look(self) -> None:
        """Ask Postfix, if there may be something new."""
        if self._seen is not None and self._seen == self._stamps():
            return
        try:
            postfix = read_postfix()
            found = tuple(find_neighbours(self._settings, postfix))
        except PostfixUnreadable as error:
            self.failures += not isinstance(error, PostfixMissing)
            self.neighbours, self._seen = (), None
            return
        self.neighbours, self._directory = found, postfix.parameters.text("config_directory")
        self._seen = self._stamps()

    def _stamps(self) -> tuple[tuple[int, int], ...] | None:
        """By which a file is told from its earlier self; None where that cannot be told."""
        try:
            found = [(Path(self._directory) / name).stat() for name in _FILES]
        except OSError:
            return None
        return tuple((one.st_mtime_ns, one.st_size) for one in found)


def find_neighbours(settings: Settings, postfix: Postfix) -> Iterator[Neighbour]:
    """The services on both sides of us, each of them once for each side."""
    chain = find_chain(settings, "", [postfix])
    yield from {str(client.service): _before(client) for client in chain.clients}.values()
    yield from {str(after.service): _after(after) for after in chain.after}.values()


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
        str(client.service), "before", limit, client.has_speed_adjust if has_proxy_filter else None
    )


def _after(after: After) -> Neighbour:
    return Neighbour(str(after.service), "after", after.service.process_limit or None)
