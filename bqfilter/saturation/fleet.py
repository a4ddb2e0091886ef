"""A fleet: what several hosts carry together, and what is left of that while one of them is missing.

Behind one queue (a balancer that lets no more connections through to a host than it has workers, and gives
them to the host with the fewest) a fleet is nearly one pool of all its workers: the formulas of `queueing`
hold for the sum, and the law of `law` to the letter, since that queue is first come, first served. Where
connections are spread at random and wait at the host that they came to, each host is a pool of its own with
its part of the load, and the law would have to hold for each one alone. Both are computed; what is proposed
takes the first for granted. benchmarks/fleet_simulation.py holds both against a simulation.

A fleet is as good as what is left of it when its largest host is gone: all that is asked for is asked of
those others. Hosts may differ in size, and in how long a session takes them.

Pure: nothing is read or asked here. Where figures come from is the business of `fleet_sources`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from bqfilter.saturation import law
from bqfilter.saturation.queueing import Load
from bqfilter.saturation.sizing import (
    DEFAULTS,
    MOST_CPU,
    MOST_WORKERS,
    Constraint,
    Figures,
    Kind,
    Measured,
    is_usable,
    rounded_session,
)

# Utilisation of the busiest host by that of the idlest, above which the load is not spread as it should be.
_UNEVEN = 1.5

# Hosts that are less busy than this may differ as they like.
_WORTH_SPREADING = 0.1


_NOTHING = Measured()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host as it is. None: not known; a `session` of 0 is no limit."""

    name: str
    workers: int
    measured: Measured = _NOTHING
    session: float | None = None
    proxy_timeout: float | None = None
    speed_adjust: bool | None = None
    before_maxproc: int | None = None
    after_maxproc: int | None = None

    @property
    def utilisation(self) -> float | None:
        """As it was measured."""
        if self.measured.rate is None or self.measured.service_time is None:
            return None
        return self.measured.rate * self.measured.service_time / self.workers


@dataclass(frozen=True, slots=True)
class Fleet:
    """Hosts, and the figures of all of them together: `before_maxproc` is that of all MX hosts.

    Memory is that of each host; `cores` are those that are left while one is missing.

    `queue_timeout`: when the balancer ends a wait in its queue, if that is known.
    """

    hosts: tuple[Host, ...]
    figures: Figures
    queue_timeout: float | None = None


class Balance(Enum):
    """How connections get to hosts."""

    ONE_QUEUE = "one queue"  # leastconn with maxconn
    RANDOM = "at random"  # and nothing in front to wait in


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a fleet would be like without `missing`; None where figures for it are missing."""

    missing: str | None
    balance: Balance
    workers: int
    utilisation: float | None  # of the busiest host
    p_wait: float | None
    mean_wait: float | None
    p_wait_beyond_target: float | None
    p_wait_beyond_5s: float | None
    longest_stay: float | None  # None: no limit
    law_holds: bool


class Breach(Enum):
    """What is wrong with a fleet as it runs."""

    LAW = "law"
    ALONE = "alone"  # one host is no fleet
    LAW_ONE_DOWN = "law with one host down"
    COMFORT_ONE_DOWN = "comfort with one host down"
    QUEUE_TIMEOUT = "queue timeout"
    STARVED = "after-filter"


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What there is, and what is proposed so that any one host may be missing.

    Three ways lead there, each by itself: other numbers of `workers` (in the order of hosts), more hosts
    (`hosts_needed`, the workers as they are), or a shorter `session` where only the law is in the way. None:
    not to be had like that.
    """

    fleet: Fleet
    prospects: tuple[Prospect, ...]
    constraints: tuple[Constraint, ...]
    workers: tuple[int, ...] | None
    is_enough: bool  # that many workers fit into each host
    hosts_needed: int | None
    session: float | None
    breaches: tuple[Breach, ...]
    starved: tuple[str, ...]  # hosts with fewer after-filter processes than workers

    @property
    def maxconn(self) -> tuple[int, ...]:
        """For each host, what a balancer may let through to it."""
        return self.workers or tuple(host.workers for host in self.fleet.hosts)

    @property
    def longest_queue(self) -> float | None:
        """How long somebody may wait in front with the proposed workers, one host missing; None: no limit."""
        return _longest_queue(self.fleet.figures, left(self.maxconn) or max(self.maxconn))

    @property
    def waits_in_front(self) -> float | None:
        """The same with the workers that there are."""
        counts = _counts(self.fleet)
        return _longest_queue(self.fleet.figures, left(counts) or max(counts))


def fleet_layer(hosts: Sequence[Host]) -> dict[str, Any]:
    """What the hosts have been told, for `sizing.gather`: of what differs, what is worst."""
    sessions = _known(host.session for host in hosts)
    processes = _known(host.before_maxproc for host in hosts)
    adjusted = _known(host.speed_adjust for host in hosts)
    return {
        "session": 0.0 if 0.0 in sessions else max(sessions, default=None),
        "proxy_timeout": min(_known(host.proxy_timeout for host in hosts), default=None),
        "speed_adjust": all(adjusted) if adjusted else None,
        "before_maxproc": sum(processes) or None,
    }


def measured_together(hosts: Sequence[Host], growth: float, peak: float | None = None) -> dict[str, Any]:
    """The load of all hosts, for `sizing.gather`; `peak` is its rate at the worst, where that is known."""
    found = [one.measured for one in hosts if one.measured.rate and one.measured.service_time]
    rate = math.fsum(one.rate or 0.0 for one in found)
    if not rate:
        return {}
    load = _mixed(
        peak or rate,
        [((one.rate or 0.0) / rate, one.service_time or 0.0, _cv2_of(one)) for one in found],
        1.0,
    )
    uploads = math.fsum((one.rate or 0.0) * (one.upload_time or 0.0) for one in found)
    return {
        "rate": load.rate * growth,
        "service_time": load.service_time,
        "service_cv2": load.service_cv2 if _known(one.service_cv2 for one in found) else None,
        "upload_time": uploads / rate,
        "worker_memory": max(_known(one.worker_memory for one in found), default=None),
    }


def plan(fleet: Fleet) -> FleetPlan:
    """All there is to say about a fleet."""
    workers = _workers_a_host(fleet)
    starved = tuple(
        host.name
        for host in fleet.hosts
        if host.after_maxproc is not None and host.after_maxproc < host.workers
    )
    return FleetPlan(
        fleet=fleet,
        prospects=tuple(_prospects(fleet)),
        constraints=tuple(_constraints(fleet)),
        workers=workers,
        is_enough=workers is not None and max(workers) <= _ceiling(fleet.figures),
        hosts_needed=_hosts_needed(fleet),
        session=_session(fleet),
        breaches=tuple(_breaches(fleet, starved)),
        starved=starved,
    )


def left(workers: Sequence[int]) -> int:
    """How many are left without the largest host."""
    return sum(workers) - max(workers)


def survivors(fleet: Fleet) -> tuple[Host, ...]:
    """The hosts without the one that is missed most: whose loss leaves the others busiest."""
    missed = _missed(fleet)
    return fleet.hosts[:missed] + fleet.hosts[missed + 1 :]


def one_queue(fleet: Fleet, hosts: Sequence[Host]) -> Load | None:
    """The load that these hosts have together, if it is spread so that all are equally busy."""
    whole = fleet.figures.load
    if whole is None:
        return None
    speed = _speed(fleet, hosts)
    parts = [(_speed(fleet, [host]) / speed, *_times(host, whole)) for host in hosts]
    return _mixed(whole.rate, parts, whole.arrival_cv2)


def apart(fleet: Fleet, hosts: Sequence[Host]) -> list[tuple[float, Load, int]]:
    """Each host's share of the connections, its load and its workers, if chance spreads them by workers."""
    whole = fleet.figures.load
    if whole is None:
        return []
    workers = _workers(hosts)
    found = []
    for host in hosts:
        share = host.workers / workers
        # Of a bursty stream, a part taken out at random is less so.
        bursts = 1 + share * (whole.arrival_cv2 - 1)
        found.append((share, Load(whole.rate * share, *_times(host, whole), bursts), host.workers))
    return found


def spread(hosts: Sequence[Host]) -> tuple[Host, Host] | None:
    """The busiest and the idlest host, if they differ by more than they should."""
    known = [host for host in hosts if host.utilisation is not None]
    if len(known) < 2:
        return None
    busiest = max(known, key=lambda host: host.utilisation or 0.0)
    idlest = min(known, key=lambda host: host.utilisation or 0.0)
    high, low = busiest.utilisation or 0.0, idlest.utilisation or 0.0
    return (busiest, idlest) if high > max(_UNEVEN * low, _WORTH_SPREADING) else None


def offers(fleet: Fleet, count: int) -> Iterator[tuple[float, int]]:
    """Shorter session limits, each with the workers that the largest host needs then."""
    figures = fleet.figures
    for turns in range(2, count + 2):
        session = rounded_session(figures.patience / turns)
        if figures.speed_adjust and is_usable(figures, session):
            workers = _workers_a_host(replace(fleet, figures=replace(figures, session=session)))
            if workers:
                yield session, max(workers)


def _longest_queue(figures: Figures, workers: int) -> float | None:
    turns = law.turns(figures.before_maxproc, workers)
    if turns == 1:
        return 0.0
    return (turns - 1) * figures.session or None


def _known(values: Any) -> list[Any]:
    return [one for one in values if one is not None]


def _cv2_of(measured: Measured) -> float:
    return float(DEFAULTS["service_cv2"] if measured.service_cv2 is None else measured.service_cv2)


def _times(host: Host, whole: Load) -> tuple[float, float]:
    """Mean and variation of the session times: the host's own, or those of all."""
    if host.measured.service_time is None:
        return whole.service_time, whole.service_cv2
    return host.measured.service_time, _cv2_of(host.measured)


def _mixed(rate: float, parts: Sequence[tuple[float, float, float]], arrival_cv2: float) -> Load:
    """One stream of sessions of several kinds: the share, mean time and variation of each."""
    mean = math.fsum(share * time for share, time, _ in parts)
    squares = math.fsum(share * time**2 * (1 + cv2) for share, time, cv2 in parts)
    return Load(rate, mean, max(0.0, squares / mean**2 - 1), arrival_cv2)


def _workers(hosts: Sequence[Host]) -> int:
    return sum(host.workers for host in hosts)


def _speed(fleet: Fleet, hosts: Sequence[Host]) -> float:
    """Sessions a second, with every worker busy; without any load, just workers."""
    whole = fleet.figures.load
    if whole is None:
        return float(_workers(hosts))
    return math.fsum(host.workers / _times(host, whole)[0] for host in hosts)


def _missed(fleet: Fleet) -> int:
    """Which one. By its place: hosts may be equal."""
    merits = [(_speed(fleet, [host]), host.workers) for host in fleet.hosts]
    return merits.index(max(merits))


def _prospects(fleet: Fleet) -> Iterator[Prospect]:
    yield from _both(fleet, None, fleet.hosts)
    if rest := survivors(fleet):
        yield from _both(fleet, fleet.hosts[_missed(fleet)].name, rest)


def _both(fleet: Fleet, missing: str | None, hosts: Sequence[Host]) -> Iterator[Prospect]:
    load, workers = one_queue(fleet, hosts), _workers(hosts)
    pools = [(1.0, load, workers)] if load else []
    yield _prospect(fleet.figures, missing, Balance.ONE_QUEUE, workers, pools, workers)
    smallest = min(host.workers for host in hosts)
    yield _prospect(fleet.figures, missing, Balance.RANDOM, workers, apart(fleet, hosts), smallest)


def _prospect(
    figures: Figures,
    missing: str | None,
    balance: Balance,
    workers: int,
    pools: Sequence[tuple[float, Load, int]],
    queue_of: int,
) -> Prospect:
    """Of one pool or of several, of which the one with `queue_of` workers might get everybody at once."""

    def mean(of: Callable[[Load, int], float]) -> float | None:
        return math.fsum(share * of(load, count) for share, load, count in pools) if pools else None

    stay = law.longest_stay(figures.before_maxproc, queue_of, figures.session)
    return Prospect(
        missing=missing,
        balance=balance,
        workers=workers,
        utilisation=max((load.utilisation(count) for _, load, count in pools), default=None),
        p_wait=mean(Load.p_wait),
        mean_wait=mean(Load.mean_wait),
        p_wait_beyond_target=mean(lambda load, count: load.p_wait_beyond(count, figures.wait_target)),
        p_wait_beyond_5s=mean(lambda load, count: load.p_wait_beyond(count, 5.0)),
        longest_stay=stay if math.isfinite(stay) else None,
        law_holds=queue_of >= figures.law_workers,
    )


def _constraints(fleet: Fleet) -> Iterator[Constraint]:
    """On the workers that are left while a host is missing; of the ceilings, on those of the largest host."""
    figures, rest = fleet.figures, survivors(fleet)
    workers, largest = left(_counts(fleet)), max(_counts(fleet))
    floors = {"law": figures.law_workers}
    if (comfortable := _comfortable(fleet, rest or fleet.hosts)) is not None:
        floors = {"comfort": comfortable, **floors}
    basis: dict[str, tuple[str, ...]] = {
        "comfort": ("rate", "service_time", "service_cv2", "arrival_cv2", "wait_target", "wait_probability"),
        "law": ("before_maxproc", "proxy_timeout", "session", "speed_adjust"),
    }
    wanted = min(max(floors.values()), figures.before_maxproc)
    for name, value in floors.items():
        have = _workers(rest) if name == "comfort" else workers
        is_met = have >= min(value, figures.before_maxproc)
        yield Constraint(name, Kind.AT_LEAST, value, basis[name], is_met, value == wanted)
    processes = figures.before_maxproc
    # What would never be used is no harm: it is what the others have to spare while no host is missing.
    capped = wanted == processes and wanted not in floors.values()
    yield Constraint("before-filter", Kind.AT_MOST, processes, ("before_maxproc",), True, capped)
    if figures.memory_limit is not None:
        limit = figures.memory_limit
        memory = ("memory", "base_memory", "worker_memory")
        yield Constraint("memory", Kind.AT_MOST, limit, memory, largest <= limit)
    if (cpu := figures.cpu_utilisation) is not None:
        yield Constraint("cpu", Kind.CONDITION, cpu, ("rate", "cpu_per_message", "cores"), cpu <= MOST_CPU)


def _counts(fleet: Fleet) -> tuple[int, ...]:
    return tuple(host.workers for host in fleet.hosts)


def _comfortable(fleet: Fleet, hosts: Sequence[Host]) -> int | None:
    load = one_queue(fleet, hosts)
    return None if load is None else fleet.figures.comfort.workers_for(load)


def _law_holds(fleet: Fleet, hosts: Sequence[Host]) -> bool:
    """While the largest of them is missing."""
    return left([host.workers for host in hosts]) >= fleet.figures.law_workers


def _is_comfortable(fleet: Fleet, hosts: Sequence[Host]) -> bool:
    """While the one that is missed most is missing."""
    rest = survivors(replace(fleet, hosts=tuple(hosts)))
    workers = _workers(rest)
    if not workers:
        return False
    load = one_queue(fleet, rest)
    # With a worker for every smtpd nobody waits, whatever the formulas say of unlimited crowds.
    return (
        load is None or workers >= fleet.figures.before_maxproc or fleet.figures.comfort.is_met(load, workers)
    )


def _carries(fleet: Fleet, hosts: Sequence[Host]) -> bool:
    return _law_holds(fleet, hosts) and _is_comfortable(fleet, hosts)


def _workers_a_host(fleet: Fleet) -> tuple[int, ...] | None:
    """The fewest with which any one host may be missing, in the proportions in which they are now."""
    if len(fleet.hosts) < 2:
        return None
    most = max(_counts(fleet))

    def scaled(largest: int) -> tuple[int, ...]:
        return tuple(-(-largest * count // most) for count in _counts(fleet))

    def carries(largest: int) -> bool:
        pairs = zip(fleet.hosts, scaled(largest), strict=True)
        return _carries(fleet, [replace(host, workers=count) for host, count in pairs])

    return scaled(_fewest(carries, fleet.figures.before_maxproc * most))


def _hosts_needed(fleet: Fleet) -> int | None:
    """How many, of the largest there are first, and then of more like the smallest."""
    ranked = sorted(fleet.hosts, key=lambda host: (-_speed(fleet, [host]), -host.workers))

    def carries(count: int) -> bool:
        return count > 1 and _carries(fleet, [*ranked[:count], *[ranked[-1]] * (count - len(ranked))])

    return _fewest(carries, 2 + fleet.figures.before_maxproc // min(_counts(fleet)) + len(ranked))


def _fewest(is_enough: Callable[[int], bool], most: int) -> int:
    """The smallest number from 1 to `most` that is enough, where every larger one is, too."""
    too_few, enough = 0, most
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if is_enough(middle) else (middle, enough)
    return enough


def _session(fleet: Fleet) -> float | None:
    """A limit with which the workers that are there do, one host missing."""
    figures, rest = fleet.figures, left(_counts(fleet))
    if not rest or not _is_comfortable(fleet, fleet.hosts):
        return None
    if rest >= figures.law_workers:
        return figures.session
    session = rounded_session(law.longest_session(figures.before_maxproc, rest, figures.patience))
    return session if figures.speed_adjust and is_usable(figures, session) else None


def _ceiling(figures: Figures) -> int:
    limit = figures.memory_limit
    return MOST_WORKERS if limit is None else min(limit, MOST_WORKERS)


def _is_closed_too_early(fleet: Fleet) -> bool:
    """Whether the balancer ends waits after which there would still have been time."""
    longest = _longest_queue(fleet.figures, left(_counts(fleet)))
    return None not in (longest, fleet.queue_timeout) and (longest or 0.0) > (fleet.queue_timeout or 0.0)


def _breaches(fleet: Fleet, starved: Sequence[str]) -> Iterator[Breach]:
    if _workers(fleet.hosts) < fleet.figures.law_workers:
        yield Breach.LAW
    if len(fleet.hosts) < 2:
        yield Breach.ALONE
    else:
        if not _law_holds(fleet, fleet.hosts):
            yield Breach.LAW_ONE_DOWN
        if not _is_comfortable(fleet, fleet.hosts):
            yield Breach.COMFORT_ONE_DOWN
        if _law_holds(fleet, fleet.hosts) and _is_closed_too_early(fleet):
            yield Breach.QUEUE_TIMEOUT
    if starved:
        yield Breach.STARVED
