"""Turns runs into numbers, and numbers into a table and a file.

A contender's number is the median over its rounds. A ratio is taken to HAProxy in the same round, because
between two rounds the machine may have become another one; the median and the extremes of them are shown.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders import HAPROXY
from benchmarks.footprint import Row
from benchmarks.loads import Fault, Load, Run
from benchmarks.section import Section


@dataclass(frozen=True, slots=True)
class Ratio:
    """Over the rounds; of a contender's score to HAProxy's in the same round."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One contender under one load."""

    contender: str
    score: float
    messages_per_second: float
    megabytes_per_second: float
    ratio: Ratio | None  # none where HAProxy did not run
    cpu_per_message: float | None  # microseconds, of its own processes
    scanner_cpu_per_message: float | None  # microseconds, of the scanning daemon that it asks
    aim: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """One load with all its runs."""

    load: Load
    runs: Sequence[Run]
    faults: Sequence[Fault] = ()

    def summaries(self) -> list[Summary]:
        return [self._summary(name) for name in dict.fromkeys(run.contender for run in self.runs)]

    def _summary(self, contender: str) -> Summary:
        runs = [run for run in self.runs if run.contender == contender]
        rate = median(run.messages / run.seconds for run in runs)
        return Summary(
            contender=contender,
            score=median(map(self.load.score, runs)),
            messages_per_second=rate,
            megabytes_per_second=rate * self.load.size / 1e6,
            ratio=self._ratio(runs),
            cpu_per_message=_microseconds((run.cpu_seconds, run.messages) for run in runs),
            scanner_cpu_per_message=_microseconds((run.scanner_cpu_seconds, run.messages) for run in runs),
            aim=self.load.aims.get(contender),
        )

    def _ratio(self, runs: Iterable[Run]) -> Ratio | None:
        yardstick = {run.round: self.load.score(run) for run in self.runs if run.contender == HAPROXY}
        pairs = ((self.load.score(run), yardstick.get(run.round)) for run in runs)
        ratios = [score / haproxy for score, haproxy in pairs if haproxy is not None]
        return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None


def _microseconds(pairs: Iterable[tuple[float | None, int]]) -> float | None:
    """Of processor time, for one message."""
    each = [seconds / messages * 1e6 for seconds, messages in pairs if seconds is not None]
    return median(each) if each else None


def heading(facts: Mapping[str, str], taken: datetime | None = None) -> str:
    return (
        f"Measured {taken or datetime.now(UTC):%Y-%m-%d} on {facts['processor']}, Linux {facts['kernel']},"
        f" Python {facts['python']}, Postfix {facts['postfix']}, HAProxy {facts['haproxy']};"
        f" load average before the run {facts['load average']}."
    )


def machine() -> dict[str, str]:
    """To be asked before the run: the load average says whether the machine was at rest."""
    return {
        "processor": _processor(),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "postfix": _first_line("/usr/sbin/postconf", "-h", "mail_version"),
        "haproxy": _first_line("haproxy", "-v").removeprefix("HAProxy version ").split()[0],
        "load average": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.machine()


def _first_line(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.partition("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def table(results: Sequence[Result]) -> str:
    """Markdown, readable on a terminal as well."""
    head = [
        "load",
        "contender",
        "rate",
        "to HAProxy",
        "lowest to highest",
        "aim",
        "CPU µs/message",
        "scanner's",
    ]
    return markdown(head, [row for result in results for row in _rows(result)])


def _rows(result: Result) -> Iterator[list[str]]:
    title = result.load.title
    for summary in result.summaries():
        ratio = summary.ratio
        yield [
            title,
            summary.contender,
            f"{_number(summary.score)} {result.load.unit.text}",
            f"{ratio.median:.2f}" if ratio else "",
            f"{ratio.lowest:.2f} to {ratio.highest:.2f}" if ratio else "",
            _aim(result.load, summary.aim),
            _whole(summary.cpu_per_message),
            _whole(summary.scanner_cpu_per_message),
        ]
        title = ""
    for fault in result.faults:
        yield [title, fault.contender, f"did not do its work: {brief(fault.reason)}", "", "", "", "", ""]
        title = ""


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def brief(reason: str) -> str:
    """A row has one line; the whole reason is in the record."""
    text = " ".join(reason.split()).replace("|", "/")
    return text if len(text) <= 100 else f"... {text[-96:]}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _aim(load: Load, aim: float | None) -> str:
    if aim is None:
        return ""
    return f"{'at least' if load.unit.more_is_better else 'at most'} {aim:.2f}"


def memory_table(rows: Sequence[Row]) -> str:
    return markdown(["memory", "KiB"], [[row.what, f"{row.kib:.0f}"] for row in rows])


def section_table(section: Section) -> str:
    table = markdown(list(section.head), [list(row) for row in section.rows])
    return "\n\n".join([table, *section.notes])


def markdown(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def save(
    directory: Path,
    facts: Mapping[str, str],
    options: Mapping[str, Any],
    results: Sequence[Result],
    memory: Sequence[Row],
    left_out: Sequence[str] = (),
    sections: Sequence[Section] = (),
    **told: object,
) -> Path:
    """Every single run, for whoever wants to compute something else. `told` is put beside it."""
    taken = datetime.now(UTC)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{taken:%Y%m%dT%H%M%SZ}.json"
    content = {
        "taken": taken.isoformat(timespec="seconds"),
        "machine": dict(facts),
        "options": dict(options),
        **told,
        "left out": list(left_out),
        "loads": [_as_json(result) for result in results],
        "memory": [asdict(row) for row in memory],
        **{section.name: section.record for section in sections},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _as_json(result: Result) -> dict[str, Any]:
    load = result.load
    return {
        "name": load.name,
        "title": load.title,
        "sessions": load.sessions,
        "messages": load.messages,
        "size": load.size,
        "unit": load.unit.text,
        "summaries": [asdict(summary) for summary in result.summaries()],
        "runs": [asdict(run) for run in result.runs],
        "faults": [asdict(fault) for fault in result.faults],
    }
