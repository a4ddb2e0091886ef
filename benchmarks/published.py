"""The records behind the page: benchmarks/published/, one file for each part of it.

They are made from the records of the suite, each of which holds every single run. What is kept of a load is
what the page says of it, and figures have four digits. A part comes from all given records that have it, a
load from the last of them; parts that no record has stay as they are. What says where a record was made,
paths for example, is left out.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import growth, latency, life, sizes, syscalls
from benchmarks.matrix import cells
from benchmarks.programs import ROOT
from benchmarks.report import Ratio, brief
from benchmarks.scanners import KINDS

Record = Mapping[str, Any]
Part = dict[str, Any]  # "measured": how and when; "rows": what was found

DIRECTORY = ROOT / "benchmarks" / "published"
MATRIX, SCANNERS, POSTFIX, MEMORY = "matrix", "scanners", "postfix", "memory"
NAMES = (
    *(MATRIX, SCANNERS, POSTFIX, MEMORY),
    *(latency.NAME, life.NAME, growth.NAME, sizes.NAME, syscalls.NAME),
)
DIGITS = 4

_PATH = re.compile(r"(?<![\w/])/(?:[^\s/:]+/)+")  # without the name at its end
_CELLS = {cell.name for cell in cells(1, 1.0)}
_KINDS = {kind.name for kind in KINDS}


def parts_of(records: Sequence[Record]) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for record in records:
        for name in NAMES:
            if rows := _rows(name, record):
                earlier = found.get(name, {"measured": [], "rows": []})
                found[name] = {
                    "measured": [*earlier["measured"], _measured(record)],
                    "rows": rounded(_replaced(name, earlier["rows"], rows)),
                }
    return found


def read(directory: Path = DIRECTORY) -> dict[str, Part]:
    files = {name: directory / f"{name}.json" for name in NAMES}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def write(parts: Mapping[str, Part], directory: Path = DIRECTORY) -> None:
    directory.mkdir(exist_ok=True)
    for name, part in parts.items():
        (directory / f"{name}.json").write_text(_as_text(part))


def _rows(name: str, record: Record) -> list[Any]:
    match name:
        case "matrix":
            return [_load(load) for load in record["loads"] if load["name"] in _CELLS]
        case "scanners":
            return [_load(load) for load in record["loads"] if load["name"].rpartition("-")[0] in _KINDS]
        case "postfix":
            return [_load(load) for load in record["loads"] if load["name"].partition("-")[0] == POSTFIX]
        case "memory":
            return list(record["memory"])
        case "latency":
            return [_turn(turn) for turn in record.get(name, {}).get("pooled", ())]
        case "growth":
            return list(record.get(name, {}).get("pools", ()))
        case _:
            return list(record.get(name, {}).get("runs", ()))


def _replaced(name: str, earlier: Sequence[Any], later: Sequence[Any]) -> list[Any]:
    """Loads are measured one by one, all else as a whole."""
    if name not in (MATRIX, SCANNERS, POSTFIX):
        return list(later)
    return list({load["name"]: load for load in [*earlier, *later]}.values())


def _load(load: Record) -> dict[str, Any]:
    kept = {key: load[key] for key in ("name", "title", "sessions", "size", "unit")}
    alone = _scores(load, lambda name: name.endswith(" alone"))
    return kept | {
        "rounds": max((run["round"] for run in load["runs"]), default=0),
        "summaries": [
            {**_without_nothing(summary), **_to_scanner(load, summary["contender"], alone)}
            for summary in load["summaries"]
        ],
        "faults": [
            {**fault, "reason": brief(_PATH.sub("", fault["reason"]))} for fault in load.get("faults", ())
        ],
    }


def _without_nothing(summary: Record) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if value is not None and name != "aim"}


def _to_scanner(load: Record, contender: str, alone: Mapping[int, float]) -> dict[str, Any]:
    """The ratio of the rate to the scanner's alone in the same round, where one is in the load."""
    own = _scores(load, lambda name: name == contender)
    ratios = [score / alone[number] for number, score in own.items() if number in alone]
    return {"to_scanner": asdict(Ratio(median(ratios), min(ratios), max(ratios)))} if ratios else {}


def _scores(load: Record, is_meant: Callable[[str], bool]) -> dict[int, float]:
    """Messages a second, by round."""
    runs = (run for run in load["runs"] if is_meant(run["contender"]))
    return {run["round"]: run["messages"] / run["seconds"] for run in runs}


def _turn(turn: Record) -> dict[str, Any]:
    """The curve is drawn for whole messages alone."""
    steps = {name: dict(step) for name, step in turn["microseconds"].items()}
    for name, step in steps.items():
        if name != "whole":
            del step["curve"]
    return {**turn, "microseconds": steps}


def _measured(record: Record) -> dict[str, Any]:
    told = {"taken": record["taken"], "machine": record["machine"]}
    if "command" in record:
        told["command"] = shlex.join(_told(record["command"]))
    if "seconds" in record:
        told["seconds"] = round(record["seconds"])
    options = {name: value for name, value in record["options"].items() if name not in ("filter", "against")}
    return {**told, "options": options, "left out": record.get("left out", [])}


def _told(words: Iterable[str]) -> Iterator[str]:
    """Where results go, and where a copy of smtpprox lies, is nobody's concern."""
    given = iter(words)
    for word in given:
        if word == "--results":
            next(given)
        else:
            yield Path(word).name if word.startswith("/") else word


def rounded(value: Any) -> Any:
    """All figures in it, to so many digits as say something."""
    match value:
        case float():
            return _short(value)
        case dict():
            return {name: rounded(one) for name, one in value.items()}
        case list():
            return [rounded(one) for one in value]
        case _:
            return value


def _short(value: float) -> float:
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() else short


def _as_text(part: Part) -> str:
    """A row a line, so that a difference tells what has changed."""
    keys = []
    for key, rows in part.items():
        lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
        keys.append(f' "{key}": [\n  {lines}\n ]')
    return "{\n" + ",\n".join(keys) + "\n}\n"
