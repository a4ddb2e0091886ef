"""`bqfilterd check`: everything that can be found out before serving."""

from collections.abc import Sequence
from pathlib import Path

import click

from bqfilter.cli.options import config_option, configuration_errors
from bqfilter.config import Settings, load


@click.command()
@config_option
@click.option(
    "--postfix",
    "directories",
    metavar="[DIR]",
    is_flag=False,
    flag_value="",
    multiple=True,
    help="Check against Postfix too, as its postconf tells it; DIR is where its main.cf is. "
    "Instances that postmulti runs with it are looked at as well; repeat the option for others.",
)
def check(path: Path, directories: tuple[str, ...]) -> None:
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
    if directories:
        is_well = _agrees_with_postfix(settings, directories) and is_well
    raise click.exceptions.Exit(0 if is_well else 1)


def _agrees_with_postfix(settings: Settings, directories: Sequence[str]) -> bool:
    """Tell what does not go together; a note alone is no disagreement."""
    from bqfilter.pool.startup import hostname_of
    from bqfilter.saturation.agreement import disagreements
    from bqfilter.saturation.chain import describe, find_chain
    from bqfilter.saturation.postfix import PostfixUnreadable, read_instances

    try:
        read = [one for directory in directories for one in read_instances(directory)]
        instances = {one.parameters.text("config_directory"): one for one in read}
        chain = find_chain(settings, hostname_of(settings).decode("ascii"), tuple(instances.values()))
        findings = list(disagreements(chain))
    except PostfixUnreadable as error:
        click.echo(f"WRONG postfix        {error}")
        return False
    for finding in findings:
        click.echo(
            f"{'WRONG' if finding.is_wrong else 'note '} postfix        {finding.what} [{finding.check}]"
        )
        click.echo(f"      why            {finding.why}")
        click.echo(f"      mend           {finding.mend}")
    if not findings:
        click.echo(f"ok    postfix        agrees: {describe(chain)}")
    return not any(finding.is_wrong for finding in findings)
