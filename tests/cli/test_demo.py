"""`bqfilterd demo` from outside: exit status, directories, and nothing left running."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from bqfilter.cli.demo import demo
from bqfilter.demo.daemon import DaemonFailed
from tests.doubles.programs import REPOSITORY, eventually

PROGRAM = [sys.executable, "-c", "from bqfilter.cli.demo import demo; demo()"]


def start(*arguments: str, temporary: Path) -> subprocess.Popen[str]:
    """The demo as a process of its own, with a place for temporary files that is nobody else's."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(temporary)},
    )


def processes_that_know(path: Path) -> list[int]:
    """Processes with the path among their arguments or open files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            names = [process.joinpath("cmdline").read_bytes()]
            names += [bytes(fd.readlink()) for fd in process.joinpath("fd").iterdir()]
        except OSError:
            continue
        if any(bytes(path) in name for name in names):
            found.append(int(process.name))
    return found


@pytest.fixture
def place() -> Path:
    """For temporary files; short, and open to the account that the workers become."""
    path = Path(tempfile.mkdtemp(prefix="bqdemo-"))
    path.chmod(0o1777)
    return path


def test_it_succeeds_and_leaves_nothing_behind(place: Path) -> None:
    process = start(temporary=place)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "came as they should." in output
    assert not list(place.iterdir())
    place.rmdir()


def test_a_directory_that_is_given_is_made_and_kept(place: Path) -> None:
    directory = place / "there is no" / "such directory"
    result = CliRunner().invoke(demo, ["--directory", str(directory)])
    assert result.exit_code == 0, result.output
    assert f"are in {directory}" in result.output
    names = {path.name for path in directory.iterdir()}
    assert {"Maildir", "bqfilterd.log", "bqfilterd.toml", "body_checks.regexp", "quarantine"} <= names
    shutil.rmtree(place)


def test_a_directory_that_workers_cannot_reach_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # others have workers that are who they are themselves
    place.chmod(0o700)
    result = CliRunner().invoke(demo, ["--directory", str(place / "demo")])
    assert result.exit_code == 1
    assert f"nobody cannot pass through {place}: choose another --directory" in result.output
    shutil.rmtree(place)


def test_a_directory_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    result = CliRunner().invoke(demo, ["--directory", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_temporary_directory_is_kept_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("bqfilter.demo.story.play", lambda _place, _say: True)
    result = CliRunner().invoke(demo, ["--keep"])
    assert result.exit_code == 0
    (kept,) = tmp_path.iterdir()
    assert f"are in {kept}" in result.output


def test_a_story_that_goes_wrong_is_exit_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bqfilter.demo.story.play", lambda _place, _say: False)
    assert CliRunner().invoke(demo).exit_code == 1


def test_a_daemon_that_does_not_start_is_exit_status_1_with_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_place: Path, _say: object) -> bool:
        raise DaemonFailed("bqfilterd did not start: no such luck")

    monkeypatch.setattr("bqfilter.demo.story.play", fail)
    result = CliRunner().invoke(demo)
    assert result.exit_code == 1
    assert "no such luck" in result.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_stopped_ends_what_it_started(place: Path, number: signal.Signals) -> None:
    process = start(temporary=place)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("1. "):
        assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert eventually(lambda: not processes_that_know(place), "no process of the demo is left")
    assert not list(place.iterdir())
    place.rmdir()
