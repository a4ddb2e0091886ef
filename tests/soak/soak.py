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
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

from tests.doubles.programs import eventually
from tests.pool.scraper import fetch

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
_RELOADS = 6  # likewise
_UPGRADE_AT = 0.15  # of the run, once: a new master begins anew, so this is a part of warming up
_LONGEST_CALM = 4.0  # seconds between two faults
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
    def wrongs_of_mail(self) -> list[str]:
        return [*self.ledger.wrong, *self.complaints]

    @property
    def wrong(self) -> list[str]:
        growing = [f"grows: {trend.measure.name}" for trend in self.growth.trends() if not trend.is_flat]
        return [*self.wrongs_of_mail, *growing]


@dataclass(slots=True)
class _Hours:
    """How far a run of so many seconds has come; what is due several times is so at equal distances."""

    seconds: float
    began: float = field(default_factory=time.monotonic)
    _done: Counter[str] = field(default_factory=Counter)
    _is_over: bool = False

    @property
    def share(self) -> float:
        return 1.0 if self._is_over else (time.monotonic() - self.began) / self.seconds

    def end(self) -> None:
        """Before its time, where it has to be."""
        self._is_over = True

    def is_due(self, what: str, times: int) -> bool:
        is_due = self.share * times >= self._done[what] + 1
        self._done[what] += is_due
        return is_due


def soak(seconds: float, seed: int) -> Result:
    """That long."""
    with rig(max_messages=2000) as place:
        faults, growth = Faults(place, random.Random(seed)), Growth()
        complaints: list[str] = []
        crowd = Crowd(place.doors, _CLIENTS, seed, _SIZES, _LONGEST_PAUSE)
        hours = _Hours(seconds)
        trouble = threading.Thread(target=_make_trouble, args=(faults, hours, complaints))
        crowd.start()
        trouble.start()
        try:
            _look_on(place, growth, hours)
        finally:
            hours.end()
            trouble.join()
            crowd.stop()
        place.end()
        log = list(place.manager.log_lines())
        ledger = balance(crowd.told, place.found(), Witnesses.of((), unknown_outcomes(log)))
        complaints += [*crowd.failures, *(f"a master ended: {status}" for status in place.manager.endings)]
        complaints += [line for line in log if _TROUBLE.search(line)]
        return Result(seconds, faults, growth, ledger, complaints)


def _look_on(place: Rig, growth: Growth, hours: _Hours) -> None:
    while hours.share < 1.0:
        if hours.is_due("look", _SAMPLES):
            growth.look(place.manager.pid, place.runtime, WORKERS)
            _is_scraped(place)
        time.sleep(min(0.2, hours.seconds / _SAMPLES))
    eventually(lambda: _is_scraped(place), "the exporter answers")


def _is_scraped(place: Rig) -> bool:
    """As Prometheus does it. On a busy machine an answer may be late; in the end there must be one."""
    connection = HTTPConnection(*place.postfix.at("metrics"), timeout=10.0)
    with suppress(OSError, HTTPException):
        return fetch(connection, "/metrics").status == 200
    return False


def _make_trouble(faults: Faults, hours: _Hours, complaints: list[str]) -> None:
    """Reloads, the upgrade, and between them whatever fault comes next."""
    try:
        while hours.share < 1.0:
            if hours.is_due("reload", _RELOADS):
                faults.reload()
            if hours.share > _UPGRADE_AT and not faults.has_upgraded:
                faults.upgrade()
            faults.bring_one()
            time.sleep(min(faults.chance.uniform(0.0, _LONGEST_CALM), hours.seconds / _RELOADS))
    except Exception as error:  # a thread must not end unheard
        complaints.append(f"trouble: {type(error).__name__}: {error}")


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
    yield f"| of these delivered, and logged as `outcome_unknown` | {len(ledger.delivered)} |"
    yield f"| not waited for by their client | {ledger.unheard} |"
    yield f"| of these delivered or kept, once | {ledger.unheard_delivered} |"
    yield f"| wrong | {len(result.wrong)} |"


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is to be left running
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
