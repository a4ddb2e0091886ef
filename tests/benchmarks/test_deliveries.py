"""A benchmark that loses mail, or gets it twice, is a failure and not a number."""

from collections.abc import Iterator

import pytest

from benchmarks import deliveries
from benchmarks.deliveries import Deliveries
from benchmarks.errors import DeliveryError


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "ARRIVAL_TIMEOUT", 0.1)


def counting(*counts: int) -> Deliveries:
    steps: Iterator[int] = iter(counts)
    last = 0

    def count() -> int:
        nonlocal last
        last = next(steps, last)
        return last

    return Deliveries("the sink", count)


def test_messages_may_arrive_late() -> None:
    arrived = counting(7, 8, 9)
    arrived.expect(2)
    arrived.settle()


def test_a_missing_message_is_found() -> None:
    arrived = counting(7, 8)
    arrived.expect(2)
    with pytest.raises(DeliveryError, match="the sink: 9 messages expected, 8 arrived"):
        arrived.settle()


def test_a_message_that_arrives_twice_is_found() -> None:
    arrived = counting(0, 2)
    arrived.expect(1)
    with pytest.raises(DeliveryError, match="1 messages expected, 2 arrived"):
        arrived.settle()
