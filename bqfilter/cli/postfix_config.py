"""`bqfilterd postfix-config`: the master.cf entries that go with the present configuration."""

from pathlib import Path

import click

from bqfilter.cli.options import config_option, configuration_errors
from bqfilter.config import load


@click.command("postfix-config")
@config_option
@click.option("--commands", is_flag=True, help="Print postconf commands instead of entries for master.cf.")
@click.option(
    "--postfix",
    "directory",
    metavar="[DIR]",
    is_flag=False,
    flag_value="",
    help="Fit the entries to this Postfix, which is only read: to its message_size_limit, and the commands "
    "to its DIR. Without, Postfix's default limit is taken for granted.",
)
@click.option(
    "--service",
    default="smtp/inet",
    show_default=True,
    metavar="NAME/TYPE",
    help="The service that takes mail from the network; smtpd/pass behind postscreen.",
)
def postfix_config(path: Path, commands: bool, directory: str | None, service: str) -> None:
    """Print what Postfix needs to use this filter, and change nothing.

    The entries can be pasted into master.cf; with --commands the output can be run by a shell. Afterwards,
    `bqfilterd check --postfix` says whether all of it goes together.
    """
    # Imported here: no other command needs what this one prints.
    from bqfilter.saturation import entries

    with configuration_errors():
        settings = load(path)
    limit = entries.DEFAULT_SIZE_LIMIT if directory is None else _size_limit(directory)
    try:
        wanted = entries.entries(settings, service, limit)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"# For {'a shell' if commands else 'master.cf'}: Postfix on both sides of bqfilterd as in {path}"
    )
    for listen in settings.listen[1:]:
        click.echo(f"# No entry for {listen.endpoint}: give another service this smtpd_proxy_filter.")
    lines = entries.as_commands(wanted, directory or "") if commands else entries.as_master_cf(wanted)
    click.echo("\n".join(lines))


def _size_limit(directory: str) -> int:
    from bqfilter.saturation.postfix import PostfixUnreadable, read_postfix

    try:
        return read_postfix(directory).parameters.number("message_size_limit")
    except PostfixUnreadable as error:
        raise click.ClickException(str(error)) from error
