"""A private Postfix: own configuration, queue, log, mailbox and address; the host's own is left alone.

Every instance listens on an address of its own out of 127.0.0.0/8, so runs side by side cannot take each
other's ports, and neither can the short-lived ports of outgoing connections, which are on 127.0.0.1.
Mail for `MAILBOX_DOMAIN`, and for every domain below it, is written to a Maildir, to be compared byte for
byte; all other mail is discarded after it has been queued, and counted in the log. What cannot be started
fails with what Postfix said.
Nothing here leaves the machine: no DNS, no transport to anywhere but this instance's own services.
"""

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.doubles.programs import eventually

MAILBOX_DOMAIN = "box.example"
NOBODY = 65534
CLOCK_COMPLAINT = re.compile(r"file system clock is .* local clock|resetting file time stamps")
A_LONG_TIME_AGO = 1_700_000_000
QUEUES = ("maildrop", "incoming", "active", "deferred", "hold")

_numbers = itertools.count(1)

# The address of the services is not that of an interface, so inet_interfaces, which wants one, has another.
# Every client counts as remote, though all are on this machine; nothing is added to the content of those.
MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/q
data_directory = {directory}/d
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
myhostname = mx.postfix.example
mydestination =
mynetworks = 127.0.0.0/8
local_header_rewrite_clients =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
local_transport = discard
relay_transport = discard
default_transport = discard
virtual_mailbox_domains = regexp:{directory}/c/mailbox_domains
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{nobody}
virtual_gid_maps = static:{nobody}
header_checks = regexp:{directory}/c/header_checks
message_size_limit = 30000000
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
qmgr_clog_warn_time = 0
enable_long_queue_ids = yes
smtp_host_lookup = native
smtp_dns_support_level = disabled
"""

MASTER_CF = """\
postlog unix-dgram n - n - 1 postlogd
pickup  unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
cleanup-editing unix n - n - 0 cleanup
  -o header_checks=
  -o body_checks=regexp:$config_directory/body_edits
  -o mime_header_checks=regexp:$config_directory/part_edits
  -o nested_header_checks=regexp:$config_directory/part_edits
qmgr    unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce  unix - - n - 0 bounce
defer   unix - - n - 0 bounce
trace   unix - - n - 0 bounce
verify  unix - - n - 1 verify
error   unix - - n - - error
retry   unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
smtp    unix - - n - - smtp
anvil   unix - - n - 1 anvil
scache  unix - - n - 1 scache
showq   unix n - n - - showq
proxymap unix - - n - - proxymap
tlsmgr  unix - - n 1000? 1 tlsmgr
"""

MAILBOX_DOMAINS = f"/^(.+\\.)?{re.escape(MAILBOX_DOMAIN)}$/ here\n"

# What rules can do to a body and to the headers in it, for Postfix itself and for bqfilterd.
BODY_EDITS = """\
/^(Secret): (.*)/ REPLACE [$1] ...
/^Advertisement/ IGNORE
/^Unsubscribe/ STRIP it leads nowhere
/^Dear/ PREPEND From outside:
/^all alone$/ REPLACE .
"""
PART_EDITS = """\
/^X-Drop:/ IGNORE
/^X-Tell:/ STRIP
/^(Content-Disposition): *inline(.*)/ REPLACE $1: attachment$2
/^X-Above:/ PREPEND X-New: one
"""

HEADER_CHECKS = "/^X-Unwanted:/ REJECT not wanted here\n"

ANNOUNCE = "/./ INFO the whole message is here\n"

RECIPIENT_ACCESS = """\
/^stranger-/ 550 5.1.1 nobody here of that name
/^later-/ 450 4.2.0 come back later
/^hangup-/ 421 4.7.0 this server wants to stop
"""


@dataclass(frozen=True, slots=True)
class Service:
    """A service of master.cf with its options; it listens if the instance has a port of that name."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    processes: str = "-"
    program: str = "smtpd"

    def lines(self, endpoint: str | None) -> str:
        options = {"syslog_name": f"postfix/{self.name}", **self.options}
        head = f"{endpoint} inet n" if endpoint else f"{self.name} unix -"
        tail = "".join(f"\n  -o {{ {key} = {value} }}" for key, value in options.items())
        return f"{head} - n - {self.processes} {self.program}{tail}\n"


def fresh_address(name: str = "someone", domain: str = MAILBOX_DOMAIN) -> str:
    """An address that no other test uses; what it begins with may mean something to RECIPIENT_ACCESS."""
    return f"{name}-{next(_numbers)}@{domain}"


def own_loopback_address() -> str:
    """One of fourteen million; two runs that draw the same would see it at once, as a port that is taken."""
    draw = random.SystemRandom()
    return f"127.{draw.randint(16, 254)}.{draw.randint(0, 255)}.{draw.randint(1, 254)}"


def free_ports(address: str, names: Iterable[str]) -> dict[str, int]:
    """A free port for each name, none of which the kernel gives to whoever asks for any."""
    draw = random.SystemRandom()
    found: dict[str, int] = {}
    for name in names:
        while name not in found:
            port = draw.randint(10_240, 32_000)
            with contextlib.suppress(OSError), socket.create_server((address, port)):
                if port not in found.values():
                    found[name] = port
    return found


class MaillogView:
    """The maillog from one moment on, which is now unless told otherwise."""

    def __init__(self, path: Path, start: int | None = None) -> None:
        self._path = path
        size = path.stat().st_size if path.exists() else 0
        self._start = size if start is None else start

    def text(self) -> str:
        with self._path.open("rb") as log:
            log.seek(self._start)
            return log.read().decode("utf-8", "replace")

    def matches(self, pattern: str) -> list[re.Match[str]]:
        """`^` and `$` are the ends of a line."""
        return list(re.finditer(pattern, self.text(), re.MULTILINE))

    def wait_for(self, pattern: str, limit: float = 30.0) -> re.Match[str]:
        """The first match; lines of different processes come in no fixed order, so wait for each of them."""
        try:
            return eventually(lambda: self.matches(pattern), f"{pattern!r} in the maillog", limit)[0]
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.text()}") from None

    def trouble(self) -> list[str]:
        """The lines that a quiet run must not have; the clock of the machine is not our business."""
        lines = [found[0] for found in self.matches(r"^.*: (?:warning|error|fatal|panic): .*$")]
        return [line for line in lines if not CLOCK_COMPLAINT.search(line)]


class Inbox:
    """The Maildir of `MAILBOX_DOMAIN`: every local part has mail in it, told apart by Delivered-To."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "inbox" / "new"
        self._tops: dict[Path, bytes] = {}

    def messages(self, recipient: str) -> list[bytes]:
        line = b"\nDelivered-To: %s\n" % recipient.encode()
        return [path.read_bytes() for path in self._paths() if line in self._top(path)]

    def recipients(self) -> list[str]:
        """To whom there is mail, with repetitions."""
        found = (
            re.search(rb"^Delivered-To: (\S+)$", self._top(path), re.MULTILINE) for path in self._paths()
        )
        return [one[1].decode() for one in found if one]

    def wait_for(self, recipient: str, count: int = 1, limit: float = 30.0) -> list[bytes]:
        return eventually(
            lambda: found if len(found := self.messages(recipient)) >= count else None,
            f"{count} message(s) to {recipient}",
            limit,
        )

    def _paths(self) -> list[Path]:
        return sorted(self._directory.iterdir()) if self._directory.exists() else []

    def _top(self, path: Path) -> bytes:
        """The first of the trace fields; kept, because the messages are many and some are big."""
        if path not in self._tops:
            with path.open("rb") as message:
                self._tops[path] = message.read(1000)
        return self._tops[path]


class PostfixInstance:
    """The instance and its services, by name."""

    def __init__(
        self, directory: Path, address: str, ports: Mapping[str, int], services: Sequence[Service]
    ) -> None:
        self.directory = directory
        self.address = address
        self.inbox = Inbox(directory / "mail")
        self._ports = ports
        self._services = services
        self._stopped: set[str] = set()

    def at(self, name: str) -> tuple[str, int]:
        """Where a listening service is reached."""
        return self.address, self._ports[name]

    def maillog_from_now(self) -> MaillogView:
        return MaillogView(self.directory / "maillog")

    def start(self) -> None:
        self._lay_out()
        done = self._postfix("start")
        assert done.returncode == 0, f"postfix start: {done.stdout.decode()}{self._maillog_text()}"
        for service in self._services:
            if service.name in self._ports:
                self._wait_until_it_listens(service.name)

    def start_again(self) -> None:
        """After `stop`, with the same queue."""
        done = self._postfix("start")
        assert done.returncode == 0, f"postfix start: {done.stdout.decode()}{self._maillog_text()}"
        for service in self._services:
            self._wait_until_it_listens(service.name)

    def stop(self) -> None:
        """`postfix stop`; a master that is left, say by a broken configuration, is killed by its pid."""
        self._postfix("stop")
        if master := self.master_pid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(master, signal.SIGKILL)

    def stop_service(self, name: str) -> None:
        """Close its listener; conversations under way are finished by the processes that have them."""
        self._stopped.add(name)
        self._reload()
        eventually(lambda: not self.listens(name), f"service {name} is closed")

    def start_service(self, name: str) -> None:
        self._stopped.discard(name)
        self._reload()
        self._wait_until_it_listens(name)

    def listens(self, name: str) -> bool:
        try:
            socket.create_connection(self.at(name), 5).close()
        except ConnectionRefusedError:
            return False
        return True

    def queue_is_empty(self) -> bool:
        """Nothing is being received, is on its way or waits: what was accepted has been delivered."""
        queues = [self.directory / "q" / name for name in QUEUES]
        return not any(path.is_file() for queue in queues for path in queue.rglob("*"))

    def settle(self, limit: float = 30.0) -> None:
        """Return when the queue is empty, and all that was logged up to then can be read.

        Lines go through a queue of their own, to postlogd: behind one of ours there is none from before.
        """
        eventually(self.queue_is_empty, "the queue is empty", limit)
        log, mark = self.maillog_from_now(), f"settled {next(_numbers)}"
        subprocess.run(["/usr/sbin/postlog", "-c", str(self.directory / "c"), mark], check=True, timeout=60)
        log.wait_for(f": {mark}$")

    def _lay_out(self) -> None:
        for name in ("c", "q", "d", "mail"):
            (self.directory / name).mkdir(exist_ok=True)
        shutil.chown(self.directory / "d", "postfix")
        os.chown(self.directory / "mail", NOBODY, NOBODY)
        (self.directory / "c" / "announce").write_text(ANNOUNCE)
        (self.directory / "c" / "header_checks").write_text(HEADER_CHECKS)
        (self.directory / "c" / "body_edits").write_text(BODY_EDITS)
        (self.directory / "c" / "part_edits").write_text(PART_EDITS)
        (self.directory / "c" / "mailbox_domains").write_text(MAILBOX_DOMAINS)
        (self.directory / "c" / "recipient_access").write_text(RECIPIENT_ACCESS)
        self._write_main_cf()
        self._write_master_cf()
        # A Postfix program that finds main.cf just changed waits for two seconds, in case it still is.
        os.utime(self.directory / "c" / "main.cf", (A_LONG_TIME_AGO, A_LONG_TIME_AGO))

    def _write_main_cf(self) -> None:
        settings = MAIN_CF.format(directory=self.directory, nobody=NOBODY)
        (self.directory / "c" / "main.cf").write_text(settings)

    def _write_master_cf(self) -> None:
        running = [service for service in self._services if service.name not in self._stopped]
        lines = [service.lines(self._endpoint(service.name)) for service in running]
        (self.directory / "c" / "master.cf").write_text("".join([MASTER_CF, *lines]))

    def _endpoint(self, name: str) -> str | None:
        return f"{self.address}:{self._ports[name]}" if name in self._ports else None

    def _wait_until_it_listens(self, name: str) -> None:
        eventually(lambda: self.listens(name), f"service {name} listens")

    def _reload(self) -> None:
        self._write_master_cf()
        done = self._postfix("reload")
        assert done.returncode == 0, done.stdout.decode()

    def _postfix(self, command: str) -> subprocess.CompletedProcess[bytes]:
        # A file, not a pipe: the master daemon inherits it, and a pipe would stay open as long as it lives.
        with (self.directory / f"postfix-{command}").open("w+b") as output:
            done = subprocess.run(
                ["/usr/sbin/postfix", "-c", str(self.directory / "c"), command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=60,
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read())

    def master_pid(self) -> int | None:
        """The pid of the master daemon, if that process is there and is one."""
        try:
            pid = int((self.directory / "q" / "pid" / "master.pid").read_text())
            return pid if Path(f"/proc/{pid}/comm").read_text() == "master\n" else None
        except (OSError, ValueError):
            return None

    def _maillog_text(self) -> str:
        path = self.directory / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""
