"""Making scanners from settings: one object for each table, in the order in which they run by default.

Done once in the master, and again for `check` and `scan`. Tables of rules are read here and names of hosts
resolved, so what is wrong with either is a ConfigError before anything has been forked. A kind's module is
imported where the configuration has one of it, and costs nothing elsewhere.
"""

import time
from collections.abc import Sequence

from bqfilter.config.content import (
    AttachmentSettings,
    ClamdSettings,
    CommandSettings,
    PythonSettings,
    RspamdSettings,
    RulesSettings,
    ScannerSettings,
    SpamdSettings,
)
from bqfilter.config.schema import Settings
from bqfilter.errors import ConfigError
from bqfilter.net.address import Endpoint, SocketAddress, resolve
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.scanner import Scanner


def make_scanners(settings: Settings, hostname: bytes) -> tuple[Scanner, ...]:
    """All scanners of the configuration. Raises ConfigError."""
    return tuple(_make(one, settings, hostname) for one in settings.scanners)


def _make(one: ScannerSettings, settings: Settings, hostname: bytes) -> Scanner:
    match one:
        case AttachmentSettings():
            from bqfilter.scanning.attachments import Attachments

            return Attachments(one, settings.spool.directory)
        case ClamdSettings():
            from bqfilter.scanning.clamd import Clamd

            return Clamd(one, _dialler(one.name, one.endpoints))
        case CommandSettings():
            from bqfilter.scanning.command import Command

            return Command(one, _workspace(settings))
        case PythonSettings():
            from bqfilter.scanning.python import PythonFilter

            return PythonFilter(one, _workspace(settings), time.monotonic)
        case RspamdSettings():
            from bqfilter.scanning.rspamd import Rspamd

            return Rspamd(one, _dialler(one.name, one.endpoints), hostname.decode("ascii", "replace"))
        case RulesSettings():
            from bqfilter.scanning.rules import Rules

            return Rules(one, _workspace(settings), changes_signed=settings.headers.change_signed)
        case SpamdSettings():
            from bqfilter.scanning.spamd import Spamd

            return Spamd(one, _dialler(one.name, one.endpoints))
        case _:
            raise AssertionError(f"no scanner of kind {one.kind}")


def _workspace(settings: Settings) -> Workspace:
    """What filters give back is kept as messages are, and may be as large."""
    return Workspace(settings.spool.directory, settings.spool.memory, settings.limits.message_size)


def _dialler(name: str, endpoints: Sequence[Endpoint]) -> Dialler:
    """For the addresses of all endpoints, in order."""
    found: list[SocketAddress] = []
    for endpoint in endpoints:
        try:
            found += [address for address in resolve(endpoint) if address not in found]
        except ValueError as error:
            raise ConfigError(f"{name}: {endpoint}: {error}") from error
    return Dialler(found, time.monotonic)
