"""Decision: from the reports on a message and the policy of its recipients to one verdict. Pure.

Every report asks for a response: what the policy says for findings of that scanner, else what the scanner
itself asks for, else what its settings say. The weightiest response becomes the verdict; of equal ones the
first. A copy is kept where any of them says so. Changes that scanners want are carried out where the message
is passed on, and only there. A redirection goes where whoever decides it says; a message that is to be passed
on and has nobody to go to, because no address was given for it, is kept in the quarantine: it is neither lost
nor delivered to those that it was to be kept from.

    report       asks for
    hit          hits of the policy, or the scanner's own response, or its on_hit
    error, not   451 where on_error or on_oversize is "defer" (the runner has put that into the report);
     scanned     nothing where it is "pass"
    clean        nothing, unless the scanner itself does
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bqfilter.config.actions import ACCEPT, Action, Response
from bqfilter.config.content import ScannerSettings
from bqfilter.scanning.line_edits import EditedBody
from bqfilter.scanning.policy import Policy
from bqfilter.scanning.report import Body, Finding, Report
from bqfilter.smtp import replies
from bqfilter.smtp.replies import Reply, relayable

_MARKING = frozenset({Action.TAG, Action.REDIRECT})
# Of refusals: the first digit of the reply, and what is said where nobody has words of that class.
_CLASSES = {
    Action.REJECT: (5, replies.REFUSED),
    Action.DEFER: (4, replies.DEFERRED),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done with a message for the recipients of one policy.

    `reply` are the words of a refusal. `recipients`, where not None, take the place of all; `copies` come on
    top. `marking` are the reports whose scanners' marks (subject prefix, header fields) the message gets.
    `decisive` is the report that the action comes from; None where it is the policy itself.
    """

    action: Action
    reply: Reply | None = None
    keeps_copy: bool = False
    recipients: tuple[bytes, ...] | None = None
    copies: tuple[bytes, ...] = ()
    marking: tuple[Report, ...] = ()
    decisive: Report | None = None
    reports: tuple[Report, ...] = field(default=(), compare=False)

    @property
    def reason(self) -> str:
        """Why, in one line: the scanner, and what it found. Empty where nothing stands out."""
        if self.decisive is None:
            return ""
        return f"{self.decisive.scanner}: {self.decisive.detail}".rstrip(": ")

    @property
    def body(self) -> Body | None:
        """The last that a scanner wants in the place of the present one; else that with all edits of rules.

        Those are of the body as it came, and mean nothing for another one.
        """
        found: Body | None = None
        for report in self.reports:
            body = report.changes.body
            if not isinstance(body, EditedBody):
                found = body or found
            elif found is None or isinstance(found, EditedBody):
                found = found.with_those_of(body) if found else body
        return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """A response that somebody asks for: a report, or where that is None the policy.

    `recipients`, where not None, are those who are to get the message instead of whom it is for.
    """

    report: Report | None
    response: Response
    recipients: tuple[bytes, ...] | None = None


def decide(
    reports: Sequence[Report],
    policy: Policy,
    scanners: Mapping[str, ScannerSettings],
    session_id: str,
    others: Collection[bytes] = (),
) -> Verdict:
    """The verdict; `scanners` are the settings of those that reported, by name.

    `others` are recipients of the message under other policies. A scanner's list of recipients is for the
    whole message, and does not bring anybody what another policy keeps from him.
    """
    own = policy.settings
    asked = [_Asked(None, own.action, _redirected(own.action, own.redirect_to))]
    asked += [_asked_by(report, policy, scanners[report.scanner]) for report in reports]
    decisive = max(asked, key=lambda one: one.response.action.weight)  # the first of several
    recipients, copies = _recipients(decisive, asked, others), _copies(reports, policy)
    action = decisive.response.action
    if action.delivers and recipients == () and not copies:
        action = Action.QUARANTINE
    return Verdict(
        action,
        reply=_words(decisive, policy, scanners, session_id),
        keeps_copy=any(one.response.keeps_copy for one in asked) and action is not Action.QUARANTINE,
        recipients=recipients if action.delivers else None,
        copies=copies if action.delivers else (),
        marking=tuple(one.report for one in asked if one.report and one.response.action in _MARKING),
        decisive=decisive.report,
        reports=tuple(reports),
    )


def response_to(report: Report, policy: Policy, settings: ScannerSettings) -> Response:
    """What one report asks for under a policy."""
    return _asked_by(report, policy, settings).response


def _asked_by(report: Report, policy: Policy, settings: ScannerSettings) -> _Asked:
    if report.finding is not Finding.HIT:
        return _asked(report, report.response or ACCEPT, settings.redirect_to)
    for name, overruling in policy.settings.hits:
        if name == report.scanner:  # and whatever the scanner itself asks for, recipients too, is passed over
            where = policy.settings.redirect_to or settings.redirect_to
            return _Asked(report, overruling, _redirected(overruling, where))
    on_hit: Response = getattr(settings, "on_hit", ACCEPT)  # rules and rspamd always ask by themselves
    return _asked(report, report.response or on_hit, settings.redirect_to)


def _asked(report: Report, response: Response, redirect_to: str) -> _Asked:
    """What a report asks for; its own recipients before those in its scanner's settings."""
    own = report.changes.recipients
    return _Asked(report, response, _redirected(response, redirect_to) if own is None else own)


def _redirected(response: Response, address: str) -> tuple[bytes, ...] | None:
    """Who gets the message by this response and this setting: nobody, where it says none."""
    if response.action is not Action.REDIRECT:
        return None
    return (address.encode("ascii"),) if address else ()


def _words(
    asked: _Asked, policy: Policy, scanners: Mapping[str, ScannerSettings], session_id: str
) -> Reply | None:
    """The reply for a refusal, of the class that the action needs; None where nothing is refused."""
    action, report = asked.response.action, asked.report
    if action not in _CLASSES:
        return None
    if report is None:
        candidates = [policy.settings.reply.render(id=session_id)]
    elif report.finding in (Finding.ERROR, Finding.UNSCANNED):
        candidates = [replies.SCANNER_UNAVAILABLE]
    else:
        template = scanners[report.scanner].reply
        own = template.render(
            detail=report.detail, scanner=report.scanner, score=report.score_text, id=session_id
        )
        said = report.reply
        candidates = [relayable(said), own] if said and said.lines else [own]
    digit, otherwise = _CLASSES[action]
    return next((reply for reply in candidates if reply.code // 100 == digit), otherwise)


def _recipients(
    decisive: _Asked, asked: Iterable[_Asked], others: Collection[bytes]
) -> tuple[bytes, ...] | None:
    """Who gets the message instead of those whom it is for; None leaves it to them."""
    if decisive.response.action is Action.REDIRECT:
        return decisive.recipients
    wanted = [one.recipients for one in asked if one.recipients is not None]
    return tuple(address for address in wanted[-1] if address not in others) if wanted else None


def _copies(reports: Iterable[Report], policy: Policy) -> tuple[bytes, ...]:
    wanted = [address.encode("ascii") for address in policy.settings.copy_to]
    wanted += [address for report in reports for address in report.changes.copies]
    return tuple(dict.fromkeys(wanted))
