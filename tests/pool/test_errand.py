"""Errands are run by a child with the account of workers, and whatever becomes of it is told in one line."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bqfilter.errors import PeerUnreachable, ScannerFailure
from bqfilter.net.deadline import Deadline
from bqfilter.pool.errand import as_worker
from bqfilter.pool.startup import find_identity
from tests.pool.daemon import needs_root

LONG = 60.0


def run(act: Callable[[], str], seconds: float = LONG) -> str:
    return as_worker(act, None, Deadline.after(time.monotonic, seconds))


def unreachable() -> str:
    raise PeerUnreachable("no such host")


def missing() -> str:
    return Path("/nonexistent").read_text()


def mistaken() -> str:
    raise KeyError("x")


def leaving() -> str:
    sys.exit("on my own account")


def vanishing() -> str:
    os._exit(0)


def hanging() -> str:
    time.sleep(LONG)
    return ""


@pytest.mark.parametrize(
    "text", ["", "ClamAV 1.4", "zwei\nZeilen, ü", "x" * 10000], ids=["nothing", "a line", "lines", "much"]
)
def test_what_is_returned_there_is_returned_here(text: str) -> None:
    assert run(lambda: text) == text[:4095]


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        pytest.param(unreachable, "no such host", id="a failure of ours"),
        pytest.param(
            missing, "[Errno 2] No such file or directory: '/nonexistent'", id="an error of the system"
        ),
        pytest.param(mistaken, "KeyError: 'x'", id="a mistake"),
        pytest.param(leaving, "SystemExit: on my own account", id="wants to end the process"),
        pytest.param(vanishing, "ended the process", id="ends the process"),
    ],
)
def test_what_goes_wrong_there_is_told_here(act: Callable[[], str], cause: str) -> None:
    with pytest.raises(ScannerFailure) as caught:
        run(act)

    assert caught.value.cause == cause


def test_one_that_does_not_come_to_an_end_is_left_at_the_deadline() -> None:
    with pytest.raises(ScannerFailure, match="took too long"):
        run(hanging, 0.1)


def test_no_child_is_left_behind_and_nothing_is_changed_here(tmp_path: Path) -> None:
    before, descriptors = Path.cwd(), len([*Path("/proc/self/fd").iterdir()])
    run(lambda: str(os.chdir(tmp_path)))

    assert Path.cwd() == before
    assert len([*Path("/proc/self/fd").iterdir()]) == descriptors
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@needs_root
def test_it_is_run_as_the_account_of_workers() -> None:
    told = as_worker(
        lambda: f"{os.getuid()} {os.getgroups()}",
        find_identity("nobody"),
        Deadline.after(time.monotonic, LONG),
    )

    assert told == "65534 [65534]"
