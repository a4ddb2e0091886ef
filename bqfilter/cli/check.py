"""`bqfilterd check`: everything that can be found out before serving."""

from pathlib import Path

import click

from bqfilter.cli.options import config_option, configuration_errors
from bqfilter.config import load


@click.command()
@config_option
def check(path: Path) -> None:
    """Check the configuration and call the after-filter server.

    Prints one line for each thing looked at. Exit status 0: all is well; 1: something is not, and its line
    says what to do; 78: the configuration cannot be used.
    """
    # Imported here: no other command needs what this one looks at.
    from bqfilter.pool.inspection import inspect

    with configuration_errors():
        settings = load(path)
    click.echo(f"ok    configuration  {path}")
    is_well = True
    for finding in inspect(settings):
        is_well = is_well and finding.is_well
        click.echo(f"{'ok   ' if finding.is_well else 'WRONG'} {finding.subject:<13}  {finding.text}")
    raise click.exceptions.Exit(0 if is_well else 1)
