"""One host to a hundred behind a balancer, simulated: the tables of docs/scaling.md.

    python -m benchmarks.scaling              # all tables; three minutes
    python -m benchmarks.scaling one slow

The first table is of the model behind `bqfilterd tune`, all others are of the simulation. There each host has
20 workers, and sessions are those of the worked example of docs/tuning.md: 2.5 s on average,
lognormal with a squared coefficient of variation of 4, cut off after 30 s. With HAProxy as it is shipped
there is one queue, because each host has a maxconn; where a balancer chooses at random, as a Service of
Kubernetes does, each host has a queue of its own. The same seed gives the same tables, and within a table all
balancers get the same mail.
"""

import argparse
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.fleet_simulation import (
    DAY,
    Balancer,
    Fate,
    Host,
    Limits,
    Outcome,
    Policy,
    day,
    poisson,
    simulate,
    varying,
)
from benchmarks.simulation import lognormal
from bqfilter.saturation.queueing import Comfort, Load

WORKERS, SERVICE_TIME, SERVICE_CV2 = 20, 2.5, 4.0
LIMITS = Limits(session=30.0, queue=30.0, patience=100.0)
SEED = 1
_CAPACITY = WORKERS / SERVICE_TIME  # sessions a second that would keep one host busy all the time


@dataclass(frozen=True, slots=True)
class Way:
    """How a load is spread."""

    name: str
    balancer: Balancer
    has_maxconn: bool

    def hosts(self, count: int) -> list[Host]:
        return [Host(workers=WORKERS, maxconn=WORKERS if self.has_maxconn else None)] * count


LEASTCONN = Way("leastconn", Balancer(), True)
WITH_AGENT = Way("leastconn, agent", Balancer(agent_interval=2.0), True)
RANDOM_AGENT = Way("random, agent", Balancer(Policy.RANDOM, agent_interval=2.0), False)
ROUND_ROBIN = Way("round robin", Balancer(Policy.ROUNDROBIN), False)
RANDOM = Way("random", Balancer(Policy.RANDOM), False)

ONE_WORKERS = (10, 20, 50, 100, 200)
ONE_SECONDS = (0.05, 0.25, 1.0, 2.5, 10.0)
ASKED = Comfort(wait=1.0, share=0.01)


def one_table(_: int) -> Iterator[str]:
    """Messages a second for one host: at most 85% busy, and one in a hundred waits longer than a second."""
    yield "session " + "".join(f"{f'{workers} workers':>14}" for workers in ONE_WORKERS)
    for seconds in ONE_SECONDS:
        load = Load(rate=1.0, service_time=seconds, service_cv2=SERVICE_CV2)
        rates = [ASKED.highest_rate(load, workers) for workers in ONE_WORKERS]
        yield f"{seconds:6g}s " + "".join(f"{rate:14.1f}" for rate in rates)


COUNTS = (1, 2, 3, 5, 10, 20, 50, 100)
BUSY = 0.8


def hosts_table(sessions: int) -> Iterator[str]:
    """The more hosts, the better one queue; more hosts at random are no better than one. 80% busy."""
    ways = (LEASTCONN, RANDOM_AGENT, RANDOM)
    yield "hosts   rate " + "".join(f"{way.name:>25}" for way in ways)
    yield "             " + "P(wait>1s)   99% within  " * len(ways)
    for count in COUNTS:
        rate = BUSY * _CAPACITY * count
        cells = []
        for way in ways:
            waits = steady(way.hosts(count), way, rate, sessions).waits
            cells.append(f"{waits.beyond(1.0):13.4f} {waits.exceeded_by(0.01):9.2f}s ")
        yield f"{count:5} {rate:5.0f}/s " + "".join(cells)


SLOW = 0.25
SLOW_BUSY = 0.6


def slow_table(sessions: int) -> Iterator[str]:
    """One of the hosts takes four times as long for everything. 60% busy without that."""
    yield "hosts  balance            slow host serves its workers busy   P(wait>1s)   99% within   mean stay"
    for count in (3, 10):
        for way in (LEASTCONN, WITH_AGENT, RANDOM_AGENT, ROUND_ROBIN, RANDOM):
            hosts = way.hosts(count)
            hosts[0] = replace(hosts[0], speed=SLOW)
            rate = SLOW_BUSY * _CAPACITY * count
            until = sessions / rate
            found = steady(hosts, way, rate, sessions)
            begun = found.sessions
            busy = found.utilisation(until / 10, until)[0]
            stays = [one.ended - one.arrived for one in found.visits]
            yield (
                f"{count:5}  {way.name:17} {begun[0] / sum(begun):15.1%} {busy:18.0%}"
                f" {found.waits.beyond(1.0):12.4f}"
                f" {found.waits.exceeded_by(0.01):11.2f}s {math.fsum(stays) / len(stays):10.2f}s"
            )


LOST = (600.0, 1200.0)
_END = 2400.0


def lost_table(_: int) -> Iterator[str]:
    """One of the hosts is gone from minute 10 to minute 20; leastconn, one queue."""
    yield "hosts   busy: all   those left   broken   P(wait>1s)   longest wait   queue timeout   over after"
    for busy in (0.5, 0.65, 0.8):
        for count in (2, 3, 5, 10):
            hosts = LEASTCONN.hosts(count)
            hosts[0] = replace(hosts[0], up=((0.0, LOST[0]), (LOST[1], math.inf)))
            chance = random.Random(SEED)
            arrivals = poisson(chance, busy * _CAPACITY * count, _END)
            found = simulate(hosts, LEASTCONN.balancer, arrivals, _lengths(), LIMITS)
            meanwhile = found.between(*LOST)
            yield (
                f"{count:5} {busy:11.0%} {busy * count / (count - 1):12.0%} {found.fates[Fate.BROKEN]:8}"
                f" {meanwhile.waits.beyond(1.0):12.4f} {meanwhile.waits.seconds[-1]:13.1f}s"
                f" {found.fates[Fate.QUEUE_TIMEOUT]:15} {_over(found) - LOST[1]:11.0f}s"
            )


def _over(found: Outcome) -> float:
    """When the last one who waited for a second, in the crowd that the loss has made, had waited enough."""
    late = [one.arrived + one.wait for one in found.visits if one.arrived > LOST[0] and one.wait > 1.0]
    crowd = LOST[1]
    for at in sorted(late):
        if at < crowd + 30.0:
            crowd = max(crowd, at)
    return crowd


PEAK = 17.0
GONE = (9.0, 11.0)  # o'clock
_HOUR = 3600.0


def day_table(_: int) -> Iterator[str]:
    """Three hosts in the course of a day, with all of them there, and with one gone from 9 to 11 o'clock."""
    whole = LEASTCONN.hosts(3)
    short = [replace(whole[0], up=((0.0, GONE[0] * _HOUR), (GONE[1] * _HOUR, math.inf))), *whole[1:]]
    found = [_day(hosts) for hosts in (whole, short)]
    busy = [outcome.utilisation_curve(0.0, DAY, _HOUR) for outcome in found]
    yield "                     all three there             one gone from 9 to 11"
    yield "hour    rate    busy   99% within   longest    busy   99% within   longest   deferred"
    for hour in range(24):
        cells = []
        for outcome, curve in zip(found, busy, strict=True):
            waits = outcome.between(hour * _HOUR, (hour + 1) * _HOUR).waits
            there = [share for share in curve[hour] if share]
            cells.append(
                f"{math.fsum(there) / len(there):8.0%} {waits.exceeded_by(0.01):11.2f}s"
                f" {waits.seconds[-1]:8.1f}s"
            )
        part = found[1].between(hour * _HOUR, (hour + 1) * _HOUR)
        deferred = sum(part.fates[fate] for fate in (Fate.BROKEN, Fate.QUEUE_TIMEOUT, Fate.GAVE_UP))
        rate = len(part.visits) / _HOUR
        yield f"{hour:4} {rate:5.1f}/s" + "".join(cells) + f" {deferred:10}"


def _day(hosts: Sequence[Host]) -> Outcome:
    arrivals = varying(random.Random(SEED), day(PEAK), PEAK, DAY)
    return simulate(hosts, LEASTCONN.balancer, arrivals, _lengths(), LIMITS)


def steady(hosts: Sequence[Host], way: Way, rate: float, sessions: int) -> Outcome:
    """So many sessions at one rate, without the first tenth, while the hosts fill."""
    until = sessions / rate
    arrivals = poisson(random.Random(SEED), rate, until)
    found = simulate(hosts, way.balancer, arrivals, _lengths(), replace(LIMITS, queue=math.inf))
    return found.between(until / 10, until)


def _lengths() -> Callable[[], float]:
    return lognormal(random.Random(SEED + 1), SERVICE_TIME, SERVICE_CV2)


TABLES = {"one": one_table, "hosts": hosts_table, "slow": slow_table, "lost": lost_table, "day": day_table}
SESSIONS = 60_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument(
        "tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)} (default: all of them)"
    )
    parser.add_argument("--sessions", type=int, default=SESSIONS, metavar="N", help=f"(default: {SESSIONS})")
    options = parser.parse_args()
    for name in options.tables or TABLES:
        print(TABLES[name].__doc__)
        for line in TABLES[name](options.sessions):
            print(f"    {line}".rstrip(), flush=True)
        print()


if __name__ == "__main__":
    main()
