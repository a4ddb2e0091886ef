"""No descriptor is left (EMFILE): in a worker wherever it needs one, in the master and the exporter.

The limit of the running process is lowered, so all that is open stays so.
"""

import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.programs import children_of, eventually, title_of
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, deliver, is_gone, kill_hard, serving, settings_for
from tests.pool.scraper import exporter_port, scrape
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient
from tests.scarcity import rows
from tests.scarcity.means import limited, without_descriptors
from tests.scarcity.rows import Row
from tests.scarcity.witness import METRICS, comes_to

CLIENT, SERVER = 1, 2  # descriptors that a worker needs for a message: the client's, and the server's besides
KEEP_ALL = {"policy": [{"name": "all", "action": "quarantine"}]}
CLAMD = {
    "clamd": [{"endpoint": "unix:/nonexistent/clamd.sock", "failures": 0}],
    "policy": [{"name": "all", "scanners": ["clamd"]}],
}


def pool_of_one(sink: Sink, directory: Path, **tables: Any) -> dict[str, Any]:
    return settings_for(sink.endpoint, directory, pool={"workers": 1}, metrics=METRICS, **tables)


def first_refusal(daemon: Daemon, content: bytes) -> bytes:
    """What a message is told, by whichever command."""
    with SmtpClient(daemon.address) as client:
        client.greet()
        reply = client.command(b"MAIL FROM:<%b>" % SENDER.encode())
        if not reply.startswith(b"250 "):
            return reply
        client.expect(b"250", b"RCPT TO:<b@example.org>")
        client.expect(b"354", b"DATA")
        return client.end(content)


@pytest.mark.parametrize(
    ("row", "left", "tables"),
    [
        pytest.param(rows.NO_UPSTREAM, CLIENT, {}, id="after-filter server"),
        pytest.param(rows.NO_SPOOL, SERVER, {"spool": {"memory": "0B"}}, id="spool"),
        pytest.param(rows.NO_QUARANTINE, SERVER, KEEP_ALL, id="quarantine"),
        pytest.param(rows.NO_SCANNER, SERVER, CLAMD, id="scanner"),
    ],
)
def test_a_worker_without_descriptors_defers_and_goes_on(
    sink: Sink, directory: Path, row: Row, left: int, tables: dict[str, Any]
) -> None:
    with serving(directory, pool_of_one(sink, directory, **tables)) as daemon:
        (worker,) = workers = daemon.wait_until_idle(1)
        with without_descriptors(worker, but=left), comes_to(row, daemon, sink) as told:
            told.reply = first_refusal(daemon, PLAIN)
        if row is not rows.NO_SCANNER:  # which is not there at any time
            assert deliver(daemon).startswith(b"250 ")
        assert daemon.wait_until_idle(1) == workers


def test_a_worker_without_descriptors_is_replaced_and_holds_up_nobody(sink: Sink, directory: Path) -> None:
    """The kernel wakes one worker for a connection: here the one that cannot take it."""
    with serving(directory, pool_of_one(sink, directory)) as daemon:
        (poor,) = daemon.wait_until_idle(1)
        with without_descriptors(poor), comes_to(rows.NO_ACCEPT, daemon, sink) as told:
            told.reply = deliver(daemon)
        assert daemon.log().count("cannot accept connections") == 1
        eventually(lambda: is_gone(poor), "the poor one gone")
        assert daemon.trouble() == [line for line in daemon.log().splitlines() if "cannot accept" in line]


def test_a_master_without_descriptors_supervises_and_keeps_its_settings(sink: Sink, directory: Path) -> None:
    with serving(directory, pool_of_one(sink, directory)) as daemon:
        (worker,) = daemon.wait_until_idle(1)
        with without_descriptors(daemon.process.pid):
            with comes_to(rows.NO_RELOAD, daemon, sink) as told:
                daemon.signal(signal.SIGHUP)
                daemon.wait_for_log("Too many open files")
                told.reply = deliver(daemon)
            daemon.signal(signal.SIGUSR2)
            daemon.wait_for_log("new program is not fit, the present one goes on .*Too many open files")
            assert daemon.wait_until_idle(1) == {worker}
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_generation(2)
        assert deliver(daemon).startswith(b"250 ")


def test_a_worker_that_cannot_be_set_up_is_tried_again(sink: Sink, directory: Path) -> None:
    """A worker inherits the master's limit, and needs descriptors of its own before it can serve."""
    with serving(directory, pool_of_one(sink, directory)) as daemon:
        (worker,) = daemon.wait_until_idle(1)
        with limited(daemon.process.pid, "nofile", 3):
            kill_hard(worker)
            daemon.wait_for_log("worker failed .*Too many open files")
            daemon.wait_for_log("worker died .* delay=")
        assert deliver(daemon).startswith(b"250 ")


def test_a_master_that_cannot_tell_the_service_manager_goes_on(sink: Sink, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(30)
        environment = {
            "NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": ""
        }  # fmt: skip
        settings = settings_for(sink.endpoint, directory)
        with serving(directory, settings, environment=environment) as daemon:
            with without_descriptors(daemon.process.pid):
                daemon.signal(signal.SIGHUP)
                daemon.wait_for_log("reload failed, the old settings stay in force .*Too many open files")
                assert deliver(daemon).startswith(b"250 ")
            while manager.recv(4096) != b"WATCHDOG=1":
                pass
            assert daemon.process.poll() is None


def exporters(daemon: Daemon) -> list[int]:
    return [pid for pid in children_of(daemon.process.pid) if "exporter" in title_of(pid)]


def test_an_exporter_without_descriptors_lets_scrapers_wait_and_is_back(sink: Sink, directory: Path) -> None:
    with serving(directory, pool_of_one(sink, directory)) as daemon:
        scrape(daemon)
        (exporter,) = exporters(daemon)
        with without_descriptors(exporter), socket.socket() as early:
            early.settimeout(60)
            early.connect(("127.0.0.1", exporter_port(daemon)))
            early.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")
            assert deliver(daemon).startswith(b"250 ")
        assert scrape(daemon).value("exporter_forks_total") == 1
