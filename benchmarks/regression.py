"""The short form for continuous integration: the ratios of this run, beside those that were kept.

    python -m benchmarks.regression                    # scripts/bench-regression; half a minute
    python -m benchmarks.regression --write-baseline   # keep what is measured now

Messages over many sessions, messages alone in line, one large message at a time: for each the rate and the
processor time of bqfilterd, as ratios to HAProxy in the same round, with the lowest and the highest of the
rounds. `better` and `worse` are said only where the two spans are a tenth apart; all else is `same`. The
machine of the kept figures is named: ratios wander less from machine to machine than figures do, but they do.

No figure fails the run, and neither does a program that is not there: it is said, and that is all. Lost mail
fails it, and mail that comes twice.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, Contender, Workshop
from benchmarks.cost import cost
from benchmarks.deliveries import Deliveries, sink
from benchmarks.errors import BenchmarkError, DeliveryError
from benchmarks.loads import LARGE, SMALL
from benchmarks.programs import ROOT
from benchmarks.section import Section, number

BASELINE = ROOT / "benchmarks" / "baseline.json"
NAMES = (HAPROXY, FILTER_ONE, FILTER_KEPT)
WORKERS = 20
SECONDS = 20.0  # after which no further round begins
LEAST_ROUNDS, MOST_ROUNDS = 2, 7
MEASURES = ("rate", "cpu")
TELLING = 1.1  # how far two spans have to be apart


@dataclass(frozen=True, slots=True)
class Load:
    name: str
    title: str
    sessions: int
    messages: int
    size: int


LOADS = (
    Load("many", "4 KiB, 20 sessions", 20, 600, SMALL),
    Load("alone", "4 KiB, 1 session", 1, 100, SMALL),
    Load("large", "25 MB, 1 session", 1, 3, LARGE),
)


@dataclass(frozen=True, slots=True)
class Turn:
    load: str
    contender: str
    round: int
    messages: int
    seconds: float
    cpu_seconds: float

    def measure(self, what: str) -> float:
        """Of the rate more is better, of processor time less."""
        return self.messages / self.seconds if what == "rate" else self.cpu_seconds / self.messages


@dataclass(frozen=True, slots=True)
class Span:
    """Over the rounds."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One contender under one load: `ratio` to HAProxy, `value` as it is on this machine."""

    load: str
    contender: str
    what: str
    ratio: Span
    value: float  # messages a second, or seconds of processor time a message


def findings(turns: Sequence[Turn]) -> list[Finding]:
    groups = dict.fromkeys((turn.load, turn.contender) for turn in turns if turn.contender != HAPROXY)
    return [_finding(turns, *group, what) for group in groups for what in MEASURES]


def _finding(turns: Sequence[Turn], load: str, contender: str, what: str) -> Finding:
    own = [turn for turn in turns if (turn.load, turn.contender) == (load, contender)]
    yardstick = {
        turn.round: turn.measure(what) for turn in turns if (turn.load, turn.contender) == (load, HAPROXY)
    }
    ratios = [turn.measure(what) / yardstick[turn.round] for turn in own]
    return Finding(
        load=load,
        contender=contender,
        what=what,
        ratio=Span(median(ratios), min(ratios), max(ratios)),
        value=median(turn.measure(what) for turn in own),
    )


def verdict(what: str, now: Span, before: Span | None) -> str:
    if before is None:
        return "new"
    if now.lowest > before.highest * TELLING:
        return "better" if what == "rate" else "worse"
    if before.lowest > now.highest * TELLING:
        return "worse" if what == "rate" else "better"
    return "same"


def kept(found: Sequence[Finding], machine: Mapping[str, str]) -> dict[str, Any]:
    """What the baseline file holds."""
    return {
        "taken": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": dict(machine),
        "findings": [asdict(one) for one in found],
    }


def told(found: Sequence[Finding], baseline: Mapping[str, Any]) -> Iterator[str]:
    before = _spans(baseline)
    titles = {load.name: load.title for load in LOADS}
    yield f"{'load':<20} {'contender':<37} {'ratio to HAProxy of':<24} {'now':<24} kept"
    for one in found:
        earlier = before.get((one.load, one.contender, one.what))
        name, spans = f"{titles.get(one.load, one.load):<20} {one.contender:<37}", (one.ratio, earlier)
        columns = [f"{text:<24}" for text in (_what(one), *map(_span, spans))]
        yield " ".join([name, *columns, verdict(one.what, *spans)])


def _spans(baseline: Mapping[str, Any]) -> dict[tuple[str, str, str], Span]:
    return {
        (one["load"], one["contender"], one["what"]): Span(**one["ratio"])
        for one in baseline.get("findings", [])
    }


def _what(one: Finding) -> str:
    if one.what == "rate":
        return f"rate ({number(one.value, 0 if one.value >= 100 else 2)}/s)"
    return f"CPU ({1e6 * one.value:.0f} µs/message)"


def _span(span: Span | None) -> str:
    if span is None:
        return "nothing"
    return f"{span.median:.2f} ({span.lowest:.2f} to {span.highest:.2f})"


def measure(directory: Path, seconds: float = SECONDS, loads: Sequence[Load] = LOADS) -> list[Turn]:
    """Round after round, each with all loads and contenders, as long as there is time."""
    workshop = Workshop(directory, WORKERS, (sys.executable, "-m", "bqfilter"))
    end = time.monotonic() + seconds
    turns: list[Turn] = []
    with ExitStack() as stack:
        contenders = []
        for name in NAMES:
            port, deliveries = stack.enter_context(sink(directory))
            contenders.append((stack.enter_context(workshop.contender(name, port)), deliveries))
        _warm_up(contenders)
        for number_of_round in range(1, MOST_ROUNDS + 1):
            if number_of_round > LEAST_ROUNDS and time.monotonic() > end:
                break
            turns += [_turn(load, *contender, number_of_round) for load in loads for contender in contenders]
        for _, deliveries in contenders:
            deliveries.settle()
    return turns


def _warm_up(contenders: Sequence[tuple[Contender, Deliveries]]) -> None:
    for contender, deliveries in contenders:
        cost(contender, deliveries, 2 * WORKERS, WORKERS, SMALL)


def _turn(load: Load, contender: Contender, deliveries: Deliveries, number_of_round: int) -> Turn:
    spent = cost(contender, deliveries, load.messages, load.sessions, load.size)
    return Turn(load.name, contender.name, number_of_round, load.messages, spent.seconds, spent.cpu_seconds)


def main() -> int:
    options = _parser().parse_args()
    machine = report.machine()
    try:
        with tempfile.TemporaryDirectory(prefix="bqbench-") as directory:
            Path(directory).chmod(0o755)  # the programs have users of their own
            turns = measure(Path(directory), options.seconds)
    except DeliveryError as failure:
        print(f"benchmarks: mail was lost or came twice: {failure}")
        return 1
    except (BenchmarkError, OSError) as failure:
        print(f"benchmarks: no figures: {failure}")
        return 0
    found = findings(turns)
    _tell(machine, found, _read(options.baseline))
    _record(options.results, machine, turns, found)
    if options.write_baseline:
        options.baseline.write_text(json.dumps(kept(found, machine), indent=1, ensure_ascii=False) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.regression", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--baseline", type=Path, default=BASELINE, metavar="FILE")
    parser.add_argument("--write-baseline", action="store_true", help="keep these figures")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    return parser


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _tell(machine: Mapping[str, str], found: Sequence[Finding], baseline: Mapping[str, Any]) -> None:
    print(report.heading(machine))
    if baseline:
        facts = baseline["machine"]
        print(
            f"Kept: {baseline['taken']} on {facts['processor']}, Linux {facts['kernel']}, {_versions(facts)}"
        )
    print()
    for line in told(found, baseline):
        print(line)
    print("\nFor information: no figure fails a run.")


def _versions(facts: Mapping[str, str]) -> str:
    versions = f"Python {facts['python']}, Postfix {facts['postfix']}, HAProxy {facts['haproxy']}"
    return f"{versions}; load average {facts['load average']}."


def _record(
    results: Path, machine: Mapping[str, str], turns: Sequence[Turn], found: Sequence[Finding]
) -> None:
    record = {"runs": [asdict(turn) for turn in turns], "findings": [asdict(one) for one in found]}
    section = Section("regression", (), (), record)
    path = report.save(results, machine, {"workers": WORKERS}, [], [], sections=[section])
    print(f"every run: {path}")


if __name__ == "__main__":
    sys.exit(main())
