"""Percentiles are times that were measured, by nearest rank."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.distribution import WITNESSES, distribution, percentile

TIMES = st.lists(st.floats(0.0, 1e9), min_size=1, max_size=300)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [
        (1, 0.5, 1),
        (1, 0.99, 1),
        (4, 0.5, 2),
        (5, 0.5, 3),
        (100, 0.99, 99),
        (101, 0.99, 100),
        (1000, 0.999, 999),
        (10_000, 0.999, 9990),
    ],
)
def test_known_percentiles(count: int, share: float, expected: float) -> None:
    assert percentile([float(one) for one in range(1, count + 1)], share) == expected


@given(TIMES, st.integers(1, 999).map(lambda number: number / 1000))
def test_so_many_do_not_exceed_a_percentile_and_no_smaller_time_will_do(
    times: list[float], share: float
) -> None:
    found = percentile(sorted(times), share)
    needed = math.ceil(len(times) * round(share * 1000) / 1000 - 1e-9)
    assert found in times
    assert sum(one <= found for one in times) >= needed
    assert sum(one < found for one in times) < needed


@given(TIMES)
def test_a_distribution_does_not_depend_on_order_and_its_curve_ascends(times: list[float]) -> None:
    found = distribution(times)
    assert found == distribution(reversed(times))
    assert found.curve == sorted(found.curve)
    assert found.p50 <= found.p99 <= found.highest == max(times)
    assert found.mean == pytest.approx(sum(times) / len(times))


def test_one_in_a_thousand_is_told_only_where_enough_lie_above_it() -> None:
    enough = 1000 * WITNESSES
    assert distribution(range(enough)).p999 == 999 * WITNESSES - 1
    assert distribution(range(enough - 1)).p999 is None


def test_of_nothing_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="no times"):
        percentile([], 0.5)
