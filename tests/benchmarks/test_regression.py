"""The short form tells ratios and what has become of them; it fails on lost mail, and on nothing else."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import regression
from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY
from benchmarks.errors import BenchmarkError, DeliveryError, LoadError, ProgramError
from benchmarks.regression import BASELINE, LOADS, MEASURES, Load, Span, Turn, findings, kept, told, verdict
from tests.doubles.components import missing, require

MACHINE = {
    "processor": "one",
    "kernel": "6",
    "python": "3",
    "postfix": "3",
    "haproxy": "2",
    "load average": "0.0",
}
TURNS = [
    Turn("many", HAPROXY, 1, 100, 1.0, 100 / 2**13),
    Turn("many", FILTER_ONE, 1, 100, 2.0, 300 / 2**13),
    Turn("many", HAPROXY, 2, 100, 2.0, 100 / 2**13),
    Turn("many", FILTER_ONE, 2, 100, 2.0, 100 / 2**13),
]


@pytest.mark.parametrize(
    ("now", "before", "rate", "cpu"),
    [
        (Span(0.9, 0.8, 1.0), Span(0.9, 0.8, 1.0), "same", "same"),
        (Span(1.2, 1.05, 1.3), Span(0.9, 0.8, 1.0), "same", "same"),  # apart, but not by a tenth
        (Span(1.2, 1.11, 1.3), Span(0.9, 0.8, 1.0), "better", "worse"),
        (Span(0.6, 0.5, 0.7), Span(0.9, 0.8, 1.0), "worse", "better"),
        (Span(0.6, 0.5, 0.75), Span(0.9, 0.8, 1.0), "same", "same"),
        (Span(0.6, 0.5, 0.7), None, "new", "new"),
    ],
)
def test_better_and_worse_are_said_only_of_spans_that_are_apart(
    now: Span, before: Span | None, rate: str, cpu: str
) -> None:
    assert verdict("rate", now, before) == rate
    assert verdict("cpu", now, before) == cpu


def test_a_ratio_is_one_to_haproxy_in_the_same_round() -> None:
    rate, cpu = findings(TURNS)
    assert (rate.what, rate.ratio, rate.value) == ("rate", Span(0.75, 0.5, 1.0), 50.0)
    assert (cpu.what, cpu.ratio, cpu.value) == ("cpu", Span(2.0, 1.0, 3.0), 2 / 2**13)


def test_what_was_kept_is_found_again() -> None:
    found = findings(TURNS)
    baseline = json.loads(json.dumps(kept(found, MACHINE)))
    assert [line.split()[-1] for line in told(found, {})][1:] == ["new", "new"]
    lines = list(told(found, baseline))[1:]
    assert [line.split()[-1] for line in lines] == ["same", "same"]
    assert lines[0].count("0.75 (0.50 to 1.00)") == 2
    assert "CPU (244 µs/message)" in lines[1]


def test_the_baseline_of_this_repository_has_every_load() -> None:
    found = json.loads(BASELINE.read_text(encoding="utf-8"))
    assert found["machine"].keys() == MACHINE.keys()
    assert {(one["load"], one["contender"], one["what"]) for one in found["findings"]} == {
        (load.name, name, what) for load in LOADS for name in (FILTER_ONE, FILTER_KEPT) for what in MEASURES
    }


def _run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: list[Turn] | BenchmarkError) -> int:
    def measure(*_: object) -> list[Turn]:
        if isinstance(outcome, BenchmarkError):
            raise outcome
        return outcome

    argv = ["regression", f"--results={tmp_path}", f"--baseline={tmp_path / 'baseline'}", "--write-baseline"]
    monkeypatch.setattr(regression, "measure", measure)
    monkeypatch.setattr(sys, "argv", argv)
    return regression.main()


def test_figures_never_fail_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, tmp_path, TURNS) == 0
    much_worse = [
        Turn("many", HAPROXY, 1, 100, 1.0, 0.01),
        Turn("many", FILTER_ONE, 1, 100, 50.0, 0.9),
    ]
    capsys.readouterr()
    assert _run(monkeypatch, tmp_path, much_worse) == 0
    said = capsys.readouterr().out
    assert said.count(" worse\n") == 2
    assert "0.02 (0.02 to 0.02)" in said
    assert [json.loads(path.read_text())["regression"]["runs"] for path in tmp_path.glob("*.json")]


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [
        (DeliveryError("2 messages expected, 1 arrived"), 1, "mail was lost or came twice: 2 messages"),
        (LoadError("timed out"), 0, "no figures: timed out"),
        (ProgramError("haproxy is not ready"), 0, "no figures: haproxy"),
    ],
)
def test_only_lost_mail_fails_the_run(
    failure: BenchmarkError,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(monkeypatch, tmp_path, failure) == status
    assert said in capsys.readouterr().out


@pytest.mark.postfix
def test_every_load_is_measured_with_every_contender(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require(missing("smtp-source", "postfix") or missing("haproxy", "haproxy"))
    monkeypatch.setattr(regression, "WORKERS", 2)
    monkeypatch.setattr(regression, "LEAST_ROUNDS", 1)
    for directory in (*tmp_path.parents[:2], tmp_path):
        directory.chmod(0o755)  # workers are somebody else
    turns = regression.measure(
        tmp_path, 0.0, [Load("few", "few", 2, 4, 1024), Load("one", "one", 1, 1, 9000)]
    )
    assert [(turn.load, turn.contender) for turn in turns] == [
        (load, name) for load in ("few", "one") for name in (HAPROXY, FILTER_ONE, FILTER_KEPT)
    ]
    assert all(turn.seconds > 0 for turn in turns)
    assert sum(turn.cpu_seconds for turn in turns) > 0
