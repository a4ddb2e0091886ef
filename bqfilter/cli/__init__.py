"""The command `bqfilterd`: one module a family of commands, put together in `group`."""

from bqfilter.cli.group import main

__all__ = ["main"]
