"""Detaching: whoever stays in front hears what became of the daemon, and the daemon has left everything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bqfilter.pool.detaching import StartReport

PROGRAM = """
import json, os, pathlib, sys, time
from bqfilter.errors import ConfigError, StartFailure
from bqfilter.pool.detaching import detached

def serve(report):
    {body}

status, words = detached(serve)
print(words)
sys.exit(status)
"""

FACTS = """
    fds = [int(name) for name in os.listdir("/proc/self/fd")]
    stat = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    mask = os.umask(0)
    facts = dict(
        pid=os.getpid(), session=int(stat[3]), terminal=int(stat[4]), cwd=os.getcwd(), umask=mask,
        streams=[os.readlink(f"/proc/self/fd/{n}") for n in range(3)],
        inheritable=[os.get_inheritable(n) for n in range(3)],
        listen_pid=os.environ.get("LISTEN_PID"), fds=fds,
    )
    pathlib.Path(OUT).write_text(json.dumps(facts))
    report.ready()
    return 0
"""


def run(body: str, command: tuple[str, ...] = (), **options: object) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("{body}", body.strip())
    return subprocess.run(
        [*command, sys.executable, "-c", program],
        capture_output=True, text=True, timeout=60, check=False, **options,
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


def facts(out: Path, command: tuple[str, ...] = (), **options: object) -> dict[str, object]:
    done = run(FACTS.replace("OUT", repr(str(out))), command, **options)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    found: dict[str, object] = json.loads(out.read_text())
    return found


def test_the_daemon_has_no_terminal_no_session_of_its_own_and_a_mask(tmp_path: Path) -> None:
    found = facts(tmp_path / "facts", cwd=tmp_path)
    assert found["terminal"] == 0
    assert found["session"] != found["pid"]  # so it cannot get a terminal back by opening one
    assert found["session"] != os.getsid(0)
    assert found["cwd"] == "/"
    assert found["umask"] == 0o022
    assert found["streams"] == ["/dev/null"] * 3


def test_a_program_behind_it_finds_its_standard_streams(tmp_path: Path) -> None:
    assert facts(tmp_path / "facts")["inheritable"] == [True] * 3


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_do_no_harm(tmp_path: Path, closed: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c",
         PROGRAM.replace("{body}", FACTS.strip().replace("OUT", repr(str(tmp_path / "facts"))))],
        timeout=60, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert json.loads((tmp_path / "facts").read_text())["streams"] == ["/dev/null"] * 3


def test_sockets_of_a_service_manager_are_kept_and_are_the_daemons(tmp_path: Path) -> None:
    found = facts(
        tmp_path / "facts",
        ("/bin/sh", "-c", 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3</dev/zero', "sh"),
    )
    assert found["listen_pid"] == str(found["pid"])
    assert 3 in found["fds"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ('raise ConfigError("pool.workers: no")', 78, "pool.workers: no"),
        ('raise StartFailure("is running already, pid 7")', 1, "is running already, pid 7"),
        ('report.failed(1, "workers die at once")', 1, "workers die at once"),
        ("os._exit(0)", 1, "ended before it was ready: see its log"),
        ("os.kill(os.getpid(), 9)", 1, "ended before it was ready: see its log"),
        ("report.ready(); report.failed(1, 'too late'); return 0", 0, ""),
    ],
)
def test_a_start_that_fails_says_so_in_front_with_its_status(body: str, status: int, words: str) -> None:
    done = run(body)
    assert (done.returncode, done.stdout.strip()) == (status, words), done.stderr


def test_a_mistake_of_ours_is_told_where_it_happened() -> None:
    done = run("raise KeyError('of ours')")
    assert done.returncode == 1
    assert "KeyError: 'of ours'" in done.stdout


def test_words_that_nobody_waits_for_hurt_nobody() -> None:
    report = StartReport()
    assert not report.is_due
    report.ready()
    reader, writer = os.pipe()
    os.close(reader)
    gone = StartReport(writer)
    gone.ready()
    assert not gone.is_due
