"""The site of docs/haproxy.md, every host of it: clients, two MX, HAProxy, three filters, and the queue.

The addresses are those of contrib/haproxy/haproxy.cfg, because the hosts have a network of their own. How
long a message takes is said by the message: a filter sleeps for the seconds of its X-Seconds field, and on
until the file of its X-Until field exists. So no processor has much to do, and who sends knows what he asks
for.
"""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bqfilter.ledger import Stage
from tests.doubles.components import missing
from tests.doubles.programs import eventually, short_directory
from tests.haproxy.balancer import AGENT_PORT, SMTP_PORT, Balancer, balancing
from tests.pool.daemon import Daemon, serving, settings_for
from tests.postfix.postfix_instance import PostfixInstance, Service
from tests.soak.boards import Board, Fall

from . import network
from .network import PREFIX, Host

MX, BALANCER, FILTERS, AFTER, CLIENTS = (1, 2), 5, (11, 12, 13), 20, 100  # the last number of the address
_AFTER_PORT = 10026

_WORK = """\
import time
from pathlib import Path
from bqfilter.api import accept


def work(message, envelope):
    time.sleep(float(message.header("X-Seconds")))
    held = message.header("X-Until")
    while held and not Path(held).exists():
        time.sleep(0.05)
    return accept()
"""


def why_not() -> str | None:
    """Why there can be no site here, if so."""
    return network.why_not() or missing("postfix", "postfix") or missing("haproxy", "haproxy")


class Filter:
    """A host with a pool. It can be killed, drained and started again; `logs` are of all that ran there."""

    def __init__(self, name: str, host: Host, directory: Path, workers: int) -> None:
        self.name = name
        self.host = host
        self._directory = directory
        self._workers = workers
        self._running = contextlib.ExitStack()
        self._logs = ""
        (directory / "site_work.py").write_text(_WORK)
        self.start()

    @property
    def logs(self) -> str:
        return self._logs + self.daemon.log()

    def start(self) -> None:
        with self.host.entered():
            self.daemon: Daemon = self._running.enter_context(
                serving(self._directory, self._settings(), environment={"PYTHONPATH": str(self._directory)})
            )

    def has(self, client: str) -> bool:
        """A worker here has a message of this remote client before its filters."""
        return any(slot.client == client for slot in self._board().at(Stage.FILTER).values())

    def kill(self) -> list[Fall]:
        """Everything that runs here; what the workers were doing.

        All are stopped first: while one after the other is killed, nobody goes on, or replaces anybody.
        """
        board, family = self._board(), self.host.processes()
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        for pid in family - board.serving().keys():
            os.kill(pid, signal.SIGKILL)
        falls = board.kill(board.serving())
        self.host.kill_everything()
        self._close()
        return falls

    def wait_for_end(self) -> None:
        """After SIGTERM; that it ends well."""
        assert self.daemon.process.wait(60) == 0
        self._close()

    def _close(self) -> None:
        self._logs += self.daemon.log()
        self._running.close()
        self.daemon.log_path.write_text("")

    def close(self) -> None:
        self._running.close()

    def _board(self) -> Board:
        return Board(self._directory / "run", self._workers)

    def _settings(self) -> dict[str, object]:
        address = self.host.address
        listen = {
            "endpoint": f"inet:{address}:{SMTP_PORT}",
            "allow": [f"{PREFIX}.{number}" for number in MX],
            "proxy_protocol": True,
            "proxies": [f"{PREFIX}.{BALANCER}"],
        }
        return settings_for(
            f"inet:{PREFIX}.{AFTER}:{_AFTER_PORT}", self._directory,
            listen=[listen],
            pool={"workers": self._workers},
            agent={"listen": f"inet:{address}:{AGENT_PORT}"},
            runtime={"drain_delay": "1h"},  # until the second SIGTERM: no machine is too busy for that
            python=[{"filter": "site_work:work", "timeout": "80s"}],
            policy=[{"name": "all"}],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """All there is. Who is on the host `clients` may send to the MX hosts, as any remote client."""

    directory: Path
    clients: Host
    mx: Sequence[PostfixInstance]
    balancer: Balancer
    filters: Sequence[Filter]
    after: PostfixInstance

    def holder_of(self, client: str) -> Filter:
        """The filter host that works at the message of this remote client."""
        return eventually(
            lambda: next((one for one in self.filters if one.host.processes() and one.has(client)), None),
            f"a host with the message of {client}",
        )

    def wait_until_it_gets_mail(self, one: Filter) -> None:
        """HAProxy has found it again, and sends it some."""
        self.balancer.wait_for(one.name, "UP")
        eventually(lambda: self.balancer.weight(one.name) > 0, f"a weight for {one.name}")
        served = int(self.balancer.server(one.name)["stot"])
        eventually(lambda: int(self.balancer.server(one.name)["stot"]) > served, f"mail for {one.name}")


@contextlib.contextmanager
def site(haproxy: str, workers: int, check_interval: str = "200ms") -> Iterator[Site]:
    """Everything runs, and every filter host is up for HAProxy, which is the program `haproxy`."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(short_directory("bqsite-"))
        hosts = stack.enter_context(network.network(*MX, BALANCER, *FILTERS, AFTER, CLIENTS))
        after = stack.enter_context(_postfix(hosts[AFTER], _after_filter_service(), _AFTER_PORT))
        filters = [stack.enter_context(_filter(hosts[number], directory, workers)) for number in FILTERS]
        with hosts[BALANCER].entered():
            balancer = stack.enter_context(balancing(haproxy, directory, PREFIX, workers, check_interval))
        modes: tuple[dict[str, str], ...] = ({}, {"smtpd_proxy_options": "speed_adjust"})
        mx = [
            stack.enter_context(_postfix(hosts[number], _before_filter_service(mode), 25))
            for number, mode in zip(MX, modes, strict=True)
        ]
        for one in filters:
            balancer.wait_for(one.name, "UP")
        yield Site(directory, hosts[CLIENTS], mx, balancer, filters, after)


def _before_filter_service(mode: dict[str, str]) -> Service:
    options = {
        "smtpd_proxy_filter": f"{PREFIX}.{BALANCER}:{SMTP_PORT}",
        "smtpd_authorized_xclient_hosts": f"{PREFIX}.{CLIENTS}",
        "smtpd_relay_restrictions": "check_client_access static:ok, reject",  # clients are all over the world
        "notify_classes": "",  # a lost filter is a "software" problem, and would be mail for the postmaster
    }
    return Service("smtp-in", options | mode)


def _after_filter_service() -> Service:
    everybody = f"{PREFIX}.0/24"
    return Service("smtp-in", {"mynetworks": everybody, "smtpd_authorized_xforward_hosts": everybody})


@contextlib.contextmanager
def _postfix(host: Host, service: Service, port: int) -> Iterator[PostfixInstance]:
    with short_directory("bqpf-") as directory:
        instance = PostfixInstance(directory, host.address, {service.name: port}, [service])
        try:
            with host.entered():
                instance.start()
            yield instance
        finally:
            instance.stop()


@contextlib.contextmanager
def _filter(host: Host, directory: Path, workers: int) -> Iterator[Filter]:
    name = f"filter{FILTERS.index(int(host.address.rpartition('.')[2])) + 1}"
    (directory / name).mkdir()
    one = Filter(name, host, directory / name, workers)
    try:
        yield one
    finally:
        one.close()
