"""A peer that does not do its work has that as its result; bqfilterd and HAProxy end the run with it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import deliveries, report
from benchmarks.contenders import FILTER_ONE
from benchmarks.deliveries import Deliveries
from benchmarks.errors import DeliveryError, LoadError
from benchmarks.loads import Fault, Load, Run, many, measure
from benchmarks.report import Result


class Pretender:
    """An entrant whose messages arrive as often as they are told to; with `refusing`, none is even taken."""

    def __init__(self, name: str, *, trusted: bool, copies: int = 1, refusing: bool = False) -> None:
        self.name = name
        self.trusted = trusted
        self.turns = 0
        self.arrived = 0
        self._copies = copies
        self._refusing = refusing
        self._deliveries = Deliveries("the sink", lambda: self.arrived)

    def play(self, load: Load, messages: int) -> float:
        self.turns += 1
        if self._refusing:
            raise LoadError(f"{load.name}: 421 too many connections")
        self._deliveries.expect(messages)
        self.arrived += messages * self._copies
        self._deliveries.settle()
        return messages / 1000

    def cpu_seconds(self) -> float | None:
        return None

    def scanner_cpu_seconds(self) -> float | None:
        return None

    def start_over(self) -> None:
        self._deliveries.start_over()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(deliveries, "ARRIVAL_TIMEOUT", 0.05)
    monkeypatch.setattr(deliveries, "STILLNESS", 0.01)
    return


def outcomes(*entrants: Pretender) -> list[Run | Fault]:
    return list(measure(many(100), entrants))


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (Pretender("loses", trusted=False, copies=0), "the sink: 5 messages expected, 0 arrived"),
        (Pretender("doubles", trusted=False, copies=2), "the sink: 5 messages expected, 10 arrived"),
        (Pretender("refuses", trusted=False, refusing=True), "many: 421 too many connections"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_peer_that_loses_doubles_or_refuses_mail_has_that_as_its_result(
    peer: Pretender, reason: str
) -> None:
    good = Pretender(FILTER_ONE, trusted=True)
    assert outcomes(good, peer) == [
        Fault(peer.name, reason),
        Run(FILTER_ONE, 1, 100, 0.1, None),
    ]
    assert peer.turns == 1


def test_what_a_peer_got_wrong_under_one_load_is_forgotten_under_the_next() -> None:
    peer = Pretender("loses", trusted=False, copies=0)
    outcomes(peer)
    peer._copies = 1
    assert outcomes(peer) == [Run("loses", 1, 100, 0.1, None)]


def test_a_fault_of_bqfilterd_ends_the_run() -> None:
    with pytest.raises(DeliveryError):
        outcomes(Pretender(FILTER_ONE, trusted=True, copies=0))


def test_a_peer_is_too_slow_where_a_turn_would_take_longer_than_the_limit() -> None:
    class Slow(Pretender):
        def play(self, load: Load, messages: int) -> float:
            return 1000 * super().play(load, messages)

    assert outcomes(Slow("slow", trusted=False)) == [
        Fault("slow", "slow: too slow for this load: 100 messages would take 100 s")
    ]


def test_a_fault_has_a_row_of_the_table_and_a_place_in_the_record(tmp_path: Path) -> None:
    result = Result(
        many(100), [Run(FILTER_ONE, 1, 100, 1.0, None)], [Fault("peer", "5 messages expected, 4 arrived")]
    )
    assert "did not do its work: 5 messages expected, 4 arrived" in report.table([result])
    record = json.loads(report.save(tmp_path, {}, {}, [result], []).read_text())
    (load,) = record["loads"]
    assert load["faults"] == [{"contender": "peer", "reason": "5 messages expected, 4 arrived"}]
