"""No room is left: in the spool, the quarantine, the runtime directory and the log, each on a small disk."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bqfilter.quarantine import Quarantine
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, deliver, launched, serving, settings_for
from tests.postfix.smtp_client import SENDER, SmtpClient
from tests.scarcity import rows
from tests.scarcity.means import filled, limited, small_file_system
from tests.scarcity.rows import Row
from tests.scarcity.witness import METRICS, comes_to

LARGE = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" * 2 + (b"y" * 70 + b"\r\n") * 5000
WHOLE = re.compile(r"result=accepted .*,total:[0-9.]+$", re.MULTILINE)


@pytest.fixture
def disk(directory: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    with small_file_system(directory / "disk", 4096) as place:
        yield place


def small_pool(sink: Sink, directory: Path, **tables: Any) -> dict[str, Any]:
    usual = {"pool": {"workers": 1}, "metrics": METRICS, "spool": {"memory": "64KiB"}}
    return settings_for(sink.endpoint, directory, **usual | tables)


def submit(daemon: Daemon, content: bytes = LARGE) -> bytes:
    with SmtpClient(daemon.address) as client:
        client.begin(SENDER, ["b@example.org"])
        return client.end(content)


def test_a_spool_without_room_defers_what_is_large_and_nothing_else(
    sink: Sink, directory: Path, disk: Path
) -> None:
    settings = small_pool(sink, directory, spool={"directory": str(disk), "memory": "64KiB"})
    with serving(directory, settings) as daemon:
        workers = daemon.wait_until_idle(1)
        with filled(disk, but=20):
            with comes_to(rows.SPOOL_FULL, daemon, sink) as told:
                told.reply = submit(daemon)
            eventually(lambda: os.statvfs(disk).f_bavail == 20, "what was written of it gone")
            assert deliver(daemon).startswith(b"250 ")
        assert submit(daemon).startswith(b"250 ")
        assert sink.messages[-1].content == LARGE
        assert daemon.wait_until_idle(1) == workers


def kept(directory: Path) -> list[str]:
    return [str(name.state) for name in Quarantine(directory).names()]


@pytest.mark.parametrize(
    ("row", "action", "delivered"),
    [(rows.QUARANTINE_FULL, "quarantine", 0), (rows.COPY_UNKEPT, "accept+quarantine", 1)],
    ids=["kept", "copied"],
)
def test_a_quarantine_without_room_defers_and_delivers_nothing(
    sink: Sink, directory: Path, disk: Path, row: Row, action: str, delivered: int
) -> None:
    settings = small_pool(
        sink,
        directory,
        quarantine={"directory": str(disk / "kept")},
        policy=[{"name": "all", "action": action}],
    )
    with serving(directory, settings) as daemon:
        assert deliver(daemon).startswith(b"250 ")
        with filled(disk, but=20):
            with comes_to(row, daemon, sink) as told:
                told.reply = submit(daemon)
            assert kept(disk / "kept") == ["held"]
            assert os.statvfs(disk).f_bavail == 20
        before = len(sink.messages)
        assert submit(daemon).startswith(b"250 ")
        assert kept(disk / "kept") == ["held", "held"]
        assert len(sink.messages) - before == delivered


@pytest.mark.parametrize(
    ("row", "action"), [(rows.SPOOL_LIMITED, "accept"), (rows.QUARANTINE_LIMITED, "quarantine")]
)
def test_a_write_that_is_cut_short_and_then_fails_loses_and_leaves_nothing(
    sink: Sink, directory: Path, row: Row, action: str
) -> None:
    memory = {"memory": "64KiB" if row is rows.SPOOL_LIMITED else "1MiB"}
    settings = small_pool(sink, directory, spool=memory, policy=[{"name": "all", "action": action}])
    with serving(directory, settings) as daemon:
        (worker,) = daemon.wait_until_idle(1)
        with limited(worker, "fsize", 200_001), comes_to(row, daemon, sink) as told:
            told.reply = submit(daemon)
        assert kept(directory / "quarantine") == []
        assert submit(daemon).startswith(b"250 ")


def test_a_runtime_directory_without_room_at_the_start_costs_no_mail(sink: Sink, directory: Path) -> None:
    settings = small_pool(sink, directory)
    with (
        small_file_system(directory / "run", 256) as run,
        filled(run),
        serving(directory, settings) as daemon,
    ):
        for warning in ("no pid file", "no scoreboard file, statistics stay inside"):
            daemon.wait_for_log(rf"warning: {warning} .*No space left on device")
        with comes_to(rows.RUNTIME_FULL_AT_START, daemon, sink) as told:
            told.reply = deliver(daemon)
        assert not (run / "scoreboard.new").exists()
        assert daemon.stop() == 0


def test_a_runtime_directory_without_room_later_is_not_noticed(sink: Sink, directory: Path) -> None:
    settings = small_pool(sink, directory, metrics={**METRICS, "slow_session": "1ms"})
    with small_file_system(directory / "run", 8192) as run, serving(directory, settings) as daemon:
        with filled(run):
            with comes_to(rows.RUNTIME_FULL, daemon, sink) as told:
                daemon.signal(signal.SIGHUP)
                daemon.wait_for_generation(2)
                told.reply = deliver(daemon)
            assert (run / "slow.log").stat().st_size == 0
        with SmtpClient(daemon.address):
            eventually(lambda: (run / "slow.log").stat().st_size, "a stack")
        assert daemon.stop() == 0


def test_a_log_without_room_costs_lines_and_no_mail(sink: Sink, directory: Path, disk: Path) -> None:
    with (disk / "log").open("ab") as log:
        log.write(b"x" * 4090 + b"\n")  # what is left of the last page holds part of a line
        log.flush()
        with launched(directory, small_pool(sink, directory), stderr=log.fileno()) as daemon:
            daemon.log_path.unlink()
            daemon.log_path.symlink_to(disk / "log")
            daemon.wait_for_log(" ready ")
            daemon.wait_for_log("metrics served")
            with comes_to(rows.LOG_FULL, daemon, sink) as told:
                with filled(disk):
                    for _ in range(40):
                        assert deliver(daemon).startswith(b"250 ")
                    daemon.wait_until_idle(1)  # and the last line has been tried
                lost = 40 - len(WHOLE.findall(daemon.log()))
                sink.messages.clear()
                told.reply = deliver(daemon)
            assert lost > 10
            daemon.wait_for_log(rf"\n.* log was stuck, lines dropped count={lost}\n")
            assert len(WHOLE.findall(daemon.log())) == 41 - lost
