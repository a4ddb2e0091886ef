"""A real Prometheus scrapes two real pools with the shipped rules: alerts fire under overload, and clear."""

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bqfilter.cli.tune import tune
from bqfilter.saturation.live import FEWEST_SESSIONS
from tests.contrib.prometheus_server import Prometheus, in_a_hurry, scraping
from tests.contrib.shipped import RULES, alerts, filled_in, queries
from tests.doubles.components import program
from tests.doubles.programs import eventually, short_directory
from tests.doubles.sink import Sink
from tests.pool.daemon import Address, Daemon, serving, settings_for
from tests.pool.scraper import exporter_port, get
from tests.postfix.postfix_instance import free_ports
from tests.postfix.smtp_client import submit

WORKERS = 2
CLIENTS = 3 * WORKERS
FELLOWS = 3  # workers of the second pool
OVERLOAD_ALERTS = {"PoolExhausted", "MailTempfailedByQueue"}
SCANNER_ALERTS = {"ScannerDown", "MailUnscanned"}
MESSAGE = (
    b"EHLO client.example", b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.org>", b"DATA",
    b"Subject: load\r\n\r\nHello.\r\n.",
)  # fmt: skip
# Seconds that clients wait for their greeting: half of them for as long as it takes, which keeps all workers
# busy on any machine; half as Postfix does for smtpd_proxy_timeout, only that theirs is a short one.
PATIENCE = (30.0, 0.3)


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory("bqfilter-prometheus-") as path:
        yield path


@contextlib.contextmanager
def pool(directory: Path) -> Iterator[Daemon]:
    """Two workers and a scanner that is down, between the services of a Postfix that is but files."""
    port = free_ports("127.0.0.1", ["filter"])["filter"]
    with Sink() as sink:
        (directory / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = mx.example\n")
        (directory / "master.cf").write_text(
            f"smtp inet n - n - {CLIENTS} smtpd\n  -o smtpd_proxy_filter=127.0.0.1:{port}\n"
            f"127.0.0.1:{sink.port} inet n - n - {WORKERS} smtpd\n"
        )
        settings = settings_for(
            sink.endpoint, directory, listen=[{"endpoint": f"inet:127.0.0.1:{port}"}],
            pool={"workers": WORKERS}, metrics={"listen": "inet:127.0.0.1:0"}, budget={"session": "30s"},
            clamd=[{"endpoint": f"unix:{directory}/nobody-listens-here", "on_error": "pass"}],
        )  # fmt: skip
        with serving(directory, settings, environment={"MAIL_CONFIG": str(directory)}) as daemon:
            yield daemon


@contextlib.contextmanager
def fellow(directory: Path) -> Iterator[Daemon]:
    """A larger pool that has nothing to do with the other but the Prometheus that watches both."""
    with Sink() as sink:
        settings = settings_for(
            sink.endpoint, directory, pool={"workers": FELLOWS}, metrics={"listen": "inet:127.0.0.1:0"}
        )
        with serving(directory, settings) as daemon:
            yield daemon


@contextlib.contextmanager
def overload(address: Address) -> Iterator[None]:
    """Three times as many clients as workers. Who is served stays for a while; some of the others give up."""
    is_over = threading.Event()
    threads = [
        threading.Thread(target=_insist, args=(address, PATIENCE[index % 2], is_over))
        for index in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _insist(address: Address, patience: float, is_over: threading.Event) -> None:
    while not is_over.is_set():
        with contextlib.suppress(TimeoutError, ConnectionError):
            _visit(address, patience, is_over)


def _visit(address: Address, patience: float, is_over: threading.Event) -> None:
    with socket.create_connection(address, patience) as sock:
        sock.recv(4096)
        sock.settimeout(30)
        for piece in MESSAGE:
            sock.sendall(piece + b"\r\n")
            sock.recv(4096)
        is_over.wait(1.0)


def is_answered(prometheus: Prometheus, query: str, instance: str) -> bool:
    return bool(prometheus.query(filled_in(query, instance)))


def test_alerts_fire_under_overload_and_clear_and_the_fleet_is_seen_as_one(directory: Path) -> None:
    server = program("prometheus", "prometheus")
    program("postconf", "postfix")
    with pool(directory) as daemon, short_directory("bqfilter-fellow-") as other, fellow(other) as second:
        instance, fellows = (f"127.0.0.1:{exporter_port(one)}" for one in (daemon, second))
        rules = in_a_hurry(RULES.read_text())
        with scraping(server, [instance, fellows], rules, directory) as prometheus:
            assert prometheus.firing() & OVERLOAD_ALERTS == set()
            with overload(daemon.address):
                for _ in range(FEWEST_SESSIONS + 10):
                    submit(second.address, "a@example.org", ["b@example.org"], b"Subject: x\r\n\r\n")
                eventually(lambda: prometheus.firing() >= OVERLOAD_ALERTS, "both alerts", limit=60)
                eventually(lambda: prometheus.firing() >= SCANNER_ALERTS, "those of the scanner", limit=60)
                eventually(
                    lambda: all(is_answered(prometheus, query, instance) for query in queries()),
                    "data for every query of the dashboards",
                )
                assert_is_seen_as_one(prometheus, instance, fellows)
            eventually(lambda: not OVERLOAD_ALERTS & prometheus.firing(), "that both clear", limit=60)
            assert [rule for rule in prometheus.rules() if rule["health"] != "ok"] == []
            assert {rule["name"] for rule in prometheus.rules()} >= {alert.name for alert in alerts()}


def assert_is_seen_as_one(prometheus: Prometheus, instance: str, fellows: str) -> None:
    """By the rules for a fleet, and by `bqfilterd tune --fleet`."""
    assert [one["value"][1] for one in prometheus.query("bqfilterd:fleet_hosts:up")] == ["2"]
    assert [one["value"][1] for one in prometheus.query("bqfilterd:fleet_workers:one_down")] == [str(WORKERS)]
    url = f"http://127.0.0.1:{prometheus.port}/"
    arguments = ["--fleet", url, "--fleet-match", 'job="bqfilterd"', "--over=10m", "--speed-adjust", "--json"]
    done = CliRunner().invoke(tune, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    hosts = {one["name"]: one for one in found["hosts"]}
    assert {name: one["workers"] for name, one in hosts.items()} == {instance: WORKERS, fellows: FELLOWS}
    assert hosts[instance]["session"] == 30.0
    assert hosts[fellows]["measured"]["sessions"] >= FEWEST_SESSIONS
    assert found["figures"]["before_maxproc"] == {"value": CLIENTS, "source": "configuration"}
    assert found["figures"]["rate"]["value"] > hosts[fellows]["measured"]["rate"]
    assert [one["workers"] for one in found["outlook"]] == [WORKERS + FELLOWS] * 2 + [WORKERS] * 2


def test_promtool_finds_nothing_in_what_is_scraped(promtool: str, directory: Path) -> None:
    with pool(directory) as daemon:
        page = get(daemon)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page.text, capture_output=True, text=True, check=False
    )
    assert (page.status, done.returncode) == (200, 0), done.stderr


def test_hurrying_changes_nothing_but_durations() -> None:
    assert in_a_hurry("rate(x_5m[5m]) > 5 and y offset 14d\nfor: 30s") == (
        "rate(x_5m[5000ms]) > 5 and y offset 20160000ms\nfor: 500ms"
    )
