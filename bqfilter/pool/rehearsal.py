"""Rehearsal: a site's own filters are loaded once for trial, before workers are asked to live with them.

A filter that cannot be loaded would be an error report with every message. So at start and with every reload
a child, unprivileged as a worker, lets each scanner get ready and tells what went wrong; the child is gone
before anything else happens. Nothing of the site's is ever imported into the master. Configurations without
such filters cost no fork.

The master waits for it, ten seconds at most: a filter that takes longer to load is refused.
"""

import contextlib
import os
import select
import signal
from collections.abc import Sequence

from bqfilter.errors import ConfigError, ScannerFailure
from bqfilter.pool.startup import Identity, die_with, drop_privileges
from bqfilter.scanning.scanner import Scanner

_TIMEOUT = 10.0  # seconds for all of them together
_MAX_TOLD_BYTES = 4096
_OF_THE_SITE = frozenset({"python"})  # kinds that load what is not ours


def rehearse(scanners: Sequence[Scanner], identity: Identity | None) -> None:
    """In the master. Raises ConfigError with what the first scanner that cannot get ready has to say."""
    tried = [scanner for scanner in scanners if scanner.settings.kind in _OF_THE_SITE]
    if not tried:
        return
    try:
        told = _rehearsed(tried, identity)
    except OSError as error:  # no process or descriptor to be had: no reason for the master to end
        raise ConfigError(f"filters cannot be loaded for trial: {error.strerror}") from error
    if told:
        raise ConfigError(told)


def _rehearsed(scanners: Sequence[Scanner], identity: Identity | None) -> str:
    """What went wrong, empty where nothing did. Raises OSError."""
    reader, writer = os.pipe()
    master_pid = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _perform(scanners, identity, writer, master_pid)
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    try:
        return _listen(reader)
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is its own
        os.waitpid(pid, 0)


def _perform(scanners: Sequence[Scanner], identity: Identity | None, writer: int, master_pid: int) -> None:
    """In the child. What the site's code does to it ends with it."""
    told = ""
    try:
        drop_privileges(identity)
        die_with(master_pid)  # it holds the master's sockets, which nobody would accept from
        for scanner in scanners:
            try:
                scanner.after_fork_in_worker()
            except ScannerFailure as failure:
                told = f"{scanner.settings.name}: {failure.cause}"
                break
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(OSError):
            os.write(writer, told.encode("utf-8", "replace")[:_MAX_TOLD_BYTES] + b"\n")
        os._exit(0)


def _listen(reader: int) -> str:
    """What the child tells, up to its newline; a complaint of our own where there is none."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    if not poll.poll(_TIMEOUT * 1000):
        return f"filters took more than {_TIMEOUT:g} s to load"
    told = os.read(reader, _MAX_TOLD_BYTES + 1).decode("utf-8", "replace")
    return told[:-1] if told.endswith("\n") else "a filter ended the process while it was loaded"
