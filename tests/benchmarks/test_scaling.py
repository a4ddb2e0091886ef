"""The tables of docs/scaling.md: as they are computed now, as far as that is quick."""

import re

import pytest

from benchmarks.scaling import BUSY, LEASTCONN, RANDOM, SESSIONS, WORKERS, Way, one_table, slow_table, steady
from tests.doubles.programs import REPOSITORY

PAGE = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_what_one_host_can_take_is_what_the_model_says() -> None:
    for line in one_table(0):
        assert f"\n    {line}\n" in PAGE


@pytest.mark.parametrize(("way", "column"), [(LEASTCONN, 0), (RANDOM, 2)], ids=["leastconn", "random"])
def test_the_waits_of_three_hosts_are_those_on_the_page(way: Way, column: int) -> None:
    (row,) = re.findall(r"^ +3 +19/s +(.*)$", PAGE, re.MULTILINE)
    beyond, within = row.split()[2 * column : 2 * column + 2]
    waits = steady(way.hosts(3), way, BUSY * WORKERS / 2.5 * 3, SESSIONS).waits
    assert (f"{waits.beyond(1.0):.4f}", f"{waits.exceeded_by(0.01):.2f}s") == (beyond, within)


def test_a_slow_host_gets_less_where_connections_are_counted_and_not_at_random() -> None:
    rows = [line.split() for line in slow_table(3000)]
    shares = {" ".join(row[1:-5]): float(row[-5].rstrip("%")) for row in rows if row[0] == "3"}
    assert shares["leastconn"] < 20 < shares["random"]
