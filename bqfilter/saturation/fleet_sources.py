"""Where the figures of a fleet come from: what its hosts gave, or the Prometheus that watches them.

A host's page of metrics, what its `bqfilterd status --json` and `tune --json` wrote, and what Prometheus has
recorded all end as the same `Host`. What a source does not say is not known; that it is something else
altogether is a ValueError, with a sentence for the postmaster. Every byte may come from somebody else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from bqfilter.saturation.fleet import Host
from bqfilter.saturation.live import FEWEST_SESSIONS
from bqfilter.saturation.metrics import PREFIX
from bqfilter.saturation.prometheus import Prometheus
from bqfilter.saturation.sizing import Measured, Source

# More than this is no number of workers, of a host or of anything.
_MOST = 100_000

# Seconds of a session; what is beyond was not measured.
_SHORTEST, _LONGEST = 1e-6, 1e6

_NEITHER = "neither a page of bqfilterd's metrics nor JSON of bqfilterd status or tune"

# How long a peak has to last to count.
_PEAK = "5m"
_STEP = "1m"


@dataclass(frozen=True, slots=True)
class _Series:
    """A metric, without its prefix, and the labels that are meant; several samples become one by `fold`."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    fold: str = "sum"

    def selector(self, match: str) -> str:
        """In Prometheus's language."""
        labels = [f'{name}="{value}"' for name, value in self.labels]
        return f"{PREFIX}{self.name}{{{','.join([*labels, *([match] if match else [])])}}}"


# What grows; over a time, or since the start.
_COUNTERS = {
    "accepted": _Series("connections_accepted_total"),
    "probes": _Series("connections_probes_total"),
    "queued": _Series("connections_queued_total"),
    "sessions": _Series("session_duration_seconds_count"),
    "busy": _Series("session_duration_seconds_sum"),
    "squares": _Series("session_duration_squares_total"),
    "upload": _Series("session_phase_seconds_sum", (("phase", "data"),)),
    "waits": _Series("listen_queue_wait_seconds_count"),
    "waited": _Series("listen_queue_wait_seconds_sum"),
}

# What is so at the moment.
_GAUGES = {
    "workers": _Series("workers_limit"),
    "session": _Series("session_deadline_seconds", fold="max"),
    "proxy_timeout": _Series("session_budget_seconds", fold="min"),
    "speed_adjust": _Series("postfix_speed_adjust", fold="min"),
    "before_maxproc": _Series("postfix_process_limit", (("role", "before"),)),
    "after_maxproc": _Series("postfix_process_limit", (("role", "after"),)),
    "worker_memory": _Series("worker_memory_bytes", (("stat", "max"),), "max"),
}

_FOLDS: Mapping[str, Callable[[Iterable[float]], float]] = {"sum": math.fsum, "max": max, "min": min}

SERIES = tuple(PREFIX + one.name for one in (*_COUNTERS.values(), *_GAUGES.values()))


def host_from_text(name: str, text: str) -> Host:
    """From a page of metrics, or from JSON of `bqfilterd status` or `tune`."""
    if not text.lstrip().startswith("{"):
        return _checked(_from_page(name, text))
    try:
        return _checked(_from_json(name, json.loads(text)))
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def hosts_from_prometheus(
    prometheus: Prometheus, seconds: float, match: str
) -> tuple[list[Host], float | None]:
    """All hosts that it watches, by `instance`, and the highest rate that all together had in that time.

    `match` has further matchers of labels, or nothing.
    """
    window = f"{max(1, round(seconds))}s"
    found: dict[str, dict[str, float]] = {}
    for name, series in _GAUGES.items():
        query = f"{series.fold} by (instance) ({series.selector(match)})"
        _collect(found, name, prometheus.query(query))
    for name, series in _COUNTERS.items():
        query = f"{series.fold} by (instance) (rate({series.selector(match)}[{window}]))"
        _collect(found, name, prometheus.query(query))
    hosts = [
        _checked(_host(name, values, seconds))
        for name, values in sorted(found.items())
        if "workers" in values
    ]
    if not hosts:
        raise ValueError("it knows no bqfilterd: is there a scrape job, and is the match right?")
    return hosts, _peak(prometheus, window, match)


def _checked(host: Host) -> Host:
    """Nothing that cannot be: of such figures, one in the wrong unit is the likeliest cause."""
    found = host.measured
    for value, least, most in (
        (found.rate, 0.0, float(_MOST)),
        (found.service_time, _SHORTEST, _LONGEST),
        (found.service_cv2, 0.0, _LONGEST),
        (found.upload_time, 0.0, _LONGEST),
        (host.session or None, _SHORTEST, _LONGEST),
        (host.proxy_timeout, _SHORTEST, _LONGEST),
        (host.before_maxproc, 1, _MOST),
        (host.after_maxproc, 1, _MOST),
    ):
        if value is not None and not least <= value <= most:
            raise ValueError(f"{value:g} cannot be: is a figure in the wrong unit?")
    return host


def _collect(
    found: dict[str, dict[str, float]], name: str, elements: Iterable[tuple[Mapping[str, str], float]]
) -> None:
    for labels, value in elements:
        found.setdefault(_shown(labels.get("instance", "")), {})[name] = value


def _peak(prometheus: Prometheus, window: str, match: str) -> float | None:
    accepted, probes = (
        f"sum(rate({_COUNTERS[name].selector(match)}[{_PEAK}]))" for name in ("accepted", "probes")
    )
    query = f"max_over_time(({accepted} - ({probes} or vector(0)))[{window}:{_STEP}])"
    values = [value for _, value in prometheus.query(query) if value > 0]
    return max(values, default=None)


def _from_page(name: str, text: str) -> Host:
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith(PREFIX) and math.isfinite(sample.value):
                    samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    except (ValueError, IndexError):
        raise ValueError(_NEITHER) from None
    found: dict[str, float] = {}
    for quantity, series in (_COUNTERS | _GAUGES).items():
        values = [
            value
            for labels, value in samples.get(PREFIX + series.name, ())
            if set(series.labels) <= set(labels.items())
        ]
        if values:
            found[quantity] = _FOLDS[series.fold](values)
    if "workers" not in found:
        raise ValueError(_NEITHER)
    age = _age_of(samples)
    counted = {key: found[key] / age for key in _COUNTERS if age and key in found}
    return _host(name, found | counted, age)


def _age_of(samples: Mapping[str, list[tuple[Mapping[str, str], float]]]) -> float | None:
    """From the start to the last turn of the master's loop, which was within a second of the scrape."""
    ends = [
        [value for _, value in samples.get(PREFIX + name, ())]
        for name in ("start_time_seconds", "master_heartbeat_timestamp_seconds")
    ]
    age = ends[1][0] - ends[0][0] if all(ends) else 0.0
    return age if age > 0 else None


def _host(name: str, found: Mapping[str, float], window: float | None) -> Host:
    """From gauges as they are and counters by the second, over `window` seconds; None: there are none."""
    adjusted = found.get("speed_adjust")
    return Host(
        name=_shown(name),
        workers=_workers(found["workers"]),
        measured=_measured(found, window) if window and "accepted" in found else Measured(),
        session=found.get("session", 0.0),
        proxy_timeout=found.get("proxy_timeout") or None,
        speed_adjust=None if adjusted is None else adjusted > 0,
        before_maxproc=_whole(found, "before_maxproc"),
        after_maxproc=_whole(found, "after_maxproc"),
    )


def _measured(found: Mapping[str, float], window: float) -> Measured:
    sessions = found.get("sessions", 0.0)
    if sessions * window < FEWEST_SESSIONS:
        return Measured(sessions=round(sessions * window), window=window)
    mean = found["busy"] / sessions if found.get("busy") else None
    squares = found.get("squares")
    return Measured(
        rate=max(0.0, found["accepted"] - found.get("probes", 0.0)),
        service_time=mean,
        service_cv2=None if mean is None or squares is None else max(0.0, squares / sessions / mean**2 - 1),
        p_wait=_ratio(found, "queued", "accepted"),
        mean_wait=_ratio(found, "waited", "waits"),
        upload_time=_ratio(found, "upload", "sessions"),
        worker_memory=_whole(found, "worker_memory"),
        sessions=round(sessions * window),
        window=window,
    )


def _ratio(found: Mapping[str, float], part: str, whole: str) -> float | None:
    return found[part] / found[whole] if part in found and found.get(whole) else None


def _whole(found: Mapping[str, float], name: str) -> int | None:
    return int(found[name]) or None if name in found else None


def _workers(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= _MOST:
        raise ValueError(f"{value!r} is no number of workers")
    return int(value)


def _shown(name: str) -> str:
    """As it may be printed."""
    return "".join(one if one.isprintable() else "?" for one in name) or "?"


def _from_json(name: str, value: Any) -> Host:
    measured = _parsed(value.get("measured"))
    if isinstance(value.get("pool"), dict):
        pool = value["pool"]
        return Host(
            name=_shown(name),
            workers=_workers(pool.get("workers")),
            measured=measured,
            session=_amount(pool.get("session_limit")),
            proxy_timeout=_amount(pool.get("proxy_timeout")) or None,
        )
    if isinstance(value.get("figures"), dict):
        return _from_tune(name, value["figures"], measured)
    raise ValueError("JSON, but not that of bqfilterd status or tune")


def _from_tune(name: str, figures: Mapping[str, Any], measured: Measured) -> Host:
    """What options gave to `tune` is as good as what was measured, where nothing was."""

    def figure(key: str) -> Any:
        found = figures.get(key)
        return found.get("value") if isinstance(found, dict) else None

    if measured.rate is None:
        keys = ("rate", "service_time", "service_cv2", "upload_time", "worker_memory")
        measured = _parsed({key: figure(key) for key in keys})
    adjusted = figure("speed_adjust")
    return Host(
        name=_shown(name),
        workers=_workers(figure("workers")),
        measured=measured,
        session=_amount(figure("session")),
        proxy_timeout=_amount(figure("proxy_timeout")) or None,
        speed_adjust=adjusted if isinstance(adjusted, bool) else None,
        before_maxproc=_count(figures, "before_maxproc"),
        after_maxproc=_count(figures, "after_maxproc"),
    )


def _parsed(found: object) -> Measured:
    measured = Measured() if found is None else Measured.parse(found)
    too_few = measured.sessions is not None and measured.sessions < FEWEST_SESSIONS
    return Measured(sessions=measured.sessions, window=measured.window) if too_few else measured


def _amount(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is no time in seconds")
    return float(value)


def _count(figures: Mapping[str, Any], key: str) -> int | None:
    """A limit of Postfix that was found, and not taken for granted."""
    found = figures.get(key)
    if not isinstance(found, dict) or found.get("source") == Source.DEFAULT.value:
        return None
    value = found.get("value")
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST else None
