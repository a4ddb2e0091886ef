"""The figures of a message's time: who is late is told, and everybody has the same timetable."""

from pathlib import Path

import pytest

from benchmarks.contenders import HAPROXY, NO_FILTER, Contender
from benchmarks.deliveries import Deliveries
from benchmarks.errors import DeliveryError
from benchmarks.generator import Trace
from benchmarks.latency import Plan, Turn, measure_latency, section
from tests.doubles.components import missing, require
from tests.doubles.sink import Sink

OPEN = Plan("open-60", "at random", 3, 100.0)
MS = 1_000_000


def _traces(*times: tuple[int, int]) -> list[Trace]:
    """Of so many milliseconds, so many of them late."""
    return [Trace(0, lag * MS, (lag + 1) * MS, (lag + 2) * MS, (lag + whole) * MS) for lag, whole in times]


def test_all_rounds_of_a_contender_are_pooled_and_each_is_recorded() -> None:
    turns = [
        Turn(OPEN, HAPROXY, 1, _traces((0, 5), (0, 7))),
        Turn(OPEN, NO_FILTER, 1, _traces((0, 4))),
        Turn(OPEN, HAPROXY, 2, _traces((0, 9))),
    ]
    found = section({HAPROXY: 200.0, NO_FILTER: 300.0}, turns)
    assert [row[:4] for row in found.rows] == [
        ["at random", HAPROXY, "7.00", "9.00"],
        ["", NO_FILTER, "4.00", "4.00"],
    ]
    assert [(run["contender"], run["round"]) for run in found.record["runs"]] == [
        (HAPROXY, 1),
        (NO_FILTER, 1),
        (HAPROXY, 2),
    ]
    pooled = found.record["pooled"][0]["microseconds"]
    assert (pooled["whole"]["count"], pooled["whole"]["p50"]) == (3, 7000.0)
    assert (pooled["banner"]["p50"], pooled["envelope"]["p50"], pooled["dot"]["p50"]) == (1000, 1000, 5000)


@pytest.mark.parametrize(("lag", "trusted"), [(1, "yes"), (2, "yes"), (3, "no")])
def test_figures_that_may_be_lateness_of_the_generator_are_not_to_be_trusted(lag: int, trusted: str) -> None:
    found = section({HAPROXY: 1.0}, [Turn(OPEN, HAPROXY, 1, _traces((lag, 10 - lag), (0, 10), (0, 10)))])
    assert found.rows[0][-2:] == [f"{lag}.00", trusted]
    assert found.record["pooled"][0]["trusted"] is (trusted == "yes")
    assert bool(found.notes) is (trusted == "no")


def test_a_round_has_one_timetable_and_the_next_round_another() -> None:
    assert OPEN.timetable(1) == OPEN.timetable(1) != OPEN.timetable(2)
    many = Plan("open", "", 10_000, 100.0).timetable(1)
    assert many == sorted(many)
    assert many[-1] == pytest.approx(100.0, rel=0.05)


@pytest.fixture
def _source() -> None:
    require(missing("smtp-source", "postfix"))


@pytest.mark.postfix
@pytest.mark.usefixtures("_source")
def test_alone_and_at_random_are_measured_and_all_mail_is_looked_for(tmp_path: Path) -> None:
    with Sink() as sink:
        deliveries = Deliveries("the double", lambda: len(sink.messages))
        found = measure_latency([(Contender(NO_FILTER, sink.port, None), deliveries)], rounds=2, messages=5)
    loads = ["alone", "open-30", "open-60"]
    assert [(run["load"], run["round"]) for run in found.record["runs"]] == [
        (load, number) for load in loads for number in (1, 2)
    ]
    rate = found.record["capacities"][NO_FILTER]
    assert [turn["rate"] for turn in found.record["pooled"]] == [
        None,
        pytest.approx(0.3 * rate),
        pytest.approx(0.6 * rate),
    ]
    assert len(sink.messages) == 5 + 2 * 3 * 5


@pytest.mark.postfix
@pytest.mark.usefixtures("_source")
def test_mail_that_was_answered_and_did_not_arrive_ends_the_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.deliveries.ARRIVAL_TIMEOUT", 0.1)
    with Sink() as sink:
        forgetful = Deliveries("the double", lambda: min(len(sink.messages), 7))
        with pytest.raises(DeliveryError, match="7 arrived"):
            measure_latency([(Contender(NO_FILTER, sink.port, None), forgetful)], rounds=1, messages=5)
