"""The sample configuration: valid, of one directory, and with a policy that shows each kind of verdict."""

import os
import socket
import tomllib
from pathlib import Path

import pytest

from bqfilter.config import load
from bqfilter.demo import sample
from bqfilter.errors import ConfigError
from bqfilter.net.address import SocketAddress
from bqfilter.scanning.making import make_scanners

UPSTREAM = SocketAddress(socket.AF_INET, ("127.0.0.1", 10026))


def test_it_is_valid_also_in_a_directory_with_an_odd_name(place: Path) -> None:
    directory = place / 'a "quoted" \\ näme {with} blanks'
    directory.mkdir()
    settings = load(sample.write(directory, UPSTREAM))
    assert settings.runtime.directory == str(directory / "run")
    assert settings.quarantine.directory == str(directory / "quarantine")
    assert [scanner.name for scanner in settings.scanners] == ["rules", "attachments"]
    assert [policy.name for policy in settings.policy] == ["abuse-desk", "contracts"]


def test_nothing_of_it_lies_elsewhere_but_what_is_spooled(place: Path) -> None:
    document = tomllib.loads(sample.write(place, UPSTREAM).read_text())
    tables = [path for key, paths in document["rules"][0].items() for path in paths]
    assert len(tables) == 3
    for path in [*tables, document["runtime"]["directory"], document["quarantine"]["directory"]]:
        assert Path(path).parent == place


def test_its_tables_can_be_read(place: Path) -> None:
    settings = load(sample.write(place, UPSTREAM))
    assert len(make_scanners(settings, b"filter.demo.example")) == 2


def test_workers_become_nobody_where_it_is_written_by_root(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load(sample.write(place, UPSTREAM)).runtime.user == "nobody"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "user" not in tomllib.loads(sample.write(place, UPSTREAM).read_text())["runtime"]


def test_a_directory_of_root_is_opened_to_whom_the_workers_become(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    place.chmod(0o700)
    sample.write(place, UPSTREAM)
    assert place.stat().st_mode & 0o777 == 0o711


def test_a_directory_of_root_that_cannot_be_reached_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    directory = place / "shut" / "demo"
    directory.mkdir(parents=True)
    directory.parent.chmod(0o700)
    with pytest.raises(ConfigError, match=f"nobody cannot pass through {directory.parent}: "):
        sample.write(directory, UPSTREAM)
    assert not list(directory.iterdir())


def test_its_policy_is_shown_with_the_rules_and_without_their_comments(place: Path) -> None:
    shown = sample.policy(sample.write(place, UPSTREAM))
    assert shown.startswith("[[rules]]\nheader_checks = [")
    assert '[[policy]]\nname = "contracts"' in shown
    assert "\nbody_checks.regexp:\n/EICAR-" in shown
    assert "[quarantine]" not in shown
    assert "# " not in shown.partition("header_checks.regexp:")[2]
