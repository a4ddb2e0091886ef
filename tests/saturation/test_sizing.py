"""Plans: the worked example with its variants, and what cannot be had."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.schema import PoolSettings, keys_of
from bqfilter.saturation import advice, law
from bqfilter.saturation.sizing import (
    MOST_WORKERS,
    Breach,
    Figures,
    Measured,
    Source,
    breaches,
    gather,
    measured_layer,
    outlook,
    propose,
    telling_counts,
)

EXAMPLE: dict[str, Any] = {
    "rate": 8.0,
    "service_time": 2.5,
    "service_cv2": 4.0,
    "arrival_cv2": 1.0,
    "speed_adjust": True,
    "before_maxproc": 100,
    "after_maxproc": 100,
    "proxy_timeout": 100.0,
    "session": 30.0,
    "worker_memory": 45 * 10**6,
    "memory": 2_500 * 10**6,
    "base_memory": 100 * 10**6,
    "cpu_per_message": 0.4,
    "cores": 5,
}


def figures(**changes: Any) -> Figures:
    return gather({Source.OPTION: {**EXAMPLE, **changes}})


def values(of: Figures) -> dict[str, float]:
    return {one.name: one.value for one in propose(of).constraints}


def binding(of: Figures) -> set[str]:
    return {one.name for one in propose(of).constraints if one.binds}


def unmet(of: Figures) -> set[str]:
    return {one.name for one in propose(of).constraints if not one.is_met}


def words(of: Figures) -> str:
    return "\n".join(advice.remedies(propose(of)))


def test_the_worked_example_takes_34_workers_because_of_the_law() -> None:
    plan = propose(figures())
    assert values(figures()) == {
        "comfort": 29,
        "law": 34,
        "memory": 53,
        "before-filter": 100,
        "after-filter": 100,
        "pool.workers": 500,
        "cpu": pytest.approx(0.64),
        "backlog": 256,
    }
    assert (plan.choice.workers, plan.choice.session, plan.choice.is_enough) == (34, 30, True)
    assert binding(figures()) == {"law"}
    assert unmet(figures()) == set()
    assert plan.surge == pytest.approx(1.7)


def test_how_high_may_maxproc_go_with_34_workers() -> None:
    assert law.most_processes(34, 100, 30) == 102
    assert propose(figures(before_maxproc=102)).choice.workers == 34
    assert propose(figures(before_maxproc=103)).choice.workers == 35


def test_without_a_session_limit_memory_is_too_small_for_a_worker_each() -> None:
    of = figures(session=0.0)
    assert values(of)["law"] == 100
    assert of.need_memory(100) == 4_600 * 10**6
    assert binding(of) == {"memory"}
    plan = propose(of)
    assert (plan.choice.workers, plan.choice.session, plan.choice.is_enough) == (34, 30, True)
    assert "100 workers take 4.6GB, and there are 2.5GB, enough for 53" in words(of)
    assert "Set budget.session to 30s, or maxproc of the before-filter service to at most 53" in words(of)


def test_memory_for_20_workers_is_not_enough() -> None:
    of = figures(memory=1_000 * 10**6)
    plan = propose(of)
    assert (plan.choice.workers, plan.choice.session, plan.choice.is_enough) == (20, 20, False)
    assert binding(of) == {"memory"}
    assert unmet(of) == {"comfort", "law"}
    assert "Unstable: 20 sessions at a time are asked of 20 workers" in words(of)
    assert "at most 1.6s (now 2.5s)" in words(of)
    assert propose(figures(memory=1_000 * 10**6, service_time=1.6)).choice.is_enough


def test_without_speed_adjust_the_upload_holds_the_workers() -> None:
    of = figures(speed_adjust=False, upload_time=6.0)
    assert of.load is not None
    assert of.load.service_time == pytest.approx(8.5)
    assert of.load.erlangs == pytest.approx(68)
    assert values(of)["comfort"] == 86
    plan = propose(of)
    assert (plan.choice.workers, plan.choice.before_maxproc, plan.choice.is_enough) == (53, 53, False)
    assert "at port 25" in words(of)
    assert "Turned on, and with budget.session = 30s, 34 workers do." in words(of)
    assert "set it to 0s" in words(of)


def test_without_speed_adjust_every_process_gets_a_worker_whatever_the_session_limit() -> None:
    assert propose(figures(speed_adjust=False, memory=None)).choice.workers == 100


def test_a_session_limit_beyond_the_proxy_timeout_is_none() -> None:
    of = figures(session=120.0, memory=None)
    assert propose(of).choice.workers == 100
    assert "A session limit of 120s is longer than smtpd_proxy_timeout (100s)" in words(of)
    assert breaches(replace(of, workers=99)) == [Breach.LAW]
    assert breaches(replace(of, workers=100)) == []


def test_what_may_pass_in_a_queue_in_front_is_missing_for_the_turns() -> None:
    waited = figures(queue_wait=35.0, workers=34)

    assert values(waited)["law"] == 50  # two turns of 30s in 65s, no longer three
    assert breaches(waited) == [Breach.LAW]
    assert breaches(figures(workers=34)) == []
    assert "smtpd_proxy_timeout is 100s less 35s in front of us" in advice.breach_text(Breach.LAW, waited)
    assert "or budget.session to at most 21666ms" in advice.breach_text(Breach.LAW, waited)
    assert outlook(waited, 50).longest_stay == 95.0
    assert values(figures(queue_wait=71.0))["law"] == 100  # nobody may wait a second time


def test_no_session_limit_and_fewer_workers_than_processes_breaks_the_law() -> None:
    of = figures(session=0.0, workers=99)
    assert breaches(of) == [Breach.LAW]
    assert "no limit to a session" in advice.breach_text(Breach.LAW, of)
    assert "budget.session to at most 50s" in advice.breach_text(Breach.LAW, of)


def test_no_worker_fits() -> None:
    of = figures(memory=120 * 10**6)
    plan = propose(of)
    assert plan.choice.workers == 0
    assert not plan.choice.is_enough
    assert "enough for 0" in words(of)


def test_more_waits_than_wanted_are_told_from_a_queue_without_end() -> None:
    of = figures(memory=(100 + 45 * 26) * 10**6)
    plan = propose(of)
    assert (plan.choice.workers, plan.choice.session) == (26, 25)
    assert "More will wait than you want to" in words(of)
    assert "Unstable" not in words(of)


def test_where_a_shorter_session_would_cut_off_too_much_maxproc_comes_down() -> None:
    of = figures(memory=(100 + 45 * 10) * 10**6, rate=0.5, service_time=8.0, session=50.0)
    plan = propose(of)
    assert (plan.choice.workers, plan.choice.session, plan.choice.before_maxproc) == (10, 50, 20)
    assert "Set maxproc of the before-filter service to at most 20." in words(of)


def test_no_more_workers_than_processes_that_could_use_them() -> None:
    of = figures(before_maxproc=25)
    assert propose(of).choice.workers == 25
    assert binding(of) == {"before-filter"}
    assert "comfort" not in unmet(of)


def test_more_work_than_processes_is_not_enough() -> None:
    plan = propose(figures(before_maxproc=20))
    assert (plan.choice.workers, plan.choice.is_enough) == (20, False)


def test_the_after_filter_service_gets_a_process_for_each_worker() -> None:
    of = figures(after_maxproc=20)
    assert propose(of).after_maxproc == 34
    assert unmet(of) == {"after-filter"}
    assert "would starve 14 workers" in words(of)
    assert breaches(figures(after_maxproc=20, workers=34)) == [Breach.STARVED]


def test_processors_that_are_too_few_are_not_mended_by_workers() -> None:
    assert unmet(figures(cores=4)) == {"cpu"}
    assert "More workers only lengthen every session; it takes 5 cores" in words(figures(cores=4))
    assert not propose(figures(cores=3)).choice.is_enough


def test_a_short_backlog_is_raised_beyond_the_processes() -> None:
    of = figures(backlog=50, somaxconn=100)
    assert propose(of).backlog == 116
    assert unmet(of) == {"backlog"}
    assert "sysctl -w net.core.somaxconn=116" in advice.commands(propose(of), advice.Services())


def test_a_pool_that_no_setting_allows_takes_several_machines() -> None:
    of = figures(rate=300.0, before_maxproc=2000, memory=None, cpu_per_message=None)
    assert propose(of).choice.workers == MOST_WORKERS
    assert binding(of) == {"pool.workers"}
    assert "use several machines" in words(of)


def test_the_most_workers_are_those_of_the_setting() -> None:
    kind = next(row.setting.kind for row in keys_of(PoolSettings) if row.name == "workers")
    assert kind.allowed.endswith(f"to {MOST_WORKERS}")


def test_with_nothing_known_the_law_still_speaks() -> None:
    of = gather({})
    plan = propose(of)
    assert plan.choice.workers == 100
    assert {one.name for one in plan.constraints if one.binds} == {"law"}
    assert set(of.sources.values()) == {Source.DEFAULT}
    assert "--rate" in words(of)


def test_a_figure_comes_from_the_first_source_that_has_it() -> None:
    of = gather(
        {
            Source.OPTION: {"session": 30.0, "rate": None},
            Source.CONFIGURATION: {"session": 60.0, "workers": 20},
            Source.MEASURED: {"rate": 5.0},
        }
    )
    assert (of.session, of.workers, of.rate) == (30, 20, 5)
    assert of.sources["session"] is Source.OPTION
    assert of.sources["workers"] is Source.CONFIGURATION
    assert of.sources["rate"] is Source.MEASURED
    assert of.sources["proxy_timeout"] is Source.DEFAULT


def test_a_measured_rate_gets_room_for_growth_and_a_measured_session_has_its_upload() -> None:
    layer = measured_layer(Measured(rate=10, service_time=8.5, service_cv2=2), growth=1.3)
    of = gather({Source.OPTION: {"upload_time": 6.0}, Source.MEASURED: layer})
    assert of.rate == 13
    assert of.service_time == 2.5
    assert of.load is not None
    assert of.load.service_time == 8.5


def test_a_session_limit_cuts_off_the_long_end_of_the_sessions() -> None:
    assert figures().cut_off(30) == pytest.approx(0.0048, abs=0.0001)
    assert figures(service_cv2=0).cut_off(30) == 0
    assert figures(service_cv2=0).cut_off(2) == 1


def test_an_outlook_says_whether_the_law_holds_and_memory_suffices() -> None:
    assert not outlook(figures(), 33).law_holds
    assert outlook(figures(), 34).longest_stay == 90
    assert outlook(figures(), 54).fits_memory is False
    assert telling_counts(propose(figures(workers=20))) == [20, 21, 24, 29, 34, 53]


def test_the_plan_keeps_the_law() -> None:
    of = figures(session=0.0)
    adopted = propose(of).adopted
    assert breaches(replace(adopted, workers=propose(of).choice.workers)) == []


@given(
    rate=st.one_of(st.none(), st.floats(0.01, 40)),
    service_time=st.floats(0.01, 20),
    session=st.sampled_from([0.0, 5.0, 20.0, 33.0, 50.0, 100.0, 200.0]),
    before_maxproc=st.integers(1, 300),
    after_maxproc=st.integers(1, 300),
    memory=st.one_of(st.none(), st.integers(0, 10**10)),
    speed_adjust=st.booleans(),
    queue_wait=st.sampled_from([None, 0.0, 30.0, 99.0]),
)
def test_every_proposal_keeps_the_law_the_memory_and_the_neighbours(**given_figures: Any) -> None:
    of = figures(**given_figures)
    plan = propose(of)
    workers = plan.choice.workers
    assert workers <= (MOST_WORKERS if of.memory_limit is None else of.memory_limit)
    assert advice.remedies(plan) is not None
    if workers:
        assert breaches(replace(plan.adopted, workers=workers)) == []
        assert workers <= plan.choice.before_maxproc <= plan.backlog
    if plan.choice.is_enough and of.load:
        assert of.load.erlangs < workers


@pytest.mark.parametrize(
    "found", [[], {"speed": 1}, {"rate": "8"}, {"rate": -1}, {"rate": True}, {"slot_sessions": 3}]
)
def test_measured_figures_that_are_none_are_refused(found: object) -> None:
    with pytest.raises(ValueError, match="wanted"):
        Measured.parse(found)


def test_measured_figures_are_read_with_gaps() -> None:
    found = Measured.parse({"rate": 8, "p_wait": None, "slot_sessions": [3, 2]})
    assert found == Measured(rate=8, slot_sessions=(3, 2))
