"""`bqfilterd`, the group. Exit status: 0 good, 1 found something wrong, 2 usage, 78 bad configuration."""

import click

from bqfilter import __version__
from bqfilter.cli.check import check
from bqfilter.cli.config import show_config
from bqfilter.cli.demo import demo
from bqfilter.cli.postfix_config import postfix_config
from bqfilter.cli.quarantine import quarantine
from bqfilter.cli.reload import reload
from bqfilter.cli.scan import scan
from bqfilter.cli.serve import serve
from bqfilter.cli.status import status
from bqfilter.cli.top import top
from bqfilter.cli.tune import tune


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bqfilterd")
def main() -> None:
    """A before-queue mail filter for Postfix."""


main.add_command(serve)
main.add_command(check)
main.add_command(demo)
main.add_command(show_config)
main.add_command(tune)
main.add_command(postfix_config)
main.add_command(quarantine)
main.add_command(reload)
main.add_command(scan)
main.add_command(status)
main.add_command(top)
