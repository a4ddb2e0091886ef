"""What several commands share: the --config option, how a bad configuration ends, where log lines go."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bqfilter.errors import ConfigError
from bqfilter.log import Priority, Sink

DEFAULT_PATH = "/etc/bqfilter/bqfilterd.toml"

config_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--config",
    "path",
    default=DEFAULT_PATH,
    show_default=True,
    type=click.Path(path_type=Path),
    help="The configuration file to read.",
)


@contextmanager
def configuration_errors() -> Iterator[None]:
    """What cannot be used is told on standard error; the exit status is the error's, 78 (EX_CONFIG) or 1."""
    try:
        yield
    except ConfigError as error:
        click.echo(f"bqfilterd: {error}", err=True)
        raise click.exceptions.Exit(error.exit_status) from error


class TerminalSink(Sink):
    """What the parts of a filter have to log goes to standard error, while a command uses them."""

    def _try(self, _priority: Priority, line: str) -> bool:
        click.echo(line, err=True)
        return True
