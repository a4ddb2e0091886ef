"""Judge: a worker's policies and scanners, put to one message; what comes of it are verdicts.

Each scanner is asked once for a message, by the first policy that names it. A policy stops asking as soon as
a report settles the matter for its recipients.
"""

from collections.abc import Callable, Mapping, Sequence

from bqfilter.config.schema import Settings
from bqfilter.log import Log
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.fields import Edit
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.scanning.board import ScannerPlace
from bqfilter.scanning.decision import decide, response_to
from bqfilter.scanning.marks import Marker
from bqfilter.scanning.plan import Judged
from bqfilter.scanning.policy import Group, Policies
from bqfilter.scanning.report import Report
from bqfilter.scanning.runner import Examination, Runner, to_nobody
from bqfilter.scanning.scanner import Scanner


def is_needed(settings: Settings) -> bool:
    """Somebody has opinions about content: a scanner, or a policy."""
    return bool(settings.scanners or settings.policy)


class Judge:
    """Judges by `settings`; for `places`, `slots` and `announce` see the Runner."""

    def __init__(
        self,
        settings: Settings,
        scanners: Sequence[Scanner],
        hostname: str,
        clock: Clock,
        log: Log,
        places: Mapping[str, ScannerPlace] | None = None,
        slots: int = 1,
        announce: Callable[[int], None] = to_nobody,
    ) -> None:
        self._policies = Policies(settings)
        self._runner = Runner(scanners, places or {}, slots, clock, log, announce)
        self._marker = Marker(settings.headers, self._runner.settings, hostname)
        self.header_limit = settings.headers.size_limit

    def after_fork_in_worker(self) -> None:
        """Let every scanner get ready."""
        self._runner.after_fork_in_worker()

    def judge(self, message: Message, envelope: Envelope, limit: Deadline, log: Log) -> list[Judged]:
        """The verdicts, one a policy. Raises OSError where the spool cannot be read."""
        case = Examination(message, envelope, limit)
        groups = self._policies.groups(envelope, message.size)
        return [self._judged(group, case, _outside(group, groups), log) for group in groups]

    def edits(self, judged: Judged, message: Message, envelope: Envelope) -> tuple[Edit, ...]:
        """What the header of a message gets that is passed on."""
        return self._marker.edits(judged.verdict, message.header, envelope.session_id)

    def _judged(self, group: Group, case: Examination, others: frozenset[bytes], log: Log) -> Judged:
        policy, settings = group.policy, self._runner.settings

        def is_enough(report: Report) -> bool:
            return response_to(report, policy, settings[report.scanner]).action.is_final

        reports: Sequence[Report] = ()
        if not policy.settings.action.action.is_final:
            reports = self._runner.examine(case, policy.scanners, is_enough, log)
        verdict = decide(reports, policy, settings, case.envelope.session_id, others)
        return Judged(group, verdict)


def _outside(group: Group, groups: Sequence[Group]) -> frozenset[bytes]:
    """The addresses of all recipients that are in other groups only."""
    others = {rcpt.address for one in groups if one is not group for rcpt in one.recipients}
    return frozenset(others - {rcpt.address for rcpt in group.recipients}) if others else frozenset()
