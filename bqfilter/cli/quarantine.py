"""`bqfilterd quarantine`: look at the messages that are kept, release them, delete them."""

from __future__ import annotations

import json
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bqfilter.cli.options import TerminalSink, config_option, configuration_errors
from bqfilter.config import Settings, load
from bqfilter.config.content_kinds import ADDRESS, AddressPattern
from bqfilter.config.units import parse_duration, parse_size
from bqfilter.errors import QuarantineFailure
from bqfilter.log import Log
from bqfilter.net.address import parse_network
from bqfilter.quarantine import Quarantine, State
from bqfilter.quarantine.expiry import Limits
from bqfilter.quarantine.expiry import expire as expire_messages
from bqfilter.quarantine.names import SETTLED
from bqfilter.quarantine.owner import become_owner
from bqfilter.quarantine.selection import Selection
from bqfilter.quarantine.view import (
    as_line,
    as_size,
    as_text,
    as_value,
    details,
    letter_page,
    page,
    printable,
)

if TYPE_CHECKING:
    from bqfilter.quarantine.letter import Letter
    from bqfilter.quarantine.store import Entry
    from bqfilter.release import Outcome, Releaser

_STATES = tuple(str(state) for state in State)


class _Parsed(click.ParamType[Any]):
    """An option that a function of the settings' own reads; what that cannot read is a usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            return self.fail(f"{value!r}: {error}", param, ctx)


def _instant(text: str) -> float:
    """A point in time; without an offset, in the time zone of this machine."""
    return datetime.fromisoformat(text).astimezone().timestamp()


_TIME = _Parsed("time", _instant)
_DURATION = _Parsed("duration", parse_duration)
_SIZE = _Parsed("size", parse_size)
_PATTERN = _Parsed("pattern", AddressPattern.parse)
_NETWORK = _Parsed("network", parse_network)
_ADDRESS = _Parsed("address", ADDRESS.read)


@dataclass(frozen=True, slots=True)
class _Filters:
    """What the options of `list` and `delete` ask for."""

    selection: Selection
    states: tuple[State, ...]
    since: float | None
    before: float | None

    def __bool__(self) -> bool:
        return bool(self.selection or self.states) or (self.since, self.before) != (None, None)

    def entries(self, store: Quarantine) -> Iterator[Entry]:
        """All that fit."""
        return filter(self.fits, store.entries(self.states, self.since, self.before))

    def fits(self, entry: Entry) -> bool:
        """Where nothing is asked that a file would have to tell, one that cannot be read fits as well."""
        return not self.selection or (entry.stored is not None and self.selection.fits(entry.stored.record))


_FILTER_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--since", type=_TIME, metavar="TIME", help='Kept at or after this time: "2026-11-25 13:27".'
    ),
    click.option("--before", type=_TIME, metavar="TIME", help="Kept before this time."),
    click.option("--older-than", type=_DURATION, metavar="DURATION", help='Kept longer ago than this: "7d".'),
    click.option(
        "--sender", "senders", type=_PATTERN, multiple=True, metavar="PATTERN",
        help='From this envelope sender: an address, "@example.com", "@.example.com" or "<>".',
    ),
    click.option(
        "--recipient", "recipients", type=_PATTERN, multiple=True, metavar="PATTERN",
        help="For this recipient, written like a sender.",
    ),
    click.option(
        "--client", "clients", type=_NETWORK, multiple=True, metavar="NETWORK",
        help="From a remote client with this address, or in this network.",
    ),
    click.option("--reason", default="", metavar="TEXT", help="With this in the reason or in a finding."),
    click.option("--scanner", default="", metavar="NAME", help="That this scanner did not find clean."),
    click.option("--policy", default="", metavar="NAME", help="That came under this policy."),
    click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="In this state."),
)  # fmt: skip


def _filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTER_OPTIONS):
        command = option(command)
    return command


def _filters(
    since: float | None, before: float | None, older_than: float | None, states: Iterable[str], **what: Any
) -> _Filters:
    edges = [edge for edge in (before, None if older_than is None else time.time() - older_than) if edge]
    return _Filters(Selection(**what), tuple(map(State, states)), since, min(edges, default=None))


@click.group()
def quarantine() -> None:
    """Look at the messages that are kept, release them, delete them.

    A message is named by the identifier that `list` shows, or by as much of its beginning as no other one
    has. Started by root, these commands work as the owner of `quarantine.directory`.
    """


@quarantine.command("list")
@config_option
@_filter_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each message, a line each.")
def list_(path: Path, as_json: bool, **filters: Any) -> None:
    """List kept messages, the oldest first.

    Of several senders, recipients, clients or states one must fit; of different options all must.

    Exit status 0: listed, even if there are none; 1: there are files that cannot be read.
    """
    from bqfilter.quarantine.listing import Listing, processors

    chosen = _filters(**filters)
    store = _store(_settings(path))
    flaws = 0
    with _failures():
        names = list(store.names(chosen.since, chosen.before))
        listing = Listing(store, names, chosen.states, chosen.fits, _as_json if as_json else as_line)
        for part in listing.parts(processors()):
            click.echo(part.text, nl=False)
            flaws += part.flaws
    raise click.exceptions.Exit(1 if flaws else 0)


def _as_json(entry: Entry) -> str:
    return json.dumps(as_value(entry))


@quarantine.command()
@config_option
@click.argument("identifier", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--raw", is_flag=True, help="Write the message itself, byte for byte, to a file or a pipe.")
def show(path: Path, identifier: str, as_json: bool, raw: bool) -> None:
    """Show what is known about a message, what happened to it, and its header.

    Whatever a terminal could take for a command is shown as an escape. With --raw nothing is, so that is not
    written to a terminal.

    Exit status 0: shown; 1: there is no such message, or it is damaged.
    """
    if raw and sys.stdout.isatty():
        raise click.UsageError("--raw is for a file or a pipe: a message can hold commands for a terminal")
    store = _store(_settings(path))
    with _failures(), store.open(identifier) as kept:
        if raw:
            output = sys.stdout.buffer
            for piece in kept.content():
                output.write(piece)
            output.flush()
        elif as_json:
            click.echo(json.dumps(details(kept), indent=2))
        else:
            click.echo("\n".join(page(kept)))


@quarantine.command()
@config_option
@click.argument("identifiers", metavar="[ID...]", nargs=-1)
@click.option(
    "--from-file",
    "files",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="A message that was sent to the mailbox of `quarantine_to`; repeat it for several.",
)
@click.option("--yes", is_flag=True, help="Release what is in the files; without it they are only shown.")
@click.option("--recipient", "recipients", type=_ADDRESS, multiple=True, help="Only to this recipient of it.")
@click.option(
    "--to", "others", type=_ADDRESS, multiple=True, help="To this address instead of its recipients."
)
@click.option(
    "--again", is_flag=True, help="Also to those who have it, or may have it, by an earlier release."
)
def release(
    path: Path,
    identifiers: tuple[str, ...],
    files: tuple[Path, ...],
    yes: bool,
    recipients: tuple[str, ...],
    others: tuple[str, ...],
    again: bool,
) -> None:
    """Hand messages over to the after-filter server, as they came; they are not scanned again.

    Those who have a message already, by an earlier release, do not get it a second time. Prints a line for
    each message, with the queue id. A message that the after-filter server does not take stays as it was.

    With --from-file it is a message out of a mailbox. Anybody can send one there: look at its envelope, which
    is shown, and add --yes if that is what should be sent. It is taken into `quarantine.directory` first, so
    that a second release on this machine sends nothing.

    Exit status 0: everybody who is meant has it, perhaps since an earlier release; 1: not so, and the line
    says why.
    """
    from bqfilter.release import Order

    if recipients and others:
        raise click.UsageError("--recipient and --to exclude each other")
    if bool(identifiers) == bool(files):
        raise click.UsageError("give identifiers, or files with --from-file")
    order = Order(tuple(map(str.encode, recipients)), tuple(map(str.encode, others)), again, _operator())
    settings = _settings(path)
    with configuration_errors(), _releaser(settings) as releaser, ExitStack() as opened:
        # Imports and files may be root's alone to read, so they come before we are somebody else.
        letters = _letters(files, opened)
        if files and yes:
            _make_directory(settings)
        store = _store(settings)
        if files:
            identifiers = tuple(filter(None, (_adopted(store, *one, is_wanted=yes) for one in letters)))
        results = [_release_one(store, releaser, identifier, order) for identifier in identifiers]
    if files and not yes:
        click.echo("anybody can write such a file: add --yes to release what is in it", err=True)
    is_all = not files or len(identifiers) == len(files)
    raise click.exceptions.Exit(0 if is_all and all(results) else 1)


@quarantine.command()
@config_option
@click.argument("identifiers", metavar="[ID...]", nargs=-1)
@_filter_options
@click.option("--yes", is_flag=True, help="Delete what the options choose; without it they are only listed.")
@click.option("--force", is_flag=True, help="Also what is pending, being released, or of unknown outcome.")
def delete(path: Path, identifiers: tuple[str, ...], yes: bool, force: bool, **filters: Any) -> None:
    """Delete messages: those with the given identifiers, or those that the options choose.

    Exit status 0: all are deleted; 1: some are not, or --yes was missing.
    """
    chosen = _filters(**filters)
    if bool(identifiers) == bool(chosen):
        raise click.UsageError("give identifiers, or options that choose messages")
    store = _store(_settings(path))
    if identifiers:
        results = [_delete_one(store, identifier, force) for identifier in identifiers]
        raise click.exceptions.Exit(0 if all(results) else 1)
    with _failures():
        entries = list(chosen.entries(store))
    if not yes and entries:
        for entry in entries:
            click.echo(as_line(entry))
        click.echo(f"{_count(len(entries))} would be deleted: add --yes", err=True)
        raise click.exceptions.Exit(1)
    results = [_delete_one(store, entry.name.id, force) for entry in entries]
    raise click.exceptions.Exit(0 if all(results) else 1)


@quarantine.command()
@config_option
@click.option(
    "--max-age", type=_DURATION, metavar="DURATION", help="Instead of `quarantine.max_age`; 0s: none."
)
@click.option("--max-size", type=_SIZE, metavar="SIZE", help="Instead of `quarantine.max_size`; 0B: none.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
def expire(path: Path, max_age: float | None, max_size: int | None, dry_run: bool) -> None:
    """Delete what is older than the configuration allows, then the oldest until the rest is small enough.

    What is pending, being released, or of unknown outcome is never deleted, only counted. Meant to be run
    once a day.

    Exit status 0: done; 1: something could not be deleted.
    """
    settings = _settings(path)
    store = _store(settings)
    given = settings.quarantine
    limits = Limits(
        given.max_age if max_age is None else max_age, given.max_size if max_size is None else max_size
    )
    with _failures():
        done = expire_messages(store, limits, time.time(), dry_run=dry_run)
    verb = "would delete" if dry_run else "deleted"
    click.echo(f"{verb} {_count(len(done.deleted))}, {as_size(done.deleted_size)}")
    if done.draft_count:
        click.echo(f"{verb} {done.draft_count} half-written")
    click.echo(f"kept {_count(done.kept_count)}, {as_size(done.kept_size)}")
    for state, count in sorted(done.left.items()):
        click.echo(f"{count} {state}: see `bqfilterd quarantine list --state {state}`")
    for failure in done.failures:
        click.echo(f"not deleted: {printable(failure)}", err=True)
    raise click.exceptions.Exit(1 if done.failures else 0)


def _settings(path: Path) -> Settings:
    with configuration_errors():
        return load(path)


def _make_directory(settings: Settings) -> None:
    """As the pool would have done that keeps messages on this machine: only root can make it theirs."""
    from bqfilter.pool.startup import find_identity
    from bqfilter.quarantine.owner import make_directory

    directory = Path(settings.quarantine.directory)
    if os.geteuid() != 0 or directory.exists():
        return
    identity = find_identity(settings.runtime.user)
    if identity is not None:
        with _failures():
            make_directory(directory, identity.uid, identity.gid)


def _store(settings: Settings) -> Quarantine:
    """The quarantine of a configuration. From here on we are its owner, for good."""
    store = Quarantine(settings.quarantine.directory)
    with _failures():
        become_owner(store.directory)
    return store


@contextmanager
def _failures() -> Iterator[None]:
    """What cannot be read or written ends the command with its reason and exit status 1."""
    try:
        yield
    except BrokenPipeError:
        raise  # `| head` has enough; click ends quietly
    except (QuarantineFailure, OSError) as failure:
        raise click.ClickException(printable(str(failure))) from failure


def _operator() -> str:
    """Who gives an order: the account, and behind sudo the one in front of it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"{os.environ['SUDO_USER']} as {name}" if "SUDO_USER" in os.environ else name


@contextmanager
def _releaser(settings: Settings) -> Iterator[Releaser]:
    """A leg to the after-filter servers of the configuration."""
    # Imported here: no other of these commands needs what these load.
    from bqfilter.net.stream import connect
    from bqfilter.pool.startup import hostname_of, upstream_addresses
    from bqfilter.release import Releaser
    from bqfilter.upstream import Upstream

    upstream = Upstream(
        settings, upstream_addresses(settings), hostname_of(settings), time.monotonic, connect,
        Log(TerminalSink(), is_json=False),
    )  # fmt: skip
    try:
        yield Releaser(upstream, settings.spool, time.monotonic, time.time)
    finally:
        upstream.close()


def _release_one(store: Quarantine, releaser: Releaser, identifier: str, order: Any) -> bool:
    try:
        with store.claim(identifier) as claim:
            outcome = releaser.release(claim, order)
            click.echo(f"{claim.name.id}: {_told(outcome)}")
            return outcome.result.is_good
    except (QuarantineFailure, OSError) as failure:
        click.echo(f"bqfilterd: {printable(str(failure))}", err=True)
        return False


def _letters(files: Iterable[Path], opened: ExitStack) -> list[tuple[Path, Letter]]:
    """What is in these files; a line about each that cannot be used."""
    from bqfilter.quarantine.letter import HEADER_LIMIT, read
    from bqfilter.trial import read_message

    found = []
    for file in files:
        try:
            message = read_message(opened.enter_context(file.open("rb")), HEADER_LIMIT)
            found.append((file, read(message)))
        except (QuarantineFailure, OSError) as failure:
            _tell_unusable(file, failure)
    return found


def _adopted(store: Quarantine, file: Path, letter: Letter, *, is_wanted: bool) -> str:
    """Take it into the quarantine, and give its identifier there; or only show it, where it is whole."""
    try:
        if is_wanted:
            return store.adopt(letter).id
        for _ in letter.content():
            pass  # raises at its end
        click.echo("\n".join(letter_page(letter)))
    except (QuarantineFailure, OSError) as failure:
        _tell_unusable(file, failure)
    return ""


def _tell_unusable(file: Path, failure: Exception) -> None:
    click.echo(f"bqfilterd: {printable(str(file))}: {printable(str(failure))}", err=True)


def _told(outcome: Outcome) -> str:
    words = [str(outcome.result)]
    if outcome.queue_id:
        words.append(f"as {outcome.queue_id}")
    if outcome.recipients:
        words.append("to " + ", ".join(f"<{as_text(address)}>" for address in outcome.recipients))
    separator = ", " if outcome.result.is_good else ": "
    return " ".join(words) + (f"{separator}{printable(outcome.text)}" if outcome.text else "")


def _delete_one(store: Quarantine, identifier: str, force: bool) -> bool:
    try:
        with store.claim(identifier) as claim:
            state = claim.name.state
            if state not in SETTLED and not force:
                raise QuarantineFailure(f"{claim.name.id}: is {state}: look at it, then add --force")
            claim.delete()
            click.echo(f"{claim.name.id}: deleted")
            return True
    except (QuarantineFailure, OSError) as failure:
        click.echo(f"bqfilterd: {printable(str(failure))}", err=True)
        return False


def _count(number: int) -> str:
    return f"{number} message{'' if number == 1 else 's'}"
