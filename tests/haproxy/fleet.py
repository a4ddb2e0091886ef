"""Three bqfilterd as three machines, each with an address and an after-filter server of its own."""

import contextlib
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.sink import Sink
from tests.haproxy.balancer import AGENT_PORT, SMTP_PORT, Balancer, balancing
from tests.pool.daemon import Daemon, serving, settings_for

WORKERS = 3


class Machine:
    """One of them. It can be stopped and started."""

    def __init__(self, name: str, host: str, directory: Path, settings: dict[str, Any], sink: Sink) -> None:
        self.name = name
        self.address = (host, SMTP_PORT)
        self.sink = sink
        self._directory = directory
        self._settings = settings
        self._running = contextlib.ExitStack()
        self.logs = ""  # of those before the present one
        self.start()

    def start(self) -> None:
        self.daemon: Daemon = self._running.enter_context(serving(self._directory, self._settings))

    def stop(self) -> None:
        """SIGTERM, which here is the second one or finds no delay: to its end."""
        self.daemon.signal(signal.SIGTERM)
        assert self.daemon.process.wait(60) == 0
        self.logs += self.daemon.log()
        self._running.close()

    def close(self) -> None:
        self._running.close()


@dataclass(frozen=True, slots=True)
class Fleet:
    """All there is; `mx` is the address of the only host that may send mail."""

    balancer: Balancer
    machines: list[Machine]
    mx: str
    network: str

    def delivered(self) -> list[bytes]:
        """The content of every message that an after-filter server has taken."""
        return [message.content for machine in self.machines for message in machine.sink.messages]


@contextlib.contextmanager
def fleet(program: str, directory: Path, check_interval: str = "200ms") -> Iterator[Fleet]:
    """Started, and all servers are up for HAProxy."""
    # 127.0.0.0/8 is all loopback: no other run has the same ports at the same addresses.
    network = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
    with contextlib.ExitStack() as stack:
        machines = []
        for number in (1, 2, 3):
            own = directory / f"filter{number}"
            own.mkdir()
            sink = stack.enter_context(Sink())
            host = f"{network}.1{number}"
            listen = {
                "endpoint": f"inet:{host}:{SMTP_PORT}",
                "allow": [f"{network}.1"],
                "proxy_protocol": True,
                "proxies": ["127.0.0.1"],
            }
            settings = settings_for(
                sink.endpoint, own, listen=[listen], pool={"workers": WORKERS},
                agent={"listen": f"inet:{host}:{AGENT_PORT}"}, metrics={"listen": "inet:127.0.0.1:0"},
                runtime={"drain_delay": "1h"},
            )  # fmt: skip
            machine = Machine(f"filter{number}", host, own, settings, sink)
            stack.callback(machine.close)
            machines.append(machine)
        balancer = stack.enter_context(balancing(program, directory, network, WORKERS, check_interval))
        for machine in machines:
            balancer.wait_for(machine.name, "UP")
        yield Fleet(balancer, machines, f"{network}.1", network)
