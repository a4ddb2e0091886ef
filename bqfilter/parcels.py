"""Parcels: the transactions that a plan comes to, each with its MAIL and RCPT lines and what is sent.

Recipients whose copies are the same share one. Where nobody is added and nobody's address changed, that is
the transaction that the client has opened already; anything else is said anew, with the client's own lines
for its own recipients. A body that is not the client's is declared as what it is (`honest_mail`).

Nothing is sent here. Raises UpstreamFailure where the after-filter server cannot be sent what was made, and
OSError where the spool cannot be read.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bqfilter.errors import UpstreamFailure
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.fields import Edit
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited, Original, Outgoing
from bqfilter.mail.spool import Spool
from bqfilter.quarantine import Record, letter
from bqfilter.quarantine.names import new_id
from bqfilter.scanning.plan import Judged
from bqfilter.smtp.client import Capabilities
from bqfilter.smtp.commands import Mail, honest_mail, rcpt_line

_NULL_SENDER = Mail(b"MAIL FROM:<>", b"", b"")  # the mailbox's own trouble must not bounce to a forged sender


@dataclass(frozen=True, slots=True)
class Consignment:
    """A message with its envelope; `edits` says what its header gets where it is passed on."""

    envelope: Envelope
    message: Message
    spool: Spool
    edits: Callable[[Judged], tuple[Edit, ...]]


@dataclass(frozen=True, slots=True)
class Parcel:
    """One transaction; `mail` is empty for the one that is open, which has just these recipients already.

    `judged` are all whose recipients it is for.
    """

    judged: tuple[Judged, ...]
    mail: bytes
    recipients: tuple[bytes, ...]
    message: Outgoing


def for_recipients(
    delivered: Sequence[Judged], given: Consignment, capabilities: Callable[[], Capabilities]
) -> list[Parcel]:
    """The transactions for those whose message is passed on."""
    merged: dict[object, list[Judged]] = {}
    edits = {id(one): given.edits(one) for one in delivered}
    for one in delivered:
        merged.setdefault((edits[id(one)], one.verdict.body), []).append(one)
    if len(merged) == 1 and _is_as_opened(delivered, given.envelope):
        (first, *_) = delivered
        return [Parcel(tuple(delivered), b"", (), _changed(given, edits[id(first)], first))]
    return [_anew(group, given, edits[id(group[0])], capabilities) for group in merged.values()]


def for_mailbox(
    kept: Iterable[tuple[Judged, Record]],
    given: Consignment,
    mailbox: bytes,
    capabilities: Callable[[], Capabilities],
    now: float,
) -> list[Parcel]:
    """The transactions that send what is kept to the quarantine's mailbox, its envelope in its header."""
    return [_to_mailbox(one, record, given, mailbox, capabilities, now) for one, record in kept]


def _is_as_opened(delivered: Sequence[Judged], envelope: Envelope) -> bool:
    """Just the recipients that the client has named, and its own body."""
    verdicts = [one.verdict for one in delivered]
    if any(one.recipients is not None or one.copies or one.body is not None for one in verdicts):
        return False
    return sum(len(one.group.recipients) for one in delivered) == len(envelope.recipients)


def _anew(
    group: Sequence[Judged],
    given: Consignment,
    edits: tuple[Edit, ...],
    capabilities: Callable[[], Capabilities],
) -> Parcel:
    message = _changed(given, edits, group[0])
    lines = dict.fromkeys(line for one in group for line in _lines(one, capabilities()))
    mail = given.envelope.sender.line
    if group[0].verdict.body is not None:
        mail = _declared(given.envelope.sender, message, capabilities())
    return Parcel(tuple(group), mail, tuple(lines), message)


def _lines(one: Judged, capabilities: Capabilities) -> Iterable[bytes]:
    """RCPT lines: the client's own, or our own for whom we have put in their place or added."""
    if one.verdict.recipients is None:
        named = {rcpt.address.lower() for rcpt in one.group.recipients}
        yield from (rcpt.line for rcpt in one.group.recipients)
    else:
        named = {address.lower() for address in one.verdict.recipients}
        yield from map(rcpt_line, one.verdict.recipients)
    # Whether a copy arrives is no business of the sender's (RFC 3461 section 4.1).
    silence = b"NOTIFY=NEVER" if b"DSN" in capabilities.keywords else b""
    added = (address for address in one.verdict.copies if address.lower() not in named)
    yield from (rcpt_line(address, silence) for address in added)


def _changed(given: Consignment, edits: tuple[Edit, ...], one: Judged) -> Outgoing:
    body = one.verdict.body
    if not edits and body is None:
        return Original(given.spool)
    return Edited(given.message, edits, body, is_small=given.spool.wire() is not None)


def _declared(mail: Mail, message: Outgoing, capabilities: Capabilities) -> bytes:
    """A MAIL line that is true of this content."""
    size, is_8bit = 0, False
    for piece in message.pieces():
        size += len(piece)
        is_8bit = is_8bit or not piece.isascii()
    if is_8bit and b"8BITMIME" not in capabilities.keywords:
        raise UpstreamFailure("content has eight-bit bytes, and the server does not announce 8BITMIME")
    return honest_mail(mail, size, is_8bit=is_8bit)


def _to_mailbox(
    one: Judged,
    record: Record,
    given: Consignment,
    mailbox: bytes,
    capabilities: Callable[[], Capabilities],
    now: float,
) -> Parcel:
    envelope, edits = given.envelope, letter.edits(given.message, record, new_id(now))
    message = Edited(given.message, edits, None, is_small=given.spool.wire() is not None)
    sender = _NULL_SENDER
    if b"SMTPUTF8" in envelope.sender.parameters.upper().split():
        sender = replace(sender, line=sender.line + b" SMTPUTF8", parameters=b"SMTPUTF8")
    mail = _declared(sender, message, capabilities())
    return Parcel((one,), mail, (rcpt_line(mailbox),), message)
