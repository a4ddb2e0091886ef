"""What the rules that have applied to one message come to, as one report.

The effects are those of header_checks(5): a refusal, DISCARD and PASS end the search, all others add up. A
held or redirected message is a hit; one that was only edited, copied or remarked upon is clean, and the
detail of the report says for the log what the rules had to say.

Text of a rule may hold what a sender wrote. A reply is cleaned here; a header field is made so that no text
can end it; what is no address is not sent to, which the detail says as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bqfilter.config.actions import DEFER, QUARANTINE, REJECT, Action, Response
from bqfilter.config.content_kinds import ReplyTemplate
from bqfilter.mail.fields import Edit, Insert, Remove, Replace
from bqfilter.scanning.report import Changes, Finding, Report
from bqfilter.scanning.rule_action import Verb, is_address
from bqfilter.scanning.rule_edits import NOT_A_FIELD, BodyEditor, field_of
from bqfilter.scanning.rule_subjects import Spot
from bqfilter.scanning.rule_table import Applied
from bqfilter.smtp.replies import Reply

_MAX_REMARKS = 10  # a rule can apply to thousands of lines of a message, whose log line is one
_MAX_TEXT_CHARS = 200
_MAX_EXCERPT_BYTES = 60
_MAX_REPLY_BYTES = 400  # as much as a template of a reply may have
_UNPRINTABLE = re.compile(rb"[^ -~]")
_DISCARD = Response(Action.DISCARD)
_SILENT = (Verb.DUNNO, Verb.IGNORE)

# The words of a refusal without text: Postfix's own, and what a client needs to know.
_WORDS = {Verb.REJECT: b"message content rejected", Verb.DEFER: b"try again later"}
_CODES = {Verb.REJECT: (550, b"5.7.1"), Verb.DEFER: (451, b"4.7.1")}
_RESPONSES = {
    Verb.REJECT: REJECT,
    Verb.DEFER: DEFER,
    Verb.DISCARD: _DISCARD,
    Verb.HOLD: QUARANTINE,
    Verb.REDIRECT: Response(Action.REDIRECT),  # to the recipients in the changes
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule has applied: to which text, and where an edit goes.

    That is before or at a field of the header, by its number or, where there is a `spot`, in the body.
    """

    text: bytes
    field: int = 0
    spot: Spot | None = None


class Judgement:
    """One message; `template` and the names of scanner and session are what replies are made of."""

    def __init__(self, template: ReplyTemplate, scanner: str, session_id: str, body: BodyEditor) -> None:
        self._template = template
        self._body = body
        self._names = {"scanner": scanner, "id": session_id}
        self._hits: dict[Verb, str] = {}
        self._reply: Reply | None = None
        self._recipient: bytes | None = None
        self._copies: dict[bytes, None] = {}
        self._edits: list[Edit] = []
        self._remarks: list[str] = []
        self._remark_count = 0
        self.is_final = False

    def apply(self, applied: Applied, place: Place) -> None:
        """Take into account what a rule says."""
        action, text = applied.action, applied.text
        if action.verb in _CODES:
            self._reply = self._refusal(action.verb, action.status, text)
        problem = self._edit(applied, place) or self._send(action.verb, text)
        self.is_final = action.verb.is_terminal
        remark = _remark(applied, text, place) + problem
        if action.verb in _RESPONSES and not problem:
            self._hits[action.verb] = remark
        elif action.verb not in _SILENT or problem:
            self.remark(remark)

    def remark(self, text: str) -> None:
        """One more thing for the log."""
        self._remark_count += 1
        if self._remark_count <= _MAX_REMARKS:
            self._remarks.append(text)

    def report(self) -> Report:
        """What all of it comes to."""
        changes = Changes(
            tuple(self._edits),
            self._body.body(),
            recipients=None if self._recipient is None else (self._recipient,),
            copies=tuple(self._copies),
        )
        response = next((_RESPONSES[verb] for verb in _RESPONSES if verb in self._hits), None)
        finding = Finding.CLEAN if response is None else Finding.HIT
        return Report(finding, self._detail(), response=response, reply=self._reply, changes=changes)

    def _detail(self) -> str:
        hits = [self._hits[verb] for verb in _RESPONSES if verb in self._hits]
        more = self._remark_count - len(self._remarks)
        return "; ".join([*hits, *self._remarks, *([f"and {more} more"] if more else [])])

    def _refusal(self, verb: Verb, status: bytes, text: bytes) -> Reply:
        """The rule's own words behind its code; without a code they are what the settings say {detail} is."""
        code, usual_status = _CODES[verb]
        has_template = self._template.code // 100 == code // 100
        text = text or _WORDS[verb]
        if has_template and not status:
            return self._template.render(detail=_line(text), **self._names)
        words = _ascii(b"%b %b" % (status or usual_status, text))
        return Reply(self._template.code if has_template else code, (words,))

    def _edit(self, applied: Applied, place: Place) -> str:
        """Empty, or why it could not be done."""
        verb = applied.action.verb
        if not verb.is_edit:
            return ""
        if place.spot is not None:
            return self._body.edit(applied, place.spot)
        if verb in (Verb.STRIP, Verb.IGNORE):
            self._edits.append(Remove(place.field))
            return ""
        field = field_of(applied.text)
        if field is None:
            return NOT_A_FIELD
        self._edits.append(
            Insert(place.field, field) if verb is Verb.PREPEND else Replace(place.field, field)
        )
        return ""

    def _send(self, verb: Verb, text: bytes) -> str:
        """Empty, or why it could not be done."""
        if verb not in (Verb.REDIRECT, Verb.BCC):
            return ""
        if not is_address(text):
            return " (not done: no address)"
        if verb is Verb.REDIRECT:
            self._recipient = text  # the last one counts, as in Postfix
        else:
            self._copies[text] = None
        return ""


def _remark(applied: Applied, text: bytes, place: Place) -> str:
    """Which rule, what it says, and about what if it says nothing."""
    about = text[: 4 * _MAX_TEXT_CHARS] or place.text[:_MAX_EXCERPT_BYTES]
    return f"{applied.place} {applied.action.verb} {_line(about)[:_MAX_TEXT_CHARS]}".rstrip()


def _line(text: bytes) -> str:
    return " ".join(text.decode("utf-8", "replace").split())


def _ascii(text: bytes) -> bytes:
    return _UNPRINTABLE.sub(b"?", _line(text).encode("ascii", "replace"))[:_MAX_REPLY_BYTES]
