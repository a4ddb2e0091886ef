"""Inspection: what can be known about a configuration without serving with it.

Looks, and changes nothing: no socket is bound and no directory made. Each finding says whether it is well,
and where it is not, what to do. What workers have to be able to do is tried as their account: what root can
do would prove nothing.
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bqfilter.budget import Budget
from bqfilter.config import Settings
from bqfilter.errors import ConfigError, ConversationLost, ScannerFailure
from bqfilter.net.address import resolve
from bqfilter.net.deadline import Deadline
from bqfilter.pool.errand import run_errand
from bqfilter.pool.limits import shortages
from bqfilter.pool.startup import (
    find_identity,
    hostname_of,
    listen_addresses,
    refuse_loop,
    upstream_addresses,
)
from bqfilter.scanning.making import make_scanners
from bqfilter.scanning.policy import keeps_messages, needs_directory
from bqfilter.scanning.scanner import Scanner
from bqfilter.smtp.ehlo import withheld
from bqfilter.upstream.probe import Probe, probe

_PING_TIMEOUT = 5.0  # seconds for a scanner that is asked whether it is there
_LOOK_TIMEOUT = 10.0  # seconds for a file system that may be a network's

# What a stock Postfix smtpd announces to the remote client and then forwards the parameters of (ehlo_cmd).
_BEFORE_FILTER_KEYWORDS = frozenset({b"SIZE", b"8BITMIME", b"DSN", b"SMTPUTF8"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `subject` names it, `is_well` tells whether mail can flow by it."""

    is_well: bool
    subject: str
    text: str


def inspect(settings: Settings) -> Iterator[Finding]:
    """Everything there is to say, in the order in which a message meets it."""
    yield from _log(settings)
    yield from _listeners(settings)
    yield from _account(settings)
    yield from _limits(settings)
    yield from _spool(settings)
    yield from _quarantine(settings)
    yield from _scanners(settings)
    yield from _policies(settings)
    try:
        addresses = upstream_addresses(settings)
    except ConfigError as error:
        yield Finding(False, "upstream", str(error))
        return
    for address in addresses:
        yield from _upstream(probe(address, settings.timeouts, hostname_of(settings), time.monotonic))


def _log(settings: Settings) -> Iterator[Finding]:
    """Whether syslog is there, where lines go to it; of a host reached over UDP only its address is found."""
    if settings.log.target != "syslog":
        return
    try:
        address = resolve(settings.log.syslog)[0]
        with socket.socket(address.family, socket.SOCK_DGRAM) as trial:
            trial.connect(address.sockaddr)
    except (OSError, ValueError) as error:
        yield Finding(False, "log", f"syslog at {settings.log.syslog}: {error}: lines would be lost")
        return
    yield Finding(True, "log", f"syslog at {address}, facility {settings.log.facility}")


def _listeners(settings: Settings) -> Iterator[Finding]:
    try:
        addresses = [address for listen in settings.listen for address in listen_addresses(listen)]
        refuse_loop(addresses, upstream_addresses(settings))
    except ConfigError as error:
        yield Finding(False, "listen", str(error))
        return
    yield Finding(True, "listen", ", ".join(str(address) for address in addresses))


def _limits(settings: Settings) -> Iterator[Finding]:
    """Of this shell, and of the machine."""
    found = [str(shortage) for shortage in shortages(settings)]
    yield from (Finding(False, "limits", text) for text in found)
    if not found:
        yield Finding(True, "limits", "open files, processes, backlog, spool and memory are enough")


def _account(settings: Settings) -> Iterator[Finding]:
    try:
        identity = find_identity(settings.runtime.user)
    except ConfigError as error:
        yield Finding(False, "account", str(error))
        return
    yield Finding(
        True, "account", f"workers run as {identity.name}" if identity else "not root: stays as it is"
    )


def _spool(settings: Settings) -> Iterator[Finding]:
    directory = Path(settings.spool.directory)
    flaw = _flaw(directory, os.W_OK | os.X_OK, settings.runtime.user)
    if flaw:
        yield Finding(False, "spool", f"{flaw}: large messages would be answered 451")
        return
    yield Finding(True, "spool", f"{directory}, {_free(directory)} MiB free")


def _quarantine(settings: Settings) -> Iterator[Finding]:
    """Looked at where something may have to be kept."""
    if not keeps_messages(settings):
        return
    if settings.quarantine.quarantine_to:
        yield Finding(True, "quarantine", f"goes to {settings.quarantine.quarantine_to}")
    if not needs_directory(settings):
        return
    directory = Path(settings.quarantine.directory)
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    # Where it is root who starts, the directory is made and given to the workers: they have to get there.
    if os.geteuid() == 0:
        flaw = _flaw(directory.parent if nearest == directory else nearest, os.X_OK, settings.runtime.user)
    else:
        flaw = _flaw(nearest, os.W_OK | os.X_OK, settings.runtime.user)
    if flaw:
        yield Finding(False, "quarantine", f"{flaw}: what is to be kept would be answered 451")
        return
    plan = "" if directory == nearest else ", which will be made"
    yield Finding(True, "quarantine", f"{directory}{plan}, {_free(nearest)} MiB free")


def _flaw(directory: Path, rights: int, user: str) -> str:
    """Why workers can do nothing there; empty where they have these rights."""
    account = user if os.geteuid() == 0 else "our account"

    def look() -> str:
        try:
            if not directory.is_dir():
                return f"{directory} is not a directory"
        except PermissionError:
            return f"{directory} is out of reach for {account}"
        verb = "write" if rights & os.W_OK else "enter"
        return "" if os.access(directory, rights) else f"{directory} is not for {account} to {verb}"

    try:
        return run_errand(look, find_identity(user), _LOOK_TIMEOUT)
    except ConfigError:  # no such account: that has been told
        return ""
    except (TimeoutError, ChildProcessError):
        return f"{directory} does not answer"


def _free(directory: Path) -> int:
    """In MiB."""
    room = os.statvfs(directory)
    return room.f_bavail * room.f_frsize // (1 << 20)


def _scanners(settings: Settings) -> Iterator[Finding]:
    """Every scanner is called, by the account that workers have: root may use any socket."""
    try:
        scanners = make_scanners(settings, hostname_of(settings))
    except ConfigError as error:
        yield Finding(False, "scanner", str(error))
        return
    if scanners:
        yield from _called(scanners, settings.runtime.user)
    yield from _timeouts(settings)


def _called(scanners: Sequence[Scanner], user: str) -> Iterator[Finding]:
    def call_all() -> str:
        return json.dumps([(found.is_well, found.text) for found in map(_pinged, scanners)])

    try:
        told = run_errand(call_all, find_identity(user), (len(scanners) + 1) * _PING_TIMEOUT)
        yield from (Finding(is_well, "scanner", text) for is_well, text in json.loads(told))
    except ConfigError:  # no such account: that has been told
        return
    except ValueError:  # a mistake, in its own words
        yield Finding(False, "scanner", told)
    except TimeoutError:
        yield Finding(False, "scanner", "a scanner does not return when it is called")
    except ChildProcessError:
        yield Finding(False, "scanner", "a scanner ended the process when it was called")


def _pinged(scanner: Scanner) -> Finding:
    name = scanner.settings.name
    try:
        told = scanner.ping(Deadline.after(time.monotonic, min(scanner.settings.timeout, _PING_TIMEOUT)))
    except (ScannerFailure, ConversationLost, OSError) as failure:
        consequence = "deferred" if scanner.settings.on_error == "defer" else "passed on unscanned"
        return Finding(False, "scanner", f"{name}: {failure}: mail would be {consequence}")
    return Finding(True, "scanner", f"{name}: {told}")


def _timeouts(settings: Settings) -> Iterator[Finding]:
    """Scanners that may all be slow at once should still leave each other their time."""
    budget = Budget(settings.budget, lambda: 0.0, 0.0).scanning(0.0).at
    together = sum(scanner.timeout for scanner in settings.scanners)
    if together > budget:
        yield Finding(
            True,
            "scanner",
            f"note: all timeouts together are {together:g} s, and the budget leaves scanners {budget:g} s: "
            "where several are slow at once, the last ones get less",
        )


def _policies(settings: Settings) -> Iterator[Finding]:
    """What the single reply to a message means where policies depend on recipients."""
    if any(policy.recipients for policy in settings.policy):
        yield Finding(
            True,
            "policy",
            "note: policies depend on recipients: where some would reject a message and others not, it is "
            "answered 250, and what would be rejected goes to the quarantine",
        )


def _upstream(found: Probe) -> Iterator[Finding]:
    if found.failure:
        yield Finding(False, "upstream", f"{found.address}: {found.failure}")
        return
    keywords = found.capabilities.keywords
    shown = ", ".join(_shown(keyword, parameters) for keyword, parameters in keywords.items())
    yield Finding(True, "upstream", f"{found.address} announces {shown or 'nothing'}")
    if not found.capabilities.xforward:
        yield Finding(
            False,
            "upstream",
            f"{found.address} announces no XFORWARD, so it takes us for the client in log and header: "
            "set smtpd_authorized_xforward_hosts there",
        )
    missing = withheld(_BEFORE_FILTER_KEYWORDS, found.capabilities)
    if missing:
        names = ", ".join(keyword.decode("ascii").lower() for keyword in missing)
        yield Finding(
            False,
            "upstream",
            f"{found.address} does not understand all that the before-filter Postfix announces; set there: "
            f"smtpd_discard_ehlo_keywords = {names}",
        )


def _shown(keyword: bytes, parameters: bytes) -> str:
    words = keyword + b" " + parameters if parameters else keyword
    return words.decode("ascii", "backslashreplace")
