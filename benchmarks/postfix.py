"""Two private Postfix instances: one in front of the filter, one behind it, as smtpd_proxy_filter wants them.

Promises to touch nothing outside its directory and to stop what it started; the machine's own Postfix is not
involved. The instance behind delivers every message to discard(8), and in its log the messages are counted.
Needs root, because Postfix's master does.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.deliveries import Deliveries
from benchmarks.errors import ProgramError
from benchmarks.programs import HOST, READY_TIMEOUT, free_port, greets

SPEED_ADJUST = "speed_adjust"

_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
myhostname = mx.example.net
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
local_recipient_maps =
alias_maps =
alias_database =
default_transport = discard
relay_transport = discard
local_transport = discard
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
# Otherwise cleanup(8) holds back a busy client for a second, and that second would be all we measure.
in_flow_delay = 0
smtp_host_lookup = native
smtp_dns_support_level = disabled
"""

_AFTER_SERVICE = """\
{endpoint} inet n - n - 200 smtpd
  -o syslog_name=postfix/after
  -o smtpd_authorized_xforward_hosts=127.0.0.0/8
  -o receive_override_options=no_unknown_recipient_checks
"""

_BEFORE_SERVICE = """\
{endpoint} inet n - n - 50 smtpd
  -o syslog_name=postfix/before
  -o smtpd_proxy_filter={filter_endpoint}
  -o smtpd_proxy_options={options}
"""

_OTHER_SERVICES = """\
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
showq unix n - n - - showq
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
"""


@contextmanager
def after_filter(directory: Path) -> Iterator[tuple[int, Deliveries]]:
    """The Postfix behind the filter: its port, and the count of what it delivered."""
    port = free_port()
    with _instance(directory, _AFTER_SERVICE.format(endpoint=f"{HOST}:{port}")):
        _wait_until_greeted(port, directory)
        yield port, Deliveries("after-filter Postfix", _sent_lines(directory / "maillog"))


@contextmanager
def before_filter(directory: Path, filter_ports: Mapping[str, int], options: str) -> Iterator[dict[str, int]]:
    """The Postfix in front: one service for each filter port; the services' ports under the same names."""
    ports = {name: free_port() for name in filter_ports}
    services = "".join(
        _BEFORE_SERVICE.format(
            endpoint=f"{HOST}:{ports[name]}", filter_endpoint=f"{HOST}:{filter_port}", options=options
        )
        for name, filter_port in filter_ports.items()
    )
    with _instance(directory, services):
        for port in ports.values():
            _wait_until_greeted(port, directory)
        yield ports


@contextmanager
def _instance(directory: Path, services: str) -> Iterator[None]:
    for name in ("config", "queue", "data"):
        (directory / name).mkdir(parents=True)
    shutil.chown(directory / "data", "postfix")
    (directory / "config" / "main.cf").write_text(_MAIN_CF.format(directory=directory))
    (directory / "config" / "master.cf").write_text(services + _OTHER_SERVICES)
    _postfix(directory, "start")
    try:
        yield
    finally:
        _postfix(directory, "stop")


def _postfix(directory: Path, command: str) -> None:
    # Its output goes nowhere: the daemons inherit it, and would keep a pipe open for as long as they live.
    done = subprocess.run(
        ["/usr/sbin/postfix", "-c", str(directory / "config"), command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise ProgramError(f"postfix {command}: exit status {done.returncode}{_last_words(directory)}")


def _wait_until_greeted(port: int, directory: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    while not greets(port):
        if time.monotonic() > deadline:
            raise ProgramError(f"Postfix does not answer on port {port}{_last_words(directory)}")
        time.sleep(0.02)


def _last_words(directory: Path) -> str:
    maillog = directory / "maillog"
    text = maillog.read_text(errors="replace") if maillog.exists() else ""
    return f"; the end of its log:\n{text[-2000:]}"


def _sent_lines(maillog: Path) -> Callable[[], int]:
    """A count of deliveries; the log is read on from where the last look ended, up to the last whole line."""
    position = sent = 0

    def count() -> int:
        nonlocal position, sent
        with maillog.open("rb") as log:
            log.seek(position)
            lines, newline, _ = log.read().rpartition(b"\n")
        position += len(lines) + len(newline)
        sent += lines.count(b"status=sent")
        return sent

    return count
