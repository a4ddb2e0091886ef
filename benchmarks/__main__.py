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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from benchmarks import report, suite, syscalls
from benchmarks.contenders import Workshop
from benchmarks.errors import BenchmarkError
from benchmarks.footprint import Row
from benchmarks.parts import PARTS as OTHER_PARTS
from benchmarks.programs import ROOT, SEARCH_PATH, is_root
from benchmarks.report import Result
from benchmarks.section import Section
from benchmarks.suite import FULL, QUICK, Scale

MEMORY = "memory"
POSTFIX = "postfix"
LOADS = tuple(load.name for load in suite.all_loads(FULL))
PARTS = (*LOADS, MEMORY, POSTFIX, *OTHER_PARTS)


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    parts = _parts(options)
    if complaint := _complaint(parts):
        parser.error(complaint)
    facts = report.machine()
    try:
        results, memory, sections = _measure(options, parts)
    except BenchmarkError as failure:
        print(f"benchmarks: {failure}", file=sys.stderr)
        return 1
    _tell(options, facts, results, memory, sections)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure bqfilterd beside HAProxy."
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}")
    parser.add_argument("--postfix", action="store_true", help="also between two real Postfix servers (root)")
    parser.add_argument("--quick", action="store_true", help="less of everything: under a minute")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--workers", type=int, default=20, metavar="N", help="of bqfilterd (default: 20)")
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
        default = f"default: {getattr(FULL, field.name)}, quick: {getattr(QUICK, field.name)}"
        parser.add_argument(option, type=int, metavar="N", help=default)
    return parser


def _parts(options: argparse.Namespace) -> list[str]:
    parts = options.parts or [*LOADS, MEMORY]
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


def _measure(options: argparse.Namespace, parts: list[str]) -> tuple[list[Result], list[Row], list[Section]]:
    scale = _scale(options)
    with _workshop(options) as workshop:
        chosen = [load for load in suite.all_loads(scale) if load.name in parts]
        results = list(suite.run_loads(workshop, chosen, scale.rounds)) if chosen else []
        if POSTFIX in parts:
            results += suite.run_postfix(workshop, scale.postfix_messages, scale.rounds)
        memory = suite.run_memory(workshop, scale.large_messages) if MEMORY in parts else []
        sections = [part(workshop, scale) for name, part in OTHER_PARTS.items() if name in parts]
    return results, memory, sections


@contextmanager
def _workshop(options: argparse.Namespace) -> Iterator[Workshop]:
    with _directory() as directory:
        other = tuple(shlex.split(options.against)) if options.against else None
        yield Workshop(directory, options.workers, tuple(shlex.split(options.filter)), other)


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
) -> None:
    tables = [report.table(results)] if results else []
    tables += [report.memory_table(memory)] if memory else []
    tables += [report.section_table(section) for section in sections]
    text = "\n\n".join([report.heading(facts), *tables])
    print(text)
    saved = report.save(options.results, facts, _recorded(options), results, memory, sections)
    print(f"\nevery run: {saved}")
    if options.write_docs:
        report.write_docs(text)


def _recorded(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "filter": options.filter,
        "against": options.against,
        "workers": options.workers,
        **asdict(_scale(options)),
    }


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
