"""Runner: asks scanners about one message, one after the other, and has a report from each, whatever happens.

All of them together end by one deadline, each by its own timeout within that. A scanner that fails, that the
message is too large for, or that is left alone because it failed too often, still gives a report: an error,
or unscanned, with a deferral in it where the site wants one. Nothing is raised from here, whatever the code
of a library or a site does, down to sys.exit(); only the operator's own Ctrl-C passes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from traceback import format_exception_only

from bqfilter.breaker import Breaker
from bqfilter.config.actions import DEFER, Response
from bqfilter.config.content import ScannerSettings
from bqfilter.errors import BqfilterError, ConversationLost, NoSocket, PeerTimeout, ScannerFailure
from bqfilter.log import Log
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.scanning.board import ScannerPlace, terms_of
from bqfilter.scanning.report import Finding, Report
from bqfilter.scanning.scanner import Scanner

_FAIR_SHARE = 0.5  # of its time, below which a scanner that is too slow says nothing about itself


@dataclass(frozen=True, slots=True)
class _Seat:
    """A scanner with all that belongs to it in this worker."""

    scanner: Scanner
    place: ScannerPlace
    breaker: Breaker


class Examination:
    """One message, and the reports on it so far: a scanner is asked once, however many policies name it."""

    def __init__(self, message: Message, envelope: Envelope, limit: Deadline) -> None:
        self.message = message
        self.envelope = envelope
        self.limit = limit
        self.given = limit.remaining()  # seconds, for all together
        self.reports: dict[str, Report] = {}


def to_nobody(_number: int) -> None:
    """For whoever works without a scoreboard."""


class Runner:
    """A worker's scanners; `places` has the place of each in the scoreboard, of `slots` slots.

    `announce` is told the number of the place of whoever is asked, and 0 when all have been.
    """

    def __init__(
        self,
        scanners: Sequence[Scanner],
        places: Mapping[str, ScannerPlace],
        slots: int,
        clock: Clock,
        log: Log,
        announce: Callable[[int], None] = to_nobody,
    ) -> None:
        self._announce = announce
        self._clock = clock
        self._log = log
        self._seats = {one.settings.name: _seat(one, places, slots, clock) for one in scanners}
        self.settings: dict[str, ScannerSettings] = {one.settings.name: one.settings for one in scanners}

    def after_fork_in_worker(self) -> None:
        """Let every scanner get ready. One that cannot says so with every message as well."""
        for name, seat in self._seats.items():
            try:
                seat.scanner.after_fork_in_worker()
            except KeyboardInterrupt:
                raise
            except BaseException as failure:
                self._log.error("scanner is not ready", scanner=name, cause=_words(failure))

    def examine(
        self, case: Examination, names: Sequence[str], is_enough: Callable[[Report], bool], log: Log
    ) -> list[Report]:
        """The reports of these scanners, up to the first that is enough."""
        reports: list[Report] = []
        for name in names:
            if self.settings[name].skip_after_hit and any(one.finding is Finding.HIT for one in reports):
                continue
            if name not in case.reports:
                case.reports[name] = self._ask(name, case, log)
            reports.append(case.reports[name])
            if is_enough(reports[-1]):
                break
        self._announce(0)
        return reports

    def _ask(self, name: str, case: Examination, log: Log) -> Report:
        seat, began = self._seats[name], self._clock()
        self._announce(seat.place.number)
        deadline = case.limit.within(seat.scanner.settings.timeout)
        report = self._unasked(seat, case, deadline) or self._asked(seat, case, deadline, log)
        seconds = self._clock() - began
        was_asked = report.finding is not Finding.UNSCANNED
        seat.place.note(report.finding, seconds if was_asked else None)
        if report.finding in (Finding.ERROR, Finding.UNSCANNED):
            log.warning("not scanned", scanner=name, finding=report.finding, cause=report.detail)
        return replace(report, scanner=name, seconds=seconds)

    def _unasked(self, seat: _Seat, case: Examination, deadline: Deadline) -> Report | None:
        """The report of a scanner that is not asked, None for one that is.

        The breaker comes last: its yes may be the one attempt that is made in a while.
        """
        settings = seat.scanner.settings
        try:
            if settings.size_limit and case.message.size > settings.size_limit:
                return Report(
                    Finding.UNSCANNED, "message is too large", response=_deferral(settings.on_oversize)
                )
        except OSError as error:
            return _failure(settings, f"spool: {error}")
        if deadline.has_passed:
            return Report(Finding.UNSCANNED, "no time left for it", response=_deferral(settings.on_error))
        if not seat.breaker.allows():
            return Report(
                Finding.UNSCANNED, "scanner failed too often", response=_deferral(settings.on_error)
            )
        return None

    def _asked(self, seat: _Seat, case: Examination, deadline: Deadline, log: Log) -> Report:
        settings, given = seat.scanner.settings, deadline.remaining()
        try:
            report = seat.scanner.scan(case.message, case.envelope, deadline)
        except (ScannerFailure, ConversationLost, OSError) as failure:
            return self._failed(seat, failure, deadline, given, case.given)
        except KeyboardInterrupt:
            raise
        except MemoryError:
            return _failure(settings, "out of memory")
        except BaseException as mistake:  # of ours, of a library or a site: a report, and the pool lives on
            log.error("scanner failure", scanner=settings.name, cause=_words(mistake))
            return _failure(settings, type(mistake).__name__)
        seat.breaker.answered()
        return report

    def _failed(
        self,
        seat: _Seat,
        failure: ScannerFailure | ConversationLost | OSError,
        deadline: Deadline,
        given: float,
        given_in_all: float,
    ) -> Report:
        settings, cause = seat.scanner.settings, str(failure) or type(failure).__name__
        is_late = isinstance(failure, PeerTimeout) or deadline.has_passed
        if is_late:
            cause = f"{cause} within {given:.3g} s"  # its timeout, or what was left of the budget
        # A message over which others took all the time must not switch this one off for the next messages.
        is_unfair = is_late and given < _FAIR_SHARE * min(settings.timeout, given_in_all)
        if not isinstance(failure, OSError | NoSocket) and not is_unfair:
            (seat.breaker.failed if is_its_fault(failure) else seat.breaker.answered)()
        return _failure(settings, cause)


def _words(mistake: BaseException) -> str:
    """Name and text of any exception, one whose text cannot be had included."""
    return format_exception_only(mistake)[-1].strip()


def _seat(scanner: Scanner, places: Mapping[str, ScannerPlace], slots: int, clock: Clock) -> _Seat:
    settings = scanner.settings
    place = places.get(settings.name) or ScannerPlace.unseen()
    breaker = Breaker(place, terms_of(settings), clock, slots, settings.timeout)
    return _Seat(scanner, place, breaker)


def is_its_fault(failure: BqfilterError | OSError) -> bool:
    """A scanner that cannot be talked to, and not one that finds fault with a message."""
    return isinstance(failure, ConversationLost) and not isinstance(failure, NoSocket)


def _failure(settings: ScannerSettings, cause: str) -> Report:
    return Report(Finding.ERROR, cause, response=_deferral(settings.on_error))


def _deferral(choice: str) -> Response | None:
    return DEFER if choice == "defer" else None
