"""Parts of the suite with programs of their own: as small as it gets, and everything is recorded."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, NO_FILTER, Workshop
from benchmarks.growth import Pool, Rest, Sizes, Turn, Work, measure_growth
from benchmarks.growth import section as growth_section
from benchmarks.life import measure_life
from benchmarks.programs import ROOT
from benchmarks.sizes import Turn as SizeTurn
from benchmarks.sizes import measure_sizes
from benchmarks.sizes import section as sizes_section
from benchmarks.syscalls import Count, parse
from benchmarks.syscalls import section as syscalls_section
from tests.doubles.components import missing, require
from tests.doubles.programs import short_directory

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000180           3        60           recvfrom
 30.00    0.000090           3        30         4 poll
 10.00    0.000030           0         1           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.000300           3        91         4 total
"""


def _need(*programs: tuple[str, str]) -> None:
    for name, package in (("smtp-source", "postfix"), ("haproxy", "haproxy"), *programs):
        require(missing(name, package))


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    _need()
    with short_directory("bqbench-") as directory:
        yield Workshop(directory, 2, (sys.executable, "-m", "bqfilter"))


@pytest.mark.postfix
def test_parts_are_chosen_by_name_printed_and_recorded(tmp_path: Path) -> None:
    _need(("strace", "strace"))
    argv = [sys.executable, "-m", "benchmarks", "latency", "syscalls", f"--results={tmp_path}"]
    argv += ["--rounds=1", "--latency-messages=3", "--alone-messages=5", "--workers=2"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    heads = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    assert {"latency", "system calls a message"} <= set(heads)
    (record,) = tmp_path.iterdir()
    content = json.loads(record.read_text())
    contenders = {NO_FILTER, HAPROXY, FILTER_ONE, FILTER_KEPT}
    assert content["loads"] == []
    assert {(run["load"], run["contender"]) for run in content["latency"]["runs"]} == {
        (load, name) for load in ("alone", "open-30", "open-60") for name in contenders
    }
    assert {run["microseconds"]["whole"]["count"] for run in content["latency"]["runs"]} == {3}
    calls = {run["contender"]: run["calls"] for run in content["syscalls"]["runs"]}
    assert calls[FILTER_ONE]["connect"] == 5
    assert calls[FILTER_KEPT].get("connect", 0) < 5
    assert calls[HAPROXY]["connect"] >= 5


@pytest.mark.postfix
def test_a_life_has_a_start_reloads_and_an_end(workshop: Workshop) -> None:
    found = measure_life(workshop, rounds=1, counts=(2,))
    lives = {life["contender"]: life for life in found.record["runs"]}
    for name, workers in ((FILTER_ONE, 2), (HAPROXY, None)):
        assert lives[name]["workers"] == workers
        assert all(lives[name][what] > 0 for what in ("greeting", "ready", "reload", "stop"))
    assert lives[FILTER_ONE]["reload_under_load"] > 0
    assert lives[HAPROXY]["reload_under_load"] is None
    assert [row[:2] for row in found.rows] == [[FILTER_ONE, "2"], [HAPROXY, ""]]


@pytest.mark.postfix
def test_pools_of_every_size_are_measured_at_rest_and_under_load(workshop: Workshop) -> None:
    found = measure_growth(workshop, rounds=1, messages=20, counts=(1, 4), idle_seconds=0.1)
    small, large = found.record["pools"]
    assert (small["workers"], large["workers"]) == (1, 4)
    assert large["fresh"]["all_processes"] > small["fresh"]["all_processes"]
    for pool in (small, large):
        assert pool["rest"]["seconds"] >= 0.1
        assert pool["rest"]["all_processes"]["wakeups"] >= pool["rest"]["workers"]["wakeups"] >= 0
        assert pool["used"]["all_processes"] > pool["used"]["worker"] > 0
        assert pool["busy_worker"] > 0
        (turn,) = pool["turns"]
        assert all(turn[what] > 0 for what in ("seconds", "haproxy_seconds"))
        assert turn["wakeups"] > 0


@pytest.mark.postfix
def test_every_size_is_measured_with_every_contender(workshop: Workshop) -> None:
    found = measure_sizes(workshop, rounds=1, fewest=1, most=2, sizes=(1024, 9000))
    names = (HAPROXY, FILTER_ONE, FILTER_KEPT)
    assert [(run["size"], run["contender"], run["messages"]) for run in found.record["runs"]] == [
        (size, name, messages) for size, messages in ((1024, 2), (9000, 2)) for name in names
    ]


def test_a_pool_is_told_by_the_second_and_by_the_message() -> None:
    turns = [Turn(1, 100, 2.0, 0.05, 700, 1.0, 0.01), Turn(2, 100, 1.0, 0.03, 300, 1.0, 0.01)]
    rest = Rest(10.0, Work(0.02, 55), Work(0.01, 40))
    pool = Pool(20, Sizes(9000, 3000.4, 70_000), rest, turns, Sizes(0, 4000, 102_400), 4500)
    (row,) = growth_section([pool]).rows
    assert row == ["20", "100.0", "3000", "4000", "4500", "2.00", "5.5", "4.0", "75", "0.75", "400", "5.0"]


@pytest.mark.parametrize(("wakeups", "shown"), [((None, 300), "3.0"), ((None, None), "")])
def test_wakeups_are_unknown_where_a_worker_was_replaced(wakeups: tuple[int | None, ...], shown: str) -> None:
    turns = [Turn(1, 100, 1.0, 0.05, count, 1.0, 0.01) for count in wakeups]
    rest = Rest(10.0, Work(0.0, 0), Work(0.0, 0))
    (row,) = growth_section([Pool(1, Sizes(0, 0, 0), rest, turns, Sizes(0, 0, 0), 0)]).rows
    assert row[-1] == shown


def test_processor_time_of_a_size_is_compared_with_haproxys_for_that_size() -> None:
    turns = [
        SizeTurn(HAPROXY, 1024, 1, 10, 1.0, 0.01),
        SizeTurn(FILTER_ONE, 1024, 1, 10, 2.0, 0.04),
        SizeTurn(HAPROXY, 1024 * 1024, 1, 10, 1.0, 0.1),
        SizeTurn(FILTER_ONE, 1024 * 1024, 1, 10, 1.0, 0.2),
    ]
    rows = sizes_section(turns).rows
    assert rows[1] == ["1 KiB", FILTER_ONE, "5.00", "0.01", "4000", "4.00"]
    assert rows[3] == ["1 MiB", FILTER_ONE, "10.00", "10.49", "20000", "2.00"]


def test_calls_are_read_from_the_summary_of_strace() -> None:
    assert parse(SUMMARY) == {"recvfrom": 60, "poll": 30, "epoll_wait": 1}


def test_calls_are_told_for_one_message_the_most_frequent_first() -> None:
    counts = [Count("one", 10, {"recvfrom": 60, "poll": 30}), Count("kept", 1000, {"poll": 9000, "brk": 1})]
    assert syscalls_section(counts).rows == [
        ["poll", "3.00", "9.00"],
        ["recvfrom", "6.00", "0.00"],
        ["all", "9.00", "9.00"],
    ]
