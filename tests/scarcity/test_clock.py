"""Somebody sets the clock, by a day or by a year: nothing waits longer or shorter for it, nothing is lost.

Limits are told by the monotonic clock, which nobody can set. The wall clock is for people: in the log, in the
names of kept messages, in the age of these.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.quarantine import Quarantine
from tests.doubles.programs import REPOSITORY, eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, serving, settings_for
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient
from tests.scarcity import rows
from tests.scarcity.means import Jump
from tests.scarcity.rows import Row
from tests.scarcity.witness import METRICS, comes_to

DAY = 86400

# Where a time is for people to read, or the age of a file on disk. A limit has no business with it.
WALL_CLOCK = {
    "cli/quarantine.py",  # the age of kept messages
    "delivery.py",  # an event in the history of a kept message
    "log/sinks.py",  # the time in front of a line
    "pool/bulletin.py",  # the status of the service
    "pool/pid_file.py",  # which of process and file is older
    "pool/watch.py",  # since when settings are in force; the time above a stack
    "quarantine/names.py",  # when it was kept
    "quarantine/store.py",
    "saturation/reader.py",  # since when, for people
    "saturation/report.py",
    "scoreboard.py",  # when the master started
    "session.py",  # names of sessions
}
NAMES = {"time", "time_ns", "localtime", "gmtime", "strftime", "ctime"}


def readers_of_the_wall_clock() -> Iterator[str]:
    for path in (REPOSITORY / "bqfilter").rglob("*.py"):
        place = path.relative_to(REPOSITORY / "bqfilter").as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Attribute(value=ast.Name(id="time"), attr=name) if name in NAMES:
                    yield place
                case ast.Attribute(attr="now" | "utcnow" | "today" | "CLOCK_REALTIME"):
                    yield place
                case ast.ImportFrom(module="time"):
                    yield place


def test_nothing_but_what_people_read_asks_for_the_wall_clock() -> None:
    """A limit told by it would be over at once, or never, when somebody sets it."""
    assert {place for place in readers_of_the_wall_clock() if not place.startswith("demo/")} == WALL_CLOCK


@pytest.mark.parametrize(
    ("row", "seconds"),
    [(rows.CLOCK_FORWARD, 400 * DAY), (rows.CLOCK_BACK, -400 * DAY)],
    ids=["forward", "back"],
)
def test_a_message_during_which_the_clock_is_set_is_served_as_any_other(
    sink: Sink, directory: Path, row: Row, seconds: int
) -> None:
    jump = Jump(directory)
    settings = settings_for(
        sink.endpoint,
        directory,
        metrics={**METRICS, "slow_session": "60s"},
        policy=[{"name": "all", "action": "accept+quarantine"}],
    )
    with serving(directory, settings, prelude=jump.prelude) as daemon:
        workers = daemon.wait_until_idle(2)
        submit(daemon)
        with comes_to(row, daemon, sink) as told, SmtpClient(daemon.address) as client:
            client.begin(SENDER, ["b@example.org"])
            with sink.held("."):
                client.send(PLAIN + b".\r\n")
                sink.wait_until_held(".")
                jump.wall(seconds)
            told.reply = client.reply()
        submit(daemon)
        assert daemon.wait_until_idle(2) == workers
        assert daemon.trouble() == []
        assert "slow session" not in daemon.log()
        states = [str(name.state) for name in Quarantine(directory / "quarantine").names()]
        assert states == ["held", "held", "held"]
        daemon.wait_for_results(3)
        assert len(set(sessions(daemon))) == 3


def submit(daemon: Daemon) -> None:
    with SmtpClient(daemon.address) as client:
        client.begin(SENDER, ["b@example.org"])
        assert client.end(PLAIN).startswith(b"250 ")


def sessions(daemon: Daemon) -> list[str]:
    """The names of the sessions that had a message."""
    lines = [line for line in daemon.log().splitlines() if " message result=" in line]
    return [line.split(": ")[1] for line in lines]


def test_a_silent_client_is_left_no_sooner_and_no_later(sink: Sink, directory: Path) -> None:
    jump = Jump(directory)
    settings = settings_for(sink.endpoint, directory, timeouts={"client_idle": "300s"})
    with serving(directory, settings, prelude=jump.prelude) as daemon:
        with SmtpClient(daemon.address) as silent:
            daemon.the_busy_one()
            jump.wall(DAY)
            submit(daemon)
            assert silent.command(b"NOOP").startswith(b"250 ")
            jump.wall(-DAY)
            jump.pass_by(301)
            assert silent.received_until_closed() == b""
        daemon.wait_for_log("timeout after NOOP")
        eventually(lambda: not daemon.trouble(), "no trouble")
