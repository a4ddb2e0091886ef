"""The soak: real mail of all kinds for an hour, faults all around, and whether bqfilterd grows.

    python -m tests.soak                   # three minutes
    python -m tests.soak --minutes 60

Two things fail it: a ledger that does not balance, and a measure that is not flat; what that means is in
`tests.soak.growth`. Exit status 0: neither. 1: one of them, and which is told.
"""

import argparse
import random
import re
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from .boards import Board
from .clients import Crowd
from .faults import Faults
from .growth import Growth, table
from .ledger import Ledger, Witnesses, balance, unknown_outcomes
from .mail import Sizes
from .rig import WORKERS, Rig, rig

MINUTES = 3.0
_CLIENTS = 6
_LONGEST_PAUSE = 0.4  # seconds between two messages of a client: the machine is not to be the bottleneck
_SAMPLES = 240  # over the whole run
_RELOADS = 12  # likewise
_UPGRADE_AT = 0.15  # of the run, once: a new master begins anew, so this is a part of warming up
_LONGEST_CALM = 6.0  # seconds between two faults
# Where the after-filter server fails between two copies, an error says where the second is: the ledger knows.
_TROUBLE = re.compile(r"error: (?!some recipients' copy is not delivered but in quarantine)|Traceback")
_SIZES = Sizes({500: 450, 4_000: 350, 60_000: 150, 700_000: 40, 5_000_000: 10})


@dataclass(slots=True)
class Result:
    """What a soak has come to."""

    seconds: float
    faults: Faults
    growth: Growth
    ledger: Ledger
    complaints: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        growing = [f"grows: {trend.measure.name}" for trend in self.growth.trends() if not trend.is_flat]
        return [*self.ledger.wrong, *self.complaints, *growing]


@dataclass(slots=True)
class _Timetable:
    """What is due when; each thing happens as often as it should over the run, in turn and never at once."""

    seconds: float
    began: float = field(default_factory=time.monotonic)
    _done: dict[str, int] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.share >= 1.0

    @property
    def share(self) -> float:
        return (time.monotonic() - self.began) / self.seconds

    def is_due(self, what: str, times: int) -> bool:
        done = self._done.get(what, 0)
        if self.share * times < done + 1:
            return False
        self._done[what] = done + 1
        return True


def soak(seconds: float, seed: int) -> Result:
    """That long."""
    with rig(pool={"max_messages": 1000}) as place:
        faults, growth = Faults(place, random.Random(seed)), Growth()
        crowd = Crowd(place.doors, _CLIENTS, seed, _SIZES, _LONGEST_PAUSE)
        crowd.start()
        try:
            _live_through(seconds, place, faults, growth)
        finally:
            crowd.stop()
        log = list(place.manager.log_lines())
        ledger = balance(crowd.told, place.found(), Witnesses.of((), unknown_outcomes(log)))
        complaints = [*crowd.failures, *(f"a master ended: {status}" for status in place.manager.endings)]
        complaints += [line for line in log if _TROUBLE.search(line)]
        return Result(seconds, faults, growth, ledger, complaints)


def _live_through(seconds: float, place: Rig, faults: Faults, growth: Growth) -> None:
    timetable = _Timetable(seconds)
    next_fault = 0.0
    has_upgraded = False
    while not timetable.is_over:
        if timetable.is_due("look", _SAMPLES):
            growth.look(place.manager.pid, Board(place.runtime, WORKERS))
        if timetable.is_due("reload", _RELOADS):
            faults.reload()
        if not has_upgraded and timetable.share > _UPGRADE_AT:
            faults.upgrade()
            has_upgraded = True
        if time.monotonic() > next_fault:
            faults.bring_one()
            next_fault = time.monotonic() + faults.chance.uniform(0.0, _LONGEST_CALM)
        time.sleep(min(0.2, seconds / _SAMPLES / 4))


def report(result: Result) -> Iterator[str]:
    """The figures, as they stand in the docs."""
    ledger = result.ledger
    rate = ledger.messages / result.seconds
    yield f"{result.seconds / 60:.1f} minutes, {ledger.messages} messages, {rate:.0f} a second"
    yield ""
    yield from table(result.growth.trends())
    yield ""
    per_thousand = result.growth.per_thousand_messages()
    if per_thousand is not None:
        yield f"growth of a worker's private memory over 1000 messages: {per_thousand:.0f} KiB"
    yield "faults: " + ", ".join(f"{name} {count}" for name, count in sorted(result.faults.counts.items()))
    yield ""
    yield "| messages | |"
    yield "| --- | --: |"
    yield f"| told 2xx: there once | {ledger.accepted} |"
    yield f"| refused as they should be: nowhere | {ledger.refused} |"
    yield f"| failed by a fault | {ledger.failed} |"
    yield f"| of these delivered, and logged as `outcome_unknown` | {len(ledger.delivered_in_window)} |"
    yield f"| not waited for by their client | {ledger.unheard} |"
    yield f"| of these delivered or kept, once | {ledger.unheard_delivered} |"
    yield f"| wrong | {len(result.wrong)} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"how long [{MINUTES:g}]")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of the chances [any]")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    result = soak(60 * options.minutes, options.seed)
    print("\n".join(report(result)))
    for line in result.wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
