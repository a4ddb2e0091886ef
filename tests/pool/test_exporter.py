"""The exporter from outside: it answers when nobody else does, tells the truth, and mail never cares."""

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bqfilter.scoreboard import State
from tests.doubles.components import needs
from tests.doubles.programs import children_of, eventually, title_of
from tests.doubles.sink import Sink
from tests.pool.daemon import (
    Daemon,
    is_gone,
    kill_hard,
    needs_root,
    serving,
    settings_for,
    status_of,
)
from tests.pool.scraper import Samples, UnixConnection, agent_line, exporter_port, fetch, get, scrape
from tests.pool.test_reload import A_GROUP_ADDED
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient, submit

ANY_PORT = {"listen": "inet:127.0.0.1:0"}
SHORT_BUDGET = {"session": "300ms", "margin": "100ms", "commit_reserve": "100ms"}
JIFFY = 0.011  # at 100 Hz, with the kernel counting whole milliseconds
UNIX_ERROR = 0.15  # looks are a tenth of a second apart, on a machine that has other things to do

LATE_SAMPLES = """
import time
from bqfilter.saturation.sampler import Sampler
sample = Sampler.sample

def sample_late(self, now):
    time.sleep(0.5)
    sample(self, now)

Sampler.sample = sample_late
"""
NO_PROMETHEUS = "import sys; sys.modules['prometheus_client'] = None"


@pytest.fixture
def daemon(sink: Sink, directory: Path) -> Iterator[Daemon]:
    with serving(directory, settings_for(sink.endpoint, directory, metrics=ANY_PORT)) as made:
        exporter_port(made)
        made.wait_until_idle(2)
        yield made


def exporter_of(daemon: Daemon) -> int:
    def find() -> int | None:
        return next(
            (pid for pid in children_of(daemon.process.pid) if title_of(pid) == "bqfilterd: exporter"), None
        )

    return eventually(find, "an exporter")


def deliver(daemon: Daemon) -> bytes:
    return submit(daemon.address, SENDER, ["b@example.org"], PLAIN)


@contextlib.contextmanager
def all_busy(daemon: Daemon, workers: int = 2) -> Iterator[list[SmtpClient]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(SmtpClient(daemon.address)) for _ in range(workers)]


@contextlib.contextmanager
def connected(address: Any) -> Iterator[socket.socket]:
    """A connection of which nobody waits for a greeting."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
        sock.connect(address)
        yield sock


class TestPages:
    def test_metrics_come_as_text_and_as_openmetrics_where_asked(self, daemon: Daemon) -> None:
        assert get(daemon).content_type == "text/plain"
        page = get(daemon, Accept="application/openmetrics-text; version=1.0.0")
        assert page.content_type == "application/openmetrics-text"
        assert page.text.endswith("# EOF\n")

    def test_a_pool_that_serves_is_healthy_and_ready(self, daemon: Daemon) -> None:
        assert (get(daemon, "/-/healthy").status, get(daemon, "/-/ready").status) == (200, 200)

    def test_it_is_healthy_from_its_first_answer_on(self, sink: Sink, directory: Path) -> None:
        """Who asks before the queues have been looked at waits until they have been."""
        settings = settings_for(sink.endpoint, directory, metrics=ANY_PORT)
        with serving(directory, settings, prelude=LATE_SAMPLES) as daemon:
            assert get(daemon, "/-/healthy").status == 200

    def test_other_pages_are_not_there(self, daemon: Daemon) -> None:
        assert get(daemon, "/etc/passwd").status == 404

    def test_a_unix_socket_serves_as_well(self, sink: Sink, directory: Path) -> None:
        path = directory / "metrics.sock"
        settings = settings_for(sink.endpoint, directory, metrics={"listen": f"unix:{path}"})
        with serving(directory, settings) as daemon:
            daemon.wait_for_log("metrics served at=unix:")
            assert fetch(UnixConnection(str(path)), "/-/ready").status == 200
            assert "bqfilterd_workers_limit 2.0" in fetch(UnixConnection(str(path)), "/metrics").text
            assert daemon.stop() == 0
        assert not path.exists()


class TestWhatItTells:
    def test_a_message_is_counted(self, daemon: Daemon) -> None:
        deliver(daemon)
        daemon.wait_until_idle(2)
        found = scrape(daemon)
        (listener,) = [f"inet:127.0.0.1:{daemon.address[1]}"]
        assert found.value("messages_total", result="accepted") == 1
        assert found.value("connections_accepted_total", listener=listener) == 1
        assert found.value("session_duration_seconds_count") == 1
        assert found.value("session_phase_seconds_count", phase="handover") == 1
        assert found.value("upstream_ready_seconds_count") == 1
        assert found.value("upstream_connections") == 0
        assert found.value("message_size_bytes_count") == 1
        assert found.value("message_size_bytes_sum") == len(PLAIN)
        assert found.value("pool_busy_at_accept_ratio_sum") == 0.5
        assert found.value("worker_memory_bytes", stat="max") > 1 << 20
        assert found.value("worker_cpu_seconds_total", mode="user") >= 0

    def test_the_after_filter_server_s_connections_and_failures_are_counted(
        self, sink: Sink, directory: Path
    ) -> None:
        with serving(directory, settings_for(sink.endpoint, directory, metrics=ANY_PORT)) as daemon:
            with SmtpClient(daemon.address) as client:
                client.greet()
                client.expect(b"250", b"MAIL FROM:<a@example.org>")
                assert scrape(daemon).value("upstream_connections") == 1
            sink.hang_up("MAIL")
            with SmtpClient(daemon.address) as client:
                client.greet()
                client.expect(b"451", b"MAIL FROM:<a@example.org>")
            sink.hang_ups.clear()
            sink.hang_up("GREETING")
            with SmtpClient(daemon.address) as client:
                client.greet()
                client.expect(b"451", b"MAIL FROM:<a@example.org>")
            daemon.wait_until_idle(2)
            found = scrape(daemon)
            assert found.value("upstream_failures_total", stage="conversation") == 1
            assert found.value("upstream_failures_total", stage="connect") >= 1  # EHLO may ask as well
            assert found.value("upstream_connections") == 0

    def test_a_session_that_used_up_its_limit_is_counted(self, sink: Sink, directory: Path) -> None:
        settings = settings_for(sink.endpoint, directory, metrics=ANY_PORT, budget=SHORT_BUDGET)
        with serving(directory, settings) as daemon:
            with SmtpClient(daemon.address) as client:
                client.received_until_closed()
            daemon.wait_until_idle(2)
            found = scrape(daemon)
            assert found.value("session_deadline_reached_total") == 1
            assert found.value("session_deadline_seconds") == 0.3

    def test_a_client_that_did_not_wait_is_counted(self, daemon: Daemon) -> None:
        with all_busy(daemon):
            with connected(daemon.address):
                time.sleep(1)  # which nobody does who only looks whether somebody listens
            listener = f"inet:127.0.0.1:{daemon.address[1]}"
            eventually(
                lambda: scrape(daemon).value("listen_queue_abandoned_connections", listener=listener) == 1,
                "a client that has gone, in the queue",
            )
        eventually(
            lambda: scrape(daemon).value("connections_abandoned_total", listener=listener) == 1, "its count"
        )
        assert scrape(daemon).value("connections_queued_total", listener=listener) == 1

    def test_reloads_good_and_bad_are_told(self, daemon: Daemon) -> None:
        before = scrape(daemon)
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_generation(2)
        daemon.wait_until_idle(2)
        eventually(lambda: scrape(daemon).value("worker_exits_total", reason="reloaded") == 2, "both gone")
        daemon.config_path.write_text("nonsense")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log("reload failed")
        after = scrape(daemon)
        assert after.value("config_reload_failures_total") == 1
        assert after.value("worker_forks_total") == 4
        assert after.value("config_load_timestamp_seconds") > before.value("config_load_timestamp_seconds")
        assert after.value("start_time_seconds") == before.value("start_time_seconds")


@needs("postconf", "postfix")
class TestPostfixAround:
    def test_its_process_limits_stand_beside_the_pool_s(self, sink: Sink, directory: Path) -> None:
        with serving(
            directory,
            settings_for(sink.endpoint, directory, metrics=ANY_PORT),
            environment={"MAIL_CONFIG": _postfix(directory, sink.port)},
        ) as daemon:
            service = f"127.0.0.1:{sink.port}/inet"
            found = eventually(
                lambda: found if (found := scrape(daemon)).has("postfix_process_limit") else None, "a survey"
            )
            assert found.value("postfix_process_limit", service=service, role="after") == 7
            assert not found.has("postfix_speed_adjust")  # nobody there sends mail to us

    def test_other_endpoints_after_a_reload_have_other_neighbours(self, sink: Sink, directory: Path) -> None:
        settings = settings_for("inet:127.0.0.1:1", directory, metrics=ANY_PORT)
        environment = {"MAIL_CONFIG": _postfix(directory, sink.port)}
        with serving(directory, settings, environment=environment) as daemon:
            first = exporter_of(daemon)
            assert not scrape(daemon).has("postfix_process_limit")
            daemon.configure({**settings, "upstream": {"endpoint": sink.endpoint}})
            daemon.signal(signal.SIGHUP)
            eventually(lambda: exporter_of(daemon) != first, "another exporter")
            eventually(lambda: scrape(daemon).has("postfix_process_limit"), "a survey of the new endpoint")
            assert "exporter died" not in daemon.log()

    def test_a_postconf_that_hangs_holds_up_nobody(self, sink: Sink, directory: Path) -> None:
        prelude = (
            "import time\nfrom bqfilter.saturation import neighbours\n"
            "neighbours.read_instances = lambda: time.sleep(3600)\n"
        )
        settings = settings_for(sink.endpoint, directory, metrics=ANY_PORT)
        with serving(directory, settings, prelude=prelude) as daemon:
            assert deliver(daemon).startswith(b"250")
            eventually(lambda: get(daemon, "/-/healthy").status == 200, "an exporter that works")
            assert not scrape(daemon).has("postfix_process_limit")
            assert daemon.stop() == 0


def _postfix(directory: Path, port: int) -> str:
    """A configuration with an after-filter service at this port."""
    place = directory / "postfix"
    place.mkdir()
    (place / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = mx.example\n")
    os.utime(place / "main.cf", (1, 1))  # a new one postconf reads twice, two seconds apart
    (place / "master.cf").write_text(f"127.0.0.1:{port} inet n - n - 7 smtpd\n")
    return str(place)


class TestUnderLoad:
    def test_it_answers_while_every_worker_is_busy(self, daemon: Daemon) -> None:
        with all_busy(daemon), connected(daemon.address):
            listener = f"inet:127.0.0.1:{daemon.address[1]}"
            found = scrape(daemon)
            assert found.value("workers", state="idle") == 0
            assert found.value("workers", state="busy") == 2
            eventually(
                lambda: scrape(daemon).value("workers_busy_phase", phase="greeting") == 2,
                "what they wait for",
            )
            assert found.value("listen_queue_connections", listener=listener) == 1
            assert found.value("listen_queue_limit_connections", listener=listener) == 256
            eventually(
                lambda: scrape(daemon).value("pool_exhausted_seconds_total") > 0.2, "time without a worker"
            )
            assert scrape(daemon).value("pool_exhausted_total") == 1

    def test_it_answers_while_the_master_is_stopped(self, daemon: Daemon) -> None:
        daemon.signal(signal.SIGSTOP)
        try:
            first = scrape(daemon).value("master_heartbeat_timestamp_seconds")
            deliver(daemon)
            found = scrape(daemon)
            assert found.value("messages_total", result="accepted") == 1
            assert found.value("master_heartbeat_timestamp_seconds") == pytest.approx(first, abs=0.5)
        finally:
            daemon.signal(signal.SIGCONT)

    def test_it_is_not_ready_while_the_master_hangs(self, sink: Sink, directory: Path) -> None:
        prelude = "from bqfilter.saturation import reader\nreader.HUNG_AFTER = 1.0"
        settings = settings_for(sink.endpoint, directory, metrics=ANY_PORT)
        with serving(directory, settings, prelude=prelude) as daemon:
            daemon.signal(signal.SIGSTOP)
            page = eventually(
                lambda: page if (page := get(daemon, "/-/ready")).status == 503 else None, "no readiness"
            )
            assert page.text == "the master is hung\n"
            assert get(daemon, "/-/healthy").status == 200
            daemon.signal(signal.SIGCONT)
            eventually(lambda: get(daemon, "/-/ready").status == 200, "readiness")

    def test_counters_go_on_when_busy_workers_are_killed(self, daemon: Daemon) -> None:
        deliver(daemon)
        watcher = _Watcher(daemon)
        for _ in range(3):
            with SmtpClient(daemon.address) as client:
                client.greet()
                victim = daemon.the_busy_one()
                watcher.look()
                kill_hard(victim)
                watcher.look()
                eventually(lambda gone=victim: gone not in daemon.pids(State.BUSY), "the dead struck off")
                watcher.look()
            daemon.wait_until_idle(2)
            deliver(daemon)
            daemon.wait_until_idle(2)
            watcher.look()
        found = watcher.last
        assert found.value("worker_exits_total", reason="signalled") == 3
        assert found.value("messages_total", result="accepted") == 4
        assert found.value("connections_accepted_total", listener=f"inet:127.0.0.1:{daemon.address[1]}") == 7

    @pytest.mark.parametrize("kind", ["inet", "unix"])
    def test_under_three_times_its_load_the_histogram_of_waits_agrees_with_what_clients_measure(
        self, kind: str, sink: Sink, directory: Path
    ) -> None:
        endpoint = "inet:127.0.0.1:0" if kind == "inet" else f"unix:{directory}/s"
        settings = settings_for(
            sink.endpoint, directory, metrics=ANY_PORT, listen=[{"endpoint": endpoint, "mode": "0666"}]
            if kind == "unix" else [{"endpoint": endpoint}],
        )  # fmt: skip
        with serving(directory, settings) as daemon:
            exporter_port(daemon)
            daemon.wait_until_idle(2)
            address: Any = f"{directory}/s" if kind == "unix" else daemon.address
            listener = f"unix:{directory}/s" if kind == "unix" else f"inet:127.0.0.1:{daemon.address[1]}"
            truth = offer(address, clients=3 * 2, rounds=5, seconds=0.2)
            count = len(truth.greeted)
            found = eventually(
                lambda: (
                    s
                    if (s := scrape(daemon)).value("listen_queue_wait_seconds_count", listener=listener)
                    == count
                    else None
                ),
                "every wait in the histogram",
            )
            error = JIFFY if kind == "inet" else UNIX_ERROR
            total = found.value("listen_queue_wait_seconds_sum", listener=listener)
            assert truth.least(workers=2) - count * error <= total <= truth.most + count * error
            for bound, below in found.buckets("listen_queue_wait_seconds", listener=listener):
                assert below >= sum(1 for wait in truth.waits if wait + error <= bound)
            assert found.value("connections_queued_total", listener=listener) >= count / 2
            integral = found.value("listen_queue_connection_seconds_total", listener=listener)
            assert integral > 0


@dataclass(slots=True)
class Truth:
    """What clients saw: when they called and were connected, greeted, and when they let their worker go."""

    called: list[float] = field(default_factory=list)
    connected: list[float] = field(default_factory=list)
    greeted: list[float] = field(default_factory=list)
    released: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    @property
    def most(self) -> float:
        """No wait is longer than until the greeting is there."""
        return sum(self.waits)

    def least(self, workers: int) -> float:
        """Nobody is accepted before somebody has left, once all workers are busy."""
        earliest = [*sorted(self.called)[:workers], *sorted(self.released)]
        return sum(earliest[: len(self.connected)]) - sum(self.connected)


def offer(address: Any, clients: int, rounds: int, seconds: float) -> Truth:
    """Connect again and again, more often than there are workers, and hold each of them for a while."""
    truth, lock = Truth(), threading.Lock()

    def visit() -> None:
        called = time.monotonic()
        with connected(address) as sock:
            here = time.monotonic()
            sock.settimeout(30)
            assert sock.recv(4096).startswith(b"220")
            greeted = time.monotonic()
            time.sleep(seconds)
            released = time.monotonic()
            sock.sendall(b"QUIT\r\n")
            while sock.recv(4096):
                pass
        with lock:
            truth.called.append(called)
            truth.connected.append(here)
            truth.greeted.append(greeted)
            truth.released.append(released)
            truth.waits.append(greeted - called)

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(lambda: [visit() for _ in range(rounds)]) for _ in range(clients)]:
            done.result()
    return truth


class _Watcher:
    """Scrapes, and sees to it that nothing has fallen since the last time."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.last: Samples = scrape(daemon)

    def look(self) -> None:
        now = scrape(self._daemon)
        before = self.last.monotone
        fallen = {key: (value, now.values[key]) for key, value in before.items() if now.values[key] < value}
        assert fallen == {}
        self.last = now


class TestTheAgent:
    def test_it_needs_no_metrics_and_no_free_worker(self, sink: Sink, directory: Path) -> None:
        settings = settings_for(sink.endpoint, directory, agent=ANY_PORT)
        with serving(directory, settings) as daemon:
            eventually(lambda: agent_line(daemon) == "up 100%\n", "an agent that is content")
            with all_busy(daemon), connected(daemon.address):
                eventually(lambda: agent_line(daemon) == "up 10%\n", "the share of free workers")
            assert "metrics served" not in daemon.log()
            settings["agent"]["minimum"] = 40
            daemon.configure(settings)
            daemon.signal(signal.SIGHUP)
            daemon.wait_for_generation(2)
            daemon.wait_until_idle(2)
            with all_busy(daemon):
                eventually(lambda: agent_line(daemon) == "up 40%\n", "the new minimum")
            assert daemon.trouble() == []

    def test_it_tells_when_the_after_filter_server_goes_and_when_it_is_back(self, directory: Path) -> None:
        settings = settings_for(f"unix:{directory}/after", directory, agent=ANY_PORT)
        with serving(directory, settings) as daemon:
            eventually(lambda: agent_line(daemon) == "up 100%\n", "an agent that is content")
            for _ in range(3):
                with SmtpClient(daemon.address) as client:
                    client.expect(b"451", b"MAIL FROM:<a@example.org>")
            gone = "down # after-filter server out of reach\n"
            eventually(lambda: agent_line(daemon) == gone, "the bad news")
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(f"{directory}/after")
                server.listen()
                (directory / "after").chmod(0o666)
                server.settimeout(30)
                called, _ = server.accept()
                with called:
                    called.sendall(b"220 after.example ESMTP\r\n")
                    assert called.recv(100).startswith(b"EHLO ")
                    called.sendall(b"250 after.example\r\n")
                    eventually(lambda: agent_line(daemon).startswith("up "), "the good news")
            daemon.wait_for_log("after-filter server is back")

    def test_its_address_may_be_taken(self, sink: Sink, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = {"listen": f"inet:127.0.0.1:{other.getsockname()[1]}"}
            with serving(directory, settings_for(sink.endpoint, directory, agent=taken)) as daemon:
                daemon.wait_for_log("nobody can ask at this address, mail flows without key=agent.listen")
                assert deliver(daemon).startswith(b"250")


def inodes_of(pid: int) -> Iterator[int]:
    """What a process holds open; it opens and closes files all the while."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield fd.stat().st_ino


class TestItsLife:
    def test_it_holds_no_mail_listener_and_is_nobody(self, daemon: Daemon) -> None:
        pid = exporter_of(daemon)
        listening = set(inodes_of(pid))
        mail = int(Path("/proc/net/tcp").read_text().split(f":{daemon.address[1]:04X} ")[1].split()[7])
        assert mail not in listening
        if os.geteuid() == 0:
            assert "0" not in status_of(pid)["Uid"]

    @needs_root
    def test_it_is_an_unprivileged_user(self, daemon: Daemon) -> None:
        assert status_of(exporter_of(daemon))["CapEff"] == ["0000000000000000"]

    def test_the_master_has_no_threads(self, daemon: Daemon) -> None:
        assert len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir())) == 1

    def test_workers_do_not_hold_the_scrapers_socket(self, daemon: Daemon) -> None:
        port = exporter_port(daemon)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()

        def is_refused() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) != 0

        with contextlib.suppress(ConnectionError):
            eventually(is_refused, "nobody at the exporter's port")

    def test_it_dies_with_the_master(self, daemon: Daemon) -> None:
        pid = exporter_of(daemon)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        eventually(lambda: is_gone(pid), "no exporter")

    def test_a_dead_one_is_replaced_and_the_counters_go_on(self, daemon: Daemon) -> None:
        deliver(daemon)
        watcher = _Watcher(daemon)
        first = exporter_of(daemon)
        kill_hard(first)
        eventually(lambda: exporter_of(daemon) != first and not is_gone(exporter_of(daemon)), "another one")
        watcher.look()
        eventually(lambda: scrape(daemon).value("exporter_forks_total") == 2, "a second fork counted")
        assert "exporter died" in daemon.log()
        assert deliver(daemon).startswith(b"250")

    def test_one_that_keeps_dying_is_replaced_later_and_later(self, sink: Sink, directory: Path) -> None:
        prelude = "from bqfilter.pool import pages\npages.run = lambda *_: 1 / 0"
        settings = settings_for(sink.endpoint, directory, metrics=ANY_PORT)
        with serving(directory, settings, prelude=prelude) as daemon:
            daemon.wait_for_log(r"exporter died.* delay=1\b")
            assert "ZeroDivisionError" in daemon.log()
            assert deliver(daemon).startswith(b"250")
            assert len(daemon.wait_until_idle(2)) == 2

    def test_one_that_hangs_is_killed_and_replaced(self, sink: Sink, directory: Path) -> None:
        prelude = "from bqfilter.pool import exporter\nexporter._HUNG_AFTER = 1.0"
        settings = settings_for(sink.endpoint, directory, metrics=ANY_PORT)
        with serving(directory, settings, prelude=prelude) as daemon:
            exporter_port(daemon)
            first = exporter_of(daemon)
            os.kill(first, signal.SIGSTOP)
            daemon.wait_for_log("exporter died")
            eventually(lambda: exporter_of(daemon) != first, "another one")

    @needs_root
    def test_a_reload_gives_it_the_groups_that_the_account_has_by_then(
        self, sink: Sink, directory: Path
    ) -> None:
        """It calls an after-filter server that may be there for a group alone."""
        flag = directory / "adduser"
        settings = settings_for(sink.endpoint, directory, metrics=ANY_PORT)
        with serving(directory, settings, prelude=A_GROUP_ADDED.format(flag=flag)) as daemon:
            exporter_port(daemon)
            assert status_of(exporter_of(daemon))["Groups"] == ["65534"]
            flag.touch()
            daemon.signal(signal.SIGHUP)
            eventually(lambda: daemon.log().count("metrics served") == 2, "another one")
            assert status_of(exporter_of(daemon))["Groups"] == ["54321", "65534"]
            assert "exporter died" not in daemon.log()

    def test_scrapes_wait_while_there_is_none(self, daemon: Daemon) -> None:
        port = exporter_port(daemon)
        kill_hard(exporter_of(daemon))  # the master has not noticed yet, as a rule
        assert fetch(http.client.HTTPConnection("127.0.0.1", port, timeout=30), "/-/healthy").status in (
            200,
            503,
        )

    def test_a_drain_ends_it(self, daemon: Daemon) -> None:
        pid = exporter_of(daemon)
        assert daemon.stop() == 0
        assert is_gone(pid)
        assert daemon.trouble() == []


class TestWithout:
    def test_an_address_that_is_taken_is_a_warning_and_mail_flows(self, sink: Sink, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = {"listen": f"inet:127.0.0.1:{other.getsockname()[1]}"}
            with serving(directory, settings_for(sink.endpoint, directory, metrics=taken)) as daemon:
                assert "warning: nobody can ask at this address, mail flows without" in daemon.log()
                assert deliver(daemon).startswith(b"250")

    def test_no_address_means_no_process(self, sink: Sink, directory: Path) -> None:
        with serving(directory, settings_for(sink.endpoint, directory, metrics={"listen": ""})) as daemon:
            daemon.wait_until_idle(2)
            assert set(children_of(daemon.process.pid)) == daemon.workers()
            assert "metrics" not in daemon.log()

    def test_a_missing_package_is_a_warning_and_health_is_told_all_the_same(
        self, sink: Sink, directory: Path
    ) -> None:
        settings = settings_for(sink.endpoint, directory, metrics=ANY_PORT)
        with serving(directory, settings, prelude=NO_PROMETHEUS) as daemon:
            daemon.wait_for_log('no metrics.*remedy="install prometheus-client"')
            assert get(daemon).status == 503
            assert get(daemon, "/-/ready").status == 200
            assert deliver(daemon).startswith(b"250")

    def test_neither_master_nor_workers_load_the_package(self, sink: Sink, directory: Path) -> None:
        prelude = (
            "import sys\nfrom bqfilter.pool import worker\nrun = worker.Worker.run\n"
            "def checked(self):\n"
            "    assert not [name for name in sys.modules if 'prometheus' in name or 'wsgiref' in name]\n"
            "    return run(self)\nworker.Worker.run = checked\n"
        )
        settings = settings_for(sink.endpoint, directory, metrics=ANY_PORT)
        with serving(directory, settings, prelude=prelude) as daemon:
            assert deliver(daemon).startswith(b"250")
            assert daemon.trouble() == []

    def test_without_a_scoreboard_file_the_exporter_knows_all_the_same(
        self, sink: Sink, directory: Path
    ) -> None:
        settings = settings_for(
            sink.endpoint, directory, metrics=ANY_PORT, runtime={"directory": "/proc/nowhere"}
        )
        with serving(directory, settings) as daemon:
            deliver(daemon)
            eventually(
                lambda: scrape(daemon).value("messages_total", result="accepted") == 1, "the message counted"
            )
