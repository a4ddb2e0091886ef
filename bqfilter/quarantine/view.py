"""Kept messages as people and programs see them: a line, a page, a JSON value. Pure but for reading the file.

Every text in them comes from a sender, a client or a scanner, and ends on a terminal: whatever is no plain
printable character is shown as an escape, in JSON as well, where bytes that are no UTF-8 read as \\xNN.
"""

import re
from collections.abc import Iterator
from typing import Any

from bqfilter.mail.message import Message
from bqfilter.quarantine.claim import KeptFile
from bqfilter.quarantine.history import Event
from bqfilter.quarantine.letter import Letter
from bqfilter.quarantine.names import Name, State
from bqfilter.quarantine.record import Stored
from bqfilter.quarantine.store import Entry

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_SHOWN_HEADER_LINES = 200
_UNITS = ("KiB", "MiB", "GiB", "TiB")


def as_line(entry: Entry) -> str:
    if entry.stored is None:
        return f"{entry.name.id}  {entry.name.state:<9}  cannot be read: {printable(entry.flaw)}"
    stored, recipients = entry.stored, entry.stored.recipients
    more = f" (+{len(recipients) - 1})" if len(recipients) > 1 else ""
    recipient = _address(recipients[0]) if recipients else ""
    return (
        f"{entry.name.id}  {entry.name.state:<9}  {as_size(stored.size):>8}  "
        f"<{_address(stored.sender)}> -> <{recipient}>{more}  "
        f"{printable(stored.reason)}  {_quoted(stored.subject)}"
    )


def as_value(entry: Entry) -> dict[str, Any]:
    head = {"id": entry.name.id, "state": entry.name.state, "kept_at": entry.name.kept_at}
    return {**head, "flaw": entry.flaw} if entry.stored is None else {**head, **_stored_value(entry.stored)}


def _stored_value(stored: Stored) -> dict[str, Any]:
    record = stored.record
    return {
        "size": stored.size,
        "sha256": stored.sha256,
        "session": record.session_id,
        "listener": record.listener,
        "client_name": as_text(record.client.name),
        "client_address": as_text(record.client.address),
        "helo": as_text(record.client.helo),
        "sender": as_text(record.sender.address),
        "recipients": [as_text(one.address) for one in record.recipients],
        "action": record.action,
        "policy": record.policy,
        "reason": record.reason,
        "reports": [
            {"scanner": one.scanner, "finding": one.finding, "detail": one.detail, "score": one.score}
            for one in record.reports
        ],
        "message_id": record.message_id,
        "subject": record.subject,
    }


def details(kept: KeptFile) -> dict[str, Any]:
    stored = kept.stored
    return {
        "id": kept.name.id,
        "state": kept.name.state,
        "kept_at": kept.name.kept_at,
        **_stored_value(stored),
        "mail_line": as_text(stored.record.sender.line),
        "rcpt_lines": [as_text(one.line) for one in stored.record.recipients],
        "xforward": {
            as_text(name): as_text(value) for name, value in stored.record.client.attributes.items()
        },
        "history": [_event_value(event) for event in kept.events()],
    }


def _event_value(event: Event) -> dict[str, Any]:
    return {
        "event": event.what,
        "at": event.at,
        "by": event.by,
        "recipients": [as_text(address) for address in event.recipients],
        "queue_id": event.queue_id,
        "text": event.text,
    }


def page(kept: KeptFile) -> Iterator[str]:
    yield from _facts(kept.name, str(kept.name.state), kept.stored)
    for event in kept.events():
        yield f"history     {printable(_event_line(event))}"
    yield ""
    yield from _header_lines(Message(kept.content, header_limit=65536))


def letter_page(letter: Letter) -> Iterator[str]:
    """The same of a message in a file: what would be sent, and to whom, by its own account."""
    yield from _facts(Name(letter.id, State.HELD), "", letter.stored)
    yield ""
    yield from _header_lines(Message.in_memory(letter.header, header_limit=65536))


def _facts(name: Name, state: str, stored: Stored) -> Iterator[str]:
    record = stored.record
    facts = {
        "id": name.id,
        "state": state,
        "kept at": name.kept_at,
        "size": f"{stored.size} bytes",
        "session": record.session_id,
        "listener": record.listener,
        "client": as_text(record.client.namaddr),
        "helo": as_text(record.client.helo),
        "mail": as_text(record.sender.line),
        **{f"rcpt {number}": as_text(one.line) for number, one in enumerate(record.recipients, start=1)},
        "action": record.action,
        "policy": record.policy,
        "reason": record.reason,
        "message-id": record.message_id,
        "subject": record.subject,
    }
    yield from (f"{what:<10}  {printable(value)}" for what, value in facts.items() if value)
    for report in record.reports:
        score = "" if report.score is None else f" score {report.score:g}"
        said = printable(f"{report.scanner}: {report.finding} {report.detail}").rstrip()
        yield f"report      {said}{score}"


def _event_line(event: Event) -> str:
    to = ", ".join(f"<{as_text(address)}>" for address in event.recipients)
    parts = (event.at, event.what, f"by {event.by}" if event.by else "", f"to {to}" if to else "", event.text)
    return " ".join(part for part in parts if part)


def _header_lines(message: Message) -> Iterator[str]:
    """The header of the message, as far as somebody may want to read it."""
    lines = message.header.raw.split(b"\r\n")[:-1]
    yield from (as_text(line, tab=" ") for line in lines[:_SHOWN_HEADER_LINES])
    if len(lines) > _SHOWN_HEADER_LINES:
        yield f"[{len(lines) - _SHOWN_HEADER_LINES} more lines]"


def as_text(data: bytes, tab: str = "\t") -> str:
    """Bytes of a peer, for a terminal."""
    return printable(data.decode("utf-8", "backslashreplace").replace("\t", tab))


def _address(text: str) -> str:
    """The same of an address whose bytes have not been made of its record yet."""
    if text.isascii() and text.isprintable():
        return text
    return as_text(text.encode("utf-8", "surrogateescape"))


def _quoted(text: str) -> str:
    return f'"{printable(text)}"'


def printable(text: str) -> str:
    """Letters of all scripts as they are; what moves a cursor or turns the writing is escaped."""
    if text.isascii() and text.isprintable():  # as nearly all are, in a list of 100,000
        return text
    return _UNPRINTABLE.sub(lambda found: _visible(found[0]), text)


def _visible(char: str) -> str:
    return char if char.isprintable() else ascii(char)[1:-1]


def as_size(size: int) -> str:
    """A size for people: three digits and a unit."""
    if size < 1000:
        return f"{size}B"
    amount, unit = size / 1024, 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f}{_UNITS[unit]}" if amount >= 10 else f"{amount:.1f}{_UNITS[unit]}"
