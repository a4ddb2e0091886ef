"""A new version of the program in place: same process, same sockets, nobody refused and nothing lost."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bqfilter
from bqfilter.pool.pid_file import PidFile
from bqfilter.pool.succession import Elders, Estate, Invocation
from bqfilter.saturation.reader import Board
from bqfilter.scoreboard import FILE_NAME
from tests.doubles.programs import eventually, toml
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, deliver, is_gone, news, settings_for
from tests.pool.scraper import UnixConnection
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient

GREETING = 'b" ESMTP bqfilterd"'


class Installation:
    """A copy of the program beside its configuration: another version can be put in its place."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.package = directory / "bqfilter"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(bqfilter.__file__).parent, self.package, ignore=ignored)

    def upgrade(self, version: str) -> None:
        """A program that greets with its version."""
        self._rewrite("session.py", GREETING, f'b" ESMTP bqfilterd {version}"')

    def damage(self, module: str) -> None:
        """A program that cannot be started."""
        with (self.package / module).open("a", encoding="utf-8") as file:
            file.write("\nraise RuntimeError('half an upgrade')\n")

    def mend(self, module: str) -> None:
        path = self.package / module
        path.write_text(path.read_text().replace("\nraise RuntimeError('half an upgrade')\n", ""))

    def _rewrite(self, module: str, old: str, new: str) -> None:
        shutil.copy(Path(bqfilter.__file__).parent / module, self.package / module)
        text = (self.package / module).read_text()
        assert old in text
        draft = self.package / f"{module}.new"
        draft.write_text(text.replace(old, new))
        draft.rename(self.package / module)


@pytest.fixture
def installation(directory: Path) -> Installation:
    return Installation(directory)


@contextmanager
def running(
    installation: Installation,
    settings: dict[str, Any],
    environment: dict[str, str] | None = None,
    passed: socket.socket | None = None,
) -> Iterator[Daemon]:
    """Start the copy; `passed` is a socket that a service manager gives it."""
    fds = () if passed is None else (passed.fileno(),)
    manager = [f'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&{fd}' for fd in fds]
    shell = ["/bin/bash", "-c", *manager, "bash"] if manager else []
    directory = installation.directory
    (directory / "bqfilterd.toml").write_text(toml(settings))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*shell, sys.executable, "-m", "bqfilter", "serve", "--config", "bqfilterd.toml"],
            pass_fds=fds,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        )  # fmt: skip
    daemon = Daemon(directory, process)
    try:
        daemon.wait_for_log(r"\bready ")
        yield daemon
    finally:
        daemon.kill()


def ready_count(daemon: Daemon) -> int:
    return daemon.log().count(" ready ")


def take_over(daemon: Daemon) -> None:
    """SIGUSR2, and wait until the new program's pool is complete and the old workers are gone."""
    old, before = daemon.workers(), ready_count(daemon)
    daemon.signal(signal.SIGUSR2)
    try:
        eventually(lambda: ready_count(daemon) > before, "the new program is ready", 60.0)
        eventually(lambda: not daemon.workers() & old, "the old workers have left")
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{daemon.log()}") from None


def banner_of(daemon: Daemon) -> bytes:
    with socket.create_connection(daemon.address, 30) as client:
        return client.recv(4096)


def test_five_new_versions_under_load_lose_nothing_and_refuse_nobody(
    sink: Sink, installation: Installation
) -> None:
    def deliver_until_enough() -> list[bytes]:
        verdicts = []
        while not enough.is_set():
            verdicts.append(deliver(daemon)[:3])
        return verdicts

    enough = threading.Event()
    settings = settings_for(sink.endpoint, installation.directory, pool={"workers": 3})
    with running(installation, settings) as daemon, ThreadPoolExecutor(4) as clients:
        runs = [clients.submit(deliver_until_enough) for _ in range(4)]
        try:
            for version in range(2, 7):
                installation.upgrade(f"v{version}")
                take_over(daemon)
                assert f"bqfilterd v{version}".encode() in banner_of(daemon)
        finally:
            enough.set()
        verdicts = [verdict for run in runs for verdict in run.result()]
        assert daemon.process.poll() is None  # the same process all the time
        assert len(verdicts) >= 20
        assert set(verdicts) == {b"250"}
        assert len(sink.messages) == len(verdicts)
        assert daemon.trouble() == []
        assert "died" not in daemon.log()
        daemon.wait_until_idle(3)
        daemon.stop()
        assert not (installation.directory / "run" / "bqfilterd.pid").exists()


@pytest.mark.parametrize("module", ["session.py", "pool/pages.py", "config/schema.py"])
def test_a_broken_new_version_changes_nothing_and_a_mended_one_is_taken(
    sink: Sink, installation: Installation, module: str
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(installation.directory / "notify"))
        manager.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(installation.directory / "notify")}
        settings = settings_for(sink.endpoint, installation.directory)
        with running(installation, settings, environment) as daemon:
            assert news(manager).startswith(b"READY=1\n")
            workers = daemon.workers()
            installation.damage(module)
            daemon.signal(signal.SIGUSR2)
            daemon.wait_for_log(r"new program is not fit, the present one .*half an upgrade", 60)
            assert b"; new program is not fit at " in news(manager)
            assert daemon.workers() == workers
            assert deliver(daemon).startswith(b"250 ")
            installation.mend(module)
            take_over(daemon)
            assert news(manager).startswith(b"RELOADING=1\n")
            assert news(manager).startswith(b"READY=1\n")
            assert deliver(daemon).startswith(b"250 ")


def test_a_configuration_that_the_new_version_refuses_changes_nothing(
    sink: Sink, installation: Installation
) -> None:
    settings = settings_for(sink.endpoint, installation.directory)
    with running(installation, settings) as daemon:
        daemon.configure({**settings, "pool": {"workers": 0}})
        daemon.signal(signal.SIGUSR2)
        daemon.wait_for_log(r"new program is not fit.*pool\.workers: found 0.*exit status 78", 60)
        assert deliver(daemon).startswith(b"250 ")


def test_a_message_on_its_way_is_finished_by_the_old_program(sink: Sink, installation: Installation) -> None:
    settings = settings_for(sink.endpoint, installation.directory)
    with running(installation, settings) as daemon:
        with SmtpClient(daemon.address) as client:
            client.begin(SENDER, ["b@example.org"])
            busy = daemon.the_busy_one()
            daemon.signal(signal.SIGUSR2)
            eventually(lambda: ready_count(daemon) == 2, "the new program is ready", 60.0)
            eventually(lambda: len(daemon.workers()) == 3, "the idle one has left")
            assert busy in daemon.workers()
            assert client.end(PLAIN).startswith(b"250 ")
        eventually(lambda: is_gone(busy), "the old worker has left")
        eventually(lambda: busy not in daemon.workers(), "and has been reaped")
        assert daemon.trouble() == []
        assert "died" not in daemon.log()


def test_draining_waits_for_the_old_programs_workers_too(sink: Sink, installation: Installation) -> None:
    settings = settings_for(sink.endpoint, installation.directory)
    with running(installation, settings) as daemon:
        with SmtpClient(daemon.address) as client:
            client.begin(SENDER, ["b@example.org"])
            daemon.signal(signal.SIGUSR2)
            eventually(lambda: ready_count(daemon) == 2, "the new program is ready", 60.0)
            with sink.held("."):
                client.send(PLAIN + b".\r\n")
                sink.wait_until_held(".")
                daemon.signal(signal.SIGTERM)
                daemon.wait_for_log(r"\bstopping\b")
                eventually(lambda: len(daemon.workers()) == 1, "the idle ones have left")
            assert client.reply().startswith(b"250 ")
        assert daemon.process.wait(30) == 0
        assert len(sink.messages) == 1


def test_all_keys_are_taken_as_by_a_restart(sink: Sink, installation: Installation) -> None:
    directory = installation.directory
    settings = settings_for(sink.endpoint, directory, listen=[{"endpoint": f"unix:{directory}/a"}])
    with running(installation, settings) as daemon:
        inode = (directory / "a").stat().st_ino
        more = [{"endpoint": f"unix:{directory}/a"}, {"endpoint": f"unix:{directory}/b"}]
        moved = {**settings["runtime"], "directory": str(directory / "elsewhere")}
        daemon.configure({**settings, "listen": more, "runtime": moved})
        take_over(daemon)
        assert (directory / "a").stat().st_ino == inode  # it was never taken away
        assert greets(directory / "a")
        assert greets(directory / "b")
        assert not (directory / "run" / "bqfilterd.pid").exists()
        assert (directory / "elsewhere" / "bqfilterd.pid").read_text() == f"{daemon.process.pid}\n"
        daemon.configure({**settings, "listen": more[1:], "runtime": moved})
        take_over(daemon)
        assert not (directory / "a").exists()
        assert greets(directory / "b")


def test_a_service_managers_socket_stays_its_own(sink: Sink, installation: Installation) -> None:
    path = installation.directory / "s"
    listen = [{"endpoint": f"unix:{path}"}]
    settings = settings_for(sink.endpoint, installation.directory, listen=listen)
    with socket.socket(socket.AF_UNIX) as manager:
        manager.bind(str(path))
        path.chmod(0o666)
        manager.listen(5)
        with running(installation, settings, passed=manager) as daemon:
            take_over(daemon)
            assert greets(path)
            assert daemon.stop() == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # and waits there for the next daemon


def greets(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        return client.recv(4096).startswith(b"220 ")


def test_a_new_address_that_is_taken_is_found_by_the_trial(sink: Sink, installation: Installation) -> None:
    settings = settings_for(sink.endpoint, installation.directory)
    with running(installation, settings) as daemon, socket.create_server(("127.0.0.1", 0)) as other:
        taken = {"endpoint": f"inet:127.0.0.1:{other.getsockname()[1]}"}
        daemon.configure({**settings, "listen": [*settings["listen"], taken]})
        daemon.signal(signal.SIGUSR2)
        daemon.wait_for_log(r"new program is not fit.*Address already in use", 60)
        assert deliver(daemon).startswith(b"250 ")


def test_the_pid_file_is_locked_all_the_time_and_the_scoreboard_is_a_new_one(
    sink: Sink, installation: Installation
) -> None:
    settings = settings_for(sink.endpoint, installation.directory)
    run = installation.directory / "run"
    with running(installation, settings) as daemon:
        deliver(daemon)
        old, before = Board.open(str(run)), (run / FILE_NAME).stat().st_ino
        take_over(daemon)
        assert old.snapshot().worker_limit == 2  # an onlooker's mapping stays whole
        assert (run / FILE_NAME).stat().st_ino != before
        with pytest.raises(Exception, match=f"already, pid {daemon.process.pid}"):
            PidFile.take(run / "bqfilterd.pid")


def test_signals_that_come_while_nobody_can_hear_them_are_not_lost(
    sink: Sink, installation: Installation
) -> None:
    settings = settings_for(sink.endpoint, installation.directory)
    with running(installation, settings) as daemon:
        daemon.signal(signal.SIGUSR2)
        daemon.wait_for_log("making way for the new program", 60)
        daemon.signal(signal.SIGHUP)  # by default it would end the process
        daemon.wait_for_log(r"\bready .*generation=2\b", 60)
        assert deliver(daemon).startswith(b"250 ")


def test_an_estate_goes_to_its_process_alone_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    left = {"pid": os.getpid(), "lifelines": [writer], "elders": [1, 2], "of a later version": 3}
    monkeypatch.setenv("BQFILTERD_ESTATE", json.dumps({**left, "pid": 1}))
    assert Estate.inherited() is None
    monkeypatch.setenv("BQFILTERD_ESTATE", json.dumps(left))
    os.set_inheritable(writer, True)
    estate = Estate.inherited()
    assert estate == Estate(os.getpid(), lifelines=(writer,), elders=(1, 2))
    assert not os.get_inheritable(writer)
    assert Estate.inherited() is None
    elders = Elders(estate)
    elders.relieve()
    assert os.read(reader, 1) == b""
    assert elders.was_reaped(1)
    assert not elders.was_reaped(3)
    os.close(reader)


def test_a_program_that_cannot_be_executed_leaves_everything_as_it_was(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    here = Path.cwd()
    with pytest.raises(OSError, match="no-such-program"):
        Estate(os.getpid(), lifelines=(writer,)).bequeath(Invocation(("/no-such-program",), str(tmp_path)))
    assert Path.cwd() == here
    assert not os.get_inheritable(writer)
    os.close(reader)
    os.close(writer)


def test_scrapes_wait_for_the_new_exporter(sink: Sink, installation: Installation) -> None:
    metrics = f"unix:{installation.directory}/metrics"
    settings = settings_for(sink.endpoint, installation.directory, metrics={"listen": metrics})
    with running(installation, settings) as daemon:
        assert fetch_ready(installation.directory / "metrics")
        inode = (installation.directory / "metrics").stat().st_ino
        take_over(daemon)
        assert (installation.directory / "metrics").stat().st_ino == inode
        assert fetch_ready(installation.directory / "metrics")


def fetch_ready(path: Path) -> bool:
    connection = UnixConnection(str(path))
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    finally:
        connection.close()
