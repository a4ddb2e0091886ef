"""PythonFilter: a site's own Python code as a scanner, and what it says as a report.

The code runs in the worker, as the worker's user, until its deadline. Whatever it raises, SystemExit as well,
whatever it returns that is no verdict, and that it does not return at all, is a ScannerFailure and never a
finding; after an interruption it is made anew for the next message, because nobody knows in which state it
was left. What it prints goes nowhere: in a log it would be lines that a message has written.

It is not a prison. Code that calls `os._exit`, crashes the interpreter, forks, or changes the directory, the
umask or the signal handlers of its process does that to the worker; docs/python-filters.md says so.
"""

import contextlib
import importlib
import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import EntryPoint, distribution, entry_points, packages_distributions
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, assert_never

from bqfilter import api
from bqfilter.api import EditKind, HeaderEdit, Verdict
from bqfilter.config.content import PythonSettings
from bqfilter.config.content_kinds import ADDRESS
from bqfilter.errors import ScannerFailure, ScannerInterrupted
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.fields import TOP, Edit, Field, Header, Insert, Remove, Replace
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.scanning import interrupt
from bqfilter.scanning.child import signals_as_usual
from bqfilter.scanning.output import Output, Workspace
from bqfilter.scanning.report import Body, Changes, Finding, Report

T = TypeVar("T")

GROUP = "bqfilter.filters"

_LOAD_TIMEOUT = 60.0  # seconds; large libraries are read by all workers at once
_MAX_CAUSE = 300  # characters


class PythonFilter:
    """One [[python]] table. Made in the master, where no code of the site is loaded."""

    def __init__(self, settings: PythonSettings, workspace: Workspace, clock: Clock = time.monotonic) -> None:
        self.settings = settings
        self._workspace = workspace
        self._clock = clock
        self._filter: api.Filter | None = None

    def after_fork_in_worker(self) -> None:
        """Load the filter. Where that fails it is tried again with each message."""
        self._run(self._load, Deadline.after(self._clock, _LOAD_TIMEOUT))

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:
        """Ask the filter."""
        return self._run(lambda: self._judge(message, envelope), deadline)

    def ping(self, deadline: Deadline) -> str:
        """Load the filter, if it is not, and tell its name and version."""
        return self._run(self._described, deadline)

    def _judge(self, message: Message, envelope: Envelope) -> Report:
        self._load()
        assert self._filter is not None  # noqa: S101
        verdict = self._filter(api.Message(message), api.Envelope.of(envelope))
        if verdict is None:
            verdict = api.accept()
        if not isinstance(verdict, Verdict):
            raise ScannerFailure(f"returned {type(verdict).__name__}, which is no verdict")
        return report_of(verdict, message, self._workspace)

    def _described(self) -> str:
        self._load()
        return f"{self.settings.filter}, {_version(self.settings.filter)}"

    def _load(self) -> None:
        if self._filter is None:
            self._filter = _made(_found(self.settings.filter), dict(self.settings.options))

    def _run(self, step: Callable[[], T], deadline: Deadline) -> T:
        """One step of the site's code, with all that can come of it. Raises ScannerFailure alone."""
        with _silence(), signals_as_usual():
            try:
                return interrupt.call(lambda: _guarded(step), deadline)
            except ScannerInterrupted:
                self._filter = None
                raise
            except (MemoryError, RecursionError) as error:  # while the cause was put into words
                raise ScannerFailure(type(error).__name__) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Whatever is printed goes nowhere. Begins and ends outside of what can be interrupted."""
    with (
        Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _guarded(step: Callable[[], T]) -> T:
    """Puts the cause into words where it can still be interrupted: also an exception has code of its own."""
    try:
        return step()
    except (interrupt.Overrun, ScannerFailure):
        raise
    except BaseException as error:
        raise ScannerFailure(_sentence(error)) from error


def _sentence(error: BaseException) -> str:
    """The last line of the traceback, and where in the source that was."""
    lines = traceback.format_exception_only(error)[-1].split("\n")
    words = " ".join("".join(char if char.isprintable() else " " for char in lines[0][:4096]).split())
    return f"{words[:_MAX_CAUSE]} ({_place(error.__traceback__)})"


def _place(trace: TracebackType | None) -> str:
    place = "?"
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _found(name: str) -> Any:
    """What the settings name: "module:object", or an entry point."""
    module, colon, path = name.partition(":")
    if colon:
        return attrgetter(path)(importlib.import_module(module))
    return _entry_point(name).load()


def _entry_point(name: str) -> EntryPoint:
    points = list(entry_points(group=GROUP, name=name))
    if len(points) != 1:
        raise ScannerFailure(f'{len(points) or "no"} entry points "{name}" in the group {GROUP}')
    return points[0]


def _made(found: Any, options: dict[str, str]) -> api.Filter:
    """A class gets the options when it is made, a function each time it is called."""
    if isinstance(found, type):
        found, options = found(**options), {}
    if not callable(found):
        raise ScannerFailure("is neither a function nor a class whose objects can be called")
    try:
        inspect.signature(found).bind(None, None, **options)
    except TypeError as error:
        raise ScannerFailure(f"cannot be called with message, envelope and its options: {error}") from error
    return partial(found, **options) if options else found


def _version(name: str) -> str:
    """Name and version of the package that a filter comes from, or the file where it has none."""
    module, colon, _ = name.partition(":")
    names = packages_distributions().get(module.partition(".")[0], []) if colon else []
    found = [distribution(one) for one in names[:1]] if colon else [_entry_point(name).dist]
    if found and found[0] is not None:
        return f"{found[0].name} {found[0].version}"
    return f"not packaged, {getattr(sys.modules.get(module), '__file__', 'no file')}"


def report_of(verdict: Verdict, message: Message, workspace: Workspace) -> Report:
    """The report that a verdict about this message stands for. Raises ScannerFailure.

    A verdict that was not made by the functions of `api` is checked here: its fields go onto a wire.
    """
    changes = Changes(
        edits=tuple(_edits(verdict.edits, message.header)),
        body=None if verdict.body is None else _body(verdict.body, workspace),
        recipients=None if verdict.recipients is None else _encoded(verdict.recipients),
        copies=_encoded(verdict.copies),
    )
    finding = Finding.HIT if verdict.is_hit else Finding.CLEAN
    return Report(finding, verdict.detail, verdict.score, verdict.response, verdict.reply, changes)


def _encoded(addresses: Iterable[str]) -> tuple[bytes, ...]:
    try:
        return tuple(ADDRESS.read(address).encode("ascii") for address in addresses)
    except ValueError as error:
        raise ScannerFailure(f"gave an address that is none: {error}") from error


def _edits(wanted: Sequence[HeaderEdit], header: Header) -> Iterator[Edit]:
    """By the place of each field. What was put in front last comes first, as if done one by one."""
    for edit in wanted:
        if edit.kind is not EditKind.REMOVE and [one.raw for one in Header(edit.field).fields] != [
            edit.field
        ]:
            raise ScannerFailure("gave a header field that is none")
    for edit in reversed([edit for edit in wanted if edit.kind is EditKind.PREPEND]):
        yield Insert(TOP, edit.field)
    for edit in wanted:
        match edit.kind:
            case EditKind.PREPEND:
                continue
            case EditKind.ADD:
                yield Insert(len(header.fields), edit.field)
            case EditKind.REPLACE:
                yield _replacement(edit, header)
            case EditKind.REMOVE:
                yield from (Remove(field.index) for field in _meant(edit, header))
            case _:
                assert_never(edit.kind)


def _replacement(edit: HeaderEdit, header: Header) -> Edit:
    for field in _meant(edit, header):
        return Replace(field.index, edit.field)
    return Insert(len(header.fields), edit.field)


def _meant(edit: HeaderEdit, header: Header) -> list[Field]:
    """The fields of the edit's name: all of them, or the one that is meant, or none where that is missing."""
    fields = header.all(edit.name)
    if edit.occurrence is None:
        return fields
    place = edit.occurrence - 1 if edit.occurrence > 0 else len(fields) + edit.occurrence
    return fields[place : place + 1] if place >= 0 else []


def _body(body: bytes | Iterable[bytes], workspace: Workspace) -> Body:
    """Read at once, while the filter's time runs: its pieces may be made by code of its own."""
    output = Output(workspace)
    for piece in (body,) if isinstance(body, bytes) else body:
        if not isinstance(piece, bytes):
            raise ScannerFailure(f"gave a body with a piece of {type(piece).__name__}, not bytes")
        output.append(piece)
    return output.pieces
