"""`python -m tests.fuzz TARGET...|all [--seconds N] [--runs N]`: search for inputs that break an invariant.

The search goes on from what earlier ones found (`--work`), which is not part of the repository. A finding
ends the search of its target and the status is 1; its input is kept, and its traceback shown.
"""

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.table import CORPUS, TARGETS, Target

_EXECUTED = re.compile(r"stat::number_of_executed_units: *(\d+)")
_INPUT_TIMEOUT = 20  # seconds for one input: none takes one


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one search came to."""

    target: Target
    runs: int
    seconds: float
    is_good: bool


def main() -> int:
    options = _parser().parse_args()
    names = list(TARGETS) if "all" in options.targets else options.targets
    outcomes = [_search(TARGETS[name], options) for name in names]
    print(f"\n{'target':20} {'executions':>12} {'per second':>11}  findings")
    for one in outcomes:
        rate = one.runs / max(one.seconds, 0.001)
        print(f"{one.target.name:20} {one.runs:12,} {rate:11,.0f}  {'none' if one.is_good else 'FOUND'}")
    return 0 if all(one.is_good for one in outcomes) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="+", choices=[*TARGETS, "all"], metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target; 0 for no limit")
    parser.add_argument("--runs", type=int, default=0, help="for each target; 0 for no limit")
    parser.add_argument("--blind", action="store_true", help="without atheris: random mutations")
    parser.add_argument("--seed", default="1", help="of the search")
    parser.add_argument("--work", type=Path, default=Path(".fuzz"), help="where what is found is kept")
    return parser


def _search(target: Target, options: argparse.Namespace) -> Outcome:
    work = options.work / target.name
    findings = options.work / "findings" / target.name
    for directory in (work, findings):
        directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.engine", target.name, *_engine(target, options, work, findings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    found = _EXECUTED.findall(done.stdout)
    if done.returncode or not found:
        print(done.stdout)
    return Outcome(target, int(found[-1]) if found else 0, time.monotonic() - began, done.returncode == 0)


def _engine(target: Target, options: argparse.Namespace, work: Path, findings: Path) -> list[str]:
    if options.blind:
        return ["blind", str(options.seconds), str(options.runs), options.seed, str(findings), str(work)]
    words = options.work / f"{target.name}.dict"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    return [
        "guided",
        f"-max_total_time={options.seconds}",
        f"-runs={options.runs or -1}",
        f"-seed={options.seed}",
        f"-max_len={target.max_bytes}",
        f"-timeout={_INPUT_TIMEOUT}",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        f"-dict={words}",
        f"-artifact_prefix={findings}/",
        str(work),
        str(CORPUS / target.name),
    ]


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
