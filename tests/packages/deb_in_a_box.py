"""The Debian package under a real systemd: installed, upgraded with mail on its way, removed and purged.

The box is a view of this machine's own root, or of the tree that BQFILTER_DEBIAN_ROOT names: scripts/test-deb
makes a clean one, and runs these tests. They are not among those of scripts/test, because they take a minute.
"""

import os
import shutil
import smtplib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.systemd.box import Box, booted, why_not

_CONFIG = "/etc/bqfilter/bqfilterd.toml"
_QUARANTINE = "/var/spool/bqfilter/quarantine"
_DPKG = ("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-unsafe-io")
_UNITS = ("bqfilterd.socket", "bqfilterd.service", "bqfilterd-quarantine-expire.timer")
# What a purge leaves is compared below these; the rest is dpkg's own, or systemd's.
_OURS = ("/etc", "/usr", "/opt", "/run", "/var/spool", "/var/lib/systemd/timers")
_SECOND = """\
[[listen]]
endpoint = "inet:127.0.0.1:10027"
[upstream]
endpoint = "inet:127.0.0.1:10026"
[runtime]
directory = "/run/bqfilter-second"
[metrics]
listen = "inet:127.0.0.1:9926"
"""
_BROKEN = "[pool]\nworkers = 0\n"


@pytest.fixture(scope="module")
def machine(packages: tuple[Path, Path]) -> Iterator[Box]:
    """A machine where bqfilter has never been."""
    if reason := why_not():
        pytest.fail(reason)

    def prepare(root: Path) -> None:
        for package in packages:
            shutil.copy(package, root / "root")
        # What machines without an init have, and images without manual pages: here there are both.
        (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        for settings in (root / "etc/dpkg/dpkg.cfg.d").glob("*"):
            settings.unlink()
        (root / "usr/local/bin/bqfilterd").unlink(missing_ok=True)

    with booted(prepare, Path(os.environ.get("BQFILTER_DEBIAN_ROOT", "/"))) as box:
        yield box


@pytest.fixture
def box(machine: Box) -> Iterator[Box]:
    """The package is gone afterwards, with all that it kept."""
    yield machine
    machine.run(*_DPKG, "--purge", "bqfilter")
    machine.run("rm", "-rf", "/etc/bqfilter", "/var/spool/bqfilter")


@pytest.fixture
def sink(machine: Box) -> Iterator[Sink]:
    """An after-filter server in the box."""
    with machine.within_network(Sink) as sink:
        yield sink


def _install(box: Box, package: Path, *options: str) -> str:
    """What dpkg says; an installation that fails fails the test."""
    done = box.run(*_DPKG, *options, "--install", f"/root/{package.name}")
    return done.stdout + done.stderr


def _greeting(box: Box) -> int:
    def greet() -> int:
        with smtplib.SMTP("127.0.0.1", 10025, timeout=60) as client:
            return client.noop()[0]

    return box.within_network(greet)


def _is_active(box: Box, unit: str) -> bool:
    return box.run("systemctl", "is-active", unit, check=False).stdout == "active\n"


def _listing(box: Box) -> set[str]:
    found = box.run(
        "find", *_OURS, "-xdev", "!", "-path", "/run/systemd/*", "!", "-name", "*.pyc", check=False
    )
    return {line for line in found.stdout.splitlines() if "bqfilter" in line}


def test_installed_it_runs_and_is_enabled(box: Box, packages: tuple[Path, Path]) -> None:
    _install(box, packages[0])
    assert [unit for unit in _UNITS if not _is_active(box, unit)] == []
    enabled = box.run("systemctl", "is-enabled", *_UNITS).stdout.split()
    assert enabled == ["enabled"] * len(_UNITS)
    assert _greeting(box) == 250
    assert box.run("stat", "-c", "%U:%G %a", _QUARANTINE).stdout == "bqfilter:bqfilter 700\n"
    assert box.run("stat", "-c", "%U", f"/proc/{box.main_pid()}").stdout == "bqfilter\n"
    assert "version" in box.run("bqfilterd", "--version").stdout


def test_an_upgrade_loses_no_message_and_refuses_no_connection(
    box: Box, packages: tuple[Path, Path], sink: Sink
) -> None:
    _install(box, packages[0])
    config = box.run("cat", _CONFIG).stdout.replace("127.0.0.1:10026", f"127.0.0.1:{sink.port}")
    box.write(_CONFIG, config)
    box.systemctl("restart", "bqfilterd.service")
    before = box.main_pid()
    is_over = threading.Event()
    sent: list[int] = []

    def send() -> None:
        """Until it is over; the first failure ends it."""
        while not is_over.is_set():
            with smtplib.SMTP("127.0.0.1", 10025, timeout=60) as client:
                client.sendmail(
                    "s@remote.example", f"{len(sent)}@here.example", f"Subject: {len(sent)}\n\nx\n"
                )
            sent.append(len(sent))

    sender = threading.Thread(target=lambda: box.within_network(send))
    sender.start()
    try:
        eventually(lambda: len(sent) > 10, "messages before the upgrade")
        _install(box, packages[1])
        count = len(sent)
        eventually(lambda: len(sent) > count + 10, "messages after the upgrade")
    finally:
        is_over.set()
        sender.join(60)
    assert box.main_pid() != before
    assert box.run("dpkg-query", "-W", "-f", "${Version}", "bqfilter").stdout.endswith("-2")
    delivered = [message.recipients[0] for message in sink.messages]
    assert len(delivered) == len(set(delivered)) == len(sent)
    assert box.run("cat", _CONFIG).stdout == config


def test_an_upgrade_leaves_the_daemon_alone_that_could_not_start_again(
    box: Box, packages: tuple[Path, Path]
) -> None:
    _install(box, packages[0])
    before = box.main_pid()
    box.write(_CONFIG, _BROKEN)
    said = _install(box, packages[1])
    assert "pool.workers: found 0" in said
    assert "bqfilterd was not restarted" in said
    assert box.main_pid() == before
    assert _greeting(box) == 250


def test_an_instance_is_restarted_and_removed_as_the_single_service_is(
    box: Box, packages: tuple[Path, Path]
) -> None:
    unit, config, messages = (
        "bqfilterd@second.service",
        "/etc/bqfilter/second.toml",
        "/var/lib/bqfilter-second",
    )
    _install(box, packages[0])
    box.write(config, _SECOND)
    box.systemctl("enable", "--now", unit)
    before = box.show(unit, "MainPID")
    _install(box, packages[1])
    after = box.show(unit, "MainPID")
    assert after not in (before, "0")

    box.write(config, _BROKEN)
    assert "bqfilterd@second was not restarted" in _install(box, packages[0], "--force-downgrade")
    assert box.show(unit, "MainPID") == after

    box.run("touch", f"{messages}/message")
    box.systemctl("disable", unit)
    done = box.run(*_DPKG, "--purge", "bqfilter")
    assert not _is_active(box, unit)
    assert f"{messages} is kept" in done.stderr
    box.run("rm", "-r", messages)


def test_an_upgrade_starts_nothing_that_was_switched_off(box: Box, packages: tuple[Path, Path]) -> None:
    _install(box, packages[0])
    box.systemctl("disable", "--now", *_UNITS)
    _install(box, packages[1])
    assert [unit for unit in _UNITS if _is_active(box, unit)] == []
    assert "enabled" not in box.run("systemctl", "is-enabled", *_UNITS, check=False).stdout.split()


def test_a_daemon_that_does_not_start_fails_no_installation(box: Box, packages: tuple[Path, Path]) -> None:
    box.write(_CONFIG, _BROKEN)
    said = _install(box, packages[0], "--force-confold")
    assert "not everything could be started" in said
    assert box.run("dpkg-query", "-W", "-f", "${Status}", "bqfilter").stdout == "install ok installed"
    assert not _is_active(box, "bqfilterd.service")


def test_removed_it_is_silent_and_keeps_configuration_and_quarantine(
    box: Box, packages: tuple[Path, Path]
) -> None:
    _install(box, packages[0])
    box.run("touch", f"{_QUARANTINE}/message")
    box.run(*_DPKG, "--remove", "bqfilter")
    assert [unit for unit in _UNITS if _is_active(box, unit)] == []
    with pytest.raises(ConnectionRefusedError):
        _refused(box)
    assert box.run("ls", _CONFIG, f"{_QUARANTINE}/message").stdout.count("\n") == 2


def _refused(box: Box) -> None:
    raised: list[Exception] = []

    def knock() -> None:
        try:
            smtplib.SMTP("127.0.0.1", 10025, timeout=60).close()
        except OSError as error:
            raised.append(error)

    box.within_network(knock)
    if raised:
        raise raised[0]


def test_a_purge_leaves_nothing_of_ours(box: Box, packages: tuple[Path, Path]) -> None:
    before = _listing(box)
    _install(box, packages[0])
    assert _listing(box) > before
    box.run(*_DPKG, "--purge", "bqfilter")
    assert _listing(box) == before


def test_a_purge_keeps_messages_and_says_so(box: Box, packages: tuple[Path, Path]) -> None:
    _install(box, packages[0])
    box.run("touch", f"{_QUARANTINE}/message")
    done = box.run(*_DPKG, "--purge", "bqfilter")
    assert "/var/spool/bqfilter is kept" in done.stderr
    assert box.run("ls", _QUARANTINE).stdout == "message\n"
