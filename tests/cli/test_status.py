"""`bqfilterd status` as its user sees it: screen or JSON, and exit status, in whatever state the pool is."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bqfilter.cli.status import status
from bqfilter.scoreboard import FILE_NAME, MasterWord, Scoreboard
from tests.doubles.programs import short_directory
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, serving, settings_for
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient, submit


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory("bqfilter-status-") as path:
        yield path


@pytest.fixture
def daemon(directory: Path) -> Iterator[Daemon]:
    with Sink() as sink, serving(directory, settings_for(sink.endpoint, directory)) as made:
        made.wait_until_idle(2)
        yield made


def run(directory: Path, *arguments: str) -> Result:
    config = directory / "bqfilterd.toml"
    if not config.exists():
        config.write_text(
            '[[listen]]\nendpoint = "inet:127.0.0.1:0"\n[upstream]\nendpoint = "inet:127.0.0.1:10026"\n'
            f'[runtime]\ndirectory = "{directory}/run"\n'
        )
    return CliRunner().invoke(status, ["--config", str(config), "--over", "0", *arguments])


def test_a_pool_at_rest_is_well(daemon: Daemon) -> None:
    result = run(daemon.directory)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "busy 0/2, nobody waiting"
    assert f"queue     inet:127.0.0.1:{daemon.address[1]}: 0 of 256 waiting" in result.stdout


def test_a_full_pool_is_told_and_ends_with_status_1(daemon: Daemon) -> None:
    with SmtpClient(daemon.address) as first, SmtpClient(daemon.address):
        first.command(b"EHLO client.example")
        first.expect(b"250", b"XFORWARD ADDR=192.0.2.7 NAME=remote.example")
        first.expect(b"250", b"MAIL FROM:<a@example.org>")
        result = run(daemon.directory)
    assert result.exit_code == 1
    assert result.stdout.startswith("busy 2/2 for ")
    assert "speed_adjust" in result.stdout.splitlines()[0]
    assert "192.0.2.7" in result.stdout


def test_as_json_it_says_the_same(daemon: Daemon) -> None:
    submit(daemon.address, SENDER, ["b@example.org"], PLAIN)
    daemon.wait_until_idle(2)
    result = run(daemon.directory, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["verdict"]["is_well"] is True
    assert found["messages"]["accepted"] == 1
    assert found["listeners"][0]["waiting"] == 0
    assert found["measured"]["service_time"] > 0


def test_looking_twice_gives_the_rates_in_between(daemon: Daemon) -> None:
    submit(daemon.address, SENDER, ["b@example.org"], PLAIN)
    daemon.wait_until_idle(2)
    found = json.loads(run(daemon.directory, "--json", "--over", "0.2").stdout)
    assert found["period"]["connections"] == 0
    assert found["period"]["seconds"] >= 0.2
    assert found["messages"]["accepted"] == 1


def test_a_stopped_master_is_no_hindrance(daemon: Daemon) -> None:
    daemon.signal(signal.SIGSTOP)
    try:
        assert "2 idle" in run(daemon.directory).stdout
    finally:
        daemon.signal(signal.SIGCONT)


def test_after_the_end_there_is_what_was_left(daemon: Daemon) -> None:
    submit(daemon.address, SENDER, ["b@example.org"], PLAIN)
    assert daemon.stop() == 0
    result = run(daemon.directory)
    assert result.exit_code == 1
    assert result.stdout.startswith("stopped, this is what it was like; busy 0/2")
    assert "1 accepted" in result.stdout


def test_a_master_that_was_killed_is_dead(daemon: Daemon) -> None:
    daemon.kill()
    board = daemon.directory / "run" / FILE_NAME  # whose heartbeat shall not be a fresh one any more
    data = bytearray(board.read_bytes())
    data[8 * MasterWord.HEARTBEAT : 8 * MasterWord.HEARTBEAT + 8] = b"\0\0\0\0\0\0\xf0?"  # 1.0, long ago
    board.write_bytes(data)
    result = run(daemon.directory)
    assert result.exit_code == 1
    assert result.stdout.startswith("the master is dead")


def test_without_a_scoreboard_there_is_a_sentence(directory: Path) -> None:
    result = run(directory)
    assert result.exit_code == 1
    assert "bqfilterd is not running there" in result.stderr


def test_a_file_that_is_no_scoreboard_is_told(directory: Path) -> None:
    (directory / "run").mkdir()
    (directory / "run" / FILE_NAME).write_text("something else " * 1000)
    result = run(directory)
    assert result.exit_code == 1
    assert "not a scoreboard" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="root may read everything, and has to become somebody else")
def test_somebody_who_may_not_read_it_is_told_who_may(directory: Path) -> None:
    (directory / "run").mkdir()
    Scoreboard.in_file(str(directory / "run"), 2)
    (directory / "run" / FILE_NAME).chmod(0o600)  # a test cannot leave the group root for a moment
    run(directory)  # writes the configuration
    try:
        os.seteuid(65534)
        result = run(directory)
    finally:
        os.seteuid(0)
    assert result.exit_code == 1
    assert "for root and the group of runtime.user" in result.stderr


def test_a_bad_configuration_ends_with_status_78(directory: Path) -> None:
    (directory / "bqfilterd.toml").write_text("nonsense")
    assert run(directory).exit_code == os.EX_CONFIG
