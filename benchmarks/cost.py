"""What a load costs: its time, and the contender's processor time meanwhile."""

from dataclasses import dataclass

from benchmarks import proc
from benchmarks.contenders import Contender
from benchmarks.deliveries import Deliveries
from benchmarks.loads import send


@dataclass(frozen=True, slots=True)
class Cost:
    seconds: float
    cpu_seconds: float


def cost(contender: Contender, deliveries: Deliveries, messages: int, sessions: int, size: int) -> Cost:
    """Play messages over so many sessions, or fewer where there are not as many messages."""
    if contender.program is None:
        raise ValueError(f"{contender.name} takes no processor time")
    before = proc.cpu_seconds(contender.program.pid)
    seconds = send(contender, messages, min(sessions, messages), size, deliveries)
    return Cost(seconds, proc.cpu_seconds(contender.program.pid) - before)
