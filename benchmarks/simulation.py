"""A pool of workers simulated event by event: what the formulas of `bqfilterd tune` are held against.

`python -m benchmarks.simulation` prints the formulas beside the simulation, for the pool of docs/tuning.md,
and the longest stay in closed systems of before-filter processes beside the law; `crowd` is for a picture on
that page. Standard library only; the same seed gives the same numbers. Nothing of bqfilterd runs here: the
model is tested, not the program.
"""

import argparse
import heapq
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice

from bqfilter.saturation import law
from bqfilter.saturation.queueing import Load

Draw = Callable[[], float]


def exponential(chance: random.Random, mean: float) -> Draw:
    """Times between independent events."""
    return lambda: chance.expovariate(1 / mean)


def lognormal(chance: random.Random, mean: float, cv2: float) -> Draw:
    """Times as those of mail filters are: most short, a few very long."""
    variance = math.log(1 + cv2)
    centre, spread = math.log(mean) - variance / 2, math.sqrt(variance)
    return lambda: chance.lognormvariate(centre, spread)


def bursty(chance: random.Random, mean: float, cv2: float) -> Draw:
    """Independent gaps of two kinds, short ones within a burst and long ones between (hyperexponential)."""
    short_share = (1 + math.sqrt((cv2 - 1) / (cv2 + 1))) / 2
    short, long = mean / (2 * short_share), mean / (2 * (1 - short_share))
    return lambda: chance.expovariate(1 / (short if chance.random() < short_share else long))


@dataclass(frozen=True, slots=True)
class Waits:
    """How long each simulated session waited, in ascending order."""

    seconds: list[float]

    @property
    def p_wait(self) -> float:
        return self.beyond(0.0)

    @property
    def mean(self) -> float:
        return math.fsum(self.seconds) / len(self.seconds)

    def beyond(self, limit: float) -> float:
        """The share that waited longer than this."""
        return sum(one > limit for one in self.seconds) / len(self.seconds)

    def exceeded_by(self, share: float) -> float:
        """The wait that this share went beyond."""
        return self.seconds[min(len(self.seconds) - 1, int((1 - share) * len(self.seconds)))]


def open_pool(workers: int, gap: Draw, service: Draw, sessions: int) -> Waits:
    """First come, first served, whatever comes; the first tenth, while the pool fills, is left out."""
    free_at = [0.0] * workers
    waits = [
        _serve(free_at, arrival, service()) - arrival
        for arrival in islice(accumulate(iter(gap, None)), sessions)
    ]
    return Waits(sorted(waits[sessions // 10 :]))


def closed_pool(processes: int, workers: int, think: Draw, service: Draw, sessions: int) -> float:
    """The longest stay, wait and session together, when each process has one connection at a time."""
    free_at = [0.0] * workers
    coming = [think() for _ in range(processes)]
    heapq.heapify(coming)
    longest = 0.0
    for _ in range(sessions):
        arrival, length = coming[0], service()
        end = _serve(free_at, arrival, length) + length
        longest = max(longest, end - arrival)
        heapq.heapreplace(coming, end + think())
    return longest


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection: made, given a worker (None: its client gave up first), and ended."""

    connected: float
    started: float | None
    ended: float

    @property
    def wait(self) -> float:
        return (self.ended if self.started is None else self.started) - self.connected


def crowd(
    processes: int,
    workers: int,
    patience: float,
    arrivals: Iterable[float],
    service: Callable[[float], float],
) -> Iterator[Visit]:
    """The connections in a time in which anything may happen: how long a session takes depends on its start.

    Nobody waits longer than `patience`. Who finds no before-filter process free comes again some other day.
    """
    process_free_at, worker_free_at = [0.0] * processes, [0.0] * workers
    for arrival in arrivals:
        if process_free_at[0] <= arrival:
            visit = _visit(worker_free_at, arrival, patience, service)
            heapq.heapreplace(process_free_at, visit.ended)
            yield visit


def _visit(free_at: list[float], arrival: float, patience: float, service: Callable[[float], float]) -> Visit:
    start = max(arrival, free_at[0])
    if start - arrival > patience:
        return Visit(arrival, None, arrival + patience)
    length = service(start)
    _serve(free_at, arrival, length)
    return Visit(arrival, start, start + length)


def _serve(free_at: list[float], arrival: float, length: float) -> float:
    """Give a connection to the worker that is free first; when it starts."""
    start = max(arrival, free_at[0])
    heapq.heapreplace(free_at, start + length)
    return start


SERVICE = Load(rate=8, service_time=2.5, service_cv2=4)
WORKERS = (21, 24, 26, 28, 34)
BURSTS = (2.0, 3.0, 5.0)
CLOSED = ((100, 34, 33.0), (100, 50, 50.0), (100, 20, 20.0), (100, 30, 30.0))  # processes, workers, limit
PROXY_TIMEOUT = 100.0


def waits_table(sessions: int, seed: int) -> Iterator[str]:
    """Model and simulation for independent arrivals and lognormal sessions."""
    yield "workers   P(wait)        mean wait        P(wait > 1s)      P(wait > 5s)      99th percentile"
    yield "          model   sim    model    sim     model    sim      model    sim      model   sim"
    for workers in WORKERS:
        chance = random.Random(seed)
        service = lognormal(chance, SERVICE.service_time, SERVICE.service_cv2)
        found = open_pool(workers, exponential(chance, 1 / SERVICE.rate), service, sessions)
        yield (
            f"{workers:7}   {SERVICE.p_wait(workers):.4f} {found.p_wait:.4f}"
            f"  {SERVICE.mean_wait(workers):6.3f}s {found.mean:6.3f}s"
            f"  {SERVICE.p_wait_beyond(workers, 1):.4f}   {found.beyond(1):.4f}"
            f"   {SERVICE.p_wait_beyond(workers, 5):.4f}   {found.beyond(5):.4f}"
            f"   {SERVICE.wait_exceeded_by(0.01, workers):5.1f}s {found.exceeded_by(0.01):5.1f}s"
        )


def bursts_table(sessions: int, seed: int) -> Iterator[str]:
    """Model and simulation of the share that waits, for arrivals in bursts."""
    yield "arrival-cv2   workers   P(wait): model  simulation"
    for cv2 in BURSTS:
        load = Load(SERVICE.rate, SERVICE.service_time, SERVICE.service_cv2, cv2)
        for workers in WORKERS[1:]:
            chance = random.Random(seed)
            service = lognormal(chance, load.service_time, load.service_cv2)
            found = open_pool(workers, bursty(chance, 1 / load.rate, cv2), service, sessions)
            yield f"{cv2:11}   {workers:7}   {load.p_wait(workers):14.4f}  {found.p_wait:10.4f}"


def law_table(sessions: int, seed: int) -> Iterator[str]:
    """The longest stay that the law allows, and the longest in a simulation at full load."""
    yield "processes   workers   session   law: at most   simulation   law holds"
    for processes, workers, limit in CLOSED:
        chance = random.Random(seed)
        longest = closed_pool(processes, workers, lambda: 0.0, _near_limit(chance, limit), sessions)
        allowed = law.longest_stay(processes, workers, limit)
        verdict = "yes" if law.holds(processes, workers, PROXY_TIMEOUT, limit) else "no"
        stays = f"{allowed:11.0f}s   {longest:9.1f}s"
        yield f"{processes:9}   {workers:7}   {limit:6.0f}s   {stays}   {verdict:>9}"


def _near_limit(chance: random.Random, limit: float) -> Draw:
    """Sessions that all but use up their limit, as when a scanner hangs: the worst there is."""
    return lambda: limit * (1 - 0.02 * chance.random())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--sessions", type=int, default=300_000, metavar="N", help="(default: 300000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(default: 1)")
    options = parser.parse_args()
    for table in (waits_table, bursts_table, law_table):
        print(table.__doc__)
        for line in table(options.sessions, options.seed):
            print("   ", line)
        print()


if __name__ == "__main__":
    main()
