"""Compares what happens to one message with the row of its fault."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon
from tests.pool.scraper import get
from tests.scarcity.rows import Row

METRICS = {"listen": "inet:127.0.0.1:0"}


@dataclass(slots=True)
class Told:
    """What the client heard; empty until it has heard something."""

    reply: bytes = b""


@contextlib.contextmanager
def comes_to(row: Row, daemon: Daemon, sink: Sink) -> Iterator[Told]:
    """The block sends one message; afterwards everything is as the row says."""
    delivered, logged, counted = len(sink.messages), len(daemon.log()), figure(daemon, row.metric)
    told = Told()
    yield told
    assert told.reply.decode().startswith(row.client if row.is_answered else ""), daemon.log()[logged:]
    assert row.is_answered or not told.reply
    eventually(lambda: row.log in daemon.log()[logged:], f"{row.log!r} in the log: {daemon.log()[logged:]}")
    eventually(lambda: figure(daemon, row.metric) > counted, f"{row.metric} counts it")
    assert len(sink.messages) - delivered == row.delivered, daemon.log()[logged:]


def figure(daemon: Daemon, sample: str) -> float:
    """A sample as it stands on the page of metrics, without "bqfilterd_"; the pool needs METRICS."""
    page = get(daemon).text
    found = re.search(rf"^bqfilterd_{re.escape(sample)} (\S+)$", page, re.MULTILINE)
    assert found, f"{sample} in {page}"
    return float(found[1])
