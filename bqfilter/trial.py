"""Trial: what would be done with a message under the present settings, without doing any of it.

Scanners are asked as they would be, and everything else is only told: the verdict for each policy, each
report, how the header would change, and whether the message's DKIM signatures verify before and after.
Nothing is sent, kept, counted or remembered.

DKIM is looked at where dkimpy is installed (the extra "dkim"); it asks the DNS for the signers' keys.

Files are read at their places (pread), so one that was opened once can be read several times at once, also by
somebody who might not open it.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from bqfilter.budget import Budget
from bqfilter.config.schema import Settings
from bqfilter.log import Log
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.fields import carried_out
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited
from bqfilter.net.address import Endpoint
from bqfilter.scanning.judge import Judge
from bqfilter.scanning.line_edits import EditedBody
from bqfilter.scanning.plan import Judged, plan
from bqfilter.scanning.report import Body, Finding
from bqfilter.scanning.scanner import Scanner
from bqfilter.smtp import replies
from bqfilter.smtp.body import without_strays
from bqfilter.smtp.commands import Mail, Rcpt, rcpt_line
from bqfilter.smtp.replies import Reply

_PIECE_BYTES = 65536
_DKIM_LIMIT = 64 << 20  # bytes of a message; dkimpy holds it whole, several times
_SIGNATURE_LIMIT = 20  # of a message; each may ask the DNS, twice
_MAX_CHANGES = 100  # lines of a body that are shown
_MAX_CHANGE_CHARS = 1000
_LINE_END = re.compile(r"\r?\n")
_LAST_LINE_END = re.compile(r"\r?\n\Z")
_ENVELOPE_LINE = re.compile(rb"\AFrom [^\r\n]*\r?\n")  # of an mbox, RFC 4155: no part of the message

FindKey = Callable[..., bytes | None]
"""How dkimpy is to find a key: by name, with a timeout; the TXT record, or None."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A DKIM signature: by whom, and whether it verifies before and after, where that could be found out."""

    domain: str
    selector: str
    before: bool | None
    after: bool | None


@dataclass(frozen=True, slots=True)
class Opinion:
    """What would be done for the recipients of one policy.

    `changes` are lines of the header, "-" and "+", and `body_changes` those of the body where rules edit it.
    """

    judged: Judged
    changes: tuple[str, ...]
    has_new_body: bool
    body_changes: tuple[str, ...]
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """All opinions, and the reply that follows from them together."""

    opinions: tuple[Opinion, ...]
    reply: Reply

    @property
    def has_findings(self) -> bool:
        """Something was found or could not be looked at, or the message would not be passed on."""
        verdicts = [opinion.judged.verdict for opinion in self.opinions]
        reports = [report for verdict in verdicts for report in verdict.reports]
        is_passed_on = bool(verdicts) and all(verdict.action.delivers for verdict in verdicts)
        return not is_passed_on or any(report.finding is not Finding.CLEAN for report in reports)


def read_message(file: BinaryIO, header_limit: int) -> Message:
    """The message in an open file, with line ends of any kind. Raises OSError once it is read."""

    def pieces() -> Iterator[bytes]:
        at = 0
        while piece := os.pread(file.fileno(), _PIECE_BYTES, at):
            yield piece if at else _ENVELOPE_LINE.sub(b"", piece, count=1)
            at += len(piece)

    return Message(lambda: without_strays(pieces()), header_limit)


def envelope_of(
    sender: str, recipients: Sequence[str], facts: dict[str, str], listener: Endpoint | None = None
) -> Envelope:
    """An envelope as a client would have told it, who came in by `listener`; `facts` are of XFORWARD."""
    attributes = {name.encode("ascii"): value.encode("utf-8") for name, value in facts.items()}
    address = sender.encode("utf-8")
    addresses = [one.encode("utf-8") for one in recipients]
    return Envelope(
        Client(attributes),
        Mail(b"MAIL FROM:<%b>" % address, address, b""),
        [Rcpt(rcpt_line(one), one, b"") for one in addresses],
        session_id="TRIAL",
        listener=listener,
    )


def try_out(
    settings: Settings,
    scanners: Sequence[Scanner],
    hostname: str,
    message: Message,
    envelope: Envelope,
    log: Log,
    find_key: FindKey | None = None,
) -> Trial:
    """Judge one message. Raises OSError where it cannot be read."""
    if 0 < settings.limits.message_size < message.size:
        return Trial((), replies.MESSAGE_TOO_BIG)
    if message.header_is_too_large:
        return Trial((), replies.HEADER_TOO_BIG)
    now = time.monotonic()
    judge = Judge(settings, scanners, hostname, time.monotonic, log)
    judge.after_fork_in_worker()
    limit = Budget(settings.budget, time.monotonic, now).scanning(now)
    judged = judge.judge(message, envelope, limit, log)
    opinions = tuple(_opinion(one, judge, message, envelope, find_key) for one in judged)
    refusal = plan(judged).refusal
    return Trial(opinions, (refusal.verdict.reply if refusal else None) or replies.OK)


def _opinion(
    one: Judged, judge: Judge, message: Message, envelope: Envelope, find_key: FindKey | None
) -> Opinion:
    if not one.verdict.action.delivers:
        return Opinion(one, (), has_new_body=False, body_changes=(), signatures=())
    edits, body = judge.edits(one, message, envelope), one.verdict.body
    changed = Edited(message, edits, body, is_small=False)
    signatures = tuple(_signatures(message, changed.cleaned, find_key))
    changes = tuple(_changes(carried_out(message.header, edits)))
    return Opinion(one, changes, body is not None, tuple(_body_changes(body)), signatures)


def _changes(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """The lines that go, and those that come."""
    for old, new in pairs:
        if old != new:
            yield from (f"-{line}" for line in _lines(old))
            yield from (f"+{line}" for line in _lines(new))


def _body_changes(body: Body | None) -> Iterator[str]:
    """The same of the body, where it is edited and not another one: the first of them."""
    if isinstance(body, EditedBody):
        changes = _changes(body.changed_text())
        yield from (line[:_MAX_CHANGE_CHARS] for line in islice(changes, _MAX_CHANGES))
        if next(changes, None) is not None:
            yield "..."


def _lines(text: bytes) -> list[str]:
    """Of a field, or of a body."""
    return _LINE_END.split(_LAST_LINE_END.sub("", text.decode("utf-8", "backslashreplace"))) if text else []


def _signatures(
    message: Message, changed: Callable[[], Iterator[bytes]], find_key: FindKey | None
) -> Iterator[Signature]:
    """Each signature that the message came with; after the change it is the last but as many."""
    count = len(message.header.all(b"DKIM-Signature"))
    if not count:
        return
    can_tell = message.size <= _DKIM_LIMIT and count <= _SIGNATURE_LIMIT
    before = _verified(b"".join(message.content()), count, find_key) if can_tell else []
    after = _verified(b"".join(changed()), count, find_key) if before else []
    for number, field in enumerate(message.header.all(b"DKIM-Signature")):
        tags = dict(re.findall(rb"\b([ds])[ \t]*=[ \t]*([^;\s]+)", field.value))
        names = (tags.get(tag, b"").decode("ascii", "replace") for tag in (b"d", b"s"))
        outcomes = (found[number] if found else None for found in (before, after))
        yield Signature(*names, *outcomes)


def _verified(content: bytes, count: int, find_key: FindKey | None) -> list[bool | None]:
    """Whether each of the last `count` signatures verifies; None where that cannot be found out."""
    total = len(Message.in_memory(content).header.all(b"DKIM-Signature"))
    if total < count:
        return []
    return [_verifies(content, number, find_key) for number in range(total - count, total)]


def _verifies(content: bytes, number: int, find_key: FindKey | None) -> bool | None:
    try:
        import dkim
    except ImportError:
        return None
    try:
        return bool(dkim.DKIM(content).verify(idx=number, **({"dnsfunc": find_key} if find_key else {})))
    except dkim.ValidationError:
        return False
    except Exception:  # no key, no DNS, a signature that is none: it can fail in any way, and it is one line
        return None
