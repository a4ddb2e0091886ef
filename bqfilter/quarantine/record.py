"""What a kept file tells about its message: the record in its first line, as values and as that line.

The line is one JSON object in ASCII, padded with blanks to a length that is known before the content is, and
holds everything needed to send the message on as it came: the MAIL and RCPT lines byte for byte, with their
ESMTP parameters, and the XFORWARD attributes. Bytes that are no UTF-8 are kept as lone surrogates
(Python's "surrogateescape"), so that nothing is lost.

Texts of scanners and senders are cut and freed of control characters here, so that the line stays small. A
line that cannot be read raises QuarantineFailure, and before anything of it goes onto a wire `check` looks at
every command line in it.

To read a line is to see that all of it has the right form. Values are made of it only where they are asked
for: most readers list messages, by the hundred thousand perhaps, and look at a few of them.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from bqfilter.errors import QuarantineFailure
from bqfilter.mail.encoded_words import decoded_text
from bqfilter.mail.envelope import Client
from bqfilter.mail.fields import Header
from bqfilter.smtp import grammar
from bqfilter.smtp.commands import Mail, Rcpt, parse_command

FORMAT = 1
_MAX_TEXT_CHARS = 500
_MAX_SUBJECT_BYTES = 4096  # before it is decoded; what is shown of it is shorter
_MAX_REPORTS = 50  # as many scanners as nobody has
_DIGEST_CHARS = 64
_MOST_BYTES = 10**15  # a size is never longer than this one
_ATTRIBUTES = frozenset(name.decode("ascii") for name in grammar.XFORWARD_VALUES)
_DECODER = json.JSONDecoder()
_SHAPE = {
    "format": int, "id": str, "size": int, "sha256": str, "session": str, "listener": str, "client": dict,
    "mail": list, "rcpt": list, "action": str, "policy": str, "reason": str, "reports": list,
    "message_id": str, "subject": str,
}  # fmt: skip
_members = itemgetter(*_SHAPE)
_MEMBER_TYPES = [*_SHAPE.values()]
_SCORE_TYPES = (float, type(None), int)
# As JSON writes half a letter: a byte that is no UTF-8, or what was never ours, such as anything in capitals.
_SURROGATE, _SURROGATE_IN_CAPITALS = b"\\ud", b"\\uD"
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What one scanner said."""

    scanner: str
    finding: str
    detail: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known about a message when it is kept.

    `action` is what was done with the message, in the words of the settings: "quarantine", or for a copy
    "tag+quarantine". `reason` is the verdict's own sentence.
    """

    sender: Mail
    recipients: tuple[Rcpt, ...]
    client: Client = field(default_factory=Client)
    session_id: str = ""
    listener: str = ""
    action: str = ""
    policy: str = ""
    reason: str = ""
    reports: tuple[ReportSummary, ...] = ()
    message_id: str = ""
    subject: str = ""


class Stored(NamedTuple):
    """A first line that has been read, with what became known by writing: of the content size and SHA-256.

    `found` is the JSON object, known to be a record; `content_at` is where the content begins.
    """

    found: Mapping[str, Any]
    size: int
    sha256: str
    content_at: int

    @property
    def record(self) -> Record:
        """Made anew each time."""
        return _record(self.found)

    @property
    def sender(self) -> str:
        """The address of the record's sender, bytes that are no UTF-8 as lone surrogates."""
        return str(self.found["mail"][1])

    @property
    def recipients(self) -> list[str]:
        """The same of its recipients."""
        return [words[1] for words in self.found["rcpt"]]

    @property
    def reason(self) -> str:
        return str(self.found["reason"])

    @property
    def subject(self) -> str:
        return str(self.found["subject"])


def headline(header: Header) -> tuple[str, str]:
    """The Message-ID and the subject of a message, decoded, fit for a record."""
    message_id = (header.first(b"message-id") or b"").decode("utf-8", "replace")
    subject = (header.first(b"subject") or b"")[:_MAX_SUBJECT_BYTES]
    return clean(message_id), clean(decoded_text(subject))


def clean(text: str) -> str:
    """One line without control characters, of bounded length."""
    return _UNSAFE.sub(" ", text[: 2 * _MAX_TEXT_CHARS]).strip()[:_MAX_TEXT_CHARS]


def encode(record: Record, identifier: str, size: int, sha256: str) -> bytes:
    """The first line of a file; for one record and identifier always of the same length."""
    room = len(_line(record, identifier, _MOST_BYTES, "0" * _DIGEST_CHARS))
    return _line(record, identifier, size, sha256).ljust(room) + b"\n"


def check(record: Record) -> None:
    """Each command line is what it is taken for, and one line: it may be sent. Raises QuarantineFailure."""
    commands: list[Mail | Rcpt] = [record.sender, *record.recipients]
    for command in commands:
        if b"\n" in command.line or parse_command(command.line) != command:
            raise QuarantineFailure(f"{command.line[:80]!r} is no {command.verb} line that can be sent")


def decode(line: bytes, identifier: str) -> Stored:
    """Read a first line, line end included; fast, there may be 100,000. Raises QuarantineFailure."""
    try:
        found, _ = _DECODER.raw_decode(line.decode("ascii"))  # what pads the line need not be looked at
        _see_that_it_is_a_record(found)
        if found["format"] != FORMAT or found["id"] != identifier:
            raise ValueError(f"format {found['format']!r}, id {found['id']!r}")
        if not 0 <= found["size"] <= _MOST_BYTES:
            raise ValueError(f"size {found['size']!r}")
        stored = Stored(found, found["size"], found["sha256"], len(line))
        if _SURROGATE in line or _SURROGATE_IN_CAPITALS in line:
            _ = stored.record  # only by making it one sees whether these stand for bytes
        return stored
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise QuarantineFailure(
            f"its first line cannot be read: {type(error).__name__} {clean(str(error))}"
        ) from None


def _see_that_it_is_a_record(found: Any) -> None:
    """All that `_record` needs has the type that it needs. Raises whatever such a lack leads to."""
    if [*map(type, _members(found))] != _MEMBER_TYPES:
        raise TypeError("a member is not of its type")
    client = found["client"]
    if client and any(type(value) is not str for value in client.values()):
        raise TypeError("an attribute of the client is no text")
    for words in (found["mail"], *found["rcpt"]):
        line, address, parameters = words
        if not (type(words) is list and type(line) is type(address) is type(parameters) is str):
            raise TypeError("a command is not three texts")
    for scanner, finding, detail, score in found["reports"]:
        if not (type(scanner) is type(finding) is type(detail) is str and type(score) in _SCORE_TYPES):
            raise TypeError("a report is not three texts with a score")
        if type(score) is int:
            float(score)  # not every whole number is one


def _line(record: Record, identifier: str, size: int, sha256: str) -> bytes:
    value = {
        "format": FORMAT,
        "id": identifier,
        "size": size,
        "sha256": sha256,
        "session": clean(record.session_id),
        "listener": clean(record.listener),
        "client": {_text(name): _text(value) for name, value in record.client.attributes.items()},
        "mail": _words(record.sender),
        "rcpt": [_words(recipient) for recipient in record.recipients],
        "action": clean(record.action),
        "policy": clean(record.policy),
        "reason": clean(record.reason),
        "reports": [_summary(report) for report in record.reports[:_MAX_REPORTS]],
        "message_id": clean(record.message_id),
        "subject": clean(record.subject),
    }
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _summary(report: ReportSummary) -> list[str | float | None]:
    return [clean(report.scanner), clean(report.finding), clean(report.detail), _number(report.score)]


def _number(score: float | None) -> float | None:
    """JSON has no word for what is no number."""
    return score if score is None or math.isfinite(score) else None


def _record(found: Mapping[str, Any]) -> Record:
    return Record(
        sender=Mail(*map(_bytes, found["mail"])),
        recipients=tuple([Rcpt(*map(_bytes, words)) for words in found["rcpt"]]),
        client=Client(_attributes(found["client"])),
        session_id=found["session"],
        listener=found["listener"],
        action=found["action"],
        policy=found["policy"],
        reason=found["reason"],
        reports=tuple([ReportSummary(*report) for report in found["reports"]]),
        message_id=found["message_id"],
        subject=found["subject"],
    )


def _words(command: Mail | Rcpt) -> list[str]:
    """The line, and what was read out of it, so that a list of messages need not read it again."""
    return [_text(command.line), _text(command.address), _text(command.parameters)]


def _attributes(found: Mapping[str, str]) -> dict[bytes, bytes]:
    """Only names that we know; what does not fit a value is replaced when it is said again."""
    return {_bytes(name): _bytes(value) for name, value in found.items() if name in _ATTRIBUTES}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
