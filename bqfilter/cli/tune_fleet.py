"""`bqfilterd tune --fleet`: how many workers on how many hosts, and why."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from bqfilter.saturation.fleet import Fleet, Host

# How far back Prometheus looks for the busiest minutes.
_WINDOW = 86400.0

_NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)


def tune_fleet(
    sources: Sequence[str],
    match: str,
    over: float | None,
    growth: float,
    wants_json: bool,
    is_check: bool,
    options: Mapping[str, Any],
) -> None:
    """Print the page about a fleet, and end with 1 where it is to be checked and would not do."""
    from bqfilter.saturation.fleet import plan

    found = plan(_fleet(sources, match, over or _WINDOW, growth, options))
    if wants_json:
        from bqfilter.saturation.fleet_report import as_json

        click.echo(json.dumps(as_json(found), indent=2))
    else:
        from bqfilter.saturation.fleet_report import lines

        click.echo("\n".join(lines(found)).rstrip())
    raise click.exceptions.Exit(1 if is_check and found.breaches else 0)


def _fleet(
    sources: Sequence[str], match: str, over: float, growth: float, options: Mapping[str, Any]
) -> Fleet:
    from bqfilter.saturation.fleet import Fleet, fleet_layer, measured_together, one_queue, survivors
    from bqfilter.saturation.sizing import MOST_ERLANGS, Source, gather

    found, peak = _hosts(sources, match, over)
    hosts = _as_told(found, options)
    given = dict(options)
    queue_timeout, cores = given.pop("queue_wait"), given.pop("cores")
    figures = gather(
        {
            # The processors that are left while one host is missing.
            Source.OPTION: {**given, "workers": None, "cores": cores and cores * max(1, len(hosts) - 1)},
            Source.CONFIGURATION: fleet_layer(hosts),
            Source.MEASURED: measured_together(hosts, growth, peak),
        }
    )
    fleet = Fleet(hosts, figures, queue_timeout)
    for some in (hosts, survivors(fleet) or hosts):
        load = one_queue(fleet, some)
        if load and load.erlangs > MOST_ERLANGS:
            raise click.UsageError(f"{load.erlangs:.0f} sessions at a time: is a figure in the wrong unit?")
    return fleet


def _as_told(hosts: Sequence[Host], options: Mapping[str, Any]) -> tuple[Host, ...]:
    """What an option says goes before what a host says of itself."""
    told = {"workers": options["workers"], "after_maxproc": options["after_maxproc"]}
    changes = {name: value for name, value in told.items() if value is not None}
    if options["service_time"] is not None:
        return tuple(
            replace(host, measured=replace(host.measured, service_time=None), **changes) for host in hosts
        )
    return tuple(replace(host, **changes) for host in hosts)


def _hosts(sources: Sequence[str], match: str, over: float) -> tuple[list[Host], float | None]:
    """All hosts, and the highest rate that they had together, if a Prometheus knows it and knows them all."""
    found: list[Host] = []
    peaks = []
    for number, source in enumerate(sources, 1):
        try:
            hosts, peak = _look(source, number, match, over)
        except (OSError, ValueError) as error:
            raise click.ClickException(f"{_shown(source)}: {_reason(error)}") from error
        found += hosts
        peaks.append(peak)
    names = [host.name for host in found]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"two hosts are called {name}: name them, --fleet NAME=SOURCE")
    return found, peaks[0] if len(peaks) == 1 else None


def _look(source: str, number: int, match: str, over: float) -> tuple[list[Host], float | None]:
    from bqfilter.saturation.fleet import Host
    from bqfilter.saturation.fleet_sources import host_from_text, hosts_from_prometheus
    from bqfilter.saturation.prometheus import Prometheus

    named = _NAMED.fullmatch(source)
    name, place = (named[1], named[2]) if named else ("", source)
    if re.fullmatch(r"[1-9][0-9]{0,4}", place):
        return [Host(name=name or f"host{number}", workers=int(place))], None
    if not place.startswith(("http://", "https://")):
        return [host_from_text(name or Path(place).stem, _read(place))], None
    if urlsplit(place).path.rstrip("/").endswith("/metrics"):
        return [host_from_text(name or urlsplit(place).netloc.rpartition("@")[2], _download(place))], None
    return hosts_from_prometheus(Prometheus(place), over, match)


def _read(path: str) -> str:
    from bqfilter.saturation.fetching import MOST_BYTES

    with open(path, encoding="utf-8") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES // 1000**2} MB")
    return text


def _download(url: str) -> str:
    from bqfilter.saturation.fetching import fetch

    status, content = fetch(url)
    if status != 200:
        raise ValueError(f"status {status}")
    return content.decode("utf-8")


def _shown(source: str) -> str:
    from bqfilter.saturation.fetching import without_password

    named = _NAMED.fullmatch(source)
    prefix, place = (f"{named[1]}=", named[2]) if named else ("", source)
    return prefix + (without_password(place) if place.startswith(("http://", "https://")) else place)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "neither a page of bqfilterd's metrics nor JSON of bqfilterd status or tune"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def refuse_together(given: Mapping[str, Any]) -> Iterator[str]:
    """Options that are about one host, and were given."""
    yield from (f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, ()))
