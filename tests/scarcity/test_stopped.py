"""Processes that do not run for a while (SIGSTOP, a machine that stood still): where, and for how long."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.scoreboard import State
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import deliver, kill_hard, serving, settings_for
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient
from tests.scarcity import rows
from tests.scarcity.means import Jump, stopped
from tests.scarcity.rows import AT_END_OF_DATA, BEHIND_DOT, STOPS, Row, Stop
from tests.scarcity.stops import StoppingPool, stopping_pool
from tests.scarcity.witness import METRICS, comes_to

RECIPIENTS = ["b@example.org"]

# Here only the worker stands still, and not the machine: the master has looked around all the time.
NEVER_STOOD_STILL = """
from bqfilter.pool import master
master._STANDSTILL = 1e9
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[StoppingPool]:
    with stopping_pool() as pool:
        yield pool


@pytest.mark.parametrize("row", STOPS, ids=lambda row: row.fault)
def test_a_worker_that_was_stopped_does_what_is_right_when_it_goes_on(pool: StoppingPool, row: Stop) -> None:
    pool.goes_by(row)


@pytest.mark.parametrize(
    ("row", "point"), [(rows.OUTLIVED, AT_END_OF_DATA), (rows.OUTLIVED_BEHIND_DOT, BEHIND_DOT)]
)
def test_a_worker_that_stays_stopped_is_killed_and_its_client_told_nothing(row: Row, point: str) -> None:
    with stopping_pool(NEVER_STOOD_STILL) as pool:
        with comes_to(row, pool.daemon, pool.sink), SmtpClient(pool.daemon.address) as client:
            worker = pool.send_until_stopped(client, point)
            pool.jump.pass_by(400)
            with contextlib.suppress(ConnectionError):
                assert client.received_until_closed() == b""
        assert deliver(pool.daemon).startswith(b"250 ")
        assert worker not in pool.daemon.wait_until_idle(1)


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


def test_while_the_master_is_stopped_mail_flows_and_then_the_dead_are_replaced(
    sink: Sink, directory: Path
) -> None:
    with serving(directory, settings_for(sink.endpoint, directory, metrics=METRICS)) as daemon:
        victim, other = daemon.wait_until_idle(2)
        with stopped(daemon.process.pid):
            kill_hard(victim)
            with comes_to(rows.MASTER_STOPPED, daemon, sink) as told:
                told.reply = deliver(daemon)
            assert victim in daemon.pids(State.IDLE)  # nobody has struck it off
        eventually(lambda: victim not in daemon.pids(State.IDLE), "the dead struck off")
        assert other in daemon.wait_until_idle(2)


def test_while_all_workers_are_stopped_connections_wait_and_are_served_then(
    sink: Sink, directory: Path
) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        with stopped(*daemon.wait_until_idle(2)), contextlib.ExitStack() as opened:
            waiting = [opened.enter_context(socket.create_connection(daemon.address, 60)) for _ in range(4)]
            opened.pop_all()
        for client in waiting:
            with client:
                assert client.recv(4096).startswith(b"220 ")
        daemon.wait_until_idle(2)
        assert deliver(daemon).startswith(b"250 ")
