"""`bqfilterd tune`: how many workers, and why."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from bqfilter.cli.options import DEFAULT_PATH, configuration_errors
from bqfilter.cli.tune_fleet import refuse_together, tune_fleet
from bqfilter.config import Settings, load
from bqfilter.config.units import parse_duration, parse_size

if TYPE_CHECKING:
    from bqfilter.saturation.advice import Place, Services
    from bqfilter.saturation.live import Live
    from bqfilter.saturation.neighbours import Neighbour
    from bqfilter.saturation.sizing import Figures, Measured, Source
    from bqfilter.saturation.tune_report import Page

_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


class _Unit(click.ParamType[float]):
    """A number with a unit, larger than nothing unless `zero` is allowed."""

    def __init__(self, name: str, parse: Callable[[str], float], *, zero: bool = False) -> None:
        self.name = name
        self._parse = parse
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            parsed = self._parse(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if not parsed and not self._zero:
            self.fail(f"{value!r}: more than 0 is needed", param, ctx)
        return parsed


class _Number(click.FloatRange):
    """A number within a range; click's own takes "nan" for being in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


class _Processes(click.ParamType[int]):
    """The processes of a service or of a host, whose name may stand before them; it is for the reader."""

    name = "[HOST=]N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        count: Any = value.rpartition("=")[2] if isinstance(value, str) else value
        return int(_COUNT.convert(count, param, ctx))


class _Counts(click.ParamType[list[int]]):
    """Whole numbers with commas between them."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            counts = sorted({int(one) for one in value.split(",")})
        except ValueError:
            counts = []
        if not counts or not 1 <= counts[0] <= counts[-1] <= _MOST:
            self.fail(f"{value!r}: whole numbers from 1 to {_MOST} with commas between them", param, ctx)
        return counts


_MOST = 100_000  # of anything that is counted; what is more is a slip of the finger
_TIME = _Unit("duration", parse_duration)
_TIME_OR_NONE = _Unit("duration", parse_duration, zero=True)
_SIZE = _Unit("size", parse_size)
_COUNT = click.IntRange(1, _MOST)
_VARIATION = _Number(0, 1000)
_SHARE = _Number(0, 1, min_open=True, max_open=True)


@click.command()
@click.option("--rate", type=_Number(0, _MOST, min_open=True), help="Messages a second at the peak.")
@click.option("--service-time", type=_TIME, help="Mean time a message holds a worker, without the upload.")
@click.option("--service-cv2", type=_VARIATION, help="Variance of that time over its square. [4]")
@click.option("--arrival-cv2", type=_VARIATION, help="The same of arrivals; more than 1: bursts. [1]")
@click.option(
    "--before-maxproc",
    type=_Processes(),
    multiple=True,
    help="maxproc of all services with this filter; given several times, their sum. [100]",
)
@click.option("--after-maxproc", type=_COUNT, help="maxproc of the after-filter service. [100]")
@click.option("--speed-adjust/--no-speed-adjust", default=None, help="smtpd_proxy_options. [off]")
@click.option("--upload-time", type=_TIME_OR_NONE, help="Mean time a client takes to send a message. [0s]")
@click.option("--session", type=_TIME_OR_NONE, help="budget.session; 0s is no limit. [0s]")
@click.option("--proxy-timeout", type=_TIME, help="smtpd_proxy_timeout. [100s]")
@click.option("--queue-wait", type=_TIME_OR_NONE, help="Longest wait at a load balancer in front of us. [0s]")
@click.option("--worker-memory", type=_SIZE, help="Memory of one worker (PSS).")
@click.option("--memory", type=_SIZE, help="Memory for bqfilterd altogether.")
@click.option("--base-memory", type=_SIZE, help="What of it is not for workers. [100MB]")
@click.option("--cpu-per-message", type=_TIME, help="Processor time of one message, scanners included.")
@click.option("--cores", type=_COUNT, help="Processors. [those of this machine]")
@click.option("--backlog", type=_COUNT, help="listen.backlog. [256]")
@click.option("--somaxconn", type=_COUNT, help="net.core.somaxconn. [that of this machine]")
@click.option("--workers", type=_COUNT, help="The present pool.workers.")
@click.option("--config", "path", type=click.Path(path_type=Path), help=f"[{DEFAULT_PATH}, if it is there]")
@click.option("--wait-target", type=_TIME, help="A wait this long is to be rare. [1s]")
@click.option("--wait-probability", type=_SHARE, help="How rare: this share of the sessions. [0.01]")
@click.option(
    "--measured",
    "measured_file",
    type=click.File(encoding="utf-8"),
    help="Figures of a running pool, as JSON; - is standard input.",
)
@click.option("--live/--no-live", default=None, help="Measure the running pool. [where one runs]")
@click.option("--over", type=_TIME, help="Watch it for so long. [what it counted since its start]")
@click.option("--growth", type=_Number(1, 100), default=1.3, help="Room on a measured rate. [1.3]")
@click.option("--what-if", type=_Counts(), help="Show these numbers of workers.")
@click.option("--before-service", multiple=True, help="In master.cf. [those that are there, or smtp/inet]")
@click.option("--after-service", help="In master.cf. [as upstream.endpoint has it, or 127.0.0.1:10026/inet]")
@click.option(
    "--fleet",
    "sources",
    metavar="[NAME=]SOURCE",
    multiple=True,
    help="A host of several: what status --json, tune --json or /metrics gave, a file or the URL of the page;"
    " or a number of workers. Or the URL of the Prometheus that watches all of them.",
)
@click.option("--fleet-match", default="", metavar="MATCH", help='Of its series, those with job="mx", say.')
@click.option("--json", "wants_json", is_flag=True, help="The same as one JSON value.")
@click.option("--check", "is_check", is_flag=True, help="Exit 1 if the present workers break the law.")
def tune(
    path: Path | None,
    measured_file: TextIO | None,
    live: bool | None,
    over: float | None,
    growth: float,
    what_if: list[int] | None,
    before_service: tuple[str, ...],
    after_service: str | None,
    sources: tuple[str, ...],
    fleet_match: str,
    wants_json: bool,
    is_check: bool,
    before_maxproc: tuple[int, ...],
    **options: Any,
) -> None:
    """Say how many workers the pool should have, and why.

    Figures come from the options, then from the configuration, master.cf, the running pool and this machine;
    each is shown with its source. The pool is the one whose scoreboard is in runtime.directory. Durations are
    written "30s", sizes "45MB". With --check the exit status is 1 when the present number of workers cannot
    guarantee an answer in time to all before-filter processes, or is more than the after-filter service has
    processes for.

    With --fleet it says how many workers on each of several hosts, or how many hosts, so that one of them may
    be missing. Options are then those of the fleet: --rate of all hosts, --before-maxproc of all MX hosts,
    --queue-wait of the load balancer; --workers, --after-maxproc, --memory and --cores of each host.
    Prometheus is asked for the last day, or --over. With --check the exit status is 1 when the hosts would
    not do while one is missing.
    """
    options["before_maxproc"] = sum(before_maxproc) or None
    if sources:
        alone = {"measured": measured_file, "live": live, "what_if": what_if, "config": path,
                 "before_service": before_service, "after_service": after_service,
                 "backlog": options["backlog"], "somaxconn": options["somaxconn"]}  # fmt: skip
        if refused := list(refuse_together(alone)):
            raise click.UsageError(f"--fleet goes without {', '.join(refused)}")
        tune_fleet(sources, fleet_match, over, growth, wants_json, is_check, options)
    # Imported here: no other command needs any of it.
    from bqfilter.saturation.advice import Place, Services
    from bqfilter.saturation.neighbours import postfix_layer
    from bqfilter.saturation.sizing import MOST_ERLANGS, Source, gather, measured_layer

    if measured_file and (live or over):
        raise click.UsageError("--measured takes the place of a running pool: without --live and --over")
    settings = _settings(path)
    measured = _read_measured(measured_file) if measured_file else None
    pool = None if measured or live is False else _look_at_pool(settings, live, over)
    if pool and pool.is_enough:
        measured = pool.measured
    neighbours = _neighbours(settings)
    layers: dict[Source, Mapping[str, Any]] = {
        Source.OPTION: options,
        Source.CONFIGURATION: {**_configured(settings), **_running(pool)},
        Source.POSTFIX: postfix_layer(neighbours),
        Source.MEASURED: measured_layer(measured, growth) if measured else {},
        Source.MACHINE: _machine(),
    }
    figures = gather(layers)
    if figures.patience <= 0:
        raise click.UsageError("--queue-wait leaves nothing of --proxy-timeout: nobody would be answered")
    if figures.load and figures.load.erlangs > MOST_ERLANGS:
        raise click.UsageError(
            f"{figures.load.erlangs:.0f} sessions at a time: is a figure in the wrong unit?"
        )
    if is_check and figures.workers is None:
        raise click.UsageError("--check needs the present number of workers: --workers or --config")
    services = Services(
        tuple(map(Place, before_service)) or _before_services(neighbours),
        Place(after_service) if after_service else _after_service(settings, neighbours),
    )
    page = _page(figures, measured, pool, services, what_if)
    _show(page, wants_json)
    raise click.exceptions.Exit(1 if is_check and page.breaches else 0)


def _settings(path: Path | None) -> Settings | None:
    """What a configuration says: the given one, or the usual one if this user may read it."""
    if path is None and not os.access(DEFAULT_PATH, os.R_OK):
        return None
    with configuration_errors():
        return load(path or DEFAULT_PATH)


def _look_at_pool(settings: Settings | None, live: bool | None, over: float | None) -> Live | None:
    """The pool that runs with this configuration; that there is none is an error only where one is wanted."""
    from bqfilter.saturation.live import look

    found = None
    try:
        found = look(settings.runtime.directory, over or 0.0) if settings else None
    except (OSError, ValueError) as error:
        click.echo(f"bqfilterd: the running pool cannot be looked at: {error}", err=True)
    if found is None and (live or over):
        raise click.ClickException("no pool to look at: it is found by the configuration, see --config")
    return found


def _neighbours(settings: Settings | None) -> Sequence[Neighbour]:
    """The Postfix services around this configuration; none where Postfix cannot be asked."""
    from bqfilter.saturation.neighbours import Survey

    if settings is None:
        return ()
    survey = Survey(settings)
    survey.look()
    return survey.neighbours


def _running(pool: Live | None) -> dict[str, Any]:
    """What is in force where a pool runs, whatever has been written into its file since."""
    return {"workers": pool.workers} if pool else {}


def _configured(settings: Settings | None) -> dict[str, Any]:
    if settings is None:
        return {}
    return {
        "workers": settings.pool.workers,
        "session": settings.budget.session,
        "proxy_timeout": settings.budget.proxy_timeout,
        "backlog": min(listen.backlog for listen in settings.listen),
    }


def _machine() -> dict[str, Any]:
    try:
        somaxconn = int(_SOMAXCONN.read_text(encoding="ascii"))
    except (OSError, ValueError):
        somaxconn = None
    return {"cores": len(os.sched_getaffinity(0)), "somaxconn": somaxconn}


def _before_services(neighbours: Sequence[Neighbour]) -> tuple[Place, ...]:
    """Those that connect to us, or the one that there is in every master.cf."""
    from bqfilter.saturation.advice import Place

    found = (Place(one.service, one.directory) for one in neighbours if one.role == "before")
    return tuple(found) or (Place("smtp/inet"),)


def _after_service(settings: Settings | None, neighbours: Sequence[Neighbour]) -> Place:
    """The after-filter service that there is, or as master.cf most likely names it."""
    from bqfilter.saturation.advice import Place

    for one in neighbours:
        if one.role == "after":
            return Place(one.service, one.directory)
    endpoint = settings.upstream.endpoints[0] if settings else None
    if endpoint is None or endpoint.scheme != "inet":
        return Place("127.0.0.1:10026/inet")
    return Place(f"{str(endpoint).removeprefix('inet:')}/inet")


def _read_measured(file: TextIO) -> Measured:
    from bqfilter.saturation.sizing import Measured

    try:
        return Measured.parse(json.load(file))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--measured") from error


def _page(
    figures: Figures,
    measured: Measured | None,
    pool: Live | None,
    services: Services,
    what_if: list[int] | None,
) -> Page:
    from bqfilter.saturation.comparison import compare
    from bqfilter.saturation.sizing import breaches, outlook, propose, telling_counts
    from bqfilter.saturation.tune_report import Page

    plan = propose(figures)
    running = replace(figures, workers=pool.workers) if pool else figures
    return Page(
        plan=plan,
        outlooks=[outlook(plan.adopted, count) for count in what_if or telling_counts(plan)],
        services=services,
        breaches=breaches(figures) if figures.workers is not None else None,
        measured=measured,
        comparison=compare(measured, running) if measured else None,
        live=pool,
    )


def _show(page: Page, wants_json: bool) -> None:
    from bqfilter.saturation.tune_report import as_json, lines

    if wants_json:
        click.echo(json.dumps(as_json(page), indent=2))
    else:
        click.echo("\n".join(lines(page)).rstrip())
