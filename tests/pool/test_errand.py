"""Errands: what a child has to tell is heard, whoever it is by then, and whatever becomes of it."""

import os
import time
from collections.abc import Callable

import pytest

from bqfilter.pool.errand import run_errand
from bqfilter.pool.startup import Identity

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
_NOBODY = Identity("nobody", 65534, 65534, (65534,))


def _fail() -> str:
    raise RuntimeError("no\nway")


def _vanish() -> str:
    os._exit(0)


def _hang() -> str:
    time.sleep(60)
    return ""


def _leave_somebody_behind() -> str:
    """Somebody who holds our end of the pipe for longer than we do."""
    if os.fork() == 0:
        time.sleep(2)
        os._exit(0)
    return "done"


@pytest.mark.parametrize(
    ("act", "told"),
    [
        pytest.param(lambda: "all is well", "all is well", id="words"),
        pytest.param(lambda: "", "", id="nothing to tell"),
        pytest.param(lambda: "ä" * 40000, ("ä" * 32768), id="more than anybody reads"),
        pytest.param(lambda: "two\nlines", "two lines", id="lines"),
        pytest.param(_fail, "RuntimeError: no way", id="an exception"),
        pytest.param(_leave_somebody_behind, "done", id="with a child of its own"),
    ],
)
def test_what_it_has_to_tell_is_heard(act: Callable[[], str], told: str) -> None:
    assert run_errand(act, None, 30.0) == told


@pytest.mark.parametrize(
    ("act", "timeout", "failure"),
    [
        pytest.param(_vanish, 30.0, ChildProcessError, id="ends without a word"),
        pytest.param(_hang, 0.2, TimeoutError, id="does not return"),
    ],
)
def test_one_that_tells_nothing_is_not_waited_for(
    act: Callable[[], str], timeout: float, failure: type[OSError]
) -> None:
    with pytest.raises(failure):
        run_errand(act, None, timeout)


@needs_root
def test_it_is_done_by_the_account_that_is_meant_and_we_stay_who_we_are() -> None:
    assert run_errand(lambda: f"{os.getuid()} {os.getgid()}", _NOBODY, 30.0) == "65534 65534"
    assert os.geteuid() == 0


def test_no_child_is_left_behind() -> None:
    pid = int(run_errand(lambda: str(os.getpid()), None, 30.0))

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
