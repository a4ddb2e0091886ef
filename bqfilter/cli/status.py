"""`bqfilterd status`: how the pool is doing, on one screen or as JSON."""

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bqfilter.cli.options import config_option, configuration_errors
from bqfilter.config import load

if TYPE_CHECKING:
    from bqfilter.saturation.reader import Board


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value; seconds are plain numbers.")
@click.option(
    "--over",
    type=click.FloatRange(0, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Look twice, this far apart, for rates as they are now; 0 looks once, for those since the start.",
)
def status(path: Path, as_json: bool, over: float) -> None:
    """Show the pool: who waits, who is busy with what, and what to do about it.

    Works while every worker is busy and while the master hangs; when bqfilterd is not running it shows what
    it left behind. In the line of slots each worker is a character: a dot for an idle one, a letter for what
    a busy one waits for (g greeting, e envelope, d data, f filter, c connection to the after-filter server,
    w its answers, h handover), s for starting, x for leaving, and _ for an empty slot.

    Exit status 0: the master runs, somebody is idle and an after-filter server is in reach, as far as is
    known; 1: not so, or there is nothing to be seen.
    """
    # Imported here: no other command needs what these look at.
    from bqfilter.saturation.queues import QueueProbe
    from bqfilter.saturation.reader import queues
    from bqfilter.saturation.report import as_text, as_value, verdict

    board = open_board(path)
    earlier = board.snapshot() if over else None
    time.sleep(over)
    later = board.snapshot()
    with contextlib.closing(QueueProbe()) as probe:
        waiting = queues(later, probe)
    if as_json:
        click.echo(json.dumps(as_value(later, waiting, earlier), indent=2))
    else:
        click.echo(as_text(later, waiting, earlier), nl=False)
    raise click.exceptions.Exit(0 if verdict(later, waiting).is_well else 1)


def open_board(path: Path) -> "Board":
    """The scoreboard that a configuration file leads to; ends the command where there is none."""
    from bqfilter.saturation.reader import Board

    with configuration_errors():
        directory = load(path).runtime.directory
    try:
        return Board.open(directory)
    except FileNotFoundError as error:
        raise click.ClickException(f"no scoreboard in {directory}: bqfilterd is not running there") from error
    except PermissionError as error:
        raise click.ClickException(
            f"the scoreboard in {directory} is for root and the group of runtime.user"
        ) from error
    except (OSError, ValueError) as error:
        raise click.ClickException(f"no usable scoreboard in {directory}: {error}") from error
