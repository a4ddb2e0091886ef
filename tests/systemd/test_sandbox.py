"""The sandbox holds, and all that bqfilterd has to do can be done inside it."""

import json
import re

import pytest

from tests.daemons.private_clamd import CONFIG as CLAMD_CONF
from tests.daemons.private_clamd import EICAR, STREAM_MAX_BYTES, write_database
from tests.doubles.components import program
from tests.doubles.programs import eventually
from tests.systemd.box import Box
from tests.systemd.conftest import configure
from tests.systemd.mail import BoxPostfix
from tests.systemd.test_service import SERVICE, UNIX, connected, delivered, scraped, state

QUARANTINE = "/var/spool/bqfilter/quarantine"
REPORT = "/run/bqfilter/report.json"

# Run by the unit, before and with the same restrictions as the daemon.
PROBE = """
import ctypes, errno, json, mmap, os, socket
from pathlib import Path

def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]

libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)

Path("/tmp/trace").write_text("seen by the unit alone")
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
report = {
    "etc": attempt(lambda: Path("/etc/trace").write_text("")),
    "usr": attempt(lambda: Path("/usr/trace").write_text("")),
    "var": attempt(lambda: Path("/var/lib/trace").write_text("")),
    "runtime directories of others": attempt(lambda: Path("/run/bqfilter-trace/trace").write_text("")),
    "home": attempt(lambda: os.listdir("/home")),
    "root": attempt(lambda: os.listdir("/root")),
    "processes of others": os.path.exists("/proc/1/status"),
    "devices": sorted(set(os.listdir("/dev")) & {"kmsg", "mem", "sda", "vda", "rtc0"}),
    "packet sockets": attempt(lambda: socket.socket(17, socket.SOCK_RAW)),
    "namespaces": attempt(lambda: call("unshare", 0x10000000)),
    "priority": attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
    "clock": attempt(lambda: call("clock_settime", 0, bytes(16))),
    "writable code": attempt(lambda: mmap.mmap(-1, 4096, prot=7).close()),
    "setuid file": attempt(lambda: (Path("/tmp/x").touch(), os.chmod("/tmp/x", 0o4755))),
    "no new privileges": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "uid": os.getuid() != 0,
}
Path("/run/bqfilter/report.json").write_text(json.dumps(report))
"""

NONE = "0" * 16
EXPECTED = {
    "etc": "EROFS",
    "usr": "EROFS",
    "var": "EROFS",
    "runtime directories of others": "EROFS",
    "home": "EACCES",
    "root": "EACCES",
    "processes of others": False,
    "devices": [],
    "packet sockets": "EAFNOSUPPORT",
    "namespaces": "EPERM",
    "priority": "EPERM",
    "clock": "EPERM",
    "setuid file": "EPERM",
    "no new privileges": "1",
    "seccomp": "2",
    "capabilities": [NONE] * 4,
    "uid": True,
}


def test_what_the_unit_forbids_cannot_be_done(box: Box) -> None:
    box.write("/opt/bqfilter/probe.py", PROBE)
    probe = "/bin/sh -c 'exec /opt/bqfilter/python/bin/python3 -I /opt/bqfilter/probe.py'"
    box.run("install", "-d", "-o", "bqfilter", "/run/bqfilter-trace")
    environment = "Environment=LD_LIBRARY_PATH=/opt/bqfilter/python/lib"
    box.drop_in(SERVICE, f"[Service]\n{environment}\nExecStartPre={probe}\n")
    box.systemctl("start", SERVICE)
    report = json.loads(box.run("cat", REPORT).stdout)
    # By a filter of system calls, or since systemd 253 by the kernel, where that can.
    assert report.pop("writable code") in ("EPERM", "EACCES")
    assert report == EXPECTED
    assert box.run("ls", "/tmp/trace", check=False).returncode != 0


@pytest.fixture
def clamd(system: Box) -> str:
    """ClamAV in the box, with the tests' own signatures; its endpoint."""
    clamd = program("clamd", "clamav-daemon")
    home = system.root / "var/lib/test-clamd"
    if not home.exists():
        (home / "db").mkdir(parents=True)
        write_database(home / "db")
        config = CLAMD_CONF.replace("TCPAddr {inet.host}\nTCPSocket {inet.port}\n", "")
        config = config.format(directory="/var/lib/test-clamd", stream_max=STREAM_MAX_BYTES)
        (home / "clamd.conf").write_text(config)
        system.run("systemd-run", "--unit=test-clamd", clamd, "-c", "/var/lib/test-clamd/clamd.conf")
    eventually(lambda: (home / "clamd.sock").is_socket(), "clamd's socket")
    return "unix:/var/lib/test-clamd/clamd.sock"


def test_mail_scanners_quarantine_metrics_and_check_work_inside(
    box: Box, postfix: BoxPostfix, clamd: str
) -> None:
    configure(
        box,
        listen=[{"endpoint": "inet:127.0.0.1:10025"}, {"endpoint": f"unix:{UNIX}", "group": "postfix"}],
        clamd=[{"endpoint": clamd, "on_hit": "quarantine"}],
        command=[{"argv": ["/usr/bin/wc", "-c"], "memory_limit": "256MiB"}],
    )
    check = "/bin/sh -c 'bqfilterd check --postfix >/run/bqfilter/check 2>&1; true'"
    box.drop_in(SERVICE, f"[Service]\nExecStartPost={check}\n")
    box.systemctl("start", "bqfilterd-unix.socket", SERVICE)
    said = box.run("cat", "/run/bqfilter/check").stdout
    well = {line.split()[1] for line in said.splitlines() if line.startswith("ok ")}
    assert well == {
        "configuration",
        "listen",
        "account",
        "spool",
        "quarantine",
        "scanner",
        "upstream",
        "limits",
    }
    assert "processes of Postfix share 3 workers" in said

    assert delivered(box).startswith(b"250 2.0.0 Ok: queued as")
    assert delivered(box, b"Subject: x\r\n\r\n" + EICAR + b"\r\n").startswith(b"250 ")
    box.wait_for_log("result=quarantined")
    kept = box.run("stat", "-c", "%U %a", QUARANTINE).stdout.split()
    assert kept == ["bqfilter", "700"]
    listed = box.run("bqfilterd", "quarantine", "list", "--config", "/etc/bqfilter/bqfilterd.toml").stdout
    assert "b@elsewhere.example" in listed

    eventually(lambda: re.search(r"scans=\S*command:clean", box.log()), "what the program found")

    # A message larger than what a worker keeps in memory.
    assert delivered(box, b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * 500_000).startswith(b"250 ")

    page = eventually(
        lambda: found if (found := scraped(box)).has("postfix_process_limit") else None, "postconf"
    )
    for listener in ("inet:127.0.0.1:10025", f"unix:{UNIX}"):
        assert page.value("queue_probe_supported", listener=listener, probe="length") == 1
    assert page.value("queue_probe_supported", listener="inet:127.0.0.1:10025", probe="age") == 1
    assert page.value("listen_queue_limit_connections", listener="inet:127.0.0.1:10025") == 256


def test_the_quarantine_is_expired_by_its_timer_s_service(box: Box) -> None:
    configure(box, quarantine={"max_age": "1s"}, policy=[{"name": "all", "action": "quarantine"}])
    box.systemctl("start", SERVICE)
    assert delivered(box).startswith(b"250 ")
    box.wait_for_log("result=quarantined")
    listing = ("bqfilterd", "quarantine", "list")

    def expired() -> bool:
        box.systemctl("start", "bqfilterd-quarantine-expire.service")
        return "elsewhere.example" not in box.run(*listing, check=False).stdout

    assert "elsewhere.example" in box.run(*listing, check=False).stdout
    eventually(expired, "an empty quarantine")
    box.systemctl("start", "bqfilterd-quarantine-expire.timer")
    assert state(box, "bqfilterd-quarantine-expire.timer") == "active"


def test_a_dynamic_user_serves_mail_as_well(box: Box) -> None:
    configure(
        box,
        quarantine={"directory": "/var/lib/bqfilter/quarantine"},
        policy=[{"name": "a", "action": "quarantine"}],
    )
    box.drop_in(SERVICE, "[Service]\nDynamicUser=yes\nUser=bqfilterdyn\nGroup=\nStateDirectory=bqfilter\n")
    box.systemctl("start", SERVICE)
    with connected(box) as client:
        assert client.greet().startswith(b"250")
    assert delivered(box).startswith(b"250 ")
    box.wait_for_log("result=quarantined")
    eventually(lambda: "3 idle" in box.run("bqfilterd", "status", "--over", "0").stdout, "3 idle")
    # systemd keeps such directories from everybody but root, and root works there as their owner.
    listing = box.run("bqfilterd", "quarantine", "list", check=False)
    assert (listing.returncode, "Permission denied" in listing.stderr) == (1, True)
