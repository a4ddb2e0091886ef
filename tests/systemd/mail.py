"""Debian's own postfix.service in the box, before and behind the filter, and what becomes of its mail.

Mail is discarded after it has been queued, and counted in the log. smtp-source ends with an error at the
first reply that is not positive, so a run that ends well has seen no 4xx and no refused connection.
"""

import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.doubles.programs import eventually
from tests.postfix.load import numbered
from tests.postfix.postfix_instance import MaillogView
from tests.systemd.box import Box

MAILLOG = "/var/log/postfix.log"

MAIN_CF = f"""\
compatibility_level = 3.6
maillog_file = {MAILLOG}
myhostname = mx.postfix.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
local_transport = discard
relay_transport = discard
default_transport = discard
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
smtp_host_lookup = native
smtp_dns_support_level = disabled
"""

# 2525 comes in by the unix-domain socket, seen from inside the chroot.
MASTER_CF = """\
smtp            inet n - y - 40 smtpd
  -o syslog_name=postfix/before
  -o smtpd_proxy_filter=127.0.0.1:10025
127.0.0.1:2525  inet n - y - 40 smtpd
  -o syslog_name=postfix/before-unix
  -o smtpd_proxy_filter=unix:bqfilter/smtp.sock
127.0.0.1:10026 inet n - y - - smtpd
  -o syslog_name=postfix/after
  -o smtpd_authorized_xforward_hosts=127.0.0.0/8
postlog unix-dgram n - n - 1 postlogd
pickup  unix n - y 60 1 pickup
cleanup unix n - y - 0 cleanup
qmgr    unix n - n 300 1 qmgr
rewrite unix - - y - - trivial-rewrite
bounce  unix - - y - 0 bounce
defer   unix - - y - 0 bounce
trace   unix - - y - 0 bounce
verify  unix - - y - 1 verify
error   unix - - y - - error
retry   unix - - y - - error
discard unix - - y - - discard
smtp    unix - - y - - smtp
anvil   unix - - y - 1 anvil
scache  unix - - y - 1 scache
showq   unix n - y - - showq
proxymap unix - - n - - proxymap
tlsmgr  unix - - y 1000? 1 tlsmgr
"""


@dataclass(slots=True)
class Load:
    """A run of smtp-source; every message has a recipient of its own: a number and the common address."""

    process: subprocess.Popen[bytes]
    recipient: str
    messages: int

    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait(self, limit: float) -> None:
        output, _ = self.process.communicate(timeout=limit)
        assert (self.process.returncode, output) == (0, b"")


class BoxPostfix:
    """The service in one box."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def start(self) -> None:
        self._box.write("/etc/postfix/main.cf", MAIN_CF)
        self._box.write("/etc/postfix/master.cf", MASTER_CF)
        self._box.systemctl("daemon-reload")
        self._box.systemctl("start", "postfix.service")

    def stop(self) -> None:
        self._box.systemctl("stop", "postfix.service")

    def maillog(self) -> MaillogView:
        """What it logs from now on."""
        return MaillogView(self._path(MAILLOG))

    def start_load(self, name: str, messages: int, port: int = 25, options: Sequence[str] = ()) -> Load:
        recipient = f"{name}@elsewhere.example"
        command = ["/usr/sbin/smtp-source", "-N", "-m", str(messages), "-s", str(min(20, messages)), *options]
        process = subprocess.Popen(
            self._box.in_network(*command, "-f", "load@remote.example", "-t", recipient, f"127.0.0.1:{port}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return Load(process, recipient, messages)

    def was_delivered_once(self, load: Load, maillog: MaillogView, limit: float) -> None:
        """Every message of the load, under one queue id each."""
        delivery = rf"postfix/discard\S+: (\w+): to=<({numbered(load.recipient)})>, .*status=sent"
        enough = f"{load.messages} deliveries in the maillog"
        eventually(lambda: len(maillog.matches(delivery)) >= load.messages, enough, limit)
        eventually(self._queue_is_empty, "an empty queue", limit)
        recipients = Counter(found[2] for found in maillog.matches(delivery))
        assert set(recipients.values()) == {1}
        assert len(recipients) == load.messages

    def _queue_is_empty(self) -> bool:
        queues = [
            self._path(f"/var/spool/postfix/{name}")
            for name in ("maildrop", "incoming", "active", "deferred")
        ]
        return not any(path.is_file() for queue in queues for path in queue.rglob("*"))

    def _path(self, path: str) -> Path:
        return self._box.root / path.lstrip("/")
