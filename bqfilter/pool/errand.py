"""Errand: something that has to be done as a worker would do it, by a child with the account of workers.

What root can do says nothing about a worker: a socket or a directory may be root's alone. And what belongs
to the site, such as a filter of its own, is nothing to run as root, or in a process that goes on. The child
tells one line and is gone, and whatever else was done to it goes with it.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable

from bqfilter.errors import BqfilterError, ScannerFailure
from bqfilter.net.deadline import Deadline
from bqfilter.pool.startup import Identity, drop_privileges

_MAX_TOLD_BYTES = 4096
_WELL, _ILL = "+", "-"


def as_worker(act: Callable[[], str], identity: Identity | None, deadline: Deadline) -> str:
    """What `act` returns there. Raises ScannerFailure with what it raised, or with why it never ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _perform(act, identity, writer)
    os.close(writer)
    try:
        told = _listen(reader, deadline)
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is its own
        os.waitpid(pid, 0)
    if not told.startswith(_WELL):
        raise ScannerFailure(told[1:])
    return told[1:]


def _perform(act: Callable[[], str], identity: Identity | None, writer: int) -> None:
    """In the child, which does not return from here."""
    told = ""
    try:
        drop_privileges(identity)
        told = _WELL + act()
    except (BqfilterError, OSError) as failure:
        told = f"{_ILL}{failure}"
    except BaseException as error:  # sys.exit() of somebody else's code among them
        told = f"{_ILL}{type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(OSError):
            os.write(writer, told.encode("utf-8", "replace")[:_MAX_TOLD_BYTES] + b"\n")
        os._exit(0)


def _listen(reader: int, deadline: Deadline) -> str:
    """What the child tells, up to its newline; a complaint of our own where there is none."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    if not poll.poll(max(deadline.remaining(), 0) * 1000):
        return f"{_ILL}took too long"
    told = os.read(reader, _MAX_TOLD_BYTES + 1).decode("utf-8", "replace")
    return told[:-1] if told.endswith("\n") else f"{_ILL}ended the process"
