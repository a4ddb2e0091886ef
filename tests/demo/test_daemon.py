"""bqfilterd as the demo starts it."""

import os
import tomllib
from pathlib import Path

import pytest

from bqfilter.config import load
from bqfilter.demo import daemon as module
from bqfilter.demo.after_filter import AfterFilter
from bqfilter.demo.daemon import Daemon, DaemonFailed, eventually
from bqfilter.demo.maildir import Maildir


def test_it_is_ready_when_it_has_an_address_and_gone_when_it_was_stopped(tmp_path: Path) -> None:
    after = AfterFilter(Maildir(tmp_path / "Maildir"))
    daemon = Daemon(tmp_path, after.address)
    pid = int((tmp_path / "run" / "bqfilterd.pid").read_text())
    assert daemon.address.sockaddr[1] != 0
    assert daemon.log().startswith("ready workers=2 ")
    assert daemon.stop() == 0
    after.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_sample_configuration_is_valid_also_in_a_directory_with_an_odd_name(tmp_path: Path) -> None:
    directory = tmp_path / 'a "quoted" \\ näme {with} blanks'
    directory.mkdir()
    after = AfterFilter(Maildir(directory / "Maildir"))
    daemon = Daemon(directory, after.address)
    assert daemon.stop() == 0
    after.close()
    settings = load(daemon.configuration_path)
    assert settings.runtime.directory == str(directory / "run")
    document = tomllib.loads(daemon.configuration_path.read_text())
    assert ("user" in document["runtime"]) is (os.geteuid() == 0)


def test_where_it_does_not_start_the_failure_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONFIGURATION", "[pool]\nworkers = 0\n")
    after = AfterFilter(Maildir(tmp_path / "Maildir"))
    with pytest.raises(DaemonFailed, match=r"(?s)did not start:.*pool\.workers: found 0"):
        Daemon(tmp_path, after.address)
    after.close()


def test_waiting_ends_with_the_condition_or_with_the_limit() -> None:
    answers = iter([False, True])
    assert eventually(lambda: next(answers), 30)
    assert not eventually(lambda: False, 0)
