"""Launch: from the command line to a master that runs, in the foreground, as a daemon, or as a successor.

What cannot be is a ConfigError with its exit status, before anything is served. The pid file is locked before
a socket is bound, so a second start says that there is a first one. In the foreground a directory without
room for it costs a warning; for a daemon it is the only way to be found again, and it does not start without.

A daemon has no standard error, so it logs to syslog whatever `log.target` says.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bqfilter.config import Settings, load
from bqfilter.errors import StartFailure
from bqfilter.log import open_log
from bqfilter.pool.audition import stand
from bqfilter.pool.detaching import StartReport, detached
from bqfilter.pool.master import Master
from bqfilter.pool.pid_file import PID_FILE_NAME, PidFile
from bqfilter.pool.startup import find_identity, make_runtime_directory
from bqfilter.pool.succession import Estate, Invocation

_DEV_LOG = Path("/dev/log")


def serve_in_foreground(path: Path) -> int:
    """Serve until told to stop; the exit status. Raises ConfigError."""
    return _serve(path, lambda: load(path), Invocation.present(), Estate.inherited(), StartReport())


def serve_as_daemon(path: Path) -> tuple[int, str]:
    """Leave a daemon behind; the start's exit status, and what is to be said about it. Raises ConfigError."""
    path, invocation, estate = path.absolute(), Invocation.present(), Estate.inherited()

    def read() -> Settings:
        settings = load(path)
        return replace(settings, log=replace(settings.log, target="syslog"))

    if estate is not None:  # the old program was one already
        os.chdir("/")
        return _serve(path, read, invocation, estate, StartReport(), is_daemon=True), ""
    read()  # what is wrong with the file is told before anything is forked
    status, words = detached(lambda report: _serve(path, read, invocation, None, report, is_daemon=True))
    if status == 0 and not _DEV_LOG.exists():
        words = f"note: there is no {_DEV_LOG}: without a syslog daemon nobody sees the log"
    return status, words


def try_out(path: Path) -> None:
    """All of a start but serving. Raises ConfigError."""
    stand(lambda: load(path))


def _serve(
    path: Path,
    read: Callable[[], Settings],
    invocation: Invocation,
    estate: Estate | None,
    report: StartReport,
    *,
    is_daemon: bool = False,
) -> int:
    settings = read()
    pid_file = _take_pid_file(settings, estate, is_needed=is_daemon)
    try:
        master = Master(settings, read, str(path), invocation, estate, pid_file, report)
    except BaseException:
        if pid_file is not None:
            pid_file.remove()
        raise
    return master.run()


def _take_pid_file(settings: Settings, estate: Estate | None, *, is_needed: bool) -> PidFile | None:
    directory = settings.runtime.directory
    path = Path(directory) / PID_FILE_NAME
    try:
        make_runtime_directory(directory, find_identity(settings.runtime.user))
        if estate is not None and estate.pid_file >= 0:
            return PidFile.inherited(path, estate.pid_file)
        return PidFile.take(path)
    except OSError as error:
        if is_needed:
            raise StartFailure(f"cannot write the pid file: {path}: {error.strerror}") from error
        log = open_log(settings.log)
        log.warning("no pid file", path=str(path), cause=error.strerror)
        return None
