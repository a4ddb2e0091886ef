"""`bqfilterd serve`: the daemon itself."""

from pathlib import Path

import click

from bqfilter.cli.options import config_option, configuration_errors


@click.command()
@config_option
@click.option(
    "--daemon",
    "is_daemon",
    is_flag=True,
    help="Leave a daemon behind: without a terminal, logging to syslog, with its process id in "
    "bqfilterd.pid in runtime.directory. Ends when the daemon is ready, or with the reason why not.",
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Get ready, serve nothing, and end.")
def serve(path: Path, is_daemon: bool, is_dry_run: bool) -> None:
    """Serve in the foreground until SIGTERM.

    SIGHUP reloads the settings, SIGUSR2 takes a new version of the program, SIGTERM finishes what has begun,
    SIGQUIT stops at once.
    """
    # Imported here: no other command needs processes and sockets.
    from bqfilter.pool.first_process import end_when_told

    end_when_told()  # before the larger import: that takes its time
    from bqfilter.pool import launch

    status, words = 0, ""
    with configuration_errors():
        if is_dry_run:
            launch.try_out(path)
        elif is_daemon:
            status, words = launch.serve_as_daemon(path)
        else:
            status = launch.serve_in_foreground(path)
    if words:
        click.echo(f"bqfilterd: {words}", err=True)
    raise click.exceptions.Exit(status)
