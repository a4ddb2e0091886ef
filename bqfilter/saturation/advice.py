"""Advice: a sizing plan in words, and the commands that carry it out.

Every sentence says what is wrong or possible, with the numbers, and what to do. Which sentences there are is
decided here; what is true was decided in `sizing`. How a page is laid out is the business of `tune_report`.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from bqfilter.config.units import format_duration
from bqfilter.saturation import law
from bqfilter.saturation.comparison import Comparison, Verdict
from bqfilter.saturation.live import Live
from bqfilter.saturation.queueing import MOST_UTILISATION, Load
from bqfilter.saturation.report import duration
from bqfilter.saturation.sizing import (
    COMFORTABLE_SESSION,
    MOST_CPU,
    MOST_WORKERS,
    Breach,
    Choice,
    Figures,
    Measured,
    Plan,
    propose,
    session_choices,
)

# Of sessions per slot: the workers that did the rest were hardly needed.
_NEARLY_ALL = 0.99

# Waits shorter than this are none: it takes as long to fetch a connection from the queue.
_INSTANT = 0.0005

# So many offers of a shorter session are enough.
_OFFERS = 4

# A session limit that cuts off less than this share goes unmentioned.
_WORTH_SAYING = 0.0005


@dataclass(frozen=True, slots=True)
class Place:
    """A service of master.cf as postconf -M names it: "smtp/inet"; no `directory`: the default instance."""

    service: str
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Services:
    """Those on both sides of us."""

    before: Sequence[Place] = (Place("smtp/inet"),)
    after: Place = Place("127.0.0.1:10026/inet")


def seconds(value: float) -> str:
    """As people say it: "4.2s", "0.047s", "95s"."""
    if not math.isfinite(value):
        return "without end"
    if value < _INSTANT:
        return "0s"
    return f"{number(value)}s" if value >= 10 else f"{float(f'{value:.2g}'):g}s"


def probability(value: float) -> str:
    """Two digits that count; what cannot be told from nothing is 0."""
    return "0" if value < 1e-5 else f"{float(f'{value:.2g}'):g}"


def size(value: float) -> str:
    """In decimal units, as memory is sold and as `free --si` shows it: "2.5GB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{float(f'{value / factor:.3g}'):g}{unit}"
    return f"{value:.0f}B"


def number(value: float) -> str:
    """Three digits that count, without trailing noughts; a large number has all its digits."""
    return f"{value:.0f}" if value >= 1000 else f"{float(f'{value:.3g}'):g}"


def _below(value: float) -> float:
    """Down to two digits, so that what is printed is still allowed."""
    if not value:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.floor(value / step + 1e-9) * step


def remedies(plan: Plan) -> list[str]:
    """Everything there is to say about a plan, what stops mail first."""
    figures, choice = plan.figures, plan.choice
    return [
        *_about_load(plan),
        *_about_cpu(figures),
        *_about_room(plan),
        *_about_session(plan),
        *_about_upload(figures, choice),
        *_about_neighbours(plan),
        *_about_present(plan),
    ]


def _about_load(plan: Plan) -> Iterator[str]:
    load, workers = plan.figures.load, plan.choice.workers
    if load is None:
        yield (
            "How often a session waits is not known without the rate and the service time: give --rate and"
            " --service-time. The law alone makes no wait too long, but does not say how many there are."
        )
    elif not workers or plan.figures.comfort.is_met(load, workers):
        return
    elif load.erlangs >= workers:
        yield _unstable(plan.figures, load, workers)
    elif workers < plan.figures.before_maxproc:
        yield f"More will wait than you want to. {_lighter(plan.figures, load, workers)}"


def _unstable(figures: Figures, load: Load, workers: int) -> str:
    text = (
        f"Unstable: {number(load.erlangs)} sessions at a time are asked of {workers} workers, and at this"
        " rate the queue grows until clients are turned away."
    )
    if not figures.speed_adjust:
        # One smtpd a worker: what is too much never gets as far as the pool.
        text += (
            " With maxproc equal to the workers, that queue is at port 25, where clients come again later."
        )
    return f"{text} {_lighter(figures, load, workers)}"


def _lighter(figures: Figures, load: Load, workers: int) -> str:
    comfort = figures.comfort
    rate = comfort.highest_rate(load, workers)
    longest = comfort.longest_service_time(load, workers)
    return (
        f"{workers} workers give P(wait > {seconds(comfort.wait)}) <= {probability(comfort.share)} with at"
        f" most {number(_below(rate))} messages/s on this machine (now {number(load.rate)}), or with sessions"
        f" of at most {seconds(_below(longest))} (now {seconds(load.service_time)}): send less here, or make"
        " the checks faster."
    )


def _about_cpu(figures: Figures) -> Iterator[str]:
    used = figures.cpu_utilisation
    if used is None or used <= MOST_CPU or figures.cores is None or figures.rate is None:
        return
    yield (
        f"The processors are the bottleneck: messages take {used:.0%} of {figures.cores} cores, and more than"
        f" {MOST_CPU:.0%} makes them wait for each other. More workers only lengthen every session; it takes"
        f" {math.ceil(used * figures.cores / MOST_CPU)} cores, or at most"
        f" {number(_below(figures.rate * MOST_CPU / used))} messages/s."
    )


def _about_room(plan: Plan) -> Iterator[str]:
    figures, limit, wanted = plan.figures, plan.figures.memory_limit, plan.wanted
    if limit is None or wanted <= limit:
        if wanted > MOST_WORKERS:
            yield f"{wanted} workers are needed, and pool.workers takes {MOST_WORKERS}: use several machines."
        return
    needed, present = figures.need_memory(wanted) or 0, figures.memory or 0
    yield (
        f"Memory is too small: {wanted} workers take {size(needed)}, and there are {size(present)},"
        f" enough for {limit}."
    )
    if limit:
        yield from _ways_to_fit(plan, limit)


def _ways_to_fit(plan: Plan, limit: int) -> Iterator[str]:
    """What to do when the law asks for more workers than fit; a lack of comfort is spoken of elsewhere."""
    figures = plan.figures
    if figures.law_workers <= limit:
        return
    session = figures.session if figures.speed_adjust else 0
    most = law.most_processes(limit, figures.patience, session)
    lower = f"maxproc of the before-filter service to at most {most}"
    if not figures.speed_adjust:
        yield f"Set {lower}, as many as there are workers; further clients wait at port 25."
    elif plan.choice.before_maxproc < figures.before_maxproc:
        yield f"Set {lower}."
    else:
        yield f"Set budget.session to {format_duration(plan.choice.session)}, or {lower}."


def _about_session(plan: Plan) -> Iterator[str]:
    figures, choice = plan.figures, plan.choice
    if figures.session > figures.patience:
        yield (
            f"A session limit of {format_duration(figures.session)} is longer than smtpd_proxy_timeout"
            f" ({format_duration(figures.proxy_timeout)}){_in_front(figures)}: whoever waits behind one"
            " session may already be too late, so it counts as none, and every before-filter process needs a"
            " worker of its own."
        )
    if figures.speed_adjust and not 0 < figures.session <= figures.patience:
        yield from _offer_sessions(figures)
    cut_off = figures.cut_off(choice.session)
    if cut_off is not None and cut_off > _WORTH_SAYING:
        yield (
            f"A session limit of {format_duration(choice.session)} cuts off about {cut_off:.1%} of the"
            " sessions, if their times are lognormal. Those messages are deferred and come again: have"
            " scanners give up earlier than that."
        )


def _in_front(figures: Figures) -> str:
    """What is missing of the time that Postfix waits."""
    return f" less {format_duration(figures.queue_wait)} in front of us" if figures.queue_wait else ""


def _offer_sessions(figures: Figures) -> Iterator[str]:
    choices = islice(session_choices(figures), _OFFERS)
    offers = [f"{format_duration(one.session)} ({one.workers} workers)" for one in choices]
    if offers:
        yield f"With a session limit fewer workers do: budget.session = {', '.join(offers)}."


def _about_upload(figures: Figures, choice: Choice) -> Iterator[str]:
    if figures.speed_adjust:
        return
    session = figures.session or min(COMFORTABLE_SESSION, figures.patience)
    other = propose(replace(figures, speed_adjust=True, session=session)).choice
    if other.workers < choice.workers or (other.is_enough and not choice.is_enough):
        yield (
            "Without speed_adjust every before-filter process that receives a message holds a worker at the"
            f" pace of its client{_upload_share(figures.load, figures)}. Turned on, and with budget.session"
            f" = {format_duration(other.session)}, {other.workers} workers do."
        )
    if figures.session:
        yield (
            f"Without speed_adjust a session limit of {format_duration(figures.session)} cuts off every"
            " client that takes longer to send its message, each time it comes again: set it to 0s."
        )


def _upload_share(load: Load | None, figures: Figures) -> str:
    if load is None or not figures.upload_time:
        return ""
    return f" ({figures.upload_time / load.service_time:.0%} of the session)"


def _about_neighbours(plan: Plan) -> Iterator[str]:
    figures, choice = plan.figures, plan.choice
    if plan.after_maxproc > figures.after_maxproc:
        yield (
            f"The after-filter service would starve {choice.workers - figures.after_maxproc} workers: each"
            f" holds one of its processes, and maxproc is {figures.after_maxproc}. Postfix does not log that."
            f" Set {plan.after_maxproc}, and more if others use the service as well."
        )
    if plan.backlog > figures.backlog:
        yield (
            f"A backlog of {figures.backlog} is less than the {choice.before_maxproc} connections that may"
            f" come at once: on a unix socket the rest gets 451 at once. Set {plan.backlog}."
        )
    if figures.somaxconn is not None and figures.somaxconn < plan.backlog:
        yield f"The kernel cuts a backlog of {plan.backlog} to net.core.somaxconn, {figures.somaxconn}."


def _about_present(plan: Plan) -> Iterator[str]:
    figures, present = plan.figures, plan.figures.workers
    if present is None:
        return
    if present > figures.before_maxproc:
        clients = figures.before_maxproc
        yield f"{present - clients} of {present} workers can never be used: there are {clients} clients."
    if figures.load and present < plan.choice.workers:
        outcome = probability(figures.load.p_wait(present))
        yield f"With the present {present} workers the model has P(wait) = {outcome}."


def breach_text(breach: Breach, figures: Figures) -> str:
    """What is wrong with a running set-up, and what mends it."""
    workers = figures.workers or 0
    if breach is Breach.STARVED:
        return (
            f"after-filter maxproc {figures.after_maxproc} is less than {workers} workers: set it to"
            f" {workers} or more, or pool.workers to {figures.after_maxproc}"
        )
    fits = law.most_processes(workers, figures.patience, figures.session)
    longest = law.longest_session(figures.before_maxproc, workers, figures.patience)
    needed = law.workers_needed(figures.before_maxproc, figures.patience, figures.session)
    return (
        f"the law is broken: {figures.before_maxproc} before-filter processes on {workers} workers,"
        f" {_stay(figures, workers)}, and smtpd_proxy_timeout is {format_duration(figures.proxy_timeout)}"
        f"{_in_front(figures)}:"
        f" set pool.workers to {needed}, or maxproc to at most {fits},"
        f" or budget.session to at most {format_duration(math.floor(longest * 1000) / 1000)}"
    )


def _stay(figures: Figures, workers: int) -> str:
    if not figures.session:
        return "and no limit to a session"
    count = law.turns(figures.before_maxproc, workers)
    stay = format_duration(law.longest_stay(figures.before_maxproc, workers, figures.session))
    return f"so {count} sessions of up to {format_duration(figures.session)} one after the other, {stay}"


def live_text(live: Live) -> str:
    """Where the figures of a running pool come from, and how far to trust them."""
    found = live.measured
    since = "since it was started" if live.is_whole else "while we looked"
    changed = ", under settings that have changed" if live.has_changed else ""
    text = (
        f"{found.sessions} sessions in {duration(found.window)}, {since}{changed}, on {live.workers} workers."
    )
    if not live.is_enough:
        return f"{text} Too few to compute with: nothing above is taken from them."
    if live.is_whole:
        return f"{text} The rate is the mean of that time; for the busiest minutes look with --over then."
    return text


def comparison_text(comparison: Comparison) -> str:
    """One line on whether the model may be trusted here."""
    found, predicted = probability(comparison.p_wait_measured), probability(comparison.p_wait_predicted)
    compared = (
        f"with {comparison.workers} workers P(wait) {found}, model {predicted}{_mean_waits(comparison)}"
    )
    match comparison.verdict:
        case Verdict.AGREES:
            return f"Measurement and model agree: {compared}."
        case Verdict.TOO_LITTLE:
            return f"Too little was measured to tell whether the model is right: {compared}."
        case Verdict.FEWER_WAITS:
            return f"Measurement and model disagree: {compared}. Fewer wait: the model is on the safe side."
        case Verdict.MORE_WAITS:
            return f"Measurement and model disagree: {compared}. {_why_more(comparison)}"


def _mean_waits(comparison: Comparison) -> str:
    if comparison.mean_wait_measured is None:
        return ""
    predicted = comparison.mean_wait_predicted
    model = "without end" if predicted is None else seconds(predicted)
    return f"; mean wait {seconds(comparison.mean_wait_measured)}, model {model}"


def _why_more(comparison: Comparison) -> str:
    if comparison.bursts is None:
        return "Bursts alone do not explain it: was the rate steady, and were all workers there?"
    return (
        f"Mail comes in bursts, or the rate was not steady: with --arrival-cv2 {number(comparison.bursts)}"
        " the model agrees; size with that."
    )


def usage_texts(measured: Measured, workers: int | None) -> Iterator[str]:
    """What a live pool shows of how many workers it used."""
    if measured.busy_peak is not None:
        yield f"Busy at once: {measured.busy_peak}{f' of {workers}' if workers else ''} at the most."
    sessions = sorted(measured.slot_sessions or (), reverse=True)
    if sum(sessions):
        yield f"{_busiest(sessions)} of {len(sessions)} workers had {_NEARLY_ALL:.0%} of the sessions."


def _busiest(sessions: list[int]) -> int:
    """How many of the workers, the busiest first, had nearly all sessions."""
    needed = _NEARLY_ALL * sum(sessions)
    for count in range(1, len(sessions)):
        if sum(sessions[:count]) >= needed:
            return count
    return len(sessions)


def settings(plan: Plan) -> list[str]:
    """What belongs into bqfilterd.toml."""
    choice = plan.choice
    return [
        "[[listen]]",
        f"backlog = {plan.backlog}",
        "[pool]",
        f"workers = {choice.workers}",
        "[budget]",
        f'proxy_timeout = "{format_duration(plan.figures.proxy_timeout)}"',
        f'session = "{format_duration(choice.session)}"',
    ]


def commands(plan: Plan, services: Services) -> list[str]:
    """What makes Postfix and the kernel fit."""
    figures = plan.figures
    lines = []
    for service in services.before:
        if figures.speed_adjust:
            lines.append(_postconf("-P", service, "smtpd_proxy_options=speed_adjust"))
        # Postfix knows whole seconds only, and ours must not be the longer one.
        timeout = f"smtpd_proxy_timeout={math.ceil(figures.proxy_timeout)}s"
        lines.append(_postconf("-P", service, timeout))
    if len(services.before) == 1:
        limit = f"process_limit={plan.choice.before_maxproc}"
        lines.append(_postconf("-F", services.before[0], limit))
    else:
        lines.append(f"# process_limit of these services: {plan.choice.before_maxproc} all together")
    lines.append(_postconf("-F", services.after, f"process_limit={plan.after_maxproc}"))
    lines.append("postfix reload")
    if figures.somaxconn is not None and figures.somaxconn < plan.backlog:
        lines.append(f"sysctl -w net.core.somaxconn={plan.backlog}")
    return lines


def _postconf(flag: str, place: Place, assignment: str) -> str:
    instance = f"-c {shlex.quote(place.directory)} " if place.directory else ""
    return f"postconf {instance}{flag} {shlex.quote(f'{place.service}/{assignment}')}"


def comfort_text(figures: Figures) -> str:
    """What the comfort constraint asks for."""
    return (
        f"P(wait > {seconds(figures.wait_target)}) <= {probability(figures.wait_probability)}, at most"
        f" {MOST_UTILISATION:.0%} busy"
    )
