"""`bqfilterd serve` as systemd and an operator's shell see it: exit status, last words, inherited sockets."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.components import needs
from tests.doubles.programs import COMMAND, REPOSITORY, eventually, short_directory, toml
from tests.doubles.sink import Sink
from tests.pool.daemon import needs_root, news, serving, settings_for
from tests.postfix.postfix_instance import free_ports

ELSEWHERE = "inet:127.0.0.1:1"


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory("bqfilter-serve-") as path:
        yield path


def refused(directory: Path, config: Mapping[str, Any] | str, status: int = 78) -> str:
    """What it says on standard error when it refuses to serve, mostly with status 78 (EX_CONFIG)."""
    path = directory / "bqfilterd.toml"
    path.write_text(config if isinstance(config, str) else toml(config), encoding="utf-8")
    done = subprocess.run(
        [*COMMAND, "serve", "--config", str(path)],
        capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("bqfilterd: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_file_that_is_not_there_is_named(directory: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "serve", "--config", str(directory / "missing.toml")],
        capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert f"{directory}/missing.toml: cannot be read: No such file or directory" in done.stderr


def test_a_wrong_value_is_named_with_its_file_and_key(directory: Path) -> None:
    said = refused(directory, settings_for(ELSEWHERE, directory, pool={"workers": 0}))
    assert f"{directory}/bqfilterd.toml: pool.workers: found 0" in said


def test_text_that_is_not_toml_is_told(directory: Path) -> None:
    assert "is not TOML" in refused(directory, "[pool")


@needs_root
def test_a_user_that_does_not_exist_is_told(directory: Path) -> None:
    said = refused(directory, settings_for(ELSEWHERE, directory, runtime={"user": "no-such-user"}))
    assert 'runtime.user: there is no user "no-such-user"' in said


@needs_root
def test_root_does_not_serve_as_root(directory: Path) -> None:
    said = refused(directory, settings_for(ELSEWHERE, directory, runtime={"user": "root"}))
    assert "workers do not run as root" in said


def test_a_host_that_cannot_be_resolved_is_told(directory: Path) -> None:
    said = refused(directory, settings_for("inet:after.invalid:10026", directory))
    assert "upstream.endpoint: inet:after.invalid:10026" in said


@pytest.mark.parametrize("own_name", ["127.0.0.1", "localhost"])
def test_our_own_listener_as_after_filter_server_is_refused(own_name: str, directory: Path) -> None:
    port = free_ports("127.0.0.1", ["smtp"])["smtp"]
    listen = [{"endpoint": f"inet:127.0.0.1:{port}"}]
    said = refused(directory, settings_for(f"inet:{own_name}:{port}", directory, listen=listen))
    assert "our own [[listen]]" in said


def test_a_port_that_is_taken_is_named(directory: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        endpoint = f"inet:127.0.0.1:{other.getsockname()[1]}"
        said = refused(directory, settings_for(ELSEWHERE, directory, listen=[{"endpoint": endpoint}]), 1)
    assert f"cannot listen on {endpoint}: Address already in use" in said


def test_a_unix_socket_in_a_directory_that_is_not_there_is_named(directory: Path) -> None:
    endpoint = f"unix:{directory}/missing/s"
    said = refused(directory, settings_for(ELSEWHERE, directory, listen=[{"endpoint": endpoint}]))
    assert f"cannot listen on {endpoint}: " in said


def test_a_second_daemon_on_the_same_socket_is_refused_and_the_first_serves_on(directory: Path) -> None:
    path = directory / "smtp.sock"
    listen = [{"endpoint": f"unix:{path}"}]
    with Sink() as sink, serving(directory, settings_for(sink.endpoint, directory, listen=listen)):
        with short_directory("bqfilter-serve-") as elsewhere:
            said = refused(elsewhere, settings_for(sink.endpoint, elsewhere, listen=listen), 1)
        assert "another program listens there" in said
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(path))
            assert client.recv(4096).startswith(b"220 ")


def test_an_option_that_does_not_exist_is_a_mistake_in_usage() -> None:
    done = subprocess.run(
        [*COMMAND, "serve", "--no-such-option"],
        capture_output=True, timeout=60, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert done.returncode == 2


def test_it_says_ready_once_with_its_workers_and_addresses(directory: Path) -> None:
    with Sink() as sink, serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        host, port = daemon.address
        assert f" ready workers=2 listen=inet:{host}:{port} generation=1\n" in daemon.log()
        daemon.stop()
        assert daemon.log().count(" ready ") == 1


def test_it_tells_systemd_when_it_is_ready_and_when_it_stops(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(directory / "notify")}
        settings = settings_for(ELSEWHERE, directory)
        with serving(directory, settings, environment=environment) as daemon:
            assert news(manager).startswith(b"READY=1\nSTATUS=accepting: 0 of 2 workers busy, 0 waiting; ")
            daemon.signal(signal.SIGTERM)
            assert news(manager).startswith(b"STOPPING=1\n")


def is_connected(client: socket.socket, path: Path) -> bool:
    """It is by now. A socket that is bound already may not listen yet."""
    try:
        client.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


@needs("systemd-socket-activate", "systemd")
def test_it_serves_on_a_socket_of_systemds_and_leaves_it_in_place(directory: Path) -> None:
    path, config = directory / "smtp.sock", directory / "bqfilterd.toml"
    listen = [{"endpoint": f"unix:{path}"}]
    config.write_text(toml(settings_for(ELSEWHERE, directory, listen=listen)), encoding="utf-8")
    command = ["systemd-socket-activate", "-l", str(path), "-E", f"PYTHONPATH={REPOSITORY}"]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(
            [*command, sys.executable, "-m", "bqfilter", "serve", "--config", str(config)], stderr=log
        ) as process,
        socket.socket(socket.AF_UNIX) as client,
    ):
        try:
            client.settimeout(30)
            eventually(lambda: is_connected(client, path), "systemd's socket")  # this starts the daemon
            assert client.recv(4096).startswith(b"220 ")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert path.exists()
    assert "error" not in (directory / "log").read_text()


@needs("systemd-socket-activate", "systemd")
def test_a_socket_of_systemds_that_no_table_names_is_refused(directory: Path) -> None:
    path, config = directory / "other.sock", directory / "bqfilterd.toml"
    config.write_text(toml(settings_for(ELSEWHERE, directory)), encoding="utf-8")
    command = ["systemd-socket-activate", "-l", str(path), "-E", f"PYTHONPATH={REPOSITORY}"]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(
            [*command, sys.executable, "-m", "bqfilter", "serve", "--config", str(config)], stderr=log
        ) as process,
        socket.socket(socket.AF_UNIX) as client,
    ):
        try:
            eventually(lambda: is_connected(client, path), "systemd's socket")
            assert process.wait(30) == 78
        finally:
            process.kill()
    assert f"no [[listen]] table for the inherited socket unix:{path}" in (directory / "log").read_text()


def test_a_second_daemon_with_the_same_directory_is_told_of_the_first(directory: Path) -> None:
    with Sink() as sink, serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        said = refused(directory, settings_for(sink.endpoint, directory), 1)
        assert said.startswith(f"bqfilterd: is running already, pid {daemon.process.pid} (")


def test_a_dry_run_tells_what_a_start_would_and_binds_nothing_for_good(directory: Path) -> None:
    path = directory / "bqfilterd.toml"
    path.write_text(toml(settings_for(ELSEWHERE, directory, listen=[{"endpoint": f"unix:{directory}/s"}])))
    done = subprocess.run(
        [*COMMAND, "serve", "--dry-run", "--config", str(path)],
        capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (directory / "s").exists()
    assert not (directory / "run").exists()
