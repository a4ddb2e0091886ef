"""Who waits for how long at three real filter hosts, and at three simulated ones.

    python -m tests.hosts.comparison                       # the tables of docs/scaling.md; some five minutes
    python -m tests.hosts.comparison --seconds 60 --busy 0.8

Letters come independently of each other through two real MX, and HAProxy writes down of each connection when
it came, how long it waited in its queue, and how long its session took. The simulation gets the same arrivals
and the same sessions, in their order; that is the comparison. What chance alone makes of so short a time is
shown by runs whose arrivals are drawn anew, and whose sessions are drawn from those measured.

HAProxy measures in milliseconds, and on a busy machine needs some of them for nothing; who waited less than
20 ms did not wait.
"""

import argparse
import math
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from benchmarks.fleet_simulation import Balancer, Fate, Host, Outcome, Policy, poisson, simulate
from benchmarks.simulation import Draw, Waits, exponential, lognormal
from tests.doubles.components import program, require

from .crowd import Crowd
from .site import FILTERS, Site, site, why_not

WORKERS = 4
SECONDS = 120.0
MEAN, CV2 = 1.0, 1.0  # of the sessions, as they are asked for
BUSY = (0.7, 0.85)  # of all workers
AT_ONCE = 0.02  # seconds: not a wait
THRESHOLDS = (AT_ONCE, 0.1, 0.25, 0.5, 1.0, 2.0)
_WARMING_UP = 10.0  # seconds that do not count
_INTERVAL = 2.0  # of checks and agents, as in the shipped configuration
_RUNS = 200  # to see what chance does
_SEED = 1

_LINE = re.compile(
    r"^\S+ \[(?P<came>[^]]+)\] bqfilterd bqfilterd/(?P<host>filter\d)"
    r" (?P<queue>-?\d+)/(?P<connect>-?\d+)/(?P<all>\d+) ",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Stay:
    """One connection, as HAProxy saw it; in seconds."""

    came: float
    waited: float
    session: float
    host: str


def measure(haproxy: str, busy: float, seconds: float) -> list[Stay]:
    """What a load that should keep this share of the workers busy has met with."""
    rate = busy * WORKERS * len(FILTERS) / MEAN
    with site(haproxy, WORKERS, f"{_INTERVAL:g}s") as place, place.clients.entered():
        _send(place, rate, seconds)
        return stays(place.balancer.log())


def _send(place: Site, rate: float, seconds: float) -> None:
    chance = random.Random(_SEED)
    length = lognormal(chance, MEAN, CV2)
    doors = [one.at("smtp-in") for one in place.mx]
    begin = time.monotonic()
    with Crowd(doors, 0, length, others=1000) as crowd:
        for due in accumulate(iter(exponential(chance, 1 / rate), None)):
            if due > seconds:
                break
            time.sleep(max(0.0, begin + due - time.monotonic()))
            crowd.send(length())
    assert crowd.failures == []
    assert all(len(letter.attempts) == 1 for letter in crowd.letters), "something was deferred"


def stays(log: str) -> list[Stay]:
    """Of all connections in HAProxy's log, in the order in which they came."""
    found = [_stay(line) for line in _LINE.finditer(log)]
    return sorted(found, key=lambda one: one.came)


def _stay(line: "re.Match[str]") -> Stay:
    queue, connect, everything = (int(line[name]) / 1000 for name in ("queue", "connect", "all"))
    came = datetime.strptime(line["came"], "%d/%b/%Y:%H:%M:%S.%f").timestamp()  # noqa: DTZ007 - differences
    return Stay(came, queue, everything - queue - connect, line["host"])


def again(real: Sequence[Stay]) -> Outcome:
    """The same connections, simulated."""
    begin = real[0].came
    lengths = iter([one.session for one in real])
    return _simulated([one.came - begin for one in real], lambda: next(lengths))


def by_chance(real: Sequence[Stay], busy: float, runs: int) -> list[Waits]:
    """What other minutes could have brought, with as much mail."""
    lengths, until = [one.session for one in real], real[-1].came - real[0].came
    rate = busy * WORKERS * len(FILTERS) / MEAN
    found = []
    for seed in range(runs):
        chance = random.Random(seed)
        arrivals = list(poisson(chance, rate, until))
        found.append(_waits(_simulated(arrivals, lambda chance=chance: chance.choice(lengths))))
    return found


def _simulated(arrivals: Sequence[float], length: Draw) -> Outcome:
    hosts = [Host(workers=WORKERS, maxconn=WORKERS)] * len(FILTERS)
    outcome = simulate(hosts, Balancer(Policy.LEASTCONN, agent_interval=_INTERVAL), arrivals, length)
    assert set(outcome.fates) == {Fate.SERVED}
    return outcome


def _waits(outcome: Outcome) -> Waits:
    return outcome.between(_WARMING_UP, math.inf).waits


def table(real: Sequence[Stay], busy: float, runs: int) -> Iterator[str]:
    """As it stands on the page."""
    begin = real[0].came + _WARMING_UP
    met = [one for one in real if one.came >= begin]
    seconds = real[-1].came - begin
    work = math.fsum(one.session for one in met)
    yield (
        f"{len(met)} sessions, {len(met) / seconds:.1f}/s of {work / len(met):.2f} s:"
        f" {work / seconds / WORKERS / len(FILTERS):.0%} of {len(FILTERS)} x {WORKERS} workers busy"
    )
    yield ""
    yield "| wait | real | simulated | by chance |"
    yield "| --- | --: | --: | --: |"
    measured, same = Waits(sorted(one.waited for one in met)), _waits(again(real))
    others = by_chance(real, busy, runs)
    for threshold in THRESHOLDS:
        shares = [waits.beyond(threshold) for waits in (measured, same, *others)]
        yield _row(f"longer than {threshold:g} s", shares, "%")
    yield _row("mean", [waits.mean for waits in (measured, same, *others)], "s")
    for share in (0.05, 0.01):
        values = [waits.exceeded_by(share) for waits in (measured, same, *others)]
        yield _row(f"of {1 - share:.0%} less than", values, "s")


def _row(name: str, values: Sequence[float], unit: str) -> str:
    real, same, *others = values
    others.sort()
    low, high = others[len(others) // 20], others[-1 - len(others) // 20]
    show = "{:.1%}".format if unit == "%" else "{:.2f} s".format
    return f"| {name} | {show(real)} | {show(same)} | {show(low)} to {show(high)} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hosts.comparison", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each load [{SECONDS:g}]")
    parser.add_argument("--busy", type=float, nargs="+", default=BUSY, help=f"loads {BUSY}")
    options = parser.parse_args()
    require(why_not())
    haproxy = program("haproxy", "haproxy")
    for busy in options.busy:
        print("\n".join(table(measure(haproxy, busy, options.seconds), busy, _RUNS)), end="\n\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
