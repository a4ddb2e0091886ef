"""The first process of a container hears what ends any other; tests/kubernetes/test_pod.py has a real one."""

import signal
import subprocess
import sys

import pytest

from tests.doubles.programs import REPOSITORY

PROGRAM = """\
import os, signal
pid = os.getpid()
signal.signal({number}, signal.SIG_DFL)  # which a shell ignores for what it puts into the background
os.getpid = lambda: {seen_as} or pid
from bqfilter.pool.first_process import end_when_told
end_when_told()
os.kill(pid, {number})
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize(
    ("seen_as", "is_by_itself"),
    [pytest.param(1, True, id="process 1"), pytest.param(0, False, id="any other")],
)
def test_it_is_ended_by_itself_or_by_the_kernel(
    number: signal.Signals, seen_as: int, is_by_itself: bool
) -> None:
    program = PROGRAM.format(seen_as=seen_as, number=number.value)
    status = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, timeout=60, check=False
    ).returncode
    assert status == (128 + number if is_by_itself else -number)
