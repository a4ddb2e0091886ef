"""Processes that do not run for a while (SIGSTOP, a machine that stood still): at which point, and for how long.

The clock jumps while a worker is stopped, so that nobody waits for a limit; limits are those of the defaults.
"""

import os
import signal
from pathlib import Path

from tests.doubles.sink import Sink
from tests.pool.daemon import serving, settings_for
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient
from tests.scarcity.means import Jump

RECIPIENTS = ["b@example.org"]


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
            jump.monotonic(3600)
            daemon.wait_for_log("slow session")  # the master looked around after the jump
            os.kill(busy, signal.SIGCONT)
            assert client.reply().startswith(b"451 ")
        assert daemon.wait_until_idle(2) == workers
        assert "outlived" not in daemon.log()
        assert sink.messages == []
