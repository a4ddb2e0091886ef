"""Memory ends in a worker: wherever that is, one message pays for it with a 451, and its worker serves on.

Where an allocation fails first is chance; so here it fails at the point that a test names. With real limits
on memory that is tried by tests/pool/test_ration.py.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.doubles.programs import short_directory
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, deliver, kill_hard, serving, settings_for
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient
from tests.scarcity import rows
from tests.scarcity.rows import WANTS, Row, Want
from tests.scarcity.witness import METRICS, comes_to

MEMORY_ENDS = """
from bqfilter.mail import mime
from bqfilter.mail.outgoing import Original
from bqfilter.mail.spool import Spool
from bqfilter.net.stream import Stream
from bqfilter.quarantine.store import Quarantine
from bqfilter import handover, transaction
from bqfilter.upstream.connection import Connection

def fails_at(point, place, name):
    real = getattr(place, name)
    def call(*arguments, **others):
        with open("{order}") as file:
            if file.read() == point:
                raise MemoryError
        return real(*arguments, **others)
    setattr(place, name, call)

fails_at("to spool the message", Spool, "_keep")
fails_at("to read the content", Stream, "read_into")
fails_at("to take its MIME parts apart", mime._Walk, "events")
fails_at("to come to a verdict", transaction, "plan")
fails_at("to keep it", Quarantine, "keep")
fails_at("to put together what is sent", Original, "wire")
fails_at("to read the reply to the dot", Connection, "final_reply")
fails_at("behind the reply to the dot", handover, "_outcome_of")
"""


@dataclass(frozen=True, slots=True)
class Pool:
    """One worker whose memory ends where it is told to."""

    daemon: Daemon
    sink: Sink
    order: Path


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with short_directory("bqfilter-memory-") as directory, Sink() as sink:
        order = directory / "order"
        order.write_text("")
        settings = settings_for(
            sink.endpoint,
            directory,
            pool={"workers": 1},
            metrics=METRICS,
            attachments=[{"failures": 0}],
            policy=[{"name": "all", "action": "accept+quarantine"}],
        )
        with serving(directory, settings, prelude=MEMORY_ENDS.format(order=order)) as daemon:
            yield Pool(daemon, sink, order)


@pytest.mark.parametrize("row", WANTS, ids=lambda row: row.point)
def test_one_message_is_deferred_and_its_worker_serves_on(pool: Pool, row: Want) -> None:
    workers = pool.daemon.wait_until_idle(1)
    with comes_to(row, pool.daemon, pool.sink) as told, SmtpClient(pool.daemon.address) as client:
        client.begin(SENDER, ["b@example.org"])
        pool.order.write_text(row.point)
        if row.is_answered:
            client.send(PLAIN + b".\r\n")
            told.reply = client.reply()
        else:  # it may have begun to read before it was told to fail: let it read again
            client.send(PLAIN)
            assert ends(client)
    pool.order.write_text("")
    before = len(pool.sink.messages)
    assert deliver(pool.daemon).startswith(b"250 ")
    assert len(pool.sink.messages) == before + 1
    assert pool.daemon.wait_until_idle(1) == workers


def ends(client: SmtpClient) -> bool:
    with contextlib.suppress(ConnectionError):
        return client.received_until_closed() == b""
    return True


@pytest.mark.parametrize(
    ("row", "phase"), [(rows.OOM_KILLED, "DATA"), (rows.OOM_KILLED_BEHIND_DOT, ".")], ids=["before", "behind"]
)
def test_what_the_kernel_kills_is_replaced(sink: Sink, directory: Path, row: Row, phase: str) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 1}, metrics=METRICS)
    with serving(directory, settings) as daemon:
        with comes_to(row, daemon, sink), SmtpClient(daemon.address) as client, sink.held(phase):
            client.begin(SENDER, ["b@example.org"])
            client.send(PLAIN + b".\r\n")
            sink.wait_until_held(phase)
            kill_hard(daemon.the_busy_one())
            assert ends(client)
        assert deliver(daemon).startswith(b"250 ")
        daemon.wait_until_idle(1)
