"""Plans for a fleet: one pool of all workers or one for each host, and always without the largest."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bqfilter.saturation import law
from bqfilter.saturation.fleet import (
    Balance,
    Breach,
    Fleet,
    FleetPlan,
    Host,
    Prospect,
    fleet_layer,
    left,
    measured_together,
    offers,
    plan,
    spread,
    survivors,
)
from bqfilter.saturation.queueing import Load
from bqfilter.saturation.sizing import Measured, Source, gather

EXAMPLE: dict[str, Any] = {
    "rate": 15.0, "service_time": 2.5, "service_cv2": 4.0, "before_maxproc": 200, "speed_adjust": True,
    "session": 30.0,
}  # fmt: skip


def hosts(*workers: int, **given: Any) -> tuple[Host, ...]:
    return tuple(Host(name=f"mx{number}", workers=count, **given) for number, count in enumerate(workers, 1))


def fleet(*workers: int, queue_timeout: float | None = None, **changes: Any) -> Fleet:
    return Fleet(hosts(*workers), gather({Source.OPTION: {**EXAMPLE, **changes}}), queue_timeout)


def prospect(of: FleetPlan, missing: str | None, balance: Balance) -> Prospect:
    (found,) = (one for one in of.prospects if one.missing == missing and one.balance is balance)
    return found


def with_times(*times: tuple[int, float], **changes: Any) -> Fleet:
    """Hosts with their workers and mean session times."""
    made = [
        Host(name=f"mx{number}", workers=workers, measured=Measured(service_time=time, service_cv2=4.0))
        for number, (workers, time) in enumerate(times, 1)
    ]
    return Fleet(tuple(made), gather({Source.OPTION: {**EXAMPLE, **changes}}))


def test_behind_one_queue_equal_hosts_are_one_pool() -> None:
    found = prospect(plan(fleet(20, 20, 20)), None, Balance.ONE_QUEUE)
    pool = Load(15.0, 2.5, 4.0)
    assert found.workers == 60
    assert found.p_wait == pytest.approx(pool.p_wait(60))
    assert found.mean_wait == pytest.approx(pool.mean_wait(60))
    assert found.longest_stay == law.longest_stay(200, 60, 30.0)


def test_at_random_each_is_a_pool_of_its_own_that_may_get_everybody() -> None:
    found = prospect(plan(fleet(20, 20, 20)), None, Balance.RANDOM)
    assert found.p_wait == pytest.approx(Load(5.0, 2.5, 4.0).p_wait(20))
    assert found.longest_stay == law.longest_stay(200, 20, 30.0)
    assert not found.law_holds


def test_at_random_unequal_hosts_wait_as_their_shares_have_it() -> None:
    found = prospect(plan(fleet(10, 30)), None, Balance.RANDOM)
    parts = 0.25 * Load(3.75, 2.5, 4.0).mean_wait(10) + 0.75 * Load(11.25, 2.5, 4.0).mean_wait(30)
    assert found.mean_wait == pytest.approx(parts)


def test_a_slow_host_behind_one_queue_gets_less() -> None:
    """It is as busy as the other, and no more; chance would drown it."""
    found = prospect(plan(with_times((20, 2.5), (20, 5.0))), None, Balance.ONE_QUEUE)
    assert found.utilisation == pytest.approx(15.0 / (20 / 2.5 + 20 / 5.0))
    drowned = prospect(plan(with_times((20, 2.5), (20, 5.0))), None, Balance.RANDOM)
    assert drowned.mean_wait == math.inf


def test_bursts_are_milder_where_chance_takes_them_apart() -> None:
    bursty = plan(fleet(20, 20, 20, arrival_cv2=4.0))
    apart = prospect(bursty, None, Balance.RANDOM)
    assert apart.p_wait == pytest.approx(Load(5.0, 2.5, 4.0, 2.0).p_wait(20))


def test_the_host_that_is_missed_most_is_the_one_that_did_most() -> None:
    assert [host.name for host in survivors(with_times((20, 5.0), (16, 2.0), (20, 5.0)))] == ["mx1", "mx3"]
    assert [host.name for host in survivors(fleet(10, 30, 20))] == ["mx1", "mx3"]
    assert prospect(plan(fleet(10, 30, 20)), "mx2", Balance.ONE_QUEUE).workers == 30


def test_the_law_is_asked_of_what_is_left_and_says_what_would_do() -> None:
    found = plan(fleet(20, 20, 20))
    assert found.breaches == (Breach.LAW, Breach.LAW_ONE_DOWN, Breach.COMFORT_ONE_DOWN)
    assert found.workers == (34, 34, 34)  # 68 of them are left, and 67 are needed
    assert found.hosts_needed == 5
    assert {one.name: one.value for one in found.constraints} == {
        "comfort": 49, "law": 67, "before-filter": 200,
    }  # fmt: skip
    assert [one.name for one in found.constraints if one.binds] == ["law"]
    assert not any(one.is_met for one in found.constraints[:2])
    assert plan(fleet(34, 34, 34)).breaches == ()


def test_comfort_binds_where_the_load_is_large() -> None:
    found = plan(fleet(34, 34, 34, rate=30.0))
    assert [one.name for one in found.constraints if one.binds] == ["comfort"]
    assert found.breaches == (Breach.COMFORT_ONE_DOWN,)


def test_with_a_worker_for_each_process_nobody_waits_whatever_the_load() -> None:
    found = plan(fleet(100, 100, 100, rate=100.0))
    assert found.breaches == ()
    assert [one.name for one in found.constraints if one.binds] == ["before-filter"]


def test_without_speed_adjust_each_process_needs_a_worker_that_is_left() -> None:
    assert plan(fleet(20, 20, 20, speed_adjust=False)).workers == (100, 100, 100)


def test_unequal_hosts_keep_their_proportions() -> None:
    found = plan(fleet(10, 20, 20))
    assert found.workers is not None
    assert left(found.workers) >= 67
    assert found.workers[1] == found.workers[2] == pytest.approx(2 * found.workers[0], abs=1)


def test_more_hosts_are_like_the_smallest() -> None:
    assert plan(fleet(40, 20)).hosts_needed == 5  # without the 40, four times 20 are left
    assert plan(fleet(80, 80, 80)).hosts_needed == 2


def test_one_host_is_no_fleet() -> None:
    found = plan(fleet(100))
    assert found.breaches == (Breach.ALONE,)
    assert found.workers is None
    assert found.hosts_needed == 2
    assert [one.missing for one in found.prospects] == [None, None]
    assert found.maxconn == (100,)


def test_what_does_not_fit_into_a_host_is_said() -> None:
    found = plan(fleet(20, 20, memory=10**9, worker_memory=45 * 10**6))
    assert found.workers == (67, 67)
    assert not found.is_enough
    assert plan(fleet(20, 20, memory=4 * 10**9, worker_memory=45 * 10**6)).is_enough


def test_a_shorter_session_may_do_where_only_the_law_is_in_the_way() -> None:
    assert plan(fleet(30, 30, 30, rate=8.0)).session == 25.0  # 200 on 60: four turns
    assert plan(fleet(34, 34, 34)).session == 30.0
    assert plan(fleet(20, 20, 20)).session is None
    assert plan(fleet(30, 30, 30, rate=8.0, speed_adjust=False)).session is None


def test_session_limits_are_offered_with_the_workers_they_take() -> None:
    assert list(offers(fleet(20, 20, 20, session=0.0), 3)) == [(50.0, 50), (30.0, 34), (25.0, 25)]


def test_the_queue_in_front_may_be_as_long_as_the_law_allows() -> None:
    found = plan(fleet(34, 34, 34))
    assert found.longest_queue == 60.0
    assert plan(fleet(34, 34, 34, queue_timeout=60.0)).breaches == ()
    assert plan(fleet(34, 34, 34, queue_timeout=30.0)).breaches == (Breach.QUEUE_TIMEOUT,)
    assert plan(fleet(100, 100, 100, speed_adjust=False)).longest_queue == 0.0
    assert plan(fleet(34, 34, 34, session=0.0)).longest_queue == 0.0


def test_a_host_with_too_few_processes_behind_it_is_named() -> None:
    starving = replace(
        fleet(34, 34, 34), hosts=(*hosts(34, 34), Host(name="mx3", workers=34, after_maxproc=33))
    )
    assert plan(starving).breaches == (Breach.STARVED,)
    assert plan(starving).starved == ("mx3",)


def test_without_a_load_the_law_alone_decides() -> None:
    found = plan(fleet(20, 20, 20, rate=None, service_time=None))
    assert found.workers == (34, 34, 34)
    assert {one.p_wait for one in found.prospects} == {None}
    assert [one.name for one in found.constraints] == ["law", "before-filter"]


def test_what_hosts_were_told_counts_at_its_worst() -> None:
    told = [
        Host(name="a", workers=2, session=30.0, proxy_timeout=100.0, speed_adjust=True, before_maxproc=60),
        Host(name="b", workers=2, session=50.0, proxy_timeout=90.0, speed_adjust=False, before_maxproc=40),
        Host(name="c", workers=2),
    ]
    assert fleet_layer(told) == {
        "session": 50.0, "proxy_timeout": 90.0, "speed_adjust": False, "before_maxproc": 100,
    }  # fmt: skip
    assert fleet_layer([*told, Host(name="d", workers=2, session=0.0)])["session"] == 0.0
    assert set(fleet_layer(told[2:]).values()) == {None}


def test_measurements_are_mixed_by_the_sessions_they_are_of() -> None:
    measured = [
        Measured(rate=6.0, service_time=2.0, service_cv2=1.0, upload_time=0.5, worker_memory=10),
        Measured(rate=2.0, service_time=4.0, service_cv2=1.0, upload_time=0.5, worker_memory=20),
        Measured(),
    ]
    layer = measured_together([Host(name=str(one), workers=9, measured=one) for one in measured], 1.5)
    assert layer["rate"] == 12.0
    assert layer["service_time"] == 2.5
    # Squares of 8 and 32, three of the one on one of the other: 14, and 14 / 2.5 ** 2 - 1.
    assert layer["service_cv2"] == pytest.approx(1.24)
    assert (layer["upload_time"], layer["worker_memory"]) == (0.5, 20)
    assert measured_together(hosts(2, 2), 1.5) == {}


def test_a_known_peak_goes_before_the_sum_of_means() -> None:
    host = Host(name="a", workers=9, measured=Measured(rate=6.0, service_time=2.0))
    assert measured_together([host], 1.5, peak=20.0)["rate"] == 30.0


def test_a_load_that_is_not_spread_as_it_should_be_is_seen() -> None:
    def busy(name: str, rate: float) -> Host:
        return Host(name=name, workers=10, measured=Measured(rate=rate, service_time=1.0))

    found = spread([busy("a", 4.0), busy("b", 8.0), busy("c", 5.0), Host(name="d", workers=1)])
    assert found is not None
    assert [one.name for one in found] == ["b", "a"]
    assert spread([busy("a", 4.0), busy("b", 5.0)]) is None
    assert spread([busy("a", 0.1), busy("b", 0.5)]) is None  # nobody has much to do
    assert spread([busy("a", 4.0)]) is None


COUNTS = st.lists(st.integers(1, 40), min_size=2, max_size=5)


@settings(max_examples=40)
@given(COUNTS, st.integers(1, 300), st.sampled_from([0.0, 20.0, 30.0, 50.0]), st.floats(0.1, 40.0))
def test_what_is_proposed_is_enough_and_one_less_is_not(
    counts: list[int], processes: int, session: float, rate: float
) -> None:
    made = fleet(*counts, before_maxproc=processes, session=session, rate=rate)
    found = plan(made)
    assert found.workers is not None
    assert found.hosts_needed is not None

    def bad(workers: tuple[int, ...]) -> set[Breach]:
        return set(plan(replace(made, hosts=hosts(*workers))).breaches)

    assert bad(found.workers) == set()
    smallest, ranked = min(counts), sorted(counts, reverse=True)
    needed = [*ranked, *[smallest] * found.hosts_needed][: found.hosts_needed]
    assert bad(tuple(needed)) == set()
    if found.hosts_needed > 2:
        assert bad(tuple(needed[:-1]))
    if max(found.workers) > 1:
        largest = max(found.workers) - 1
        assert bad(tuple(-(-largest * count // max(counts)) for count in counts))
