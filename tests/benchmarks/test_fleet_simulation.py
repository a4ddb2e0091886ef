"""The simulated fleet: one queue in front is one pool, separate queues are separate, nobody is forgotten."""

import math
from collections import Counter
from itertools import accumulate, islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fleet_simulation import (
    DAY,
    SERVICE_TIME,
    WAYS,
    Balancer,
    Fate,
    Host,
    Limits,
    Outcome,
    Policy,
    day,
    model,
    poisson,
    simulate,
    simulated,
    varying,
)
from benchmarks.simulation import Draw, exponential, lognormal, open_pool
from bqfilter.saturation import law
from bqfilter.saturation.fleet import Balance, plan

GAPS = st.lists(st.floats(0.0, 5.0), max_size=60)
HOSTS = st.lists(
    st.builds(
        Host,
        workers=st.integers(1, 4),
        speed=st.sampled_from([0.5, 1.0, 2.0]),
        maxconn=st.sampled_from([None, 1, 4]),
        up=st.sampled_from([((0.0, math.inf),), ((0.0, 20.0), (40.0, math.inf)), ((10.0, 60.0),)]),
        drains=st.booleans(),
    ),
    min_size=1,
    max_size=4,
)
BALANCERS = st.builds(
    Balancer, st.sampled_from(Policy), st.integers(1, 2), st.sampled_from([None, 2.0])
)  # fmt: skip


def _mail(count: int, gap: float, seed: int = 1) -> tuple[list[float], Draw]:
    """Arrivals and session lengths."""
    chance = Random(seed)
    return list(islice(accumulate(iter(exponential(chance, gap), None)), count)), lognormal(chance, 2.0, 4.0)


def _fixed(
    hosts: list[Host], arrivals: list[float], length: float, *, limits: Limits | None = None
) -> Outcome:
    return simulate(hosts, Balancer(), arrivals, lambda: length, limits or Limits())


@pytest.mark.parametrize("policy", [Policy.LEASTCONN, Policy.ROUNDROBIN])
def test_one_queue_in_front_of_many_hosts_waits_like_one_pool(policy: Policy) -> None:
    arrivals, service = _mail(3000, 0.19)
    lengths = [service() for _ in arrivals]
    hosts = [Host(workers=count, maxconn=count) for count in (5, 4, 3)]
    found = simulate(hosts, Balancer(policy), arrivals, iter(lengths).__next__)
    gaps = [later - earlier for earlier, later in zip([0.0, *arrivals], arrivals, strict=False)]
    pool = open_pool(12, iter(gaps).__next__, iter(lengths).__next__, len(arrivals))
    assert found.between(arrivals[300], math.inf).waits.seconds == pytest.approx(pool.seconds, abs=1e-6)
    assert found.waits.p_wait > 0.1


def test_a_random_balancer_without_a_queue_makes_separate_pools() -> None:
    arrivals, service = _mail(3000, 0.19)
    found = simulate([Host(workers=4)] * 3, Balancer(Policy.RANDOM), arrivals, service)
    for index in range(3):
        own = [one for one in found.visits if one.host == index]
        lengths = iter([one.length for one in own]).__next__
        alone = simulate([Host(workers=4)], Balancer(), [one.arrived for one in own], lengths)
        assert [one.wait for one in alone.visits] == [one.wait for one in own]
        assert len(own) == pytest.approx(1000, abs=120)


def test_fewest_connections_wait_less_than_random_ones() -> None:
    arrivals, service = _mail(3000, 0.19)
    lengths = [service() for _ in arrivals]
    waits = {
        name: simulate([Host(workers=4)] * 3, balancer, arrivals, iter(lengths).__next__).waits.mean
        for name, balancer in {
            "leastconn": Balancer(),
            "two": Balancer(Policy.RANDOM, draws=2),
            "one": Balancer(Policy.RANDOM),
        }.items()
    }
    assert waits["leastconn"] < waits["two"] < waits["one"]


@given(HOSTS, BALANCERS, GAPS, st.integers(0, 9))
def test_everybody_has_one_fate_and_no_host_has_more_than_it_takes(
    hosts: list[Host], balancer: Balancer, gaps: list[float], seed: int
) -> None:
    limits = Limits(session=15.0, queue=10.0, patience=30.0, processes=12)
    arrivals = list(accumulate(gaps))
    found = simulate(hosts, balancer, arrivals, lognormal(Random(seed), 6.0, 4.0), limits, seed)
    assert [one.arrived for one in found.visits] == arrivals
    assert all(one.fate is not Fate.WAITS and one.ended < math.inf for one in found.visits)
    for at in arrivals:
        there = [one for one in found.visits if one.arrived <= at < one.ended]
        busy = Counter(one.host for one in there if one.started is not None and one.started <= at)
        assert len(there) <= 12
        assert all(busy[index] <= host.workers for index, host in enumerate(hosts))
        assert all(busy[index] <= (host.maxconn or math.inf) for index, host in enumerate(hosts))
    for one in found.visits:
        if one.started is not None and one.host is not None:
            assert any(
                first <= one.started < last or hosts[one.host].drains for first, last in hosts[one.host].up
            )
            assert one.ended - one.started <= 15.0 + 1e-9
        assert one.wait <= 30.0 + 1e-9


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 20), GAPS, st.integers(0, 9))
def test_with_a_queue_in_front_nobody_stays_longer_than_the_law_of_all_workers(
    counts: list[int], processes: int, gaps: list[float], seed: int
) -> None:
    hosts = [Host(workers=one, maxconn=one) for one in counts]
    limits = Limits(session=10.0, processes=processes)
    found = simulate(hosts, Balancer(), accumulate(gaps), lognormal(Random(seed), 8.0, 4.0), limits)
    longest = max((one.ended - one.arrived for one in found.visits), default=0.0)
    assert longest <= law.longest_stay(processes, sum(counts), 10.0) + 1e-6


def test_who_waits_in_front_is_closed_at_the_queues_limit_or_gives_up_before() -> None:
    host = Host(workers=1, maxconn=1)
    found = _fixed([host], [0.0, 1.0], 8.0, limits=Limits(queue=5.0, patience=6.0))
    assert [(one.fate, one.wait) for one in found.visits] == [(Fate.SERVED, 0.0), (Fate.QUEUE_TIMEOUT, 5.0)]
    found = _fixed([host], [0.0, 1.0], 8.0, limits=Limits(queue=5.0, patience=4.0))
    assert [(one.fate, one.wait) for one in found.visits] == [(Fate.SERVED, 0.0), (Fate.GAVE_UP, 4.0)]


def test_what_waits_at_the_host_knows_no_limit_of_the_queue_in_front() -> None:
    found = _fixed([Host(workers=1)], [0.0, 1.0], 8.0, limits=Limits(queue=5.0, patience=60.0))
    assert [(one.fate, one.wait) for one in found.visits] == [(Fate.SERVED, 0.0), (Fate.SERVED, 7.0)]


def test_a_session_is_longer_on_a_slow_host_and_cut_off_at_its_limit() -> None:
    found = _fixed([Host(workers=1, speed=0.5)], [0.0, 50.0], 8.0)
    assert [one.ended for one in found.visits] == [16.0, 66.0]
    found = _fixed([Host(workers=1, speed=0.5)], [0.0], 8.0, limits=Limits(session=10.0))
    assert [(one.ended, one.fate) for one in found.visits] == [(10.0, Fate.CUT_OFF)]


def test_a_lost_host_takes_what_it_has_with_it_and_serves_again_when_it_is_back() -> None:
    up = ((0.0, 5.0), (20.0, math.inf))
    found = _fixed(
        [Host(workers=1, up=up), Host(workers=1, up=((0.0, 30.0),))], [0.0, 1.0, 2.0, 3.0, 21.0], 8.0
    )
    assert [(one.host, one.fate) for one in found.visits] == [
        (0, Fate.BROKEN), (1, Fate.SERVED), (0, Fate.BROKEN), (1, Fate.SERVED), (0, Fate.SERVED),
    ]  # fmt: skip


def test_a_host_that_drains_finishes_what_it_has_and_gets_nothing_new() -> None:
    leaving = Host(workers=1, up=((0.0, 5.0),), drains=True)
    found = _fixed([leaving, Host(workers=1, up=((4.0, math.inf),))], [0.0, 1.0, 6.0], 8.0)
    assert [(one.host, one.ended) for one in found.visits] == [(0, 8.0), (0, 16.0), (1, 14.0)]
    assert {one.fate for one in found.visits} == {Fate.SERVED}


def test_a_host_that_comes_takes_from_the_queue_in_front() -> None:
    hosts = [Host(workers=1, maxconn=1), Host(workers=1, maxconn=1, up=((3.0, math.inf),))]
    assert [(one.host, one.started) for one in _fixed(hosts, [0.0, 1.0], 8.0).visits] == [(0, 0.0), (1, 3.0)]


def test_without_any_host_nobody_is_let_in() -> None:
    found = _fixed([Host(workers=1, up=((9.0, 20.0),))], [0.0, 10.0], 1.0)
    assert [one.fate for one in found.visits] == [Fate.REFUSED, Fate.SERVED]
    assert found.waits.seconds == [0.0]


def test_a_queue_that_nobody_will_ever_serve_ends_the_simulation_all_the_same() -> None:
    host = Host(workers=1, maxconn=1, up=((0.0, 3.0),))
    found = simulate([host], Balancer(agent_interval=2.0), [0.0, 1.0], lambda: 8.0)
    assert [one.fate for one in found.visits] == [Fate.BROKEN, Fate.WAITS]


def test_round_robin_goes_by_weight() -> None:
    hosts = [Host(workers=9, weight=2.0), Host(workers=9, weight=1.0)]
    found = simulate(hosts, Balancer(Policy.ROUNDROBIN), [float(at) for at in range(9)], lambda: 0.5)
    assert found.sessions == [6, 3]


def test_agents_take_work_from_a_slow_host_that_a_blind_balancer_would_drown() -> None:
    hosts = [Host(workers=5, speed=speed) for speed in (1.0, 1.0, 0.4)]
    arrivals, service = _mail(3000, 0.25)
    lengths = [service() for _ in arrivals]
    blind, told = (
        simulate(hosts, Balancer(Policy.RANDOM, agent_interval=interval), arrivals, iter(lengths).__next__)
        for interval in (None, 2.0)
    )
    assert told.sessions[2] < 0.8 * blind.sessions[2]
    assert told.waits.mean < 0.2 * blind.waits.mean


def test_utilisation_is_of_the_time_in_which_a_host_was_there() -> None:
    hosts = [Host(workers=2, up=((0.0, 10.0),), drains=True), Host(workers=1, up=((10.0, math.inf),))]
    found = _fixed(hosts, [0.0, 1.0, 12.0], 4.0)
    assert found.utilisation(0.0, 20.0) == pytest.approx([8 / 20, 4 / 10])
    assert found.utilisation_curve(2.0, 16.0, 10.0) == [
        pytest.approx([5 / 16, 0.0]),
        pytest.approx([0.0, 1.0]),
    ]


def test_a_day_has_its_peak_and_its_night() -> None:
    rate = day(20.0)
    assert rate(10 * 3600) == 20.0
    assert rate(DAY + 3.5 * 3600) == pytest.approx(rate(3.5 * 3600))
    assert rate(3 * 3600) < 0.2 * rate(10 * 3600)
    arrivals = list(varying(Random(1), day(1.0), 1.0, DAY))
    morning = sum(9 * 3600 <= at < 11 * 3600 for at in arrivals)
    assert arrivals == sorted(arrivals)
    assert morning == pytest.approx(2 * 3600 * 0.98, rel=0.1)
    assert morning > 5 * sum(2 * 3600 <= at < 4 * 3600 for at in arrivals)


def test_arrivals_end_in_time() -> None:
    found = list(poisson(Random(1), 2.0, 500.0))
    assert len(found) == pytest.approx(1000, rel=0.15)
    assert found[-1] < 500.0


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_the_formulas_of_tune_say_who_waits(way: tuple[str, Balance, Balancer, bool]) -> None:
    """To a tenth of it, as in the table of docs/tuning.md; mean waits come out too long, never too short."""
    _, balance, balancer, has_maxconn = way
    parts = ((10, 1.0), (10, 1.0), (20, 1.0))
    rate = 0.85 * 40 / SERVICE_TIME
    (expected,) = (
        one for one in plan(model(parts, rate)).prospects if one.balance is balance and not one.missing
    )
    found = simulated(parts, rate, balancer, has_maxconn, 40_000, 3).waits
    assert expected.p_wait == pytest.approx(found.p_wait, rel=0.15)
    assert expected.mean_wait is not None
    assert found.mean < expected.mean_wait < 3 * found.mean
