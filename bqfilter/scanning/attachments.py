"""Attachments: finds what nobody should be sent, by its name or by what it is, also inside zip archives.

Every part of the message is looked at, attached messages included, and every name that some mail program
could show for it. The first finding ends the search. A message that goes beyond a limit gets the response
`on_excess`, because nobody knows what was not looked at; one with an encrypted archive that of
`encrypted_archives`; where both apply the one that weighs more counts.

Memory is bounded whatever comes: data is decoded as it passes, and an archive, or a message that is encoded
as a whole, is kept in a file without a name once it is larger than a piece of memory. Such a thing is looked
into before what is around it goes on, so no more of them are there than are nested; what is unpacked is
counted.

Looked at are names, declared types and first bytes. It is no virus scanner: nothing is executed, no macro is
read, and of archives only zip is opened.
"""

import contextlib
import os
import tempfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from bqfilter.config.actions import ACCEPT, Action, Response
from bqfilter.config.content import AttachmentSettings
from bqfilter.errors import ScannerFailure
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.message import Message
from bqfilter.mail.mime import Event, Excess, Limit, Limits, PartBegin, PartData, PartEnd, walk
from bqfilter.mail.transfer import decoder
from bqfilter.net.deadline import Deadline
from bqfilter.scanning import zip_headers
from bqfilter.scanning.file_names import NameRules, extension, shown
from bqfilter.scanning.report import CLEAN, Finding, Report
from bqfilter.scanning.signatures import HEAD_BYTES, JAR, ZIP, types_of
from bqfilter.scanning.uu_names import UuNames
from bqfilter.scanning.zip_headers import Unpacking
from bqfilter.smtp.body import without_strays
from bqfilter.smtp.replies import reply

_MEMORY_BYTES = 256 * 1024  # of an archive; a larger one goes to a file
_ENTRY_HEAD_BYTES = 1024  # of a file in an archive
_PIECE_BYTES = 65536
_MAX_READINGS = 4  # of one part's data
_ZIPS = (
    "apk appx docm docx dotm dotx ear epub jar kmz msix odp ods odt potx pptm pptx war xlsb xlsm xlsx xltx "
    "xpi zip zipx"
)
_ARCHIVES = frozenset(_ZIPS.split())
_MESSAGES = frozenset({"eml"})


class _Found(Exception):
    """Something that is banned: the search is over. It does not leave this module."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """The settings, ready to be applied."""

    settings: AttachmentSettings
    names: NameRules
    directory: str | None

    def store(self) -> IO[bytes]:
        """A file without a name, in memory as long as it is small."""
        return tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=self.directory)

    def check_name(self, name: str, within: str) -> None:
        if objection := self.names.objection(name):
            raise _Found(f"{shown(name)}{within} ({objection})")

    def check_types(self, types: Iterable[str], name: str, within: str) -> None:
        for one in types:
            family = one.partition("/")[0] + "/*"
            if one in self.settings.banned_types or family in self.settings.banned_types:
                raise _Found(f"{shown(name) or 'a part without a name'}{within} (type {one})")


class Attachments:
    """The scanner. `directory` is where files without a name are made; None leaves it to the system."""

    def __init__(self, settings: AttachmentSettings, directory: str | None = None) -> None:
        self.settings = settings
        names = NameRules.of(settings.banned_extensions, settings.banned_names, settings.double_extensions)
        self._rules = _Rules(settings, names, directory)

    def after_fork_in_worker(self) -> None:
        """Nothing to get ready."""

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:  # noqa: ARG002
        """Look at all parts. Raises ScannerFailure when time is up, and OSError from the spool."""
        search = _Search(self._rules, deadline)
        try:
            search.run(message)
        except _Found as found:
            return Report(Finding.HIT, str(found))
        return search.report()

    def ping(self, deadline: Deadline) -> str:  # noqa: ARG002
        """What it bans."""
        settings = self.settings
        inside = ", inside zip archives too" if settings.archives else ""
        return (
            f"bans {len(settings.banned_extensions)} extensions, {len(settings.banned_names)} names, "
            f"{len(settings.banned_types)} types{inside}"
        )


@dataclass(slots=True)
class _Inner:
    """Something that was found inside something: to be looked into before what is around it goes on."""

    file: IO[bytes]
    depth: int
    name: str
    is_message: bool = False
    head: bytes = b""  # stands in front of a message that has no header of its own
    looked_into_to: int = 0  # of an archive: the entries up to here are unpacked already

    def pieces(self) -> Iterator[bytes]:
        """A message, with the line ends that every reader of messages here relies on."""
        yield self.head
        self.file.seek(0)
        yield from without_strays(iter(lambda: self.file.read(_PIECE_BYTES), b""))


class _Search:
    """The search through one message, and what it has found out so far."""

    def __init__(self, rules: _Rules, deadline: Deadline) -> None:
        self.rules = rules
        self._deadline = deadline
        self._part_count = 0
        self._entry_counts = [0, 0]  # by headers in front of entries; by directories
        self._unpacked_bytes = 0
        self._excesses: dict[str, None] = {}  # in order, each once
        self._encrypted = ""

    def run(self, message: Message) -> None:
        """Raises _Found, ScannerFailure, OSError."""
        under_way = [self._parts(message, 0, "")]
        try:
            while under_way:
                inner = next(under_way[-1], None)
                if inner is None:
                    under_way.pop()
                else:
                    under_way.append(self._look_into(inner))
        finally:
            for one in reversed(under_way):
                one.close()

    def report(self) -> Report:
        """What is to be said where nothing is banned."""
        settings = self.rules.settings
        opinions: list[tuple[Response, str]] = []
        if self._excesses:
            opinions.append((settings.on_excess, f"not looked at whole: {', '.join(self._excesses)}"))
        if self._encrypted:
            opinions.append((settings.encrypted_archives, f"{self._encrypted} (encrypted archive)"))
        if not opinions:
            return CLEAN
        response, detail = max(opinions, key=lambda one: (one[0].action.weight, one[0].keeps_copy))
        if response == ACCEPT:
            return Report(Finding.CLEAN, detail)
        words = _LATER if response.action is Action.DEFER else None
        return Report(Finding.HIT, detail, response=response, reply=words)

    def in_time(self) -> None:
        """Raises ScannerFailure where time is up."""
        if self._deadline.has_passed:
            raise ScannerFailure("out of time")

    def excess(self, what: str) -> None:
        """Something could not be looked at."""
        self._excesses[what] = None

    def may_nest(self, depth: int) -> bool:
        """Something at this depth may be looked into."""
        if depth > self.rules.settings.max_depth:
            self.excess(_EXCESSES[Limit.DEPTH])
        return depth <= self.rules.settings.max_depth

    def may_unpack(self, count: int) -> bool:
        """So many bytes more may be unpacked."""
        self._unpacked_bytes += count
        is_within = self._unpacked_bytes <= self.rules.settings.max_unpacked
        if not is_within:
            self.excess("too much to unpack")
        return is_within

    def _look_into(self, inner: _Inner) -> Generator[_Inner, None, None]:
        within = f" in {shown(inner.name)}" if inner.name else " in a part without a name"
        with inner.file:
            if inner.is_message:
                yield from self._parts(Message(inner.pieces), inner.depth, within)
            else:
                yield from self._entries(inner, within)

    # parts of messages

    def _parts(self, message: Message, depth: int, within: str) -> Generator[_Inner, None, None]:
        settings = self.rules.settings
        limits = Limits(settings.max_depth - depth, max(settings.max_parts - self._part_count, 1))
        looks: list[_Look] = []
        try:
            for event in walk(message, limits):
                self.in_time()
                yield from self._take(event, looks, depth, within)
        finally:
            for look in looks:
                look.close()

    def _take(self, event: Event, looks: "list[_Look]", depth: int, within: str) -> Iterator[_Inner]:
        match event:
            case PartBegin():
                self._part_count += 1
                looks.append(_Look(self, event, depth + event.depth, within))
            case PartData(data):
                looks[-1].feed(data)
            case PartEnd():
                yield from looks[-1].finish()
                looks.pop()
            case Excess(what):
                self.excess(_EXCESSES[what])

    # entries of archives

    def _entries(self, archive: _Inner, within: str) -> Generator[_Inner, None, None]:
        room = archive.file.seek(0, os.SEEK_END)
        for entry in zip_headers.entries(archive.file):
            self.in_time()
            room -= entry.header_bytes
            if room < 0:  # reading the same bytes over and over would take for ever
                self.excess("an archive whose headers overlap")
                return
            self._entry_counts[entry.data_at is None] += 1
            if max(self._entry_counts) > self.rules.settings.max_archive_entries:
                self.excess("too many names in archives")
                return
            self._check_entry(entry, archive, within)
            if entry.data_at is not None:
                yield from self._look_at_data(entry, archive, within)

    def _check_entry(self, entry: zip_headers.Entry, archive: _Inner, within: str) -> None:
        if entry.is_encrypted and not self._encrypted:
            self._encrypted = shown(archive.name) or "a part without a name"
        for name in entry.names:
            if not _is_directory(name):
                self.rules.check_name(name, within)
            if name == "META-INF/MANIFEST.MF":
                self.rules.check_types([JAR], archive.name, "")

    def _look_at_data(self, entry: zip_headers.Entry, archive: _Inner, within: str) -> Iterator[_Inner]:
        """Whatever the header says, what can be unpacked is: readers go by the directory, and that may."""
        name = entry.names[0]
        inflated = _head(archive, entry, zip_headers.DEFLATED)
        is_stored = entry.is_readable and not (inflated and entry.method == zip_headers.DEFLATED)
        is_plain = is_stored and not entry.is_encrypted
        as_it_stands = _head(archive, entry, zip_headers.STORED) if is_plain else b""
        types = [*types_of(inflated), *types_of(as_it_stands)]
        self.rules.check_types(types, name, within)
        if ZIP not in types and not any(extension(one) in _ARCHIVES for one in entry.names):
            return
        if inflated:
            if entry.at >= archive.looked_into_to and self.may_nest(archive.depth + 1):
                yield _Inner(self._unpacked(entry, archive), archive.depth + 1, name)
        elif not (entry.is_readable or entry.is_encrypted):
            self.excess("an archive packed in an unknown way")

    def _unpacked(self, entry: zip_headers.Entry, archive: _Inner) -> IO[bytes]:
        store = self.rules.store()
        unpacking = Unpacking(archive.file, entry, zip_headers.DEFLATED)
        with contextlib.ExitStack() as undo:
            undo.enter_context(store)
            for piece in unpacking:
                self.in_time()
                if not self.may_unpack(len(piece)):
                    break
                _keep(store, piece)
            undo.pop_all()
        archive.looked_into_to = unpacking.end_at  # what shows in there is seen when it is unpacked
        return store


def _head(archive: _Inner, entry: zip_headers.Entry, method: int) -> bytes:
    """How an entry begins, read in this way; nothing where it cannot be."""
    return next(iter(Unpacking(archive.file, entry, method, _ENTRY_HEAD_BYTES)), b"")


_LATER = reply(451, "4.7.1 Attachments could not be looked at whole")
_EXCESSES = {
    Limit.DEPTH: "nested too deep",
    Limit.PARTS: "too many parts",
    Limit.HEADER: "too large a header",
    Limit.HEADERS: "too large headers of parts",
    Limit.READINGS: "too many names in a header",
}


class _Look:
    """A look at one part while its data goes by, in every encoding that it claims."""

    def __init__(self, search: _Search, part: PartBegin, depth: int, within: str) -> None:
        for one in part.names:
            search.in_time()
            search.rules.check_name(one, within)
        name = part.names[0] if part.names else ""
        search.rules.check_types(part.media.types, name, within)
        self._readings = [
            _Reading(search, part, one, depth, within)
            for one in part.media.encodings[:_MAX_READINGS]
            if one == "base64" or not (part.is_multipart or part.is_message)
        ]

    def feed(self, data: bytes) -> None:
        """More of it."""
        for one in self._readings:
            one.feed(data)

    def finish(self) -> Iterator[_Inner]:
        """That was all; gives what there is to look into."""
        for one in self._readings:
            yield from one.finish()

    def close(self) -> None:
        """Let go of it."""
        for one in self._readings:
            one.close()


class _Reading:
    """The data of one part in one encoding."""

    def __init__(self, search: _Search, part: PartBegin, encoding: str, depth: int, within: str) -> None:
        self._search = search
        self._part = part
        self._depth = depth
        self._within = within
        self._decoder = decoder(encoding)
        self._head = bytearray()
        self._is_known = False  # the head has been looked at
        self._uu_names = UuNames() if part.content_type.startswith("text/") else None
        self._is_message = part.is_message or part.is_multipart or _any_extension(part.names, _MESSAGES)
        self._store: IO[bytes] | None = None

    def feed(self, data: bytes) -> None:
        self._take(self._decoder.feed(data))

    def finish(self) -> Iterator[_Inner]:
        self._take(self._decoder.finish())
        if not self._is_known:
            self._know()
        store, self._store = self._store, None
        if store is None:
            return
        name = self._name
        head = _content_types(self._part) if self._part.is_multipart else b""
        yield _Inner(store, self._depth + 1, name, self._is_message, head)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    @property
    def _name(self) -> str:
        return self._part.names[0] if self._part.names else ""

    def _take(self, piece: bytes) -> None:
        """More of the data, decoded."""
        for name in self._uu_names.feed(piece) if self._uu_names else ():
            self._search.rules.check_name(name, self._within)
        if self._is_known:
            self._keep(piece)
            return
        self._head += piece
        if len(self._head) >= HEAD_BYTES:
            self._know()

    def _know(self) -> None:
        """Enough has come to tell what it is."""
        self._is_known = True
        head, self._head = bytes(self._head), bytearray()
        types = types_of(head)
        self._search.rules.check_types(types, self._name, self._within)
        if head and self._is_to_be_looked_into(types) and self._search.may_nest(self._depth + 1):
            self._store = self._search.rules.store()
            self._keep(head)

    def _is_to_be_looked_into(self, types: tuple[str, ...]) -> bool:
        if self._is_message or not self._search.rules.settings.archives:
            return self._is_message
        return (
            ZIP in types
            or "application/zip" in self._part.media.types
            or _any_extension(self._part.names, _ARCHIVES)
        )

    def _keep(self, piece: bytes) -> None:
        if self._store is not None and (not self._is_message or self._search.may_unpack(len(piece))):
            _keep(self._store, piece)


def _keep(store: IO[bytes], piece: bytes) -> None:
    """Raises ScannerFailure: a disk that is full says nothing about the message."""
    try:
        store.write(piece)
    except OSError as error:
        raise ScannerFailure(f"cannot keep an archive: {error.strerror or error}") from error


def _any_extension(names: Iterable[str], extensions: frozenset[str]) -> bool:
    return any(extension(name) in extensions for name in names)


def _is_directory(name: str) -> bool:
    return name.endswith("/") and name.isprintable()


def _content_types(part: PartBegin) -> bytes:
    return b"".join(field.raw for field in part.header.all(b"Content-Type")) + b"\r\n"
