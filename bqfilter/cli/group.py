"""`bqfilterd`, the group. Exit status: 0 good, 1 found something wrong, 2 usage, 78 bad configuration.

The module of a command is imported when the command is called: what the others need would be carried by
the daemon, and by each of its workers.
"""

from importlib import import_module

import click

from bqfilter import __version__

_MODULES = {
    "serve": "bqfilter.cli.serve",
    "check": "bqfilter.cli.check",
    "demo": "bqfilter.cli.demo",
    "show-config": "bqfilter.cli.config",
    "tune": "bqfilter.cli.tune",
    "postfix-config": "bqfilter.cli.postfix_config",
    "quarantine": "bqfilter.cli.quarantine",
    "reload": "bqfilter.cli.reload",
    "scan": "bqfilter.cli.scan",
    "status": "bqfilter.cli.status",
    "top": "bqfilter.cli.top",
}


class _Commands(click.Group):
    """In each module the command is the function of its own name."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return [*_MODULES]

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        module = _MODULES.get(name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module), name.replace("-", "_"))
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bqfilterd")
def main() -> None:
    """A before-queue mail filter for Postfix."""
