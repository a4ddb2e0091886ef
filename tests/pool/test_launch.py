"""`serve --daemon` as an operator sees it: the real command, as root and as an ordinary user."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.programs import COMMAND, REPOSITORY, children_of, eventually, title_of, toml
from tests.doubles.sink import Sink
from tests.pool.daemon import MAIN, is_gone, needs_root, settings_for, status_of
from tests.postfix.postfix_instance import free_ports
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient

# The interpreter may lie where only root can read it; so everything is loaded before root's rights go.
AS_NOBODY = """
import encodings.ascii, encodings.idna, encodings.latin_1, os, traceback
from bqfilter.cli import main
from bqfilter.pool import launch, pages
os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""


class Site:
    """A directory with a configuration, and whatever daemon its pid file names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "bqfilterd.toml"
        self.pid_file = directory / "run" / "bqfilterd.pid"
        self.address = "127.0.0.1", free_ports("127.0.0.1", ["smtp"])["smtp"]

    def write(self, upstream: str, /, **tables: Any) -> None:
        listen = [{"endpoint": "inet:{}:{}".format(*self.address)}]
        self.config.write_text(toml(settings_for(upstream, self.directory, **{"listen": listen, **tables})))

    def start(
        self, *options: str, prelude: str = "", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-c", prelude + "\n" + MAIN] if prelude else COMMAND
        return subprocess.run(
            [*program, "serve", "--daemon", "--config", str(self.config), *options],
            capture_output=True, text=True, timeout=90, check=False, cwd=REPOSITORY,
            env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def workers(self) -> list[int]:
        return children_of(self.pid())

    def deliver(self) -> bytes:
        with SmtpClient(self.address) as client:
            client.begin(SENDER, ["b@example.org"])
            return client.end(PLAIN)

    def stop(self) -> None:
        """SIGTERM by way of the pid file."""
        pid = self.pid()
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: is_gone(pid), "the daemon has ended")

    def kill(self) -> None:
        """Whoever is left: the master first, because it would replace the others."""
        with suppress(OSError, ValueError):
            family = [self.pid(), *self.workers()]
            if "bqfilter" in title_of(family[0]):
                for pid in family:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def site(directory: Path) -> Iterator[Site]:
    site = Site(directory)
    try:
        yield site
    finally:
        site.kill()


def test_it_returns_when_mail_is_taken_and_ends_by_its_pid_file(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    done = site.start()
    assert done.returncode == 0, done.stderr
    assert site.deliver().startswith(b"250 ")
    pid, workers = site.pid(), site.workers()
    assert len(workers) == 2
    assert status_of(pid)["Umask"] == ["0022"]
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4] == "0"  # no terminal
    site.stop()
    assert not site.pid_file.exists()
    assert all(is_gone(worker) for worker in workers)


def test_a_second_start_says_who_runs_and_leaves_it_alone(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    assert site.start().returncode == 0
    pid = site.pid()
    done = site.start()
    assert done.returncode == 1
    assert done.stderr.startswith(f"bqfilterd: is running already, pid {pid} ")
    assert site.pid() == pid
    assert site.deliver().startswith(b"250 ")


def test_the_foreground_respects_a_daemon(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    assert site.start().returncode == 0
    done = subprocess.run(
        [*COMMAND, "serve", "--config", str(site.config)],
        capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"is running already, pid {site.pid()}" in done.stderr


def test_what_a_killed_daemon_has_left_is_no_obstacle(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    assert site.start().returncode == 0
    pid, workers = site.pid(), site.workers()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: all(is_gone(one) for one in (pid, *workers)), "all of them gone")
    assert site.pid() == pid
    done = site.start()
    assert done.returncode == 0, done.stderr
    assert site.pid() != pid
    assert site.deliver().startswith(b"250 ")


def test_a_daemon_takes_a_new_program_and_stays_what_it_is(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    done = subprocess.run(
        [*COMMAND, "serve", "--daemon", "--config", "bqfilterd.toml"],
        capture_output=True, text=True, timeout=90, check=False, cwd=site.directory,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pid, old = site.pid(), set(site.workers())
    os.kill(pid, signal.SIGUSR2)
    eventually(lambda: len(site.workers()) == 2 and not old & set(site.workers()), "new workers", 60.0)
    assert site.pid() == pid
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert Path(f"/proc/{pid}/fd/2").readlink() == Path("/dev/null")
    assert site.deliver().startswith(b"250 ")
    assert f"already, pid {pid} " in failing(site, 1)
    site.stop()


def failing(site: Site, status: int) -> str:
    done = site.start()
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("bqfilterd: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_symbolic_link_for_a_pid_file_ends_the_start(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    victim = site.directory / "victim"
    victim.write_text("precious")
    site.pid_file.parent.mkdir()
    site.pid_file.symlink_to(victim)
    assert "symbolic link" in failing(site, 1)
    assert victim.read_text() == "precious"


def test_a_pid_file_that_cannot_be_written_ends_the_start(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint, runtime={"directory": "/proc/no-such"})
    assert "cannot write the pid file: /proc/no-such/bqfilterd.pid: " in failing(site, 1)


def test_a_bad_configuration_is_told(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint, pool={"workers": 0})
    assert "pool.workers: found 0" in failing(site, 78)


@needs_root
def test_a_user_that_does_not_exist_is_told(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint, runtime={"user": "no-such-user"})
    assert 'there is no user "no-such-user"' in failing(site, 78)


def test_a_port_that_is_taken_is_told_and_leaves_nothing_behind(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    with closing(socket.create_server(site.address)):
        assert "Address already in use" in failing(site, 1)
    assert not site.pid_file.exists()


DYING = """
import os
from bqfilter.pool import worker
worker.Worker.run = lambda self: os._exit(9)
"""


def test_workers_that_die_at_once_end_the_start_with_the_cause(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    done = site.start(prelude=DYING)
    assert done.returncode == 1
    assert "workers die at once, the last one by exit status 9" in done.stderr
    eventually(lambda: not site.pid_file.exists(), "the daemon has given up")


WITHOUT_PROCESSES = """
import errno, os
from bqfilter.pool.master import Master
run = Master.run

def fail():
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

def run_without_processes(self):
    os.fork = fail
    return run(self)

Master.run = run_without_processes
"""


def test_workers_that_cannot_be_forked_end_the_start_with_the_cause(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    done = site.start(prelude=WITHOUT_PROCESSES)
    assert done.returncode == 1
    assert "the last one by a fork that failed (Resource temporarily unavailable)" in done.stderr
    eventually(lambda: not site.pid_file.exists(), "the daemon has given up")


HANGING = """
import time
from bqfilter.pool import detaching, master, worker
master.START_TIMEOUT = 1.0
worker.Worker.run = lambda self: time.sleep(600)
"""


def test_workers_that_never_get_ready_end_the_start(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint, runtime={"drain_timeout": "0s"})
    done = site.start(prelude=HANGING)
    assert done.returncode == 1
    assert "not ready after 1 s" in done.stderr
    eventually(lambda: not site.pid_file.exists(), "the daemon has given up")


@needs_root
def test_an_ordinary_user_starts_and_stops_it(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    os.chown(site.directory, 65534, 65534)
    done = site.start(prelude=AS_NOBODY)
    assert done.returncode == 0, done.stderr
    assert status_of(site.pid())["Uid"] == ["65534"] * 4
    assert site.deliver().startswith(b"250 ")
    second = site.start(prelude=AS_NOBODY)
    assert second.returncode == 1
    assert f"is running already, pid {site.pid()}" in second.stderr
    site.stop()
    assert not site.pid_file.exists()


@needs_root
def test_an_ordinary_user_is_told_what_is_not_his(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint, runtime={"directory": "/run/bqfilter-is-roots-alone"})
    done = site.start(prelude=AS_NOBODY)
    assert done.returncode == 1
    assert "cannot write the pid file: /run/bqfilter-is-roots-alone/bqfilterd.pid: " in done.stderr


def test_it_logs_to_syslog_whatever_the_file_says(site: Site, sink: Sink) -> None:
    path = site.directory / "syslog"
    site.write(sink.endpoint, log={"target": "stderr", "syslog": f"unix:{path}"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(path))
        path.chmod(0o666)
        syslog.settimeout(30)
        done = site.start()
        assert done.returncode == 0, done.stderr
        lines = [syslog.recv(8192)]
        while b" ready " not in lines[-1]:
            lines.append(syslog.recv(8192))
        assert lines[-1].startswith(b"<22>")
        assert b" bqfilterd[%d]: ready " % site.pid() in lines[-1]


def test_a_dry_run_gets_ready_and_leaves_nothing(site: Site, sink: Sink) -> None:
    site.write(sink.endpoint)
    done = site.start("--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert not site.pid_file.exists()
    site.write(sink.endpoint, pool={"workers": -1})
    assert site.start("--dry-run").returncode == 78
