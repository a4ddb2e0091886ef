"""Errand: something that is done by a child as the workers' account, and what it has to tell.

For what root should not do, or would do differently: load a site's own code, call a scanner whose socket not
everybody may use. The child tells one line of text and is gone before anything else happens; whatever the
errand does to its process ends with it. It costs a fork, and its caller waits, for a limited time.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from bqfilter.pool.startup import Identity, drop_privileges

_MAX_TOLD_BYTES = 65536


def run_errand(act: Callable[[], str], identity: Identity | None, timeout: float) -> str:
    """What `act` returns, or name and text of what it raises, on one line.

    Raises TimeoutError where it takes longer than `timeout` seconds, ChildProcessError where its process ends
    without a word, OSError where there is no process or descriptor to be had.
    """
    reader, writer = os.pipe()
    parent_pid = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _perform(act, identity, writer, parent_pid)
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    try:
        return _listen(reader, time.monotonic() + timeout)
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is its own
        os.waitpid(pid, 0)


def _perform(act: Callable[[], str], identity: Identity | None, writer: int, parent_pid: int) -> None:
    """In the child."""
    told = ""
    try:
        # Before privileges are dropped: the account may not be able to read where Python is installed.
        from bqfilter.pool.parentage import die_with

        drop_privileges(identity)
        die_with(parent_pid)  # a master's child holds its sockets, which nobody would accept from
        told = act()
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    finally:
        line = told.replace("\n", " ").encode("utf-8", "replace")[:_MAX_TOLD_BYTES]
        with contextlib.suppress(OSError):
            _write_all(writer, line + b"\n")
        os._exit(0)


def _write_all(writer: int, data: bytes) -> None:
    while data:
        data = data[os.write(writer, data) :]


def _listen(reader: int, until: float) -> str:
    """Up to the newline; somebody whom the child has started may hold its end of the pipe for longer."""
    poll, told = select.poll(), b""
    poll.register(reader, select.POLLIN)
    while not told.endswith(b"\n"):
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError
        piece = os.read(reader, _MAX_TOLD_BYTES)
        if not piece:
            raise ChildProcessError
        told += piece
    return told[:-1].decode("utf-8", "replace")
