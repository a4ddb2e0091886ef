"""`bqfilterd show-config`: the settings in force, each with its meaning, as TOML that can be read back."""

from pathlib import Path

import click

from bqfilter.cli.options import config_option, configuration_errors
from bqfilter.config import load
from bqfilter.config.reference import annotated
from bqfilter.config.schema import sample_settings


@click.command("show-config")
@config_option
@click.option("--defaults", is_flag=True, help="Show the defaults instead, and read no file.")
def show_config(path: Path, defaults: bool) -> None:
    """Print the settings in force, each with what it means and allows."""
    with configuration_errors():
        settings = sample_settings() if defaults else load(path)
    click.echo(annotated(settings), nl=False)
