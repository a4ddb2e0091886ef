"""What is kept of records for the page: what it tells, rounded, and no word of where they were made."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import published, report
from benchmarks.contenders import FILTER_KEPT, HAPROXY
from benchmarks.footprint import Row
from benchmarks.loads import Fault, Load, Run, Unit
from benchmarks.report import Result

MACHINE = {"processor": "2 x AMD", "load average": "0.1"}


def _load(name: str) -> Load:
    return Load(name, f"load {name}", 20, 100, 4096, Unit.MESSAGES_PER_SECOND)


def _record(tmp_path: Path, *results: Result, **told: object) -> dict[str, Any]:
    options = {"filter": "/home/me/bin/python -m bqfilter", "rounds": 7}
    path = report.save(tmp_path, MACHINE, options, results, [Row("master", 3936.4567)], **told)
    return dict(json.loads(path.read_text()))


def test_loads_go_to_the_part_of_their_kind(tmp_path: Path) -> None:
    runs = [Run(HAPROXY, 1, 100, 1.0, 0.1)]
    names = ("4k-20", "clamd-4k", "postfix-speed_adjust", "many")
    parts = published.parts_of([_record(tmp_path, *(Result(_load(name), runs) for name in names))])
    found = {part: [row["name"] for row in parts[part]["rows"]] for part in ("matrix", "scanners", "postfix")}
    assert found == {"matrix": ["4k-20"], "scanners": ["clamd-4k"], "postfix": ["postfix-speed_adjust"]}
    assert parts["memory"]["rows"] == [{"what": "master", "kib": 3936}]


def test_of_a_load_measured_twice_the_later_is_kept_and_both_are_told_of(tmp_path: Path) -> None:
    records = [
        _record(tmp_path, *(Result(_load(name), [Run(HAPROXY, 1, 100, seconds, None)]) for name in names))
        for names, seconds in ((("4k-1", "4k-20"), 1.0), (("4k-20",), 2.0))
    ]
    part = published.parts_of(records)["matrix"]
    rates = {row["name"]: row["summaries"][0]["messages_per_second"] for row in part["rows"]}
    assert rates == {"4k-1": 100, "4k-20": 50}
    assert len(part["measured"]) == 2


def test_a_ratio_to_the_scanner_alone_is_taken_in_the_same_round(tmp_path: Path) -> None:
    asking = f"{FILTER_KEPT}, clamd"
    runs = [
        Run("clamd alone", 1, 100, 1.0, None, 0.1),
        Run(asking, 1, 100, 2.0, 0.1, 0.1),
        Run("clamd alone", 2, 100, 10.0, None, 0.1),
        Run(asking, 2, 100, 10.0, 0.1, 0.1),
    ]
    part = published.parts_of([_record(tmp_path, Result(_load("clamd-4k"), runs))])["scanners"]
    assert part["rows"][0]["summaries"][1]["to_scanner"] == {"median": 0.75, "lowest": 0.5, "highest": 1}


def test_where_a_record_was_made_is_not_told(tmp_path: Path) -> None:
    fault = Fault("smtpprox", "smtpprox: ended; its log is in /tmp/bqbench-x/smtpprox.log")
    result = Result(_load("4k-1"), [Run(HAPROXY, 1, 100, 1.0, None)], [fault])
    command = ["python", "-m", "benchmarks", "matrix", "--smtpprox", "/home/me/smtpprox"]
    command += ["--results", "/home/me/results"]
    published.write(
        published.parts_of([_record(tmp_path, result, command=command, seconds=1.6)]), tmp_path / "p"
    )
    text = (tmp_path / "p" / "matrix.json").read_text()
    assert "/home" not in text
    assert "/tmp" not in text
    (measured,) = published.read(tmp_path / "p")["matrix"]["measured"]
    assert measured["command"] == "python -m benchmarks matrix --smtpprox smtpprox"
    assert measured["seconds"] == 2


def test_a_part_that_no_record_has_stays_as_it_is(tmp_path: Path) -> None:
    published.write({"latency": {"measured": [], "rows": [{"load": "alone"}]}}, tmp_path)
    published.write(published.parts_of([_record(tmp_path / "r")]), tmp_path)
    assert published.read(tmp_path)["latency"]["rows"] == [{"load": "alone"}]


@pytest.mark.parametrize(
    ("figure", "kept"),
    [(0.123456, 0.1235), (1234.56, 1235), (98765.4, 98770), (2.0, 2), (17, 17), ("x", "x")],
)
def test_figures_have_four_digits(figure: object, kept: object) -> None:
    assert published.rounded({"a": [figure]}) == {"a": [kept]}
