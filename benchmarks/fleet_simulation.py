"""Several hosts with a pool each behind one balancer, simulated event by event.

    lost = Host(workers=20, maxconn=20, up=((0.0, 600.0), (900.0, math.inf)))
    hosts = [Host(workers=20, maxconn=20), Host(workers=20, maxconn=20), lost]
    arrivals = varying(chance, day(peak=20.0), 20.0, until=DAY)
    outcome = simulate(hosts, Balancer(Policy.LEASTCONN), arrivals, lognormal(chance, 2.5, 4.0))
    outcome.waits.p_wait, outcome.fates[Fate.QUEUE_TIMEOUT], outcome.utilisation(0.0, DAY)

`python -m benchmarks.fleet_simulation` holds the formulas of `bqfilterd tune --fleet` against it.

Session lengths are drawn in the order in which connections come, whatever the balancer does with them: with
the same seeds, two fleets get the same mail. Standard library only, and nothing of bqfilterd runs here.

The balancer is HAProxy as far as it matters for waiting. Who finds every host at its `maxconn` waits in one
queue in front, first come, first served; a host without `maxconn` takes everybody, and who finds no worker
waits there. Left out: the time it takes to notice that a host is gone (connections are tried at the next one
at once), health checks, and the second try of a message that was deferred.
"""

import argparse
import bisect
import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from itertools import accumulate, count, takewhile

from benchmarks.simulation import Draw, Waits, exponential, lognormal
from bqfilter.saturation import fleet
from bqfilter.saturation.fleet import Balance, Fleet
from bqfilter.saturation.sizing import Measured, Source, gather

DAY = 86400.0

# The share of the busiest hour's rate at each full hour: a site whose people write in office hours. Made up;
# what matters is that the night is quiet, and that the morning comes within two hours.
_HOURS = (
    0.20, 0.16, 0.14, 0.13, 0.14, 0.18, 0.28, 0.50, 0.80, 0.97, 1.00, 0.96,
    0.82, 0.85, 0.95, 0.92, 0.84, 0.70, 0.52, 0.42, 0.37, 0.33, 0.28, 0.24,
)  # fmt: skip


def poisson(chance: random.Random, rate: float, until: float) -> Iterator[float]:
    """Independent arrivals at one rate."""
    return takewhile(lambda at: at < until, accumulate(iter(exponential(chance, 1 / rate), None)))


def varying(
    chance: random.Random, rate: Callable[[float], float], most: float, until: float
) -> Iterator[float]:
    """Independent arrivals at a rate that changes with time, and is `most` at the most."""
    return (at for at in poisson(chance, most, until) if chance.random() * most < rate(at))


def day(peak: float) -> Callable[[float], float]:
    """The rate in the course of a day, in seconds from midnight; the next day is the same."""

    def rate(at: float) -> float:
        hour, part = divmod(at % DAY / 3600, 1.0)
        before, after = _HOURS[int(hour)], _HOURS[(int(hour) + 1) % 24]
        return peak * (before + part * (after - before))

    return rate


class Policy(Enum):
    """How the balancer chooses among the hosts that have room, all by weight."""

    LEASTCONN = "leastconn"  # the fewest connections, waiting ones at the host included
    RANDOM = "random"  # whichever, and if that one is full, the queue in front
    ROUNDROBIN = "roundrobin"  # one after the other


class Fate(Enum):
    """What became of a connection. All but the first two are messages that come again later."""

    WAITS = "waits"  # still open: nobody is there to serve it
    SERVED = "served"
    CUT_OFF = "cut off"  # by the session limit
    QUEUE_TIMEOUT = "queue timeout"  # the balancer closed it while it waited in front
    GAVE_UP = "gave up"  # Postfix did, while it waited anywhere
    BROKEN = "broken"  # its host was lost
    REFUSED = "refused"  # there was no host at all
    TURNED_AWAY = "turned away"  # no before-filter process was free: it waits at port 25, not with us


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine. A session takes `1 / speed` of its length here; `weight` is that of `workers` if not given.

    It is there in the intervals of `up`, from beginning to end; at an end it either is lost with all that it
    has, or, where it `drains`, takes nothing new and finishes what it has.
    """

    workers: int
    speed: float = 1.0
    maxconn: int | None = None
    weight: float | None = None
    up: Sequence[tuple[float, float]] = ((0.0, math.inf),)
    drains: bool = False


@dataclass(frozen=True, slots=True)
class Balancer:
    """How connections are spread.

    `draws`: of so many random hosts the one with the fewest connections is taken (2 is HAProxy's default).
    `agent_interval`: so often each host says what share of its workers was free in the last seconds, at least
    `agent_minimum`, and its weight is multiplied with that; None: weights stay as they are.
    """

    policy: Policy = Policy.LEASTCONN
    draws: int = 1
    agent_interval: float | None = None
    agent_minimum: float = 0.1
    agent_memory: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long things may take, in seconds, and how many there may be."""

    session: float = math.inf  # budget.session
    queue: float = math.inf  # in front: HAProxy's `timeout queue`
    patience: float = math.inf  # from the first moment until a worker: smtpd_proxy_timeout
    processes: int | None = None  # of all before-filter services


@dataclass(slots=True)
class Visit:
    """One connection. `length` is that of its session on a host of speed 1; `host` is where it has got to."""

    arrived: float
    length: float
    host: int | None = None
    started: float | None = None
    ended: float = math.inf
    fate: Fate = Fate.WAITS

    @property
    def wait(self) -> float:
        """Until a worker took it, or until it was over without one."""
        return (self.ended if self.started is None else self.started) - self.arrived


@dataclass(frozen=True, slots=True)
class Outcome:
    """All visits, in the order in which they came."""

    hosts: Sequence[Host]
    visits: Sequence[Visit]

    def between(self, start: float, end: float) -> "Outcome":
        """Of those that came in this time."""
        first, last = (
            bisect.bisect_left(self.visits, at, key=lambda one: one.arrived) for at in (start, end)
        )
        return Outcome(self.hosts, self.visits[first:last])

    @property
    def waits(self) -> Waits:
        """Of all that were let in, those included that waited in vain."""
        outside = (Fate.REFUSED, Fate.TURNED_AWAY)
        return Waits(sorted(one.wait for one in self.visits if one.fate not in outside))

    @property
    def fates(self) -> Counter[Fate]:
        """How many ended how."""
        return Counter(one.fate for one in self.visits)

    @property
    def sessions(self) -> list[int]:
        """How many each host began."""
        begun = Counter(one.host for one in self.visits if one.started is not None)
        return [begun[index] for index in range(len(self.hosts))]

    def utilisation(self, start: float, end: float) -> list[float]:
        """The busy share of each host's workers while it was up in this time; 0 where it never was."""
        (found,) = self.utilisation_curve(start, end, end - start)
        return found

    def utilisation_curve(self, start: float, end: float, width: float) -> list[list[float]]:
        """The same for every `width` seconds from `start` on, the last ones cut off at `end`."""
        edges = [start + width * step for step in range(math.ceil((end - start) / width))]
        busy = [[0.0] * len(self.hosts) for _ in edges]
        for one in self.visits:
            if one.started is not None and one.host is not None:
                for step, part in _parts(one.started, min(one.ended, end), start, width):
                    busy[step][one.host] += part
        return [
            [
                _share(seconds, host, edge, min(edge + width, end))
                for seconds, host in zip(row, self.hosts, strict=True)
            ]
            for edge, row in zip(edges, busy, strict=True)
        ]


def _parts(begin: float, finish: float, start: float, width: float) -> Iterator[tuple[int, float]]:
    """How much of a session falls into each interval."""
    begin = max(begin, start)
    step = int((begin - start) // width)
    while begin < finish:
        edge = min(start + (step + 1) * width, finish)
        yield step, edge - begin
        begin, step = edge, step + 1


def _share(busy: float, host: Host, start: float, end: float) -> float:
    there = sum(max(0.0, min(end, last) - max(start, first)) for first, last in host.up)
    return busy / (there * host.workers) if there else 0.0


class _Event(IntEnum):
    """Of two things at the same time, the first in this order happens first."""

    END = 0
    UP = 1
    DOWN = 2
    POLL = 3
    QUEUE_TIMEOUT = 4
    GAVE_UP = 5
    ARRIVAL = 6


@dataclass(slots=True)
class _Place:
    """A host in the course of a run."""

    index: int
    host: Host
    is_up: bool = False
    percentage: float = 1.0
    busy: int = 0
    connections: int = 0
    waiting: deque[Visit] = field(default_factory=deque)
    free: float = 1.0  # the share of free workers, as a mean that forgets
    looked_at: float = 0.0
    turn: float = (
        0.0  # of round robin, and of two hosts with as much to do, the one that had its last longer ago
    )
    last_given: int = 0

    @property
    def weight(self) -> float:
        return self.percentage * (self.host.workers if self.host.weight is None else self.host.weight)

    @property
    def has_room(self) -> bool:
        return self.is_up and (self.host.maxconn is None or self.connections < self.host.maxconn)

    def look(self, now: float, memory: float) -> None:
        """Before the number of busy workers changes, and before anybody asks."""
        faded = math.exp((self.looked_at - now) / memory)
        self.free = faded * self.free + (1 - faded) * (1 - self.busy / self.host.workers)
        self.looked_at = now


def simulate(
    hosts: Sequence[Host],
    balancer: Balancer,
    arrivals: Iterable[float],
    service: Draw,
    limits: Limits = Limits(),
    seed: int = 1,
) -> Outcome:
    """Everybody who comes, until the last one has left. The seed is that of the balancer's own choices."""
    return Outcome(hosts, _Run(hosts, balancer, limits, random.Random(seed)).run(arrivals, service))


class _Run:
    def __init__(
        self, hosts: Sequence[Host], balancer: Balancer, limits: Limits, chance: random.Random
    ) -> None:
        self._places = [_Place(index, host) for index, host in enumerate(hosts)]
        self._balancer = balancer
        self._limits = limits
        self._chance = chance
        self._waiting: deque[Visit] = deque()  # in front
        self._events: list[tuple[float, _Event, int, Visit | _Place | None]] = []
        self._numbers = count()
        self._open = 0
        self._is_over = False
        self._now = 0.0

    def run(self, arrivals: Iterable[float], service: Draw) -> list[Visit]:
        visits: list[Visit] = []
        coming = iter(arrivals)
        self._open_houses()
        self._next_arrival(coming)
        while self._events and not (self._is_over and not self._open):
            self._now, event, _, about = heapq.heappop(self._events)
            if event is _Event.ARRIVAL:
                visits.append(Visit(self._now, service()))
                self._arrive(visits[-1])
                self._next_arrival(coming)
            elif isinstance(about, Visit):
                self._happen_to_visit(event, about)
            elif about is not None:
                self._happen_to_host(event, about)
        return visits

    def _add(self, at: float, event: _Event, about: Visit | _Place | None = None) -> None:
        if at < math.inf:
            heapq.heappush(self._events, (at, event, next(self._numbers), about))

    def _open_houses(self) -> None:
        for place in self._places:
            for first, last in place.host.up:
                self._add(first, _Event.UP, place)
                self._add(last, _Event.DOWN, place)
            if self._balancer.agent_interval:
                # Not all at the same moment.
                self._add(self._balancer.agent_interval * place.index / len(self._places), _Event.POLL, place)

    def _next_arrival(self, coming: Iterator[float]) -> None:
        at = next(coming, None)
        self._is_over = at is None
        if at is not None:
            self._add(at, _Event.ARRIVAL)

    def _happen_to_visit(self, event: _Event, visit: Visit) -> None:
        if event is _Event.END:
            if visit.ended == math.inf:
                self._end(visit, Fate.SERVED if self._length(visit) <= self._limits.session else Fate.CUT_OFF)
        elif visit.fate is Fate.WAITS and visit.started is None:
            if event is _Event.GAVE_UP:
                self._end(visit, Fate.GAVE_UP)
            elif visit.host is None:
                self._end(visit, Fate.QUEUE_TIMEOUT)

    def _happen_to_host(self, event: _Event, place: _Place) -> None:
        match event:
            case _Event.UP:
                place.is_up = True
                place.turn = max(
                    place.turn, min((one.turn for one in self._places if one.is_up), default=0.0)
                )
                self._fill(place)
            case _Event.DOWN:
                place.is_up = False
                if not place.host.drains:
                    self._lose(place)
            case _:
                self._poll(place)

    def _arrive(self, visit: Visit) -> None:
        if self._limits.processes is not None and self._open >= self._limits.processes:
            visit.fate, visit.ended = Fate.TURNED_AWAY, self._now
            return
        if not any(place.is_up for place in self._places):
            visit.fate, visit.ended = Fate.REFUSED, self._now
            return
        self._open += 1
        place = self._choose()
        if place is not None:
            self._give(place, visit)
        else:
            self._waiting.append(visit)
            self._add(self._now + self._limits.queue, _Event.QUEUE_TIMEOUT, visit)
            self._add(visit.arrived + self._limits.patience, _Event.GAVE_UP, visit)

    def _choose(self) -> _Place | None:
        """A host that has room, or None: into the queue in front."""
        if self._balancer.policy is Policy.RANDOM:
            return self._drawn()
        with_room = [place for place in self._places if place.has_room]
        if not with_room:
            return None
        if self._balancer.policy is Policy.LEASTCONN:
            return min(with_room, key=lambda one: (_crowding(one), one.last_given))
        chosen = min(with_room, key=lambda one: (one.turn, one.index))
        # Who could not be chosen for a while does not get all of it afterwards.
        for place in self._places:
            place.turn = max(place.turn, chosen.turn)
        chosen.turn += 1 / chosen.weight
        return chosen

    def _drawn(self) -> _Place | None:
        there = [place for place in self._places if place.is_up]
        drawn = self._chance.choices(there, [place.weight for place in there], k=self._balancer.draws)
        chosen = min(drawn, key=lambda one: one.connections / one.weight)
        return chosen if chosen.has_room else None

    def _give(self, place: _Place, visit: Visit) -> None:
        visit.host = place.index
        place.connections += 1
        place.last_given = next(self._numbers)
        if place.busy < place.host.workers:
            self._start(place, visit)
        else:
            place.waiting.append(visit)
            self._add(visit.arrived + self._limits.patience, _Event.GAVE_UP, visit)

    def _start(self, place: _Place, visit: Visit) -> None:
        place.look(self._now, self._balancer.agent_memory)
        place.busy += 1
        visit.started = self._now
        self._add(self._now + min(self._length(visit), self._limits.session), _Event.END, visit)

    def _length(self, visit: Visit) -> float:
        return visit.length / self._places[visit.host or 0].host.speed

    def _end(self, visit: Visit, fate: Fate) -> None:
        visit.fate, visit.ended = fate, self._now
        self._open -= 1
        if visit.host is None:
            return
        place = self._places[visit.host]
        place.connections -= 1
        if visit.started is not None:
            place.look(self._now, self._balancer.agent_memory)
            place.busy -= 1
        while place.busy < place.host.workers and (follower := _first(place.waiting)):
            self._start(place, follower)
        self._fill(place)

    def _fill(self, place: _Place) -> None:
        """From the queue in front, as far as there is room."""
        while place.has_room and (visit := _first(self._waiting)):
            self._give(place, visit)

    def _lose(self, place: _Place) -> None:
        lost = {id(visit): visit for visit in place.waiting if visit.fate is Fate.WAITS}
        for _, event, _, about in self._events:
            if event is _Event.END and isinstance(about, Visit) and about.host == place.index:
                lost[id(about)] = about
        for visit in lost.values():
            if visit.ended == math.inf:
                visit.fate, visit.ended = Fate.BROKEN, self._now
                self._open -= 1
        place.waiting.clear()
        place.busy = place.connections = 0

    def _poll(self, place: _Place) -> None:
        place.look(self._now, self._balancer.agent_memory)
        place.percentage = max(place.free, self._balancer.agent_minimum)
        interval = self._balancer.agent_interval
        if interval and any(self._now < last for one in self._places for _, last in one.host.up):
            self._add(self._now + interval, _Event.POLL, place)


def _crowding(place: _Place) -> float:
    """As HAProxy reckons it: with the connection that would come, but for hosts that have none."""
    return (place.connections + 1) / place.weight if place.connections else 0.0


def _first(waiting: deque[Visit]) -> Visit | None:
    """The first in a queue that has not left it."""
    while waiting:
        visit = waiting.popleft()
        if visit.fate is Fate.WAITS:
            return visit
    return None


SERVICE_TIME, SERVICE_CV2 = 2.5, 4.0
# Hosts with their workers and speeds, and how busy all of them are together.
FLEETS: tuple[tuple[Sequence[tuple[int, float]], float], ...] = (
    (((14, 1.0),) * 2, 0.71),
    (((10, 1.0),) * 3, 0.8),
    (((10, 1.0), (10, 1.0), (20, 1.0)), 0.85),
    (((10, 1.0), (10, 1.0), (10, 0.5)), 0.8),
    (((20, 1.0),) * 10, 0.92),
)
WAYS: tuple[tuple[str, Balance, Balancer, bool], ...] = (
    ("leastconn, maxconn", Balance.ONE_QUEUE, Balancer(), True),
    ("leastconn", Balance.ONE_QUEUE, Balancer(), False),
    ("random", Balance.RANDOM, Balancer(Policy.RANDOM), False),
)


def model(parts: Sequence[tuple[int, float]], rate: float) -> Fleet:
    """The fleet as `bqfilterd tune --fleet` is told of it."""
    hosts = tuple(
        fleet.Host(
            name=str(index),
            workers=workers,
            measured=Measured(service_time=SERVICE_TIME / speed, service_cv2=SERVICE_CV2),
        )
        for index, (workers, speed) in enumerate(parts)
    )
    figures = {"rate": rate, "service_time": SERVICE_TIME, "service_cv2": SERVICE_CV2, "speed_adjust": True}
    return Fleet(hosts, gather({Source.OPTION: figures}))


def waits_table(sessions: int, seed: int) -> Iterator[str]:
    """Model and simulation: who waits, and how long, for independent arrivals and lognormal sessions."""
    yield "hosts                 busy  balance             P(wait)        mean wait        P(wait > 1s)"
    yield "                                              model   sim    model    sim     model    sim"
    for parts, busy in FLEETS:
        rate = busy * sum(workers * speed for workers, speed in parts) / SERVICE_TIME
        expected = {one.balance: one for one in fleet.plan(model(parts, rate)).prospects if not one.missing}
        for name, balance, balancer, has_maxconn in WAYS:
            waits = simulated(parts, rate, balancer, has_maxconn, sessions, seed).waits
            one = expected[balance]
            yield (
                f"{_sizes(parts):20}  {busy:.2f}  {name:18}  {one.p_wait:.4f} {waits.p_wait:.4f}"
                f"  {one.mean_wait:6.3f}s {waits.mean:6.3f}s"
                f"  {one.p_wait_beyond_target:.4f} {waits.beyond(1.0):.4f}"
            )


def _sizes(parts: Sequence[tuple[int, float]]) -> str:
    if len(set(parts)) == 1:
        return f"{len(parts)} of {parts[0][0]}"
    return ", ".join(f"{workers}" + (f" (x{speed:g})" if speed != 1 else "") for workers, speed in parts)


def simulated(
    parts: Sequence[tuple[int, float]],
    rate: float,
    balancer: Balancer,
    has_maxconn: bool,
    sessions: int,
    seed: int,
) -> Outcome:
    """Without the first tenth, while the hosts fill."""
    chance = random.Random(seed)
    hosts = [
        Host(workers=workers, speed=speed, maxconn=workers if has_maxconn else None)
        for workers, speed in parts
    ]
    arrivals = poisson(chance, rate, sessions / rate)
    found = simulate(hosts, balancer, arrivals, lognormal(chance, SERVICE_TIME, SERVICE_CV2))
    return found.between(0.1 * sessions / rate, math.inf)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_simulation", description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000, metavar="N", help="(default: 100000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(default: 1)")
    options = parser.parse_args()
    print(waits_table.__doc__)
    for line in waits_table(options.sessions, options.seed):
        print("   ", line)


if __name__ == "__main__":
    main()
