"""Several instances by docs/postfix.md: of bqfilterd by its units, of Postfix by postmulti(1)."""

import re
import shlex
from collections.abc import Iterator

import pytest

from tests.doubles.programs import eventually
from tests.postfix.by_the_book import PAGE, block
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient
from tests.postfix.test_manual import BEFORE_QUEUE
from tests.systemd.box import Box
from tests.systemd.conftest import CONFIG
from tests.systemd.mail import MASTER_CF as BOX_MASTER_CF
from tests.systemd.mail import BoxPostfix
from tests.systemd.test_service import SERVICE, delivered, state

OUTBOUND = "/etc/bqfilter/outbound.toml"
PORT = "/etc/systemd/system/bqfilterd@outbound.socket.d/port.conf"
SECOND = "bqfilterd@outbound.service"
SOCKET = "bqfilterd@outbound.socket"
TIMER = "bqfilterd-quarantine-expire@outbound.timer"
SECOND_ADDRESS = ("127.0.0.1", 10027)

PROBE = """[Service]
ExecStartPre=/bin/sh -c 'for place in /run/bqfilter /run/bqfilter-outbound /var/spool/bqfilter/quarantine \\
/var/lib/bqfilter-outbound; do touch $$place/trace && echo written: $$place; done; true'
"""


def commands(heading: str) -> list[list[str]]:
    """Those of root below this heading, in order."""
    (text,) = re.findall(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for line in re.findall(r"^# (\w.*)$", _consoles(text), re.MULTILINE)]


def _consoles(text: str) -> str:
    return "".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def two(box: Box) -> Iterator[Box]:
    """bqfilterd and bqfilterd@outbound, as on the page, but that both hand over to the same service."""
    settings = block("Several instances", f"`{OUTBOUND}`").replace(":10028", ":10026")
    box.write(OUTBOUND, f"{settings}\n[pool]\nworkers = 2\n")
    box.write(PORT, block("Several instances", f"`{PORT}`"))
    box.write(f"/etc/systemd/system/{SECOND}.d/test.conf", PROBE)
    box.systemctl("start", SERVICE)
    for command in commands("Several bqfilterd"):
        box.run(*command)
    yield box
    box.systemctl("disable", "--now", TIMER, SOCKET, SECOND)
    for drop_in in (PORT, f"/etc/systemd/system/{SECOND}.d/test.conf"):
        (box.root / drop_in.lstrip("/")).unlink(missing_ok=True)
    box.systemctl("daemon-reload")


def delivered_to_second(box: Box) -> bytes:
    with box.within_network(lambda: SmtpClient(SECOND_ADDRESS)) as client:
        client.begin(SENDER, ["b@elsewhere.example"])
        return client.end(PLAIN)


def test_two_run_at_once_and_neither_gets_in_the_other_s_way(two: Box) -> None:
    assert [state(two, unit) for unit in (SERVICE, SECOND, SOCKET, TIMER)] == ["active"] * 4
    assert delivered(two).startswith(b"250 ")
    assert delivered_to_second(two).startswith(b"250 ")
    status = ("bqfilterd", "status", "--over", "0", "--config")
    for config, workers in ((CONFIG, 3), (OUTBOUND, 2)):
        wanted, command = f"{workers} idle", (*status, config)
        eventually(lambda w=wanted, c=command: w in two.run(*c).stdout, wanted)
    for place in ("/run/bqfilter-outbound", "/var/lib/bqfilter-outbound"):
        assert two.run("stat", "-c", "%U", place).stdout == "bqfilter\n"
    identifiers = two.run("journalctl", "-o", "export", "-u", SECOND, "--output-fields=SYSLOG_IDENTIFIER")
    assert "SYSLOG_IDENTIFIER=bqfilterd-outbound" in identifiers.stdout
    assert "no metrics" not in two.log()
    # The account is the same, and yet neither can write what is the other's.
    written = re.findall(r"^written: (\S+)$", two.log(), re.MULTILINE)
    assert written == ["/run/bqfilter-outbound", "/var/lib/bqfilter-outbound"]

    two.systemctl("reload", SECOND)
    two.systemctl("stop", SERVICE, "bqfilterd.socket")
    assert delivered_to_second(two).startswith(b"250 ")


def test_a_connection_starts_an_instance_which_keeps_messages_by_itself(two: Box) -> None:
    two.systemctl("stop", SECOND)
    with (two.root / OUTBOUND.lstrip("/")).open("a") as config:
        config.write('[[policy]]\nname = "all"\naction = "quarantine"\n')
    assert delivered_to_second(two).startswith(b"250 ")
    two.wait_for_log("result=quarantined")
    listing = ("bqfilterd", "quarantine", "list", "--config")
    assert "elsewhere.example" in two.run(*listing, OUTBOUND).stdout
    assert "elsewhere.example" not in two.run(*listing, CONFIG, check=False).stdout
    two.systemctl("start", TIMER.replace(".timer", ".service"))
    assert two.show(TIMER.replace(".timer", ".service"), "Result") == "success"


@pytest.fixture
def border(box: Box, postfix: BoxPostfix) -> Iterator[Box]:
    """A second instance of Postfix in front, made by the commands of the page; gone afterwards."""
    in_front, behind = BEFORE_QUEUE.split("\n\n")
    postfix.stop()
    internal = BOX_MASTER_CF[BOX_MASTER_CF.index("postlog unix-dgram") :]
    box.write("/etc/postfix/master.cf", f"{behind}\n{internal}")
    *make, start = commands("One bqfilterd for several Postfix instances")
    for command in make:
        box.run(*command)
    box.write("/etc/postfix-mx/master.cf", f"{in_front}\n{internal}")
    box.run("postmulti", "-i", "postfix-mx", "-x", "postconf", "-e", *OF_THE_SITE)
    box.run(*start)
    yield box
    box.run("postmulti", "-p", "stop")
    box.run("rm", "-rf", "/etc/postfix-mx", "/var/spool/postfix-mx", "/var/lib/postfix-mx")
    postfix.start()


# What the page says has to be the same on both sides, and what keeps the box quiet.
OF_THE_SITE = (
    *("mydestination =", "mynetworks = 127.0.0.0/8", "inet_protocols = ipv4", "alias_maps ="),
    *("maillog_file = /var/log/postfix-mx.log", "smtpd_peername_lookup = no"),
    *("smtpd_client_connection_count_limit = 0", "compatibility_level = 3.6"),
)


def test_an_instance_of_postmulti_in_front_and_one_with_the_queue_share_a_filter(
    border: Box, postfix: BoxPostfix
) -> None:
    border.systemctl("start", SERVICE)
    maillog = postfix.maillog()
    with border.within_network(lambda: SmtpClient(("127.0.0.1", 25))) as client:
        client.begin(SENDER, ["b@elsewhere.example"])
        assert client.end(PLAIN).startswith(b"250 2.0.0 Ok: queued as ")
    maillog.wait_for(r"to=<b@elsewhere\.example>.*status=sent")
    said = border.run("bqfilterd", "check", "--postfix", check=False).stdout
    assert "100 processes of Postfix share 3 workers" in said
    assert "no service of this Postfix" not in said
