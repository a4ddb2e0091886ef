"""Kill -9, hundreds of times, under load between two real Postfix servers; then the ledger is closed.

    python -m tests.soak.storm                    # 500 kills, some four minutes
    python -m tests.soak.storm --kills 2000 --seed 7

Exit status 0: the ledger is balanced. 1: it is not, and what is wrong with it is told. Which workers are
killed, and when, follows from the seed only as far as the machine does the same twice.
"""

import argparse
import random
import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from bqfilter.ledger import Stage

from .clients import Crowd
from .ledger import InDoubt, Ledger, Witnesses, balance, unknown_outcomes
from .rig import WORKERS, Rig, rig
from .strikes import Strike, Striker

KILLS = 500
CLIENTS = 10
_IN_DOUBT = re.compile(r"worker ended during a hand-over: possible duplicate .*\bsession=(\w+)")
_LONGEST_CALM = 0.4  # seconds between a pool that is whole and the next strike


@dataclass(slots=True)
class Aftermath:
    """What a storm has left."""

    striker: Striker
    ledger: Ledger
    seconds: float
    drafts: int
    complaints: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        return [*self.ledger.wrong, *self.complaints]


def storm(kills: int, seed: int) -> Aftermath:
    """Kill that often."""
    with rig() as place:
        chance = random.Random(seed)
        striker = Striker(place.manager, place.runtime, WORKERS, place.postfix.at("metrics"), chance)
        crowd = Crowd(place.doors, CLIENTS, seed)
        began = time.monotonic()
        crowd.start()
        try:
            while striker.kills < kills:
                time.sleep(chance.uniform(0.0, _LONGEST_CALM))
                striker.strike()
        finally:
            crowd.stop()
        seconds = time.monotonic() - began
        striker.wait_for_exporter()
        place.end()
        return _aftermath(place, crowd, striker, seconds)


def _aftermath(place: Rig, crowd: Crowd, striker: Striker, seconds: float) -> Aftermath:
    log = list(place.manager.log_lines())
    witnesses = Witnesses.of(striker.falls, unknown_outcomes(log))
    found = place.found()
    ledger = balance(crowd.told, found, witnesses)
    complaints = [*crowd.failures, *(f"a master ended with {status}" for status in place.manager.endings)]
    complaints += [line for line in log if "error: " in line or "Traceback" in line]
    complaints += _untold(striker, log)
    if ledger.failed_by_us:
        complaints.append(
            f"{ledger.failed_by_us} messages failed in our own words, and nothing but us was struck"
        )
    if found.drafts > len(striker.falls):
        complaints.append(f"{found.drafts} drafts were left")
    if ledger.failed > len(striker.falls):
        complaints.append(
            f"{ledger.failed} messages failed, and only {len(striker.falls)} workers were killed"
        )
    return Aftermath(striker, ledger, seconds, found.drafts, complaints)


def _untold(striker: Striker, log: Sequence[str]) -> Iterator[str]:
    """Workers that fell in a hand-over, and no master has said so: what is in doubt has to be in the log."""
    told = {found[1] for line in log if (found := _IN_DOUBT.search(line))}
    for fall in striker.falls:
        if fall.stage is Stage.HANDOVER and not fall.is_orphan and fall.session not in told:
            yield f"no line about the possible duplicate of session {fall.session}, worker {fall.pid}"


def report(after: Aftermath) -> Iterator[str]:
    """The figures, as they stand in the docs."""
    striker, ledger = after.striker, after.ledger
    rate = ledger.messages / after.seconds
    yield f"{striker.kills} kills in {after.seconds:.0f} s, {ledger.messages} messages, {rate:.0f} a second"
    yield ""
    yield "| struck | strikes | processes killed | whole again: median | 95 % | longest |"
    yield "| --- | --: | --: | --: | --: | --: |"
    for aim, strikes in striker.by_aim().items():
        if strikes:
            yield _row(aim, strikes)
    yield ""
    stages = ", ".join(f"{stage.name.lower()} {count}" for stage, count in sorted(striker.stages().items()))
    yield f"workers killed, by stage: {stages}"
    yield ""
    yield "| messages | |"
    yield "| --- | --: |"
    yield f"| told 2xx: there once | {ledger.accepted} |"
    yield f"| refused as they should be: nowhere | {ledger.refused} |"
    yield f"| failed by a kill | {ledger.failed} |"
    yield f"| of these delivered: killed between final dot and reply | {_in_doubt(ledger.delivered)} |"
    yield f"| of these kept: killed between quarantine and reply | {_in_doubt(ledger.kept)} |"
    yield f"| safety copies and drafts left in quarantine | {ledger.strays + after.drafts} |"
    yield f"| not waited for by their client | {ledger.unheard} |"
    yield f"| of these delivered or kept, once | {ledger.unheard_delivered} |"
    yield f"| wrong | {len(after.wrong)} |"


def _in_doubt(doubts: Sequence[InDoubt]) -> str:
    by_aim = sum(doubt.by_aim for doubt in doubts)
    return f"{len(doubts)} ({len(doubts) - by_aim} by chance, {by_aim} by aim)"


def _row(aim: str, strikes: Sequence[Strike]) -> str:
    seconds = sorted(strike.seconds for strike in strikes)
    high = quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[-1]
    cells = [aim, len(strikes), sum(strike.kills for strike in strikes)]
    cells += [f"{value:.2f} s" for value in (median(seconds), min(high, seconds[-1]), seconds[-1])]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is to be left running
    parser = argparse.ArgumentParser(prog="python -m tests.soak.storm", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=KILLS, help=f"how many [{KILLS}]")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1 << 32), help="of the chances [by chance]"
    )
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    after = storm(options.kills, options.seed)
    print("\n".join(report(after)))
    print("\n".join(map(str, [*after.ledger.delivered, *after.ledger.kept])))
    for line in after.wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return 1 if after.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
