"""The rig of a long run: a before-filter Postfix, bqfilterd under its manager, an after-filter Postfix.

One Postfix instance plays both parts, on an address of its own. Whatever is delivered is discarded behind its
queue and counted in its log.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bqfilter.quarantine import Quarantine
from tests.doubles.programs import eventually, short_directory
from tests.postfix.postfix_instance import PostfixInstance, Service, free_ports, own_loopback_address

from .clients import DIRECT
from .ledger import Found
from .mail import POLICIES
from .manager import Manager, managed
from .scanner import SlowScanner, slow_scanner

WORKERS = 6
_MARKS = "/^Message-ID:/ PREPEND X-Marked: yes\n"
_PROGRAM = ["/bin/sh", "-c", "cat >/dev/null; exit 0"]
_NAMES = ("before", "before-speed", "after", "filter", "metrics")


@dataclass(slots=True)
class Rig:
    """What runs, and where."""

    directory: Path
    postfix: PostfixInstance
    manager: Manager
    scanner: SlowScanner
    max_messages: int

    @property
    def runtime(self) -> Path:
        return self.directory / "run"

    @property
    def doors(self) -> dict[str, tuple[str, int]]:
        """Where clients may connect, by name: through either mode of the before-filter server, or past it."""
        names = {"before": "before", "before-speed": "before-speed", DIRECT: "filter"}
        return {name: self.postfix.at(service) for name, service in names.items()}

    def settings(self, more_messages: int = 0) -> dict[str, Any]:
        """Those in force; or others, by which a worker serves a few messages more."""
        return _settings(self.directory, self.postfix, self.max_messages + more_messages)

    def end(self) -> None:
        """Return when bqfilterd has ended: what clients did not wait for is then done, and in its log."""
        self.manager.stop()
        eventually(lambda: not self.left_behind(), "nothing is left")

    def found(self) -> Found:
        """What became of all messages, once the queue is empty."""
        self.postfix.settle(120.0)
        found = Found()
        with (self.postfix.directory / "maillog").open(encoding="utf-8", errors="replace") as lines:
            found.read_maillog(lines)
        found.read_quarantine(Quarantine(self.directory / "quarantine"))
        return found

    def left_behind(self) -> set[int]:
        """Processes that write to bqfilterd's log: its master, its children, and what they have left."""
        log = self.directory / "log"
        return {
            int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal() and _writes(path, log)
        }


@contextmanager
def rig(max_messages: int = 500, prelude: str = "") -> Iterator[Rig]:
    """Everything, running; a worker is replaced after so many messages."""
    with ExitStack() as stack:
        directory = stack.enter_context(short_directory("bqsoak-"))
        postfix = stack.enter_context(_postfix())
        scanner = stack.enter_context(slow_scanner(directory / "scanner.sock"))
        (directory / "marks").write_text(_MARKS)
        settings = _settings(directory, postfix, max_messages)
        manager = stack.enter_context(managed(directory, postfix.at("filter"), settings, prelude))
        place = Rig(directory, postfix, manager, scanner, max_messages)
        yield place
        place.end()


@contextmanager
def _postfix() -> Iterator[PostfixInstance]:
    address = own_loopback_address()
    ports = free_ports(address, _NAMES)
    before = {
        "smtpd_proxy_filter": f"{address}:{ports['filter']}",
        "smtpd_authorized_xclient_hosts": "127.0.0.0/8",
        "smtpd_relay_restrictions": "check_client_access static:ok, reject",  # clients are all over the world
        "notify_classes": "",  # a lost filter is a "software" problem, and would be mail for the postmaster
    }
    after = {"smtpd_authorized_xforward_hosts": "127.0.0.0/8"}
    services = [
        Service("before", before, processes="40"),
        Service("before-speed", before | {"smtpd_proxy_options": "speed_adjust"}, processes="40"),
        Service("after", after),
    ]
    with short_directory("bqpf-") as directory:
        instance = PostfixInstance(directory, address, ports, services)
        try:
            instance.start()
            yield instance
        finally:
            instance.stop()


def _settings(directory: Path, postfix: PostfixInstance, max_messages: int) -> dict[str, Any]:
    scanner = {"endpoint": f"unix:{directory}/scanner.sock", "name": "slow", "timeout": "2s", "retry": "1s"}
    absent = {"endpoint": f"unix:{directory}/absent.sock", "name": "absent", "failures": 0}
    return {
        "listen": [{"endpoint": _endpoint(postfix, "filter"), "backlog": 256}],
        "pool": {"workers": WORKERS, "max_messages": max_messages},
        "upstream": {"endpoint": _endpoint(postfix, "after"), "max_messages_per_connection": 10},
        "metrics": {"listen": _endpoint(postfix, "metrics")},
        "runtime": {"user": "nobody", "directory": str(directory / "run"), "hostname": "filter.example"},
        "quarantine": {"directory": str(directory / "quarantine")},
        "rules": [{"name": "marks", "header_checks": [str(directory / "marks")]}],
        "clamd": [scanner, absent],
        "command": [{"name": "program", "argv": _PROGRAM}],
        "policy": list(POLICIES),
    }


def _endpoint(postfix: PostfixInstance, name: str) -> str:
    return "inet:{}:{}".format(*postfix.at(name))


def _writes(process: Path, log: Path) -> bool:
    try:
        return (process / "fd" / "1").readlink() == log
    except OSError:
        return False
