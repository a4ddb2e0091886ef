"""Sizing: from what is known of a site to a number of workers, with the reason for it.

`gather` puts the figures together and remembers where each comes from; `propose` turns them into a `Plan`:
every constraint with its number and whether it binds, and the settings that follow. What cannot be had is not
an error: then the plan says what would fit, and `is_enough` is false. Where figures are missing (None), their
constraints are left out; the law alone needs nothing but master.cf.

Pure: nothing is read or asked here. The words for people are in `advice`, the formulas in `queueing` and
`law`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from statistics import NormalDist
from typing import Any

from bqfilter.config.schema import BudgetSettings, ListenSettings, keys_of
from bqfilter.saturation import law
from bqfilter.saturation.queueing import MOST_UTILISATION, Comfort, Load

# Beyond this, work waits for a processor, and more workers only make every session longer.
MOST_CPU = 0.7

# Shorter sessions cut off scanners that wait for a slow name server; proposed only if nothing else fits.
COMFORTABLE_SESSION = 30.0

# Below this a session limit measures the machine and not the mail.
_SHORTEST_SESSION = 5.0

# A proposed session limit may cut off so many messages, which then come again, and no more.
_MOST_CUT_OFF = 0.05

# Connections that no smtpd makes: health checks, an administrator's telnet.
_SPARE_BACKLOG = 16

# No pool carries so many sessions at a time; a figure in the wrong unit does.
MOST_ERLANGS = 10_000.0

_BUDGET_KEYS = {row.name: row for row in keys_of(BudgetSettings)}
_LISTEN_KEYS = {row.name: row for row in keys_of(ListenSettings)}

# The most that pool.workers takes.
MOST_WORKERS = 500


class Source(Enum):
    """Where a figure comes from; the first in this order that has it gives it."""

    OPTION = "option"
    CONFIGURATION = "configuration"
    POSTFIX = "master.cf"
    MEASURED = "measured"
    MACHINE = "this machine"
    DEFAULT = "default"


# Postfix's own defaults where they are one: default_process_limit, smtpd_proxy_options.
DEFAULTS: Mapping[str, Any] = {
    "service_cv2": 4.0,  # mail is uneven: most messages are small, a few meet a slow scanner
    "arrival_cv2": 1.0,
    "upload_time": 0.0,
    "before_maxproc": 100,
    "after_maxproc": 100,
    "speed_adjust": False,
    "session": _BUDGET_KEYS["session"].default,
    "proxy_timeout": _BUDGET_KEYS["proxy_timeout"].default,
    "base_memory": 100 * 1000**2,
    "backlog": _LISTEN_KEYS["backlog"].default,
    "wait_target": 1.0,
    "wait_probability": 0.01,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a live pool says of itself over `window` seconds; None: not known."""

    rate: float | None = None  # sessions a second
    service_time: float | None = None  # mean seconds for which a session held its worker
    service_cv2: float | None = None
    p_wait: float | None = None  # the share of connections that no idle worker waited for
    mean_wait: float | None = None  # seconds, over all connections
    busy_peak: int | None = None  # the most workers that were busy at once
    slot_sessions: tuple[int, ...] | None = None  # sessions of each worker's slot
    upload_time: float | None = None  # mean seconds of a session in which the client sent content
    worker_memory: int | None = None  # bytes (PSS) of the largest worker
    sessions: int | None = None
    window: float | None = None

    @classmethod
    def parse(cls, found: object) -> Measured:
        """From a JSON object with these names; ValueError where something else stands. Null is not known."""
        names = [one.name for one in fields(cls)]
        if not isinstance(found, dict) or not found.keys() <= set(names):
            raise ValueError(f"an object is wanted, with any of: {', '.join(names)}")
        counts = found.get("slot_sessions")
        numbers = [one for name, one in found.items() if name != "slot_sessions" and one is not None]
        if not all(map(_is_amount, numbers if counts is None else [*numbers, *_items(counts)])):
            raise ValueError("numbers are wanted, none below 0; for slot_sessions, an array of them")
        return cls(**{**found, "slot_sessions": None if counts is None else tuple(counts)})


def _items(found: object) -> list[object]:
    return found if isinstance(found, list) else [found, None]


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that a plan is made from. Seconds, bytes; a `session` of 0 is no limit; None: not known."""

    rate: float | None = None
    service_time: float | None = None  # without the client's upload
    service_cv2: float
    arrival_cv2: float
    upload_time: float
    speed_adjust: bool
    before_maxproc: int
    after_maxproc: int
    session: float
    proxy_timeout: float
    queue_wait: float | None = (
        None  # how long a connection may have waited in front of us, at a load balancer
    )
    workers: int | None = None  # the present number
    worker_memory: int | None = None
    memory: int | None = None
    base_memory: int
    cpu_per_message: float | None = None
    cores: int | None = None
    backlog: int
    somaxconn: int | None = None
    wait_target: float
    wait_probability: float
    sources: Mapping[str, Source]

    @property
    def load(self) -> Load | None:
        """What is asked of the pool, or None where rate or session time are not known."""
        if self.rate is None or self.service_time is None:
            return None
        # Without speed_adjust the client's upload goes through the worker, at the client's pace.
        upload = 0.0 if self.speed_adjust else self.upload_time
        return Load(self.rate, self.service_time + upload, self.service_cv2, self.arrival_cv2)

    @property
    def comfort(self) -> Comfort:
        """What is asked for."""
        return Comfort(self.wait_target, self.wait_probability)

    @property
    def memory_limit(self) -> int | None:
        """How many workers fit into the memory."""
        if self.memory is None or not self.worker_memory:
            return None
        return max(0, (self.memory - self.base_memory) // self.worker_memory)

    @property
    def cpu_utilisation(self) -> float | None:
        """The share of all processors that the messages take."""
        if self.rate is None or self.cpu_per_message is None or not self.cores:
            return None
        return self.rate * self.cpu_per_message / self.cores

    @property
    def patience(self) -> float:
        """What is left of B when a connection comes to us: nothing here can see how long it waited before."""
        return self.proxy_timeout - (self.queue_wait or 0.0)

    @property
    def law_workers(self) -> int:
        """The fewest workers with which nobody is answered too late."""
        # Without speed_adjust no session limit can help: it would cut off every client whose line is slow,
        # each time it tries again. So every smtpd gets a worker of its own.
        if not self.speed_adjust:
            return self.before_maxproc
        return law.workers_needed(self.before_maxproc, self.patience, self.session)

    def need_memory(self, workers: int) -> int | None:
        """What so many workers take, with everything else that is counted."""
        return None if not self.worker_memory else self.base_memory + workers * self.worker_memory

    def cut_off(self, session: float) -> float | None:
        """The share of sessions that such a limit would cut off, if their times are lognormal."""
        if self.load is None or not session or not self.load.service_time:
            return None
        variance = math.log(1 + self.load.service_cv2)
        excess = math.log(session / self.load.service_time) + variance / 2
        if not variance:
            return float(excess < 0)
        return 1 - NormalDist().cdf(excess / math.sqrt(variance))


def gather(layers: Mapping[Source, Mapping[str, Any]]) -> Figures:
    """Figures from several sources: each from the first in the order of `Source` that knows it."""
    found: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for source in Source:
        layer = DEFAULTS if source is Source.DEFAULT else layers.get(source, {})
        for name, value in layer.items():
            if value is not None and name not in found:
                found[name], sources[name] = value, source
    if sources.get("service_time") is Source.MEASURED and not found["speed_adjust"]:
        # The upload is part of what was measured; it is counted once.
        found["upload_time"] = min(found["upload_time"], found["service_time"])
        found["service_time"] -= found["upload_time"]
    return Figures(**found, sources=sources)


def measured_layer(measured: Measured, growth: float) -> dict[str, Any]:
    """What `gather` takes from a live pool: its rate with room for more, its times as they are."""
    return {
        "rate": None if measured.rate is None else measured.rate * growth,
        "service_time": measured.service_time,
        "service_cv2": measured.service_cv2,
        "upload_time": measured.upload_time,
        "worker_memory": measured.worker_memory,
    }


def figure_names() -> list[str]:
    """The names of all figures, in the order in which they are shown."""
    return [one.name for one in fields(Figures) if one.name != "sources"]


class Kind(Enum):
    """What a constraint does to the number of workers."""

    AT_LEAST = ">="
    AT_MOST = "<="
    CONDITION = ""  # does nothing to it, but must be met as well


@dataclass(frozen=True, slots=True)
class Constraint:
    """One reason for or against a number of workers. `value` counts workers, or is what a condition found."""

    name: str
    kind: Kind
    value: float
    figures: tuple[str, ...]  # the names of those it is computed from
    is_met: bool  # by the proposed number of workers, everything else being as in the figures
    binds: bool = False  # the proposal is what it is because of this one


@dataclass(frozen=True, slots=True)
class Choice:
    """Settings that go together; `is_enough`: they carry the load, and the law holds."""

    workers: int
    session: float
    before_maxproc: int
    is_enough: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is proposed and why."""

    figures: Figures
    constraints: tuple[Constraint, ...]
    choice: Choice
    after_maxproc: int
    backlog: int

    @property
    def wanted(self) -> int:
        """The workers that the figures ask for, whether they can be had or not."""
        return _wanted(self.figures)

    @property
    def adopted(self) -> Figures:
        """The figures as they are once the plan is carried out."""
        choice = self.choice
        return replace(
            self.figures,
            session=choice.session,
            before_maxproc=choice.before_maxproc,
            after_maxproc=self.after_maxproc,
            backlog=self.backlog,
        )

    @property
    def surge(self) -> float | None:
        """How many times longer sessions may get until all workers are busy all the time."""
        load = self.figures.load
        return self.choice.workers / load.erlangs if load and load.erlangs else None


def propose(figures: Figures) -> Plan:
    """The plan for these figures."""
    choice = _choose(figures)
    after = max(figures.after_maxproc, choice.workers)
    enough_backlog = figures.backlog >= choice.before_maxproc
    backlog = figures.backlog if enough_backlog else choice.before_maxproc + _SPARE_BACKLOG
    return Plan(figures, tuple(_constraints(figures, choice)), choice, after, backlog)


def _choose(figures: Figures) -> Choice:
    wanted, ceiling = _wanted(figures), _ceiling(figures)
    if wanted <= ceiling:
        is_enough = _is_carried(figures, wanted)
        return Choice(wanted, figures.session, figures.before_maxproc, is_enough)
    return _with_shorter_sessions(figures, ceiling) or _what_fits(figures, ceiling)


def _wanted(figures: Figures) -> int:
    # A worker that no smtpd is left to talk to is never used.
    return min(max(_comfortable(figures), figures.law_workers), figures.before_maxproc)


def _comfortable(figures: Figures) -> int:
    return figures.comfort.workers_for(figures.load) if figures.load else 1


def _ceiling(figures: Figures) -> int:
    limit = figures.memory_limit
    return MOST_WORKERS if limit is None else min(limit, MOST_WORKERS)


def _is_carried(figures: Figures, workers: int) -> bool:
    if figures.cpu_utilisation is not None and figures.cpu_utilisation >= 1:
        return False
    return figures.load is None or figures.load.erlangs < workers


def session_choices(figures: Figures) -> Iterator[Choice]:
    """Session limits from long to short, each with the workers that it takes; the last needs the fewest."""
    if not figures.speed_adjust:
        return
    comfortable = min(_comfortable(figures), figures.before_maxproc)
    counts = range(2, law.turns(figures.before_maxproc, comfortable) + 1)
    sessions = dict.fromkeys(rounded_session(figures.patience / count) for count in counts)
    for session in sessions:
        if is_usable(figures, session):
            needed = law.workers_needed(figures.before_maxproc, figures.patience, session)
            workers = max(comfortable, needed)
            yield Choice(workers, session, figures.before_maxproc, _is_carried(figures, workers))


def rounded_session(seconds: float) -> float:
    """Down to a number people write; what is cut away is left for hanging up, which takes time, too."""
    return seconds // 5 * 5 if seconds >= 10 else float(math.floor(seconds))


def is_usable(figures: Figures, session: float) -> bool:
    """Whether sessions may be limited like that without cutting off much of the mail."""
    cut_off = figures.cut_off(session)
    return session >= _SHORTEST_SESSION and (cut_off is None or cut_off <= _MOST_CUT_OFF)


def _with_shorter_sessions(figures: Figures, ceiling: int) -> Choice | None:
    """The fewest workers with comfortable sessions, or else the longest sessions that fit."""
    fitting = [one for one in session_choices(figures) if one.workers <= ceiling]
    comfortable = [one for one in fitting if one.session >= COMFORTABLE_SESSION]
    return comfortable[-1] if comfortable else next(iter(fitting), None)


def _what_fits(figures: Figures, workers: int) -> Choice:
    """As many workers as there can be, and everything around them cut down until the law holds."""
    if not workers:
        return Choice(0, figures.session, figures.before_maxproc, is_enough=False)
    if not figures.speed_adjust:
        return Choice(workers, figures.session, workers, is_enough=False)
    longest = law.longest_session(figures.before_maxproc, workers, figures.patience)
    session = min(rounded_session(longest), figures.session or math.inf)
    if is_usable(figures, session):
        return Choice(workers, session, figures.before_maxproc, is_enough=False)
    processes = law.most_processes(workers, figures.patience, figures.session)
    return Choice(workers, figures.session, min(processes, figures.before_maxproc), is_enough=False)


def _constraints(figures: Figures, choice: Choice) -> Iterator[Constraint]:
    """All of them, those that ask for workers first."""
    deciding = _deciding(figures)
    for one in (*_floors(figures, choice), *_ceilings(figures, choice), *_conditions(figures, choice)):
        yield replace(one, binds=one.name in deciding)


def _deciding(figures: Figures) -> set[str]:
    """The constraints that make the number of workers what it is."""
    wanted, ceiling = _wanted(figures), _ceiling(figures)
    if wanted > ceiling:
        return {"pool.workers" if ceiling == MOST_WORKERS else "memory"}
    floors = {"comfort": _comfortable(figures), "law": figures.law_workers}
    return {name for name, value in floors.items() if value == wanted} or {"before-filter"}


def _floors(figures: Figures, choice: Choice) -> Iterator[Constraint]:
    basis: tuple[str, ...]
    if figures.load:
        basis = ("rate", "service_time", "service_cv2", "arrival_cv2", "wait_target", "wait_probability")
        comfortable = _comfortable(figures)
        # With a worker for every smtpd nobody waits, whatever the formulas say of unlimited crowds.
        is_met = choice.workers >= min(comfortable, figures.before_maxproc)
        yield Constraint("comfort", Kind.AT_LEAST, comfortable, basis, is_met)
    basis = ("before_maxproc", "proxy_timeout", "session", "speed_adjust")
    if figures.queue_wait:
        basis += ("queue_wait",)
    is_met = choice.workers >= figures.law_workers
    yield Constraint("law", Kind.AT_LEAST, figures.law_workers, basis, is_met)


def _ceilings(figures: Figures, choice: Choice) -> Iterator[Constraint]:
    limits: list[tuple[str, int | None, tuple[str, ...]]] = [
        ("memory", figures.memory_limit, ("memory", "base_memory", "worker_memory")),
        ("before-filter", figures.before_maxproc, ("before_maxproc",)),
        ("after-filter", figures.after_maxproc, ("after_maxproc",)),
        ("pool.workers", MOST_WORKERS, ()),
    ]
    for name, value, basis in limits:
        if value is not None:
            yield Constraint(name, Kind.AT_MOST, value, basis, choice.workers <= value)


def _conditions(figures: Figures, choice: Choice) -> Iterator[Constraint]:
    if (cpu := figures.cpu_utilisation) is not None:
        yield Constraint("cpu", Kind.CONDITION, cpu, ("rate", "cpu_per_message", "cores"), cpu <= MOST_CPU)
    queues = {"backlog": figures.backlog, "somaxconn": figures.somaxconn}
    for name, value in queues.items():
        if value is not None:
            is_met = value >= choice.before_maxproc
            yield Constraint(name, Kind.CONDITION, value, (name, "before_maxproc"), is_met)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would be with so many workers; None where figures for it are missing."""

    workers: int
    utilisation: float | None
    p_wait: float | None
    mean_wait: float | None
    p_wait_beyond_target: float | None
    p_wait_beyond_5s: float | None
    wait_p99: float | None
    longest_stay: float | None  # None: no limit
    law_holds: bool
    memory: int | None
    fits_memory: bool | None


def outlook(figures: Figures, workers: int) -> Outlook:
    """The view with so many workers, everything else being as in the figures."""
    load, limit = figures.load, figures.memory_limit
    stay = law.longest_stay(figures.before_maxproc, workers, figures.session) + (figures.queue_wait or 0.0)
    return Outlook(
        workers=workers,
        utilisation=load.utilisation(workers) if load else None,
        p_wait=load.p_wait(workers) if load else None,
        mean_wait=load.mean_wait(workers) if load else None,
        p_wait_beyond_target=load.p_wait_beyond(workers, figures.wait_target) if load else None,
        p_wait_beyond_5s=load.p_wait_beyond(workers, 5.0) if load else None,
        wait_p99=load.wait_exceeded_by(0.01, workers) if load else None,
        longest_stay=stay if math.isfinite(stay) else None,
        law_holds=law.holds(figures.before_maxproc, workers, figures.patience, figures.session),
        memory=figures.need_memory(workers),
        fits_memory=None if limit is None else workers <= limit,
    )


def telling_counts(plan: Plan) -> list[int]:
    """Numbers of workers worth looking at when nobody asks for particular ones."""
    figures = plan.figures
    counts = {plan.choice.workers, plan.wanted, figures.workers, figures.law_workers, figures.memory_limit}
    if figures.load:
        erlangs = figures.load.erlangs
        counts |= {_comfortable(figures), math.floor(erlangs) + 1, math.ceil(erlangs / MOST_UTILISATION)}
    return sorted(count for count in counts if count)


class Breach(Enum):
    """What is wrong with a running set-up, as far as `check` looks."""

    LAW = "law"
    STARVED = "after-filter"


def breaches(figures: Figures) -> list[Breach]:
    """What the present number of workers, which must be known, breaks."""
    if figures.workers is None:
        raise ValueError("the present number of workers is not known")
    processes, workers = figures.before_maxproc, figures.workers
    found = []
    if not law.holds(processes, workers, figures.patience, figures.session):
        found.append(Breach.LAW)
    if figures.after_maxproc < workers:
        found.append(Breach.STARVED)
    return found
