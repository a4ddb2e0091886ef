"""The tables of docs/performance.md: what each says of published records, and how they get onto the page."""

from typing import Any

import pytest

from benchmarks import page
from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY
from benchmarks.peers import LOCKSTEP, LOCKSTEP_KEPT

MEASURED = {
    "taken": "2026-11-22T21:10:00+00:00",
    "machine": {"load average": "0.3"},
    "options": {},
    "left out": [],
}


def _summary(contender: str, rate: float, **more: Any) -> dict[str, Any]:
    return {"contender": contender, "messages_per_second": rate, **more}


def _part(*rows: dict[str, Any], **measured: Any) -> page.Part:
    facts = {"processor": "2 x AMD", "kernel": "6", "python": "3.11", "postfix": "3.7", "haproxy": "2.6"}
    machine = {**facts, "load average": "0.3"}
    return {"measured": [{**MEASURED, "machine": machine, **measured}], "rows": list(rows)}


def _load(name: str, *summaries: dict[str, Any], faults: Any = ()) -> dict[str, Any]:
    return {
        "name": name,
        "title": f"title {name}",
        "size": 4096,
        "summaries": list(summaries),
        "faults": list(faults),
    }


def _cells(block: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


def _ratio(median: float, lowest: float, highest: float) -> dict[str, float]:
    return {"median": median, "lowest": lowest, "highest": highest}


def test_the_page_keeps_its_prose_around_the_blocks() -> None:
    text = "before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n<!-- b:begin --><!-- b:end -->\n"
    once = page.filled(text, {"a": "new", "b": "more"})
    new, more = "<!-- a:begin -->\n\nnew\n\n<!-- a:end -->", "<!-- b:begin -->\n\nmore\n\n<!-- b:end -->"
    assert once == f"before\n{new}\nafter\n{more}\n"
    assert page.filled(once, {"a": "new", "b": "more"}) == once


def test_a_page_without_the_markers_of_a_block_is_not_written() -> None:
    with pytest.raises(ValueError, match="a:begin"):
        page.filled("prose\n", {"a": "new"})


def test_what_was_not_measured_is_not_invented() -> None:
    assert set(page.blocks({}).values()) == {page.NOTHING}


def test_an_aim_about_the_time_is_compared_with_the_inverse_of_the_rate() -> None:
    summary = _summary(FILTER_KEPT, 400, ratio=_ratio(0.5, 0.25, 0.8))
    block = page.blocks({"matrix": _part(_load("4k-1", summary))})["aims"]
    assert _cells(block) == [
        ["title 4k-1", FILTER_KEPT, "time at most 1.20", "2.00", "1.25 to 4.00", "no", ""],
    ]


def test_an_aim_about_the_rate_is_a_floor() -> None:
    summary = _summary(FILTER_ONE, 900, ratio=_ratio(0.85, 0.7, 0.9))
    block = page.blocks({"matrix": _part(_load("4k-20", summary))})["aims"]
    assert _cells(block) == [
        ["title 4k-20", FILTER_ONE, "rate at least 0.80", "0.85", "0.70 to 0.90", "yes", ""],
    ]


def test_beside_an_aim_stands_what_a_proxy_that_does_nothing_reaches_in_the_same_manner() -> None:
    one, kept = _summary(LOCKSTEP.name, 1, ratio=_ratio(0.8, 0.1, 9)), _summary(LOCKSTEP_KEPT.name, 1)
    own = [_summary(name, 1, ratio=_ratio(0.4, 0.3, 0.5)) for name in (FILTER_ONE, FILTER_KEPT)]
    kept["ratio"] = _ratio(1.25, 0.1, 9)
    rows = [_load(name, *own, one, kept) for name in ("4k-20", "4k-1")]
    block = page.blocks({"matrix": _part(*rows)})["aims"]
    assert [cells[-1] for cells in _cells(block)] == ["0.80", "1.25", "1.25", "0.80"]


def test_small_messages_have_rate_ratio_and_processor_time_and_faults_are_named() -> None:
    load = _load(
        "4k-20",
        _summary(HAPROXY, 2300.4, ratio=_ratio(1, 1, 1), cpu_per_message=346.2),
        faults=[{"contender": "spampd", "reason": "lost 3"}],
    )
    found = page.blocks({"matrix": _part(load)})
    assert _cells(found["small-messages"]) == [
        ["title 4k-20", HAPROXY, "2300", "1.00", "1.00 to 1.00", "346"],
        ["", "spampd", "fault", "", "", ""],
    ]
    assert _cells(found["faults"]) == [["spampd", "title 4k-20", "lost 3"]]


def test_sizes_stand_side_by_side() -> None:
    loads = [
        _load("1k-20", _summary(FILTER_KEPT, 1, ratio=_ratio(0.5, 0.4, 0.6))),
        _load("1m-20", faults=[{"contender": FILTER_KEPT, "reason": "x"}]),
    ]
    block = page.blocks({"matrix": _part(*loads)})["sizes"]
    assert _cells(block) == [[FILTER_KEPT, "0.50 (0.40 to 0.60)", "fault"]]


def test_what_a_filter_costs_beyond_the_scanner_is_its_own_and_what_the_scanner_takes_more() -> None:
    load = _load(
        "clamd-4k",
        _summary(HAPROXY, 2000),
        _summary("clamd alone", 500, scanner_cpu_per_message=1000, to_scanner=_ratio(1, 1, 1)),
        _summary(
            f"{FILTER_KEPT}, clamd",
            400,
            cpu_per_message=1500,
            scanner_cpu_per_message=1200,
            to_scanner=_ratio(0.8, 0.7, 0.9),
        ),
        _summary("its own scanner", 100, cpu_per_message=9000, to_scanner=_ratio(0.2, 0.2, 0.2)),
    )
    block = page.blocks({"scanners": _part(load)})["scanners"]
    assert _cells(block) == [
        ["title clamd-4k", "clamd alone", "500", "", "", "", "1000", ""],
        ["", f"{FILTER_KEPT}, clamd", "400", "0.80", "0.70 to 0.90", "1500", "1200", "1700"],
        ["", "its own scanner", "100", "0.20", "0.20 to 0.20", "9000", "", "8000"],
    ]


def test_what_rules_cost_is_what_the_filter_takes_more_with_them() -> None:
    load = _load(
        "rules-4k",
        _summary(FILTER_KEPT, 900, cpu_per_message=1500),
        _summary(f"{FILTER_KEPT}, rules", 800, cpu_per_message=1900),
    )
    assert _cells(page.blocks({"scanners": _part(load)})["scanners"])[1] == [
        *("", f"{FILTER_KEPT}, rules", "800", "", "", "1900", "", "400"),
    ]


def test_seldom_system_calls_have_one_row_together() -> None:
    run = {"contender": HAPROXY, "messages": 10, "calls": {"read": 100, "brk": 1, "mmap": 2}}
    assert _cells(page.blocks({"syscalls": _part(run)})["syscalls"]) == [
        ["`read`", "10.00"],
        ["others", "0.30"],
        ["all", "10.30"],
    ]


def test_a_record_is_told_once_with_all_that_comes_from_it() -> None:
    memory = _part({"what": "master", "kib": 3936}, command="python -m benchmarks", seconds=600)
    matrix = _part(_load("4k-20"), command="python -m benchmarks", seconds=600)
    found = page.blocks({"matrix": matrix, "memory": memory})
    assert _cells(found["runs"]) == [
        ["`python -m benchmarks`", "matrix, memory", "2026-11-22 21:10", "10 min", "0.3"]
    ]
    assert found["machine"].startswith("Measured 2026-11-22 on 2 x AMD, Linux 6,")
