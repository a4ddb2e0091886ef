"""`bqfilterd reload`: what it says, and its exit status."""

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bqfilter.cli import main
from bqfilter.pool.reloading import Outcome
from tests.doubles.programs import toml


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["reload", "--config", str(path), *options])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bqfilterd.toml"
    settings = {
        "listen": [{"endpoint": "inet:127.0.0.1:10025"}],
        "upstream": {"endpoint": "inet:127.0.0.1:10026"},
        "runtime": {"directory": str(tmp_path)},
    }
    path.write_text(toml(settings))
    return path


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        pytest.param(Outcome.IN_FORCE, 0, "", id="in force"),
        pytest.param(Outcome.REFUSED, 1, "the old ones stay in force; the log says why", id="refused"),
        pytest.param(Outcome.UNFINISHED, 1, "not in force yet", id="unfinished"),
        pytest.param(Outcome.NOBODY, 1, "bqfilterd is not running there", id="nobody"),
    ],
)
def test_the_outcome_is_told(
    outcome: Outcome, status: int, words: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bqfilter.cli.reload.open_board", lambda _: None)
    monkeypatch.setattr("bqfilter.pool.reloading.reload", lambda *_: outcome)
    result = run(config)
    assert (result.exit_code, words in result.output) == (status, True)


def test_whoever_may_not_is_told_who_may(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> Outcome:
        raise PermissionError

    monkeypatch.setattr("bqfilter.cli.reload.open_board", lambda _: None)
    monkeypatch.setattr("bqfilter.pool.reloading.reload", forbid)
    result = run(config)
    assert (result.exit_code, "only root and runtime.user" in result.output) == (1, True)


@pytest.mark.parametrize("options", [(), ("--pid", "4711")], ids=["no pid", "a pid"])
def test_where_there_is_nothing_to_be_seen_it_says_so_and_the_master_that_is_named_hears_of_it(
    options: tuple[str, ...], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    result = run(config, *options)
    assert (result.exit_code, "bqfilterd is not running there" in result.output) == (1, True)
    assert signals == [(int(pid), signal.SIGHUP) for pid in options[1:]]


@pytest.mark.parametrize("options", [(), ("--pid", "4711")], ids=["no pid", "a pid"])
def test_a_file_that_cannot_be_used_is_told_and_the_master_that_is_named_hears_of_it(
    options: tuple[str, ...], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    config.write_text("workers = 1\n")
    result = run(config, *options)
    assert (result.exit_code, "unknown table" in result.output) == (os.EX_CONFIG, True)
    assert signals == [(int(pid), signal.SIGHUP) for pid in options[1:]]
