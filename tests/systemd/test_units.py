"""The units agree with the program's defaults and limits, and systemd thinks well of their sandbox."""

import json
import re
import subprocess

import pytest

from bqfilter.cli.options import DEFAULT_PATH
from bqfilter.config import load
from bqfilter.config.schema import Settings
from bqfilter.config.units import parse_duration
from bqfilter.pool.limits import _FDS_OF_A_SCANNER, _FDS_OF_A_WORKER
from bqfilter.pool.master import _QUIT_GRACE
from bqfilter.pool.rehearsal import _TIMEOUT as REHEARSAL_TIMEOUT
from tests.doubles.components import program
from tests.doubles.programs import REPOSITORY
from tests.systemd.box import UNITS

WORST = {
    "bqfilterd.service": 1.5,
    "bqfilterd@.service": 1.5,
    "bqfilterd-quarantine-expire.service": 0.5,
    "bqfilterd-quarantine-expire@.service": 0.5,
}
# What a template has of its own, with "bqfilterd" and "bqfilter" for the instance.
TEMPLATES = {
    "bqfilterd@.service": {"SyslogIdentifier", "RuntimeDirectory", "ReadWritePaths", "StateDirectory",
                           "StateDirectoryMode"},
    "bqfilterd-quarantine-expire@.service": {"ReadWritePaths"},
    "bqfilterd-quarantine-expire@.timer": set(),
}  # fmt: skip


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Sections, keys, and every value that a key is given."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


SERVICE = unit("bqfilterd.service")["Service"]


def one(key: str) -> str:
    (value,) = SERVICE[key]
    return value


@pytest.mark.parametrize(("template", "own"), TEMPLATES.items())
def test_what_several_instances_run_by_is_what_a_single_one_does(template: str, own: set[str]) -> None:
    single, several = unit(template.replace("@", "")), unit(template)
    for section in {"Service", "Timer", "Install"} & several.keys():
        differing = {
            key
            for key in single[section].keys() | several[section].keys()
            if single[section].get(key)
            != [text.replace("/%i.toml", "/bqfilterd.toml") for text in several[section].get(key, [])]
        }
        assert differing - {"Also"} == (own if section == "Service" else set())


def test_an_instance_has_its_places_to_itself() -> None:
    service = unit("bqfilterd@.service")["Service"]
    named = ("SyslogIdentifier", "RuntimeDirectory", "StateDirectory")
    assert [service[key] for key in named] == [["bqfilterd-%i"], ["bqfilter-%i"], ["bqfilter-%i"]]
    (listen,) = unit("bqfilterd@.socket")["Socket"]["ListenStream"]
    assert listen.endswith("/%i.sock")


@pytest.fixture(scope="module")
def settings() -> Settings:
    """As shipped."""
    return load(REPOSITORY / "etc" / "bqfilterd.toml")


@pytest.mark.parametrize(("name", "worst"), WORST.items())
def test_the_sandbox_is_as_tight_as_it_is_said_to_be(name: str, worst: float) -> None:
    command = [program("systemd-analyze", "systemd"), "security", "--offline=yes", "--no-pager"]
    done = subprocess.run(
        [*command, f"--threshold={worst * 10:.0f}", str(UNITS / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manual_says_what_systemd_thinks_of_the_sandbox() -> None:
    command = [program("systemd-analyze", "systemd"), "security", "--offline=yes", "--no-pager"]
    said = subprocess.run(
        [*command, str(UNITS / "bqfilterd.service")], capture_output=True, text=True, check=True
    ).stdout
    (exposure,) = re.findall(r"Overall exposure level for bqfilterd\.service: ([\d.]+)", said)
    manual = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"`systemd-analyze security bqfilterd` gives {exposure}, " in manual


def test_what_the_sandbox_leaves_open_is_what_the_daemon_needs() -> None:
    command = [program("systemd-analyze", "systemd"), "security", "--offline=yes", "--json=short"]
    done = subprocess.run(
        [*command, str(UNITS / "bqfilterd.service")], capture_output=True, text=True, check=True
    )
    left_open = {row["json_field"] for row in json.loads(done.stdout) if row["exposure"] not in (None, "0.0")}
    assert left_open == {
        "RestrictAddressFamilies_AF_INET_INET6",
        "RestrictAddressFamilies_AF_NETLINK",
        "RestrictAddressFamilies_AF_UNIX",
        "SystemCallFilter_privileged",  # chown
        "DeviceAllow",  # what ProtectClock= means to systemd
        "IPAddressDeny",
        "PrivateNetwork",
        "ProcSubset",
        "RootDirectoryOrRootImage",
        "UMask",  # the group may read the scoreboard
    }


def test_a_stop_may_take_as_long_as_the_drain(settings: Settings) -> None:
    least = settings.runtime.drain_timeout + _QUIT_GRACE + 5
    assert parse_duration(one("TimeoutStopSec")) >= least


def test_the_watchdog_waits_longer_than_a_reload_may_stand_still() -> None:
    assert parse_duration(one("WatchdogSec")) > 3 * REHEARSAL_TIMEOUT + 60


def test_there_may_be_as_many_processes_as_the_workers_need(settings: Settings) -> None:
    workers, comment = settings.pool.workers, (UNITS / "bqfilterd.service").read_text(encoding="utf-8")
    (said,) = re.findall(r"For `pool.workers` = (\d+): (\d+), and", comment)
    assert (int(said[0]), int(said[1])) == (workers, 4 * workers + 3)
    (enough,) = re.findall(r"This is enough for (\d+)\.", comment)
    assert 4 * int(enough) + 30 <= int(one("TasksMax")) < 4 * int(enough) + 40


def test_there_may_be_as_many_descriptors_as_a_worker_needs() -> None:
    scanners = 20  # with room to spare
    assert int(one("LimitNOFILE")) > 4 * (_FDS_OF_A_WORKER + scanners * _FDS_OF_A_SCANNER)


def test_units_and_shipped_configuration_mean_the_same_places(settings: Settings) -> None:
    sockets = unit("bqfilterd.socket")["Socket"]
    (listen,) = settings.listen
    assert [f"inet:{place}" for place in sockets["ListenStream"]] == [str(listen.endpoint)]
    assert sockets["Backlog"] == [str(listen.backlog)]
    assert f"/run/{one('RuntimeDirectory')}" == settings.runtime.directory
    assert one("User") == settings.runtime.user
    for command in (*SERVICE["ExecStart"], *SERVICE["ExecReload"]):
        assert f"--config {DEFAULT_PATH}" in command
    assert settings.quarantine.directory.startswith(one("ReadWritePaths").removeprefix("-") + "/")
    assert f"\nd {settings.quarantine.directory} 0700 bqfilter bqfilter -\n" in (
        UNITS / "tmpfiles.d" / "bqfilter.conf"
    ).read_text(encoding="utf-8")
    assert settings.spool.directory in ("/tmp", "/var/tmp"), "PrivateTmp= gives room there"
