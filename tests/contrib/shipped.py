"""The shipped files, and what they ask for, read without any library for YAML: their form is ours."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bqfilter.saturation.metrics import METRICS
from tests.doubles.programs import REPOSITORY

PROMETHEUS = REPOSITORY / "contrib" / "prometheus"
RULES = PROMETHEUS / "bqfilterd.rules.yml"
RULE_TESTS = sorted(PROMETHEUS.glob("*.test.yml"))
DASHBOARDS = sorted((REPOSITORY / "contrib" / "grafana").glob("*.json"))

_HISTOGRAM_ENDINGS = ("_bucket", "_count", "_sum")
_SERIES = re.compile(r"bqfilterd[_:][a-z0-9_:]+")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of the rules, as the text that it is."""

    name: str
    text: str

    @property
    def severity(self) -> str:
        (found,) = re.findall(r"severity: (\w+)", self.text)
        return str(found)


def rules() -> str:
    """The rules without their comments."""
    return re.sub(r"^\s*#.*\n", "", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)


def alerts() -> list[Alert]:
    pieces = re.split(r"^ +- (?=alert: |record: |name: )", rules(), flags=re.MULTILINE)
    return [Alert(piece.split()[1], piece) for piece in pieces if piece.startswith("alert: ")]


def recorded() -> set[str]:
    """The series that the rules make."""
    return set(re.findall(r"- record: (\S+)", rules()))


def exported() -> set[str]:
    """The series that a scrape may give."""
    names = {metric.full_name for metric in METRICS.values() if metric.kind != "histogram"}
    histograms = [metric.full_name for metric in METRICS.values() if metric.kind == "histogram"]
    return names | {name + ending for name in histograms for ending in _HISTOGRAM_ENDINGS}


def series_in(text: str) -> set[str]:
    """The names of series of ours in an expression, or in many of them."""
    return set(_SERIES.findall(text))


def panels(dashboard: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(dashboard.read_text(encoding="utf-8"))["panels"]
    return found


def queries() -> list[str]:
    """Every expression of the dashboards, as Grafana would send it for a page of an hour."""
    every = [panel for dashboard in DASHBOARDS for panel in panels(dashboard)]
    return list(dict.fromkeys(target["expr"] for panel in every for target in panel["targets"]))


def filled_in(expression: str, instance: str) -> str:
    """An expression with Grafana's variables replaced."""
    for variable, value in {
        "$__rate_interval": "10s",
        "$__interval": "10s",
        "$__range": "1m",
        "$instance": instance,
        "$job": "bqfilterd",
    }.items():
        expression = expression.replace(variable, value)
    return expression
