"""A pool of one worker that stands still where a test wants it, and comes back when time has passed.

It stops itself (SIGSTOP) at a point of the program, which is how exact it has to be: between two system
calls. Clocks jump meanwhile, so that nobody waits for a limit; limits are those of the defaults.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    IN_CONFIRM,
    IN_KEEP,
    IN_SPOOL,
    Stop,
)
from tests.scarcity.witness import METRICS, comes_to

_STOPS_AT = f"""
import os, signal
from bqfilter.mail.spool import Spool
from bqfilter.quarantine import store
from bqfilter.quarantine.claim import Claim
from bqfilter.transaction import Transaction
from bqfilter.upstream.connection import Connection

def stop(point):
    with open("{{order}}") as file:
        if point and file.read() == point:
            os.kill(os.getpid(), signal.SIGSTOP)

def around(place, name, before="", behind=""):
    real = getattr(place, name)
    def call(*arguments, **others):
        stop(before)
        found = real(*arguments, **others)
        stop(behind)
        return found
    setattr(place, name, call)

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
around(Spool, "_write_fully", before="{IN_SPOOL}")
around(store, "_write", behind="{IN_KEEP}")
around(Claim, "turn", behind="{IN_CONFIRM}")
"""


@dataclass(frozen=True, slots=True)
class StoppingPool:
    """The pool, and the means to hold its worker."""

    daemon: Daemon
    sink: Sink
    jump: Jump
    order: Path

    def send_until_stopped(self, client: SmtpClient, point: str, recipient: str = "b@example.org") -> int:
        """A message; the pid of its worker, which stands at this point."""
        worker = self.daemon.the_busy_one()
        self.order.write_text(point)
        client.begin(SENDER, [recipient])
        client.send(PLAIN + b".\r\n")
        wait_until_stopped(worker)
        self.order.write_text("")
        return worker

    def goes_by(self, row: Stop) -> None:
        """What happens is what the row says, and the worker serves on."""
        workers = self.daemon.wait_until_idle(1)
        with comes_to(row, self.daemon, self.sink) as told, SmtpClient(self.daemon.address) as client:
            worker = self.send_until_stopped(client, row.point, row.recipient)
            self.jump.pass_by(row.seconds)
            if row.leaves:
                client.close()
            os.kill(worker, signal.SIGCONT)
            if not row.leaves:
                told.reply = client.reply()
        assert deliver(self.daemon).startswith(b"250 ")
        assert self.daemon.wait_until_idle(1) == workers


@contextlib.contextmanager
def stopping_pool(prelude: str = "", **tables: Any) -> Iterator[StoppingPool]:
    """A running one, with an after-filter server and a directory of its own."""
    with short_directory("bqfilter-stops-") as directory, Sink() as sink:
        jump, order = Jump(directory), directory / "order"
        order.write_text("")
        usual = {"pool": {"workers": 1}, "metrics": METRICS}
        settings = settings_for(sink.endpoint, directory, **usual | tables)
        given = jump.prelude + _STOPS_AT.format(order=order) + prelude
        with serving(directory, settings, prelude=given) as daemon:
            yield StoppingPool(daemon, sink, jump, order)
