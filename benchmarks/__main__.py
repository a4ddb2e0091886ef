"""The command line of the suite: `python -m benchmarks`.

Exit status 0: measured, whatever the numbers are. 1: mail was lost, or a program did not do its work.
2: usage.
"""

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from benchmarks import peers, report, suite, syscalls
from benchmarks.attendance import Attendance, attendance
from benchmarks.contenders import Workshop
from benchmarks.errors import BenchmarkError
from benchmarks.footprint import Row
from benchmarks.matrix import cells
from benchmarks.parts import PARTS as OTHER_PARTS
from benchmarks.programs import ROOT, SEARCH_PATH, is_root
from benchmarks.report import Result
from benchmarks.scanners import KINDS
from benchmarks.section import Section
from benchmarks.suite import FULL, QUICK, Scale

MEMORY = "memory"
POSTFIX = "postfix"
LOADS = ("many", "alone", "large-1", "large-4")
CELLS = tuple(cell.name for cell in cells(FULL.matrix_rounds, FULL.turn_seconds))
SCANNERS = tuple(kind.name for kind in KINDS)
GROUPS = {"matrix": CELLS, "scanners": SCANNERS, "all": (*CELLS, *SCANNERS, MEMORY)}
PARTS = (*LOADS, MEMORY, POSTFIX, *OTHER_PARTS, *GROUPS, *SCANNERS, *CELLS)


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    parts = _parts(options)
    if complaint := _complaint(parts):
        parser.error(complaint)
    facts, started = report.machine(), time.monotonic()
    present = _attendance(options, parts)
    for sentence in present.left_out:
        print(f"benchmarks: left out: {sentence}", file=sys.stderr)
    try:
        results, memory, sections = _measure(options, parts, present)
    except BenchmarkError as failure:
        print(f"benchmarks: {failure}", file=sys.stderr)
        return 1
    _tell(options, facts, results, memory, sections, present.left_out, time.monotonic() - started)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure bqfilterd beside HAProxy and beside its peers."
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}")
    parser.add_argument(
        "--contenders",
        metavar="WORDS",
        help="only those with one of the words in their names: haproxy,kept,amavisd (default: all)",
    )
    parser.add_argument("--smtpprox", type=Path, metavar="PROGRAM", help="a copy of smtpprox, to take part")
    parser.add_argument("--postfix", action="store_true", help="also between two real Postfix servers (root)")
    parser.add_argument("--quick", action="store_true", help="less of everything, no peers: under a minute")
    parser.add_argument("--workers", type=int, default=20, metavar="N", help="of each filter (default: 20)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument(
        "--filter",
        default=f"{shlex.quote(sys.executable)} -m bqfilter",
        metavar="COMMAND",
        help="how to start the filter; `serve --config FILE` is added (default: this checkout's)",
    )
    parser.add_argument(
        "--against",
        metavar="COMMAND",
        help="a second filter that takes part: `env PYTHONPATH=DIR python3 -m bqfilter`",
    )
    for field in fields(Scale):
        option = "--" + field.name.replace("_", "-")
        full, quick = getattr(FULL, field.name), getattr(QUICK, field.name)
        parser.add_argument(option, type=type(full), metavar="N", help=f"default: {full}, quick: {quick}")
    return parser


def _parts(options: argparse.Namespace) -> list[str]:
    named = options.parts or [*LOADS, MEMORY]
    parts = [part for name in named for part in GROUPS.get(name, (name,))]
    return [*parts, POSTFIX] if options.postfix and POSTFIX not in parts else parts


def _complaint(parts: list[str]) -> str | None:
    if unknown := [part for part in parts if part not in PARTS]:
        return f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}"
    needed = ["smtp-source", "smtp-sink", "haproxy"]
    if missing := [program for program in needed if shutil.which(program, path=SEARCH_PATH) is None]:
        return f"not installed: {', '.join(missing)} (Debian: postfix, haproxy)"
    if syscalls.NAME in parts and shutil.which("strace", path=SEARCH_PATH) is None:
        return "not installed: strace (Debian: strace)"
    if POSTFIX in parts and not is_root():
        return "two Postfix servers can only be started by root"
    return None


def _attendance(options: argparse.Namespace, parts: list[str]) -> Attendance:
    scanners = [part for part in parts if part in SCANNERS]
    wanted = tuple(options.contenders.split(",")) if options.contenders else ()
    if not {*parts} - {*SCANNERS, MEMORY, *OTHER_PARTS}:  # who would let peers take part
        return attendance(scanners, (), wanted)
    if options.quick and not wanted:
        present = attendance(scanners)
        return replace(present, left_out=(*present.left_out, "the peers, unless --contenders names them"))
    return attendance(scanners, (*peers.PASSING, peers.smtpprox(options.smtpprox)), wanted)


def _measure(
    options: argparse.Namespace, parts: list[str], present: Attendance
) -> tuple[list[Result], list[Row], list[Section]]:
    scale = _scale(options)
    with _directory() as directory:
        other = tuple(shlex.split(options.against)) if options.against else None
        command = tuple(shlex.split(options.filter))
        workshop = Workshop(directory, options.workers, command, other, present.passing, present.wanted)
        chosen = [load for load in suite.all_loads(scale) if load.name in parts]
        results = list(suite.run_loads(workshop, chosen)) if chosen else []
        for kind in present.kinds:
            results += suite.run_scanner(workshop, kind, present.asking[kind.name], scale)
        if POSTFIX in parts:
            results += suite.run_postfix(workshop, scale)
        memory = suite.run_memory(workshop, scale.large_messages) if MEMORY in parts else []
        sections = [part(workshop, scale) for name, part in OTHER_PARTS.items() if name in parts]
    return results, memory, sections


@contextmanager
def _directory() -> Iterator[Path]:
    """For configurations, logs and queues; after a failure it stays, for the logs."""
    directory = Path(tempfile.mkdtemp(prefix="bqbench-"))
    directory.chmod(0o755)  # the programs drop to users of their own and must reach what is theirs
    try:
        yield directory
    except BenchmarkError:
        print(f"benchmarks: the logs are in {directory}", file=sys.stderr)
        raise
    else:
        shutil.rmtree(directory)


def _scale(options: argparse.Namespace) -> Scale:
    given = {field.name: getattr(options, field.name) for field in fields(Scale)}
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(QUICK if options.quick else FULL, **chosen)


def _tell(
    options: argparse.Namespace,
    facts: dict[str, str],
    results: list[Result],
    memory: list[Row],
    sections: list[Section],
    left_out: Sequence[str],
    seconds: float,
) -> None:
    tables = [report.table(results)] if results else []
    tables += [report.memory_table(memory)] if memory else []
    tables += [report.section_table(section) for section in sections]
    text = "\n\n".join([report.heading(facts), *tables])
    print(text)
    saved = report.save(
        *(options.results, facts, _recorded(options), results, memory, left_out, sections),
        command=["python", "-m", "benchmarks", *sys.argv[1:]],
        seconds=seconds,
    )
    print(f"\nevery run: {saved}")


def _recorded(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "filter": options.filter,
        "against": options.against,
        "contenders": options.contenders,
        "workers": options.workers,
        **asdict(_scale(options)),
    }


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
