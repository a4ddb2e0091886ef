"""bqfilterd as the demo starts it."""

import os
import socket
from pathlib import Path

import pytest

from bqfilter.demo import sample
from bqfilter.demo.after_filter import AfterFilter
from bqfilter.demo.daemon import Daemon, DaemonFailed, eventually
from bqfilter.demo.maildir import Maildir
from bqfilter.errors import ConfigError
from bqfilter.net.address import SocketAddress


def test_it_is_ready_when_it_has_an_address_and_gone_when_it_was_stopped(place: Path) -> None:
    after = AfterFilter(Maildir(place / "Maildir"))
    daemon = Daemon(place, after.address)
    pid = int((place / "run" / "bqfilterd.pid").read_text())
    assert daemon.address.sockaddr[1] != 0
    assert daemon.log().startswith("ready workers=2 ")
    assert daemon.stop() == 0
    after.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_its_exporter_answers_where_it_says(place: Path) -> None:
    after = AfterFilter(Maildir(place / "Maildir"))
    daemon = Daemon(place, after.address)
    with socket.create_connection(("127.0.0.1", daemon.exporter.sockaddr[1]), timeout=30) as sock:
        sock.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        assert b" 200 " in sock.recv(4096)
    daemon.stop()
    after.close()


def test_its_commands_are_run_with_its_configuration(place: Path) -> None:
    after = AfterFilter(Maildir(place / "Maildir"))
    daemon = Daemon(place, after.address)
    assert "2 idle" in daemon.run("status", "--over", "0")
    assert "No such command" in daemon.run("nonsense")
    daemon.stop()
    after.close()


def test_it_starts_in_a_directory_with_an_odd_name(place: Path) -> None:
    directory = place / 'a "quoted" \\ näme {with} blanks'
    directory.mkdir()
    after = AfterFilter(Maildir(directory / "Maildir"))
    daemon = Daemon(directory, after.address)
    assert daemon.stop() == 0
    after.close()


def test_a_place_where_it_cannot_work_is_a_failure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_directory: Path, _upstream: SocketAddress) -> Path:
        raise ConfigError("nobody cannot pass through /root")

    monkeypatch.setattr(sample, "write", refuse)
    with pytest.raises(DaemonFailed, match="nobody cannot pass through /root"):
        Daemon(place, SocketAddress(socket.AF_INET, ("127.0.0.1", 10026)))


def test_where_it_does_not_start_the_failure_says_what_it_wrote(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "_CONFIGURATION", "[pool]\nworkers = 0\n")
    after = AfterFilter(Maildir(place / "Maildir"))
    with pytest.raises(DaemonFailed, match=r"(?s)did not start:.*pool\.workers: found 0"):
        Daemon(place, after.address)
    after.close()


def test_waiting_ends_with_the_condition_or_with_the_limit() -> None:
    answers = iter([False, True])
    assert eventually(lambda: next(answers), 30)
    assert not eventually(lambda: False, 0)
