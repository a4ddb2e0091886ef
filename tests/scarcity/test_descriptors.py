"""No descriptor is left (EMFILE): in the master, and in a worker at each point at which it needs one."""

import signal
import socket
from pathlib import Path

from tests.doubles.sink import Sink
from tests.pool.daemon import deliver, serving, settings_for
from tests.scarcity.means import without_descriptors


def test_a_master_that_cannot_tell_the_service_manager_goes_on(sink: Sink, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(30)
        environment = {
            "NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": ""
        }  # fmt: skip
        settings = settings_for(sink.endpoint, directory)
        with serving(directory, settings, environment=environment) as daemon:
            with without_descriptors(daemon.process.pid):
                daemon.configure(settings | {"rules": [{"body": ["/dev/null"]}], "policy": [{"name": "all"}]})
                daemon.signal(signal.SIGHUP)
                daemon.wait_for_log("reload failed, the old settings stay in force .*Too many open files")
                assert deliver(daemon).startswith(b"250 ")
            while manager.recv(4096) != b"WATCHDOG=1":
                pass
            assert daemon.process.poll() is None
