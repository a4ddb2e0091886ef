"""What scanning daemons answer: nothing but a whole, well-formed answer is an opinion about a message."""

import math
import re
from collections.abc import Callable

from bqfilter.config.content import ClamdSettings, RspamdSettings, SpamdSettings
from bqfilter.errors import ConversationLost, ScannerFailure
from bqfilter.mail.fields import Header, Remove, edited
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.clamd import Clamd
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.report import Finding, Report
from bqfilter.scanning.rspamd import Rspamd
from bqfilter.scanning.rspamd_changes import changes
from bqfilter.scanning.rspamd_reply import parse_answer, parse_error
from bqfilter.scanning.scanner import Scanner
from bqfilter.scanning.spamd import Spamd
from bqfilter.smtp.replies import MAX_LINE_BYTES
from tests.doubles.clock import FakeClock
from tests.doubles.messages import envelope
from tests.doubles.streams import FakeStream, dialler_to
from tests.fuzz.cuts import choices, pieces

_CONTENT = b"Received: by us\r\nX-Spam-Status: forged\r\nSubject: hello\r\nX-Spam-Flag: NO\r\n\r\nbody\r\n"
_CLEAN = b"stream: OK"
_FOUND = re.compile(rb"stream: .*[^ ] FOUND", re.DOTALL)
_ENVELOPE = envelope()


def clamd(data: bytes) -> None:
    """A message is clean only if the answer up to its end says "stream: OK", infected only by "... FOUND"."""
    settings = ClamdSettings(endpoints=())
    report = _asked(lambda dialler: Clamd(settings, dialler), data)
    end = re.search(rb"[\0\n]", data)
    answer = data[: end.start()] if end else b""
    if report is None:
        assert answer != _CLEAN
    elif report.finding is Finding.CLEAN:
        assert answer == _CLEAN
    else:
        assert report.finding is Finding.HIT
        assert _FOUND.fullmatch(answer)


def spamd(data: bytes) -> None:
    """An answer has a score, a number; a part of it is none; and no field goes in but X-Spam-*, each whole.

    Whatever the message had of that name has gone.
    """
    for wants_fields in (False, True):
        settings = SpamdSettings(endpoints=(), spam_headers=wants_fields, reject_score=15.0)

        def made(dialler: Dialler, settings: SpamdSettings = settings) -> Spamd:
            return Spamd(settings, dialler)

        report = _asked(made, data)
        if report is None:
            continue
        assert report.score is not None
        assert report.finding is not Finding.ERROR
        if wants_fields:
            header = Message.in_memory(_CONTENT).header
            left = Header(edited(header, report.changes.edits)).fields
            ours = [field for field in left if field.name.lower().startswith(b"x-spam-")]
            assert b"forged" not in b"".join(field.raw for field in ours) or b"forged" in data
            assert len(left) == len(ours) + 2
        else:
            assert not report.changes


def rspamd(data: bytes) -> None:
    """An HTTP response of anything is a report or a failure; a part of it says nothing else."""
    _asked(_rspamd, data)


def rspamd_answer(data: bytes) -> None:
    """JSON of anything in a response that is in order is a report or a failure, and so are its changes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)
    report = _asked(_rspamd, head + data)
    parse_error(data).encode("utf-8", "surrogatepass")
    header = Message.in_memory(_CONTENT).header
    try:
        answer = parse_answer(data)
        wanted = changes(answer, header, [one.address for one in _ENVELOPE.recipients])
    except ScannerFailure:
        assert report is None
        return
    assert math.isfinite(answer.score)
    assert wanted.recipients is None or wanted.recipients
    _check_edits(Report(Finding.CLEAN, changes=wanted))


def _rspamd(dialler: Dialler) -> Rspamd:
    return Rspamd(RspamdSettings(endpoints=()), dialler, "mx.example.net")


def _asked(make: Callable[[Dialler], Scanner], data: bytes) -> Report | None:
    """The report on a message where the daemon says `data` and closes; None for a failure."""
    report = _scanned(make, pieces(data))
    if report is None:
        return None
    assert _scanned(make, [data]) == report
    _check(report)
    part = data[: next(choices(data, 3)) % (len(data) + 1)]
    assert _scanned(make, pieces(part)) in (None, report)
    return report


def _scanned(make: Callable[[Dialler], Scanner], said: list[bytes]) -> Report | None:
    clock = FakeClock()
    stream = _Daemon(clock, said)
    try:
        return make(dialler_to(stream)).scan(
            Message.in_memory(_CONTENT), _ENVELOPE, Deadline.after(clock, 10.0)
        )
    except (ScannerFailure, ConversationLost) as failure:
        assert failure.cause.isprintable(), failure.cause
        return None
    finally:
        assert stream.is_closed


class _Daemon(FakeStream):
    """Reads everything, says `said` piece by piece, and closes."""

    def __init__(self, clock: FakeClock, said: list[bytes]) -> None:
        super().__init__(clock)
        self._said = [piece for piece in reversed(said) if piece]

    def on_wait(self) -> None:
        if self._said:
            self.inbox += self._said.pop()
        else:
            self.has_left = True


def _check(report: Report) -> None:
    assert report.finding in (Finding.CLEAN, Finding.HIT)
    assert report.score is None or math.isfinite(report.score)
    assert len(report.detail) < 1000
    if report.reply is not None:
        assert all(re.fullmatch(rb"[ -~]*", line) for line in report.reply.lines)
        assert len(report.reply.wire) <= MAX_LINE_BYTES
    _check_edits(report)


def _check_edits(report: Report) -> None:
    for edit in report.changes.edits:
        if not isinstance(edit, Remove):
            (field,) = Header(edit.text).fields
            assert field.raw == edit.text
    for address in (*report.changes.copies, *(report.changes.recipients or ())):
        assert not set(address) & set(b"\r\n\0 <>")
