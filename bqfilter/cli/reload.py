"""`bqfilterd reload`: new settings for a daemon that runs, and what came of it."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import click

from bqfilter.cli.options import config_option
from bqfilter.cli.status import open_board


@click.command()
@config_option
@click.option(
    "--pid",
    type=click.IntRange(1),
    metavar="PID",
    help="The master, where FILE may be one that cannot be used: so it is told all the same, and its status "
    "and its metrics say what has happened.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for workers with the new settings.",
)
def reload(path: Path, pid: int | None, timeout: float) -> None:
    """Have the daemon read its settings again, and wait until they are in force.

    The daemon is the one whose runtime.directory FILE names. Connections are neither refused nor cut.

    Exit status 0: in force; 1: refused, and the old settings stay, or not in force in time; 78: FILE cannot
    be used, and the old settings stay.
    """
    # Imported here: no other command needs it.
    from bqfilter.pool import reloading

    with _telling(pid):
        board = open_board(path)
    try:
        outcome = reloading.reload(board, timeout)
    except PermissionError as error:
        raise click.ClickException("only root and runtime.user may reload it") from error
    if outcome is not reloading.Outcome.IN_FORCE:
        raise click.ClickException(_WORDS[outcome.name])


_WORDS = {
    "REFUSED": "the settings were refused, and the old ones stay in force; the log says why",
    "UNFINISHED": "the new settings are not in force yet; see `bqfilterd status` and the log",
    "NOBODY": "bqfilterd is not running there",
}


@contextlib.contextmanager
def _telling(pid: int | None) -> Iterator[None]:
    """Where FILE leads to no scoreboard the master cannot be watched, but it can be told."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit):
        if pid is not None:
            os.kill(pid, signal.SIGHUP)
        raise
