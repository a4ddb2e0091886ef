"""Who takes turns under a load: a contender with its sink behind it, or a scanning daemon alone."""

from dataclasses import dataclass

from benchmarks import clients, proc, samples
from benchmarks.clients import Ask
from benchmarks.contenders import Contender
from benchmarks.deliveries import Deliveries
from benchmarks.loads import Load, send
from benchmarks.programs import Program


@dataclass(frozen=True, eq=False, slots=True)
class Through:
    """Mail goes through the contender, and is counted behind it. `scanner` is the daemon that it may ask."""

    contender: Contender
    deliveries: Deliveries
    scanner: Program | None = None

    @property
    def name(self) -> str:
        return self.contender.name

    @property
    def trusted(self) -> bool:
        return self.contender.trusted

    def play(self, load: Load, messages: int) -> float:
        return send(self.contender, messages, load.sessions, load.size, self.deliveries, load.message)

    def cpu_seconds(self) -> float | None:
        return _cpu_seconds(self.contender.program)

    def scanner_cpu_seconds(self) -> float | None:
        return _cpu_seconds(self.scanner) if self.contender.asks_scanner else None

    def start_over(self) -> None:
        self.deliveries.start_over()


@dataclass(frozen=True, eq=False, slots=True)
class Alone:
    """A scanning daemon is asked about the same message, and no mail is carried."""

    name: str
    ask: Ask
    port: int
    scanner: Program
    trusted: bool = True

    def play(self, load: Load, messages: int) -> float:
        message = samples.as_sent(samples.letter(load.size))
        return clients.play(self.ask, self.port, message, messages, load.sessions)

    def cpu_seconds(self) -> float | None:
        return None

    def scanner_cpu_seconds(self) -> float | None:
        return _cpu_seconds(self.scanner)

    def start_over(self) -> None:
        """Nothing to forget: each question has its answer."""


def _cpu_seconds(program: Program | None) -> float | None:
    return proc.cpu_seconds(program.pid) if program else None
