"""The page that `bqfilterd tune --fleet` prints, as lines of text or as one JSON value.

Both say the same. In JSON, seconds are plain numbers, null is "not known" or "without end", and names are
those of `fleet` and `sizing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from bqfilter.config.units import format_duration
from bqfilter.saturation import law
from bqfilter.saturation.advice import number, probability, seconds
from bqfilter.saturation.fleet import Balance, Breach, FleetPlan, Host, Prospect, left, offers, spread
from bqfilter.saturation.layout import columns, plain, section, wrapped
from bqfilter.saturation.sizing import MOST_WORKERS, Figures, Source
from bqfilter.saturation.tune_report import (
    cell,
    constraint_json,
    constraint_rows,
    figure_rows,
    figures_json,
    wait_cells,
)

# Of all figures, those that a fleet has.
_FIGURES = (
    "rate", "service_time", "service_cv2", "arrival_cv2", "upload_time", "speed_adjust", "before_maxproc",
    "session", "proxy_timeout", "worker_memory", "memory", "base_memory", "cpu_per_message", "cores",
    "wait_target", "wait_probability",
)  # fmt: skip

# So many offers of a shorter session are enough.
_OFFERS = 3

_BALANCES = (
    "One queue: balance leastconn, and maxconn of each server its workers, so that who has to wait waits in"
    " front of all hosts. At random: each host has a queue of its own, as behind a balancer without maxconn."
)


def lines(plan: FleetPlan) -> Iterator[str]:
    """The page as text."""
    figures = plan.fleet.figures
    yield from section("Running set-up", _running_rows(plan))
    yield from section("Hosts", _host_rows(plan.fleet.hosts))
    yield from section("Figures", figure_rows(figures, _FIGURES))
    yield from section(_constraints_title(plan), constraint_rows(plan.constraints, figures))
    yield from section("Outlook", [*_prospect_rows(plan), *wrapped([_BALANCES])])
    yield from section(*_proposal(plan))
    yield from section("HAProxy, with these workers", _haproxy_rows(plan))
    yield from section("Advice", wrapped(_advice(plan)))


def as_json(plan: FleetPlan) -> dict[str, Any]:
    """The page as a JSON value."""
    figures = plan.fleet.figures
    names = [host.name for host in plan.fleet.hosts]
    value = {
        "hosts": [asdict(host) | {"utilisation": host.utilisation} for host in plan.fleet.hosts],
        "figures": figures_json(figures, _FIGURES),
        "queue_timeout": plan.fleet.queue_timeout,
        "constraints": [constraint_json(one, figures) for one in plan.constraints],
        "outlook": [asdict(one) for one in plan.prospects],
        "proposal": {
            "workers": dict(zip(names, plan.workers, strict=True)) if plan.workers else None,
            "is_enough": plan.is_enough,
            "hosts_needed": plan.hosts_needed,
            "session": plan.session,
            "maxconn": dict(zip(names, plan.maxconn, strict=True)),
            "weights": dict(zip(names, _weights(plan), strict=True)),
            "longest_queue": plan.longest_queue,
        },
        "advice": list(_advice(plan)),
        "breaches": [one.value for one in plan.breaches],
        "starved": plan.starved,
    }
    found: dict[str, Any] = plain(value)
    return found


def _running_rows(plan: FleetPlan) -> list[str]:
    if not plan.breaches:
        return ["- ok: with any one host missing the law holds and the load is carried"]
    return wrapped(f"WRONG: {_breach_text(breach, plan)}" for breach in plan.breaches)


def _breach_text(breach: Breach, plan: FleetPlan) -> str:
    figures, workers = plan.fleet.figures, [host.workers for host in plan.fleet.hosts]
    match breach:
        case Breach.LAW:
            return f"the law is broken with all hosts: {_law_text(figures, sum(workers))}"
        case Breach.ALONE:
            return "there is one host, and nothing is left while it is missing: it takes two"
        case Breach.LAW_ONE_DOWN:
            return f"the law is broken with one host missing: {_law_text(figures, left(workers))}"
        case Breach.COMFORT_ONE_DOWN:
            return f"the load is too much with one host missing: {_load_text(plan)}"
        case Breach.QUEUE_TIMEOUT:
            allowed = format_duration(plan.fleet.queue_timeout or 0.0)
            longest = format_duration(plan.waits_in_front or 0.0)
            return (
                f"the balancer closes connections after {allowed} in its queue, and with one host missing the"
                f" last may wait for {longest} and still be in time: set timeout queue to {longest}"
            )
        case Breach.STARVED:
            names = ", ".join(plan.starved)
            return f"after-filter maxproc is less than the workers on {names}: set it to as many, or more"


def _law_text(figures: Figures, workers: int) -> str:
    stay = "and no limit to a session"
    if figures.session:
        turns = law.turns(figures.before_maxproc, workers)
        stay = (
            f"so {turns} sessions of up to {format_duration(figures.session)} one after the other,"
            f" {seconds(turns * figures.session)}"
        )
    return (
        f"{figures.before_maxproc} before-filter processes on {workers} workers, {stay}, and"
        f" smtpd_proxy_timeout is {format_duration(figures.proxy_timeout)}; it takes {figures.law_workers}"
        " workers"
    )


def _load_text(plan: FleetPlan) -> str:
    one = next(one for one in plan.prospects if one.missing and one.balance is Balance.ONE_QUEUE)
    target = seconds(plan.fleet.figures.wait_target)
    return (
        f"without {one.missing}, {one.workers} workers are {one.utilisation or 0.0:.0%} busy, and"
        f" P(wait > {target}) is {probability(one.p_wait_beyond_target or 0.0)}"
    )


def _host_rows(hosts: Sequence[Host]) -> list[str]:
    rates = [host.measured.rate for host in hosts]
    whole = sum(rate for rate in rates if rate is not None)
    head = ("host", "workers", "rate", "share", "session", "cv2", "busy", "P(wait)", "limit")
    rows = [head, *(_host_cells(host, whole) for host in hosts)]
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    names = columns([(name,) for name in kept[0]])
    table = columns(list(zip(*kept[1:], strict=True)), right=True)
    width = max(map(len, names))
    return [f"{name:{width}}  {row}" for name, row in zip(names, table, strict=True)]


def _host_cells(host: Host, whole: float) -> tuple[str, ...]:
    found = host.measured
    return (
        host.name,
        str(host.workers),
        cell(found.rate, lambda value: f"{number(value)}/s"),
        cell(found.rate if whole else None, lambda value: f"{value / whole:.0%}"),
        cell(found.service_time, lambda value: f"{number(value)}s"),
        cell(found.service_cv2, number),
        cell(host.utilisation, lambda value: f"{value:.2f}"),
        cell(found.p_wait, probability),
        cell(host.session, lambda value: format_duration(value) if value else "none"),
    )


def _constraints_title(plan: FleetPlan) -> str:
    workers = [host.workers for host in plan.fleet.hosts]
    if len(workers) < 2:
        return "Constraints, on the workers of all other hosts while one is missing: there is no other"
    return f"Constraints, while one host is missing: {left(workers)} of {sum(workers)} workers are left"


def _prospect_rows(plan: FleetPlan) -> list[str]:
    target = f"P(>{seconds(plan.fleet.figures.wait_target)})"
    head = ("hosts", "balance", "workers", "busy", "P(wait)", "mean wait", target, "P(>5s)", "at most", "law")
    rows = [head, *(_prospect_cells(one) for one in plan.prospects)]
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    words = columns(list(zip(*kept[:2], strict=True)))
    width = max(map(len, words))
    table = columns(list(zip(*kept[2:], strict=True)), right=True)
    return [f"{word:{width}}  {row}" for word, row in zip(words, table, strict=True)]


def _prospect_cells(one: Prospect) -> tuple[str, ...]:
    return (
        f"without {one.missing}" if one.missing else "all",
        one.balance.value,
        str(one.workers),
        *wait_cells(one),
        cell(one.longest_stay, seconds),
        "holds" if one.law_holds else "BROKEN",
    )


def _proposal(plan: FleetPlan) -> tuple[str, list[str]]:
    hosts = plan.fleet.hosts
    rows = [
        ("workers a host", _workers_text(plan)),
        ("or hosts", f"{plan.hosts_needed or 'none'}, each as it is; there are {len(hosts)}"),
        ("or session budget", _session_text(plan)),
    ]
    return "Proposal: any of these, and one host may be missing", columns(rows)


def _workers_text(plan: FleetPlan) -> str:
    now = [host.workers for host in plan.fleet.hosts]
    if plan.workers is None:
        return "none: it takes two hosts"
    text = f"{_list(plan.workers)} (now {_list(now)})"
    return text if plan.is_enough else f"{text}: more than fits into a host"


def _list(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else ", ".join(map(str, counts))


def _session_text(plan: FleetPlan) -> str:
    now = plan.fleet.figures.session
    if plan.session is None:
        return "none: it takes more workers"
    shown = format_duration(plan.session) if plan.session else "no limit"
    return f"{shown}, as it is" if plan.session == now else f"{shown} (now {_limit(now)})"


def _limit(session: float) -> str:
    return format_duration(session) if session else "no limit"


def _weights(plan: FleetPlan) -> list[int]:
    """In proportion to what is let through to each."""
    most = max(plan.maxconn)
    return [max(1, round(100 * count / most)) for count in plan.maxconn]


def _haproxy_rows(plan: FleetPlan) -> list[str]:
    names = [host.name for host in plan.fleet.hosts]
    rows = [
        (f"server {name}", f"maxconn {count} weight {weight}")
        for name, count, weight in zip(names, plan.maxconn, _weights(plan), strict=True)
    ]
    processes = plan.fleet.figures.before_maxproc
    rows.append(("timeout queue", _queue_text(plan)))
    rows.append(("global", f"maxconn {processes} or more"))
    return columns(rows)


def _queue_text(plan: FleetPlan) -> str:
    longest = plan.longest_queue
    if longest is None:
        return "no value is right: without a session limit nobody may wait"
    if not longest:
        return "any: there is a worker for each process, even with one host missing"
    return f"{format_duration(longest)} or more, for the last in the queue while one host is missing"


def _advice(plan: FleetPlan) -> Iterator[str]:
    yield from _about_figures(plan)
    yield from _about_ceiling(plan)
    yield from _about_session(plan)
    yield from _about_spread(plan)


def _about_figures(plan: FleetPlan) -> Iterator[str]:
    figures = plan.fleet.figures
    if figures.load is None:
        yield (
            "How often a session waits is not known without the rate and the session times, and no host has"
            " told enough of them. Give --rate and --service-time, or ask again after a busy hour."
        )
    if figures.sources["before_maxproc"] is Source.DEFAULT:
        yield (
            f"How many processes call is not known, and taken to be {figures.before_maxproc}: give"
            " --before-maxproc once for each MX host."
        )
    few = [host.name for host in plan.fleet.hosts if host.measured.rate is None]
    if figures.load and few and len(few) < len(plan.fleet.hosts):
        yield (
            f"Of {', '.join(few)} the load is not known: sessions are taken to be like those of the others,"
            " and its messages are missing in the rate."
        )


def _about_ceiling(plan: FleetPlan) -> Iterator[str]:
    if plan.workers and not plan.is_enough:
        limit = plan.fleet.figures.memory_limit
        fits = f"there is memory for {limit}" if limit is not None else f"pool.workers takes {MOST_WORKERS}"
        yield f"{max(plan.workers)} workers do not fit into a host, {fits}: it takes more hosts."


def _about_session(plan: FleetPlan) -> Iterator[str]:
    figures = plan.fleet.figures
    if figures.session > figures.proxy_timeout:
        yield (
            f"A session limit of {format_duration(figures.session)} is longer than smtpd_proxy_timeout"
            f" ({format_duration(figures.proxy_timeout)}) and counts as none."
        )
    found = list(offers(plan.fleet, _OFFERS))
    if found and not 0 < figures.session <= figures.proxy_timeout:
        shown = ", ".join(f"{format_duration(session)} ({workers} workers)" for session, workers in found)
        yield f"With a session limit fewer workers a host do: budget.session = {shown}."
    if not figures.speed_adjust:
        yield (
            "Without speed_adjust each before-filter process that receives a message holds a worker at the"
            " pace of its client; if all MX hosts have it, say --speed-adjust."
        )
    cut_off = figures.cut_off(figures.session)
    if cut_off is not None and cut_off > 0.0005:
        limit = format_duration(figures.session)
        yield f"A session limit of {limit} cuts off about {cut_off:.1%} of the sessions."


def _about_spread(plan: FleetPlan) -> Iterator[str]:
    found = spread(plan.fleet.hosts)
    if found:
        busiest, idlest = found
        yield (
            f"The load is not spread as the workers are: {busiest.name} is {busiest.utilisation or 0.0:.0%}"
            f" busy, {idlest.name} {idlest.utilisation or 0.0:.0%}. leastconn, and weights in proportion to"
            " the workers, mend that; or was one of them away for a while?"
        )
