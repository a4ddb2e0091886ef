"""Processes that do not run for a while (SIGSTOP, a machine that stood still): where, and for how long.

The clock jumps while a worker is stopped, so that nobody waits for a limit; limits are those of the defaults.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.doubles.programs import short_directory
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, deliver, serving, settings_for
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient
from tests.scarcity.means import Jump, wait_until_stopped
from tests.scarcity.rows import (
    AT_END_OF_DATA,
    BEFORE_DATA,
    BEFORE_LOOK,
    BEHIND_DOT,
    BEHIND_LOOK,
    BEHIND_REPLY,
    STOPS,
    Stop,
)
from tests.scarcity.witness import METRICS, comes_to

RECIPIENTS = ["b@example.org"]

STOPS_AT = f"""
import os, signal
from bqfilter.session import Session
from bqfilter.transaction import Transaction
from bqfilter.upstream.connection import Connection

def stop(point):
    with open("{{order}}") as file:
        if point and file.read() == point:
            os.kill(os.getpid(), signal.SIGSTOP)

def around(kind, name, before="", behind=""):
    real = getattr(kind, name)
    def call(self, *arguments, **others):
        stop(before)
        found = real(self, *arguments, **others)
        stop(behind)
        return found
    setattr(kind, name, call)

content = Connection.content

def content_with_stops(self, message, go, *arguments, **others):
    def look():
        stop("{BEFORE_LOOK}")
        go()
        stop("{BEHIND_LOOK}")
    content(self, message, look, *arguments, **others)

Connection.content = content_with_stops
around(Transaction, "end_of_data", before="{AT_END_OF_DATA}")
around(Connection, "data", before="{BEFORE_DATA}")
around(Connection, "final_reply", before="{BEHIND_DOT}", behind="{BEHIND_REPLY}")
"""


@dataclass(frozen=True, slots=True)
class Pool:
    """One worker that stops where it is told to, and comes back when time has passed."""

    daemon: Daemon
    sink: Sink
    jump: Jump
    order: Path

    def send_until_stopped(self, client: SmtpClient, point: str) -> int:
        """A message; the pid of its worker, which stands at this point."""
        worker = self.daemon.the_busy_one()
        self.order.write_text(point)
        client.begin(SENDER, RECIPIENTS)
        client.send(PLAIN + b".\r\n")
        wait_until_stopped(worker)
        self.order.write_text("")
        return worker


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with short_directory("bqfilter-stops-") as directory, Sink() as sink:
        jump, order = Jump(directory), directory / "order"
        order.write_text("")
        prelude = jump.prelude + STOPS_AT.format(order=order)
        settings = settings_for(sink.endpoint, directory, pool={"workers": 1}, metrics=METRICS)
        with serving(directory, settings, prelude=prelude) as daemon:
            yield Pool(daemon, sink, jump, order)


@pytest.mark.parametrize("row", STOPS, ids=lambda row: row.fault)
def test_a_worker_that_was_stopped_does_what_is_right_when_it_goes_on(pool: Pool, row: Stop) -> None:
    workers = pool.daemon.wait_until_idle(1)
    with comes_to(row, pool.daemon, pool.sink) as told, SmtpClient(pool.daemon.address) as client:
        worker = pool.send_until_stopped(client, row.point)
        pool.jump.pass_by(row.seconds)
        if row.leaves:
            client.close()
        os.kill(worker, signal.SIGCONT)
        if not row.leaves:
            told.reply = client.reply()
    assert deliver(pool.daemon).startswith(b"250 ")
    assert pool.daemon.wait_until_idle(1) == workers


def test_a_machine_that_stood_still_is_no_reason_to_kill_workers(sink: Sink, directory: Path) -> None:
    jump = Jump(directory)
    settings = settings_for(sink.endpoint, directory, pool={"workers": 2})
    with serving(directory, settings, prelude=jump.prelude) as daemon:
        workers = daemon.wait_until_idle(2)
        with SmtpClient(daemon.address) as client, sink.held("DATA"):
            client.begin(SENDER, RECIPIENTS)
            client.send(PLAIN + b".\r\n")
            sink.wait_until_held("DATA")
            busy = daemon.the_busy_one()
            os.kill(busy, signal.SIGSTOP)  # who comes back first is chance: here the worker is the last
            jump.pass_by(3600)
            daemon.wait_for_log("slow session")  # the master looked around after the jump
            os.kill(busy, signal.SIGCONT)
            assert client.reply().startswith(b"451 ")
        assert daemon.wait_until_idle(2) == workers
        assert "outlived" not in daemon.log()
        assert sink.messages == []
