"""`bqfilterd serve`: the daemon itself."""

from pathlib import Path

import click

from bqfilter.cli.options import config_option, configuration_errors
from bqfilter.config import load


@click.command()
@config_option
def serve(path: Path) -> None:
    """Serve in the foreground until SIGTERM.

    SIGHUP reloads the settings, SIGTERM finishes what has begun, SIGQUIT stops at once.
    """
    # Imported here: no other command needs processes and sockets.
    from bqfilter.pool.master import Master

    with configuration_errors():
        status = Master(load(path), lambda: load(path), str(path)).run()
    raise click.exceptions.Exit(status)
