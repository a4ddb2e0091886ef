"""FakeScanner: says what a test has written down for it, and remembers whom it was asked about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bqfilter.config.actions import Response
from bqfilter.config.content import CommandSettings, PolicySettings, ScannerSettings
from bqfilter.config.schema import Settings
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.report import CLEAN, Finding, Report
from tests.doubles.clock import FakeClock


@dataclass(frozen=True, slots=True)
class Call:
    """One message that a scanner was given."""

    message: Message
    envelope: Envelope
    deadline: Deadline


class FakeScanner:
    """Answers with `script`, step by step; the last step is said again and again, CLEAN where there is none.

    A step that is an exception is raised. Each call takes `takes` seconds on `clock`, where there is one.
    """

    def __init__(
        self,
        settings: ScannerSettings,
        *script: Report | BaseException,
        clock: FakeClock | None = None,
        takes: float = 0.0,
    ) -> None:
        self.settings = settings
        self.script: list[Report | BaseException] = list(script) or [CLEAN]
        self.takes = takes
        self.not_ready: BaseException | None = None  # what after_fork_in_worker raises
        self.fork_count = 0
        self.calls: list[Call] = []
        self.pings: list[Deadline] = []
        self._clock = clock

    def after_fork_in_worker(self) -> None:
        self.fork_count += 1
        if self.not_ready is not None:
            raise self.not_ready

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:
        self.calls.append(Call(message, envelope, deadline))
        return self._next()

    def ping(self, deadline: Deadline) -> str:
        self.pings.append(deadline)
        return self._next().detail or "fake scanner"

    def _next(self) -> Report:
        if self._clock is not None:
            self._clock.advance(self.takes)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, BaseException):
            raise step
        return step


def scanner(
    name: str,
    *script: Report | BaseException,
    clock: FakeClock | None = None,
    takes: float = 0.0,
    **keys: Any,
) -> FakeScanner:
    """A fake with this name; `keys` are those of [[command]], whose `on_hit` is "reject" by default."""
    table = CommandSettings(**{"name": name, "argv": ("/nonexistent",), **keys})
    return FakeScanner(table, *script, clock=clock, takes=takes)


def hit(detail: str = "found it", response: str | None = None, **more: Any) -> Report:
    """A report of something found; `response` is what the scanner asks for: "reject+quarantine"."""
    return Report(Finding.HIT, detail, response=Response.parse(response) if response else None, **more)


def with_scanners(settings: Settings, scanners: Sequence[FakeScanner], *policies: PolicySettings) -> Settings:
    """The settings as if the scanners' tables, and these policies, stood in the file.

    The scanners run in this order as long as all of them are of one kind, as those made by `scanner` are.
    """
    tables: dict[str, tuple[ScannerSettings, ...]] = {}
    for one in scanners:
        tables[one.settings.kind] = (*tables.get(one.settings.kind, ()), one.settings)
    return replace(settings, policy=policies, **tables)  # type: ignore[arg-type]  # by the names of the kinds
