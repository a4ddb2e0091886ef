"""The rules scanner: tables in the syntax of header_checks(5) against a message and its envelope.

The tables are read in the master and inherited by the workers, so a mistake in one is found at the start or
reload, and a file may be one that only root can read. Looked up are, in this order: the remote client, the
sender, each recipient, each field of the header, and then the body part by part, the fields of its header and
its lines. Of the tables of one key the first with a rule that applies decides, as in Postfix.

What a rule does is a `Judgement`. No message makes this scanner fail, only the clock does, which is looked at
before each text: matching takes linear time, so one text cannot keep it for long. (And a disk that is full
where edits of a long body would be kept.)

What a signature covers is not edited unless the site has said otherwise, as in the header: nothing of the
body of a message that is signed by DKIM or ARC, and nothing within a part that is signed or encrypted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from bqfilter.config.content import RulesSettings
from bqfilter.errors import ConfigError, ScannerFailure
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.fields import TOP, Header
from bqfilter.mail.message import Message
from bqfilter.mail.mime import Event, Excess, PartBegin, PartData, PartEnd, walk
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.marks import is_signed
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.report import Report
from bqfilter.scanning.rule_action import Action, Verb, check_field
from bqfilter.scanning.rule_edits import BodyEditor
from bqfilter.scanning.rule_judgement import Judgement, Place
from bqfilter.scanning.rule_pattern import Subject
from bqfilter.scanning.rule_subjects import (
    Line,
    PartLines,
    Spot,
    address_subject,
    field_spots,
    field_subject,
)
from bqfilter.scanning.rule_table import Applied, Table, Vet, read_table

# Which rules may edit. For the envelope that is a field in front of the header, as in access(5).
_ALL_EDITS = frozenset(verb for verb in Verb if verb.is_edit)
_EDITS = {
    "header_checks": _ALL_EDITS,
    "client_checks": frozenset({Verb.PREPEND}),
    "sender_checks": frozenset({Verb.PREPEND}),
    "recipient_checks": frozenset({Verb.PREPEND}),
    "mime_header_checks": _ALL_EDITS,
    "body_checks": _ALL_EDITS,
}
_OF_LINES = ("body_checks",)  # whose edits are lines; those of all others are fields

_SEALED = "signed or encrypted"

# The fields that Postfix takes for those of a MIME part in the header of the message too (header_opts.c).
_MIME_FIELDS = frozenset(
    {
        b"content-description",
        b"content-disposition",
        b"content-id",
        b"content-transfer-encoding",
        b"content-type",
        b"mime-version",
    }
)


class _Lookup(NamedTuple):
    """A text to look up in the tables of a key.

    `field` is its number in the header of the message; `line` or `spot` is where it stands in the body, which
    with `is_sealed` is not edited.
    """

    key: str
    subject: Subject
    field: int = TOP
    line: Line | None = None
    spot: Spot | None = None
    is_sealed: bool = False

    @property
    def place(self) -> Place:
        spot = self.spot if self.line is None else self.line.spot
        if spot is not None and self.is_sealed:
            spot = Spot(hindrance=_SEALED)
        return Place(_shown(self.subject), self.field, spot)

    def is_for(self, applied: Applied) -> bool:
        """DUNNO ends the search and does no more; encoded lines of text are edited in their decoded form."""
        verb = applied.action.verb
        if verb is Verb.DUNNO:
            return False
        return self.line is None or self.line.model is not None or not verb.is_edit


@dataclass(frozen=True, slots=True)
class _Part:
    """A part that is open; with `is_sealed` a change of what is in it would be noticed."""

    lines: PartLines
    is_extra: bool
    is_sealed: bool


class Rules:
    """One [[rules]] table of the configuration. Raises ConfigError where a table cannot be used."""

    def __init__(
        self, settings: RulesSettings, workspace: Workspace, *, changes_signed: bool = False
    ) -> None:
        self._settings = settings
        self._workspace = workspace
        self._changes_signed = changes_signed
        self._tables = {key: _read_tables(settings, key) for key in _EDITS}
        if not any(self._tables.values()):
            raise ConfigError(f"rules.{settings.name}: names no table; one of {', '.join(_EDITS)} is needed")

    @property
    def settings(self) -> RulesSettings:
        return self._settings

    def after_fork_in_worker(self) -> None:
        """Nothing: the worker has inherited the tables."""

    def ping(self, deadline: Deadline) -> str:  # noqa: ARG002  (nobody is asked)
        tables = [table for tables in self._tables.values() for table in tables]
        count = sum(table.rule_count for table in tables)
        return f"{count} rule{'s' * (count != 1)} in {len(tables)} table{'s' * (len(tables) != 1)}"

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:
        hindrance = "" if self._changes_signed or not is_signed(message.header) else _SEALED
        editor = BodyEditor(message, self._workspace, hindrance)
        judgement = Judgement(self._settings.reply, self._settings.name, envelope.session_id, editor)
        for lookup in self._lookups(message, envelope, deadline, judgement, editor):
            _check_time(deadline)
            applied = None if judgement.is_final else self._find(lookup)
            if applied is not None and lookup.is_for(applied):
                judgement.apply(applied, lookup.place)
            if judgement.is_final and not editor.is_within_part:
                break
        return judgement.report()

    def _find(self, lookup: _Lookup) -> Applied | None:
        found = (table.find(lookup.subject) for table in self._tables[lookup.key])
        return next((applied for applied in found if applied is not None), None)

    def _lookups(
        self,
        message: Message,
        envelope: Envelope,
        deadline: Deadline,
        judgement: Judgement,
        editor: BodyEditor,
    ) -> Iterator[_Lookup]:
        """All texts in order, except those for which there is no table."""
        for lookup in _of_envelope(envelope):
            if self._tables[lookup.key]:
                yield lookup
        if self._tables["header_checks"] or self._tables["mime_header_checks"]:
            yield from self._of_header(message.header)
        if self._tables["body_checks"] or self._tables["mime_header_checks"]:
            yield from self._of_body(walk(message), deadline, judgement, editor)

    def _of_header(self, header: Header) -> Iterator[_Lookup]:
        for field in header.fields:
            subject = field_subject(field, self._settings.decode)
            if self._tables["header_checks"]:
                yield _Lookup("header_checks", subject, field.index)
            if self._tables["mime_header_checks"] and field.name.lower() in _MIME_FIELDS:
                yield _Lookup("mime_header_checks", subject, field.index)

    def _of_body(
        self, events: Iterable[Event], deadline: Deadline, judgement: Judgement, editor: BodyEditor
    ) -> Iterator[_Lookup]:
        parts: list[_Part] = []
        for event in events:
            _check_time(deadline)  # there may be gigabytes behind the limit, without one text to look up
            if judgement.is_final and not editor.is_within_part:
                return
            match event:
                case PartBegin(at=at):
                    if parts:
                        yield from self._of_lines(parts[-1], parts[-1].lines.interrupted())
                    editor.settle(at)
                    yield from self._of_part_header(event, parts)
                    parts.append(self._opened(event, parts))
                case PartData(at=at):
                    if not parts[-1].is_extra:  # what it has comes once more
                        editor.settle(at)
                    yield from self._of_lines(parts[-1], parts[-1].lines.more(event))
                case PartEnd():
                    part = parts.pop()
                    yield from self._of_lines(part, part.lines.last())
                    editor.note_part(part.lines.encoded_part())
                case Excess(what):
                    judgement.remark(f"not looked at beyond the limit on {what}")
                case _:
                    assert_never(event)

    def _opened(self, part: PartBegin, around: Sequence[_Part]) -> _Part:
        lines = PartLines(part, self._settings.body_limit, self._settings.decode, self._may_apply_to_lines)
        is_sealed = part.media.is_sealed or bool(around and around[-1].is_sealed)
        return _Part(lines, part.is_extra, is_sealed and not self._changes_signed)

    def _may_apply_to_lines(self, lines: Subject) -> bool:
        return any(table.may_apply_to_lines(lines) for table in self._tables["body_checks"])

    def _of_part_header(self, part: PartBegin, around: Sequence[_Part]) -> Iterator[_Lookup]:
        if not part.depth or not self._tables["mime_header_checks"]:
            return  # that of the message has been looked at
        # Another reading of lines that are edited decoded cannot be edited as well.
        is_sealed = around[-1].is_sealed or (part.is_extra and around[-1].lines.is_encoded)
        for field, spot in zip(part.header.fields, field_spots(part), strict=True):
            subject = field_subject(field, self._settings.decode)
            yield _Lookup("mime_header_checks", subject, spot=spot, is_sealed=is_sealed)

    def _of_lines(self, part: _Part, lines: Iterator[Line]) -> Iterator[_Lookup]:
        if not self._tables["body_checks"]:
            return
        for line in lines:
            yield _Lookup("body_checks", line.subject, line=line, is_sealed=part.is_sealed)


def _read_tables(settings: RulesSettings, key: str) -> tuple[Table, ...]:
    paths: tuple[str, ...] = getattr(settings, key)
    last, of_lines = len(paths) - 1, key in _OF_LINES
    return tuple(
        read_table(path, _vet(key), settings.decode, is_last=at == last, of_lines=of_lines)
        for at, path in enumerate(paths)
    )


def _vet(key: str) -> Vet:
    def vet(action: Action) -> None:
        if action.verb.is_edit and action.verb not in _EDITS[key]:
            raise ValueError(f"{action.verb} is not available in {key}")
        if key not in _OF_LINES:
            check_field(action)

    return vet


def _of_envelope(envelope: Envelope) -> Iterator[_Lookup]:
    yield _Lookup("client_checks", Subject(envelope.client.namaddr))
    yield _Lookup("sender_checks", address_subject(envelope.sender.address))
    for recipient in envelope.recipients:
        yield _Lookup("recipient_checks", address_subject(recipient.address))


def _check_time(deadline: Deadline) -> None:
    if deadline.has_passed:
        raise ScannerFailure("so many rules for so much text take longer than there is time")


def _shown(subject: Subject) -> bytes:
    """What the log may quote."""
    return subject.decoded or subject.raw or b""
