"""Filters of the site's own are tried in a child: what is wrong is told, and what they do stays there."""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bqfilter.config.content import PythonSettings, ScannerSettings
from bqfilter.errors import ConfigError, ScannerFailure
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.pool import rehearsal
from bqfilter.pool.rehearsal import rehearse
from bqfilter.scanning.report import CLEAN, Report
from tests.doubles.adoption import adopting_orphans
from tests.doubles.programs import eventually
from tests.doubles.scanners import scanner


@dataclass
class Filter:
    """A scanner of kind python that does this when it gets ready."""

    act: Callable[[], None]
    settings: ScannerSettings = PythonSettings(filter="a:b", name="ours")  # noqa: RUF009 - a frozen value

    def after_fork_in_worker(self) -> None:
        self.act()

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:  # noqa: ARG002
        return CLEAN

    def ping(self, deadline: Deadline) -> str:  # noqa: ARG002
        return ""


def fail() -> None:
    raise ScannerFailure("No module named 'a'")


def leave() -> None:
    sys.exit("on my own account")


def vanish() -> None:
    os._exit(0)


def hang() -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        pytest.param(fail, "ours: No module named 'a'", id="cannot be loaded"),
        pytest.param(leave, "SystemExit: on my own account", id="wants to end the process"),
        pytest.param(vanish, "a filter ended the process while it was loaded", id="ends the process"),
    ],
)
def test_what_is_wrong_is_told(act: Callable[[], None], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rehearse([Filter(act)], None)

    assert str(caught.value) == told


def test_one_that_does_not_come_to_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_TIMEOUT", 0.2)

    with pytest.raises(ConfigError, match="took more than"):
        rehearse([Filter(hang)], None)


def test_what_a_filter_does_while_it_is_loaded_stays_in_the_child(tmp_path: Path) -> None:
    before = Path.cwd()

    rehearse([Filter(lambda: os.chdir(tmp_path)), Filter(lambda: (tmp_path / "was-here").touch())], None)

    assert Path.cwd() == before
    assert (tmp_path / "was-here").exists()


def test_without_such_filters_nothing_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", fail)

    rehearse([scanner("a command")], None)


def test_no_child_is_left_behind(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    rehearse([Filter(lambda: pid.write_text(str(os.getpid())) and None)], None)

    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_fork_that_fails_is_a_configuration_that_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    before = sorted(Path("/proc/self/fd").iterdir())
    monkeypatch.setattr(os, "fork", refuse)

    with pytest.raises(ConfigError, match="Resource temporarily unavailable"):
        rehearse([Filter(fail)], None)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_no_filter_that_hangs_outlives_the_master(tmp_path: Path) -> None:
    told = tmp_path / "pid"

    def hang_and_tell() -> None:
        told.write_text(str(os.getpid()))
        hang()

    master = os.fork()
    if master == 0:
        rehearse([Filter(hang_and_tell)], None)
        os._exit(0)
    with adopting_orphans():
        eventually(lambda: told.exists() and told.read_text() != "", "a filter that hangs")
        os.kill(master, signal.SIGKILL)
        os.waitpid(master, 0)
        _, status = os.waitpid(int(told.read_text()), 0)

    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
