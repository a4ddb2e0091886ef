"""Detaching: `serve --daemon`, and how whoever started it hears whether the start went well.

The process that was started stays in front until the daemon behind it, which python-daemon has taken out of
session, directory and terminal, is ready or has failed; its words go to the terminal, and its exit status is
the start's. The daemon has START_TIMEOUT to get ready and then gives up by itself, so nobody waits for ever.

What the daemon needs is opened behind the detaching, which closes all that was open; only the pipe to the
process in front, and sockets that a service manager passed, are kept.
"""

import contextlib
import os
import select
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from bqfilter import systemd
from bqfilter.errors import ConfigError

START_TIMEOUT = 60.0  # seconds until a pool that is not ready counts as failed

_GRACE = 15.0  # seconds more for the daemon to say so
_UMASK = 0o022
_MAX_TOLD_BYTES = 4096  # PIPE_BUF: written and read in one piece


class StartReport:
    """In the daemon: what became of the start, told once, through the pipe `fd`; -1 tells nobody."""

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd

    @property
    def is_due(self) -> bool:
        """Somebody is waiting for it."""
        return self._fd >= 0

    def ready(self) -> None:
        """The pool accepts connections."""
        self._tell("0 ")

    def failed(self, status: int, words: str) -> None:
        """It will not; `status` is the exit status."""
        self._tell(f"{status} {words}")

    @property
    def fds(self) -> list[int]:
        """Not for children: it is the master who tells."""
        return [self._fd] if self._fd >= 0 else []

    def _tell(self, told: str) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # whoever waited has left the terminal
                os.write(self._fd, told.encode("utf-8", "replace")[:_MAX_TOLD_BYTES])
            os.close(self._fd)
            self._fd = -1


def detached(serve: Callable[[StartReport], int]) -> tuple[int, str]:
    """Run `serve` in a daemon, and return in front of it: exit status, and what is to be said about it.

    Raises OSError where no process can be forked.
    """
    _fill_standard_streams()
    reader, writer = os.pipe()
    front_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _become_daemon(serve, StartReport(writer), writer, front_pid)
    os.close(writer)
    os.waitpid(pid, 0)  # it ends as soon as it has detached its own child
    try:
        return _heard(reader)
    finally:
        os.close(reader)


def _become_daemon(serve: Callable[[StartReport], int], report: StartReport, fd: int, front_pid: int) -> None:
    """In the child: never returns."""
    status = 1
    try:
        sockets = systemd.inherited_fds(front_pid)
        # Imported here: in the foreground, workers would carry it.
        from daemon import DaemonContext

        DaemonContext(
            detach_process=True, working_directory="/", umask=_UMASK, files_preserve=[fd, *sockets],
            signal_map={},
        ).open()  # fmt: skip
        for number in (0, 1, 2):  # which it leaves closed for whoever we become by exec(2)
            os.set_inheritable(number, True)
        systemd.adopt_inheritance(front_pid)
        status = serve(report)
    except ConfigError as error:
        status = error.exit_status
        report.failed(status, str(error))
    except BaseException as error:
        report.failed(1, "".join(traceback.format_exception(error, limit=-4)))
    finally:
        os._exit(status)


def _heard(reader: int) -> tuple[int, str]:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    if not poll.poll((START_TIMEOUT + _GRACE) * 1000):
        return 1, "not ready yet, and silent about it: see its log"
    status, _, words = os.read(reader, _MAX_TOLD_BYTES).decode("utf-8", "replace").partition(" ")
    if not status.isdigit():
        return 1, "ended before it was ready: see its log"
    return int(status), words


def _fill_standard_streams() -> None:
    """Whoever starts us may have closed them: then our pipe would be one, and be closed behind our back."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, Path(f"/dev/fd/{number}").open(mode, encoding="utf-8"))  # noqa: SIM115
