"""Spamd: ask SpamAssassin's daemon for a score, by the SPAMC protocol, version 1.5.

SYMBOLS asks for score and symbols. HEADERS is asked where the settings want spamd's X-Spam-* fields in the
message: those become header edits, and whatever the message had of that name goes. Nothing else that spamd
would change is: neither the subject (the settings have `subject_prefix`) nor the body (`report_safe`).

A reply that is not complete is a failure, whatever it says so far; so is a check that spamd itself broke off
(its --timeout-child, or time_limit), whose score is that of the rules that had run by then: it looks like
ham. SpamAssassin marks it with the symbol TIME_LIMIT_EXCEEDED. Nothing is kept between messages.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bqfilter.config.actions import QUARANTINE, REJECT, Response
from bqfilter.config.content import SpamdSettings
from bqfilter.errors import ScannerFailure
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.fields import TOP, Edit, Field, Header, Insert, Remove, make_field
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.exchange import Exchange, one_line
from bqfilter.scanning.report import NO_CHANGES, Changes, Finding, Report

_RECIPIENT = "{recipient}"
# What spamd uses as a user name ends up in file names and queries there. No part may begin with a dot.
_SAFE_USER = re.compile(r"(?!\.)[a-z0-9._+=-]{1,64}(?:@(?!\.)[a-z0-9.-]{1,255})?")

_LINE_END = re.compile(rb"\r\n")
_MAX_LINE_BYTES = 1000  # a status or header line; spamd's have some fifty
_MAX_LINES = 20
_MAX_BODY_BYTES = 65536  # of symbols, or of what HEADERS adds to the header that the message has
_STATUS = re.compile(rb"SPAMD/[0-9.]{1,8} ([0-9]{1,3}) (.*)")
_SPAM = re.compile(
    rb"(True|False|Yes|No) ; (-?[0-9]{1,7}(?:\.[0-9]{1,4})?) / (-?[0-9]{1,7}(?:\.[0-9]{1,4})?)"
)
_LENGTH = re.compile(rb"[0-9]{1,9}")

_BROKEN_OFF = "TIME_LIMIT_EXCEEDED"
_MAX_SYMBOLS = 12  # in a report
# Names, each maybe with its score, maybe in brackets: the template of X-Spam-Status is the site's.
_TESTS = re.compile(rb"\btests=\[?((?:[^\s,]+,[ \t]*)*[^\s,\]]+)")
_OURS = b"x-spam-"
# X-Spam-Prev-* has what a field was before spamd rewrote it; we rewrite none.
_ADDED = re.compile(rb"x-spam-(?!prev-)[a-z0-9_-]{1,60}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of a reply, and how much stands behind it."""

    is_spam: bool
    score: float
    threshold: float
    body_bytes: int


class Spamd:
    """The spamd at one of the endpoints that the dialler knows."""

    def __init__(self, settings: SpamdSettings, dialler: Dialler) -> None:
        self.settings = settings
        self._dialler = dialler

    def after_fork_in_worker(self) -> None:
        """Nothing to get ready: a connection is made when a message is there."""

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:
        """Have it scored. Raises ScannerFailure, ConversationLost, and OSError from the spool."""
        wants_fields = self.settings.spam_headers
        command = b"HEADERS" if wants_fields else b"SYMBOLS"
        user = user_name(self.settings.user, envelope)
        room = _MAX_BODY_BYTES + (2 * len(message.header.raw) if wants_fields else 0)
        with self._dialler.stream(deadline) as stream:
            exchange = Exchange(stream, deadline)
            exchange.send(request(command, user, message))
            exchange.end_request()
            answer, body = _read_reply(exchange, room)
            exchange.check_sent()
            fields = added_fields(body) if wants_fields else ()
            symbols = status_symbols(fields) if wants_fields else parse_symbols(body)
            if _BROKEN_OFF in symbols:
                raise ScannerFailure(f"no verdict: the check was broken off ({_BROKEN_OFF})")
        return self._report(answer, symbols, _changes(message.header, fields) if wants_fields else NO_CHANGES)

    def ping(self, deadline: Deadline) -> str:
        """Each endpoint with what it answers."""
        return self._dialler.survey(_ping, deadline)

    def _report(self, answer: Answer, symbols: Sequence[str], changes: Changes) -> Report:
        response = self._response(answer.score)
        return Report(
            Finding.HIT if answer.is_spam or response else Finding.CLEAN,
            _detail(answer, symbols),
            score=answer.score,
            response=response,
            changes=changes,
        )

    def _response(self, score: float) -> Response | None:
        if 0 < self.settings.reject_score <= score:
            return REJECT
        if 0 < self.settings.quarantine_score <= score:
            return QUARANTINE
        return None


def user_name(wanted: str, envelope: Envelope) -> str:
    """Whose preferences to ask for; "" where nobody's, or where a recipient's name is not safe to hand on."""
    if wanted != _RECIPIENT:
        return wanted
    if len(envelope.recipients) != 1:
        return ""
    name = envelope.recipients[0].address.decode("ascii", "replace").lower()
    return name if _SAFE_USER.fullmatch(name) else ""


def request(command: bytes, user: str, message: Message) -> Iterator[bytes]:
    """The request, head and content. Its length is told, so that half a message is never scored as one."""
    head = b"%b SPAMC/1.5\r\nContent-length: %d\r\n" % (command, message.size)
    yield head + (b"User: %b\r\n\r\n" % user.encode("ascii") if user else b"\r\n")
    yield from message.content()


def parse_status(line: bytes) -> bytes:
    """The words of a status line that reports success. Raises ScannerFailure."""
    match = _STATUS.fullmatch(line)
    if match is None or int(match[1]) != 0:
        raise ScannerFailure(f'answered "{one_line(line)}"')
    return match[2]


def parse_head(lines: Sequence[bytes]) -> Answer:
    """From the lines between status and body. Raises ScannerFailure."""
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)
    }
    spam, length = fields.get(b"spam", b""), fields.get(b"content-length", b"")
    verdict = _SPAM.fullmatch(spam)
    if verdict is None:
        raise ScannerFailure(f'answered with the score "{one_line(spam)}"')
    if not _LENGTH.fullmatch(length):  # without it a reply that was cut short would look like a whole one
        raise ScannerFailure(f'answered with the length "{one_line(length)}"')
    score, threshold = (float(number) + 0.0 for number in verdict.group(2, 3))  # spamd has a "-0.0" as well
    return Answer(verdict[1] in (b"True", b"Yes"), score, threshold, int(length))


def parse_symbols(body: bytes) -> tuple[str, ...]:
    """The names of the rules that matched, from the body of a reply to SYMBOLS."""
    return tuple(one_line(name) for name in body.split(b",") if name.strip())


def added_fields(body: bytes) -> tuple[Field, ...]:
    """The X-Spam-* fields that spamd adds, from the body of a reply to HEADERS. Raises ScannerFailure.

    spamd has left out those that the message came with, X-Spam-Prev-* excepted, which do not count here.
    """
    header = Header(re.sub(rb"\r*\n", b"\r\n", body))
    found = [field for field in header.fields if _ADDED.fullmatch(field.name)]
    if sum(len(field.raw) for field in found) > _MAX_BODY_BYTES:
        raise ScannerFailure(f"adds more than {_MAX_BODY_BYTES} bytes to the header")
    return tuple(found)


def status_symbols(fields: Sequence[Field]) -> tuple[str, ...]:
    """The names of the rules that matched, as X-Spam-Status has them.

    No other field is looked at: X-Spam-Report quotes the message, which could name any symbol.
    """
    status = next((field.value for field in fields if field.name.lower() == b"x-spam-status"), b"")
    match = _TESTS.search(status)
    return parse_symbols(re.sub(rb"=[^,]*", b"", match[1])) if match and match[1] != b"none" else ()


def _read_reply(exchange: Exchange, room: int) -> tuple[Answer, bytes]:
    parse_status(exchange.read_until(_LINE_END, _MAX_LINE_BYTES))
    lines: list[bytes] = []
    while line := exchange.read_until(_LINE_END, _MAX_LINE_BYTES):
        lines.append(line)
        if len(lines) > _MAX_LINES:
            raise ScannerFailure("answers with too many lines")
    answer = parse_head(lines)
    if answer.body_bytes > room:
        raise ScannerFailure(f"answers with {answer.body_bytes} bytes where at most {room} are due")
    return answer, exchange.read_exactly(answer.body_bytes)


def _changes(header: Header, added: Sequence[Field]) -> Changes:
    removals: list[Edit] = [
        Remove(field.index) for field in header.fields if field.name.lower().startswith(_OURS)
    ]
    inserts = [Insert(TOP, make_field(field.name, field.raw.partition(b":")[2])) for field in added]
    return Changes(edits=(*removals, *inserts))


def _detail(answer: Answer, symbols: Sequence[str]) -> str:
    shown = [*symbols[:_MAX_SYMBOLS], *(["..."] if len(symbols) > _MAX_SYMBOLS else [])]
    return f"{answer.score:g}/{answer.threshold:g} {','.join(shown)}".rstrip()


def _ping(stream: Stream, deadline: Deadline) -> str:
    exchange = Exchange(stream, deadline)
    exchange.send([b"PING SPAMC/1.5\r\n\r\n"])
    line = exchange.read_until(_LINE_END, _MAX_LINE_BYTES)
    if parse_status(line) != b"PONG":
        raise ScannerFailure(f'answered PING with "{one_line(line)}"')
    return one_line(line)
