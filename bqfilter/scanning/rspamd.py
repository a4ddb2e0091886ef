"""Rspamd: what it says about a message, asked by HTTP (/checkv2) and followed as its settings say.

Its action decides which setting counts: `on_reject` and so on; "no action" is a clean message. Its text for
the client goes into the reply where that setting is reject or defer, behind 554 5.7.1 or 451 4.7.1; codes
that the text begins with are taken off, as their class has to be that of what is done. Header edits, subject,
signatures and recipients are changed as it asks, where `milter_headers` allows.

Not followed: a new sender (change_from), for the after-filter server has taken the old one already; and a
new body. Rspamd's own time-out is a soft reject where its `soft_reject_on_timeout` is set, and cannot be seen
where it is not.

Raises ScannerFailure and ConversationLost; the former for an HTTP status other than 200 as well, and for an
answer that lacks anything, is about no message, or cannot be followed to the letter.
"""

import re
from collections.abc import Iterator

from bqfilter.config.actions import ACCEPT, Action, Response
from bqfilter.config.content import RspamdSettings
from bqfilter.errors import ScannerFailure
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream
from bqfilter.scanning import http
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.report import NO_CHANGES, Changes, Finding, Report
from bqfilter.scanning.rspamd_changes import changes
from bqfilter.scanning.rspamd_reply import Answer, parse_answer, parse_error
from bqfilter.scanning.rspamd_request import request_headers
from bqfilter.smtp.replies import MAX_LINE_BYTES, Reply

MAX_ANSWER_BYTES = 4 << 20  # it lists up to some ten thousand links of a message
_MAX_PONG_BYTES = 65536
_SYMBOLS_TOLD = 5
_NAME_CHARS = 64  # of a symbol, in the detail
_NO_ACTION = "no action"

# What may stand in front of a text: a code, an enhanced code (RFC 3463), or both.
_CODES = re.compile(r"\s*(?:[45][0-9]{2}(?:[ -]|\Z))?\s*(?:[45]\.[0-9]{1,3}\.[0-9]{1,3}(?:\s|\Z))?\s*")
_UNPRINTABLE = re.compile(r"[^ -~]")

# Code, enhanced code, and the words where Rspamd has none; a reject without words gets the `reply` setting.
_REPLIES = {Action.REJECT: (554, "5.7.1", ""), Action.DEFER: (451, "4.7.1", "Try again later")}


class Rspamd:
    """One [[rspamd]] table; `hostname` is ours, as Rspamd is told."""

    def __init__(self, settings: RspamdSettings, dialler: Dialler, hostname: str) -> None:
        self.settings = settings
        self._dialler = dialler
        self._hostname = hostname
        self._responses = {
            "reject": settings.on_reject,
            "add header": settings.on_add_header,
            "rewrite subject": settings.on_rewrite_subject,
            "greylist": settings.on_greylist,
            "soft reject": settings.on_soft_reject,
            "quarantine": settings.on_quarantine,
            "discard": settings.on_discard,
        }

    def after_fork_in_worker(self) -> None:
        """Nothing: there is no state."""

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:
        """Raises ScannerFailure, ConversationLost, or OSError from the spool."""
        headers = request_headers(envelope, self._hostname, self.settings.password)
        request = http.Request(b"POST", b"/checkv2", headers, message.size, message.content)
        with self._dialler.stream(deadline) as stream:
            answer = parse_answer(_ask(request, stream, deadline, MAX_ANSWER_BYTES).body)
            if message.size and not answer.has_message:
                raise ScannerFailure("it judged a request without the message")
            wanted = self._changes(answer, message, envelope)
        return self._report(answer, wanted)

    def ping(self, deadline: Deadline) -> str:
        """Each endpoint with its name and version, as it tells them in the Server header."""
        return self._dialler.survey(_ping, deadline)

    def _changes(self, answer: Answer, message: Message, envelope: Envelope) -> Changes:
        if not self.settings.milter_headers:
            return NO_CHANGES
        return changes(answer, message.header, [one.address for one in envelope.recipients])

    def _report(self, answer: Answer, wanted: Changes) -> Report:
        detail = _detail(answer)
        if answer.action == _NO_ACTION:
            return Report(Finding.CLEAN, detail, answer.score, changes=wanted)
        response = self._response(answer)
        reply = _reply(response, answer.text)
        return Report(Finding.HIT, detail, answer.score, response, reply, wanted)

    def _response(self, answer: Answer) -> Response:
        if answer.is_not_to_be_applied:
            return ACCEPT
        return self._responses.get(answer.action, self.settings.on_other)


def _ask(request: http.Request, stream: Stream, deadline: Deadline, max_bytes: int) -> http.Response:
    response = http.exchange(request, stream, deadline, max_bytes)
    if response.status != 200:
        said = parse_error(response.body) or response.reason.decode("ascii", "replace")
        raise ScannerFailure(f"answered {response.status} {_printable(said)[:200]}".rstrip())
    return response


def _ping(stream: Stream, deadline: Deadline) -> str:
    response = _ask(http.Request(b"GET", b"/ping"), stream, deadline, _MAX_PONG_BYTES)
    if response.body.strip() != b"pong":
        raise ScannerFailure("its answer to /ping is not pong")
    return _printable(response.header(b"server").decode("ascii", "replace"))[:100] or "pong"


def _detail(answer: Answer) -> str:
    """Action, score, and the symbols that weigh most either way."""
    required = "" if answer.required is None else f"/{answer.required:.2f}"
    symbols = sorted(answer.symbols, key=lambda symbol: -abs(symbol.score))[:_SYMBOLS_TOLD]
    words = [f"{_printable(one.name)[:_NAME_CHARS]}({one.score:.2f})" for one in symbols]
    return ", ".join(
        [f"{_printable(answer.action)[:_NAME_CHARS]} {answer.score:.2f}{required}", *_notes(answer), *words]
    )


def _notes(answer: Answer) -> Iterator[str]:
    if answer.is_skipped:
        yield "skipped"
    if answer.is_not_to_be_applied:
        yield "not to be applied"


def _reply(response: Response, text: str) -> Reply | None:
    """The words of a refusal, on one line that can travel."""
    if response.action not in _REPLIES:
        return None
    code, enhanced, otherwise = _REPLIES[response.action]
    words = _printable(_CODES.sub("", " ".join(text.split()), count=1)) or otherwise
    line = f"{enhanced} {words}".encode("ascii")[: MAX_LINE_BYTES - len(b"554 \r\n")]
    return Reply(code, (line,)) if words else None


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("?", text)
