"""Workers with limits: what goes beyond them costs one message a 451, and is never a lost message."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, serving, settings_for, status_of
from tests.postfix.smtp_client import SENDER, Closed, SmtpClient

FILTER = """
import os
from bqfilter.api import accept


def by_subject(message, envelope):
    subject = message.header("Subject")
    if subject == "large":
        return accept().prepend_header("X-Size", str(len(b"x" * (1 << 30))))
    if subject == "busy":
        while True:
            pass
    return accept().prepend_header("X-Worker", str(os.getpid()))
"""


@pytest.fixture
def site(directory: Path) -> Path:
    (directory / "ration_filters.py").write_text(FILTER)
    return directory


def limited(site: Path, sink: Sink, **pool: object) -> dict[str, object]:
    return settings_for(
        sink.endpoint,
        site,
        pool={"workers": 1, **pool},
        python=[{"filter": "ration_filters:by_subject", "timeout": "60s"}],
        policy=[{"name": "all"}],
    )


def deliver(daemon: Daemon, subject: str, size: int = 5) -> bytes:
    with SmtpClient(daemon.address) as client:
        client.begin(SENDER, ["b@example.org"])
        body = b"x" * 70 + b"\r\n"
        return client.end(f"Subject: {subject}\r\n\r\n".encode() + body * (size // 72 + 1))


def test_a_filter_that_takes_too_much_memory_defers_its_message_and_the_worker_serves_on(
    site: Path, sink: Sink
) -> None:
    settings = limited(site, sink, worker_memory="200MiB")
    with serving(site, settings, environment={"PYTHONPATH": str(site)}) as daemon:
        workers = daemon.workers()
        assert deliver(daemon, "large").startswith(b"451 4.")
        daemon.wait_for_log(r"not scanned scanner=\S+ finding=error cause=.*MemoryError")
        assert deliver(daemon, "small").startswith(b"250 ")
        assert daemon.workers() == workers
        assert len(sink.messages) == 1
        assert daemon.trouble() == []


def test_a_message_that_memory_does_not_hold_is_not_delivered_and_the_worker_serves_on(
    site: Path, sink: Sink
) -> None:
    settings = limited(site, sink, worker_memory="48MiB") | {"spool": {"memory": "1GiB"}}
    with serving(site, settings, environment={"PYTHONPATH": str(site)}) as daemon:
        workers = daemon.workers()
        # Which allocation fails first is chance: content heard out and answered, or the connection closed,
        # which Postfix answers with 451.
        with contextlib.suppress(ConnectionError, Closed):
            assert deliver(daemon, "long", 64 << 20).startswith(b"451 ")
        daemon.wait_for_log(r"out of memory after=DATA|Cannot allocate memory")
        assert deliver(daemon, "short").startswith(b"250 ")
        assert daemon.workers() == workers
        assert len(sink.messages) == 1


EXHAUSTED = """
from bqfilter import transaction

def end_of_data(self, arrived, client_has_left):
    raise MemoryError

transaction.Transaction.end_of_data = end_of_data
"""


def test_memory_that_ends_anywhere_else_is_a_451_too(site: Path, sink: Sink) -> None:
    settings = settings_for(sink.endpoint, site)
    with serving(site, settings, prelude=EXHAUSTED) as daemon:
        assert deliver(daemon, "any").startswith(b"451 ")
        daemon.wait_for_log(r"error: out of memory after=DATA")
        assert sink.messages == []


def test_a_filter_that_uses_up_the_processor_is_interrupted_and_its_worker_replaced(
    site: Path, sink: Sink
) -> None:
    settings = limited(site, sink, worker_cpu="1s")
    with serving(site, settings, environment={"PYTHONPATH": str(site)}) as daemon:
        workers = daemon.workers()
        assert deliver(daemon, "busy").startswith(b"451 4.")
        daemon.wait_for_log(r"not scanned .*used up the processor time")
        daemon.wait_for_log(r"warning: processor time used up limit=1")
        eventually(lambda: daemon.workers() and not daemon.workers() & workers, "another worker")
        assert deliver(daemon, "idle").startswith(b"250 ")
        assert "died" not in daemon.log()


def test_the_limit_is_for_one_connection_and_not_for_a_workers_life(site: Path, sink: Sink) -> None:
    settings = limited(site, sink, worker_cpu="30s")
    with serving(site, settings, environment={"PYTHONPATH": str(site)}) as daemon:
        assert deliver(daemon, "first").startswith(b"250 ")
        (worker,) = daemon.workers()
        soft, hard = limit_of(worker, "Max cpu time")
        assert 30 <= int(soft) <= 60
        assert [hard] == limit_of(daemon.process.pid, "Max cpu time")[1:]
        assert limit_of(daemon.process.pid, "Max cpu time") == limit_of(os.getpid(), "Max cpu time")


def test_without_limits_none_are_set(site: Path, sink: Sink) -> None:
    with serving(site, limited(site, sink), environment={"PYTHONPATH": str(site)}) as daemon:
        assert deliver(daemon, "any").startswith(b"250 ")
        (worker,) = daemon.workers()
        for name in ("Max cpu time", "Max address space"):
            assert limit_of(worker, name) == limit_of(os.getpid(), name)
        caught = int(status_of(worker)["SigCgt"][0], 16)
        assert not caught & (1 << (signal.SIGXCPU - 1))


def limit_of(pid: int, name: str) -> list[str]:
    """Soft and hard, as the kernel shows them."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (found,) = [line.removeprefix(name).split()[:2] for line in lines if line.startswith(name)]
    return found


RENEWED = """
import resource, time
from bqfilter.config.schema import PoolSettings
from bqfilter.pool.ration import Ration

resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ration = Ration(PoolSettings(worker_cpu=1.5, worker_memory=1 << 28))
ration.renew_cpu()
first = resource.getrlimit(resource.RLIMIT_CPU)[0]
while time.process_time() < first - 0.5:
    pass
ration.renew_cpu()
second = resource.getrlimit(resource.RLIMIT_CPU)[0]
ration.limit_memory()
try:
    bytes(1 << 29)
except MemoryError:
    print(second > first, len(bytes(1 << 27)))
"""


def test_a_new_session_has_the_whole_time_again_and_memory_counts_from_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RENEWED], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"True {1 << 27}\n"), done.stderr
