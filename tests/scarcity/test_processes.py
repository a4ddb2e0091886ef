"""No process is to be had (EAGAIN): the master cannot fork a worker, a worker cannot run a program."""

import os
from pathlib import Path

from bqfilter.scoreboard import State
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, deliver, kill_hard, serving, settings_for
from tests.scarcity import rows
from tests.scarcity.means import limited
from tests.scarcity.witness import METRICS, comes_to

NOBODY_ELSE = 64_213  # an account with no process but these: the limit counts all of an account

AS_AN_ORDINARY_USER = """
import os
from bqfilter.cli import main
import encodings.idna
# That account may not be able to read where Python is installed.
from bqfilter.pool import launch, pages, parentage
os.setgroups([]); os.setgid({account}); os.setuid({account})
"""


def lose(daemon: Daemon, worker: int) -> None:
    kill_hard(worker)
    eventually(lambda: worker not in daemon.pids(State.IDLE), "the dead struck off")


def test_a_pool_that_lost_all_its_workers_is_complete_again_when_forks_succeed(
    sink: Sink, directory: Path
) -> None:
    os.chown(directory, NOBODY_ELSE, NOBODY_ELSE)
    prelude = AS_AN_ORDINARY_USER.format(account=NOBODY_ELSE)
    settings = settings_for(sink.endpoint, directory, metrics=METRICS)
    with serving(directory, settings, prelude=prelude) as daemon:
        first, second = daemon.wait_until_idle(2)
        with limited(daemon.process.pid, "nproc", 1):
            with comes_to(rows.NO_FORK, daemon, sink) as told:
                lose(daemon, first)
                told.reply = deliver(daemon)
            lose(daemon, second)
            daemon.wait_for_log("error: cannot fork a worker .* delay=[12]")
        assert deliver(daemon).startswith(b"250 ")  # it waited in the queue
        daemon.wait_until_idle(2)


def test_a_program_that_cannot_be_started_defers_its_message(sink: Sink, directory: Path) -> None:
    settings = settings_for(
        sink.endpoint,
        directory,
        pool={"workers": 1},
        metrics=METRICS,
        command=[{"argv": ["/bin/true"], "name": "command", "failures": 0}],
        policy=[{"name": "all"}],
    )
    with serving(directory, settings) as daemon:
        (worker,) = workers = daemon.wait_until_idle(1)
        with limited(worker, "nproc", 0), comes_to(rows.NO_PROGRAM, daemon, sink) as told:
            told.reply = deliver(daemon)
        assert deliver(daemon).startswith(b"250 ")
        assert daemon.wait_until_idle(1) == workers
