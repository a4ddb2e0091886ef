"""Prometheus: what its HTTP API answers to an instant query.

One value for each set of labels. What is no number (Prometheus says NaN where it divided by nothing) is left
out; an answer of another form, and an error that Prometheus reports, are a ValueError, silence is an OSError.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from bqfilter.saturation.fetching import fetch

# Of an error that is reported: enough to see what is wrong with a query.
_MOST_WORDS = 300


class Prometheus:
    """One server, by the address of its page in a browser; that may be below a path."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._base = parts._replace(path=parts.path.rstrip("/"), query="", fragment="")

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and value of each element of the result."""
        path = f"{self._base.path}/api/v1/query"
        url = self._base._replace(path=path, query=urlencode({"query": expression})).geturl()
        return answered(*fetch(url))


def answered(status: int, content: bytes) -> list[tuple[Mapping[str, str], float]]:
    """What an answer says."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"status {status}, and no JSON: is there a Prometheus?") from None
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise ValueError(f"status {status}: {_error_of(answer)}")
    return list(_elements(answer.get("data")))


def _error_of(answer: object) -> str:
    text = str(answer.get("error", "")) if isinstance(answer, dict) else ""
    # From the network to a terminal.
    shown = "".join(one if one.isprintable() else "?" for one in text[:_MOST_WORDS])
    return shown or "not the answer of a Prometheus"


def _elements(data: object) -> Iterator[tuple[Mapping[str, str], float]]:
    found = data.get("result") if isinstance(data, dict) and data.get("resultType") == "vector" else None
    if not isinstance(found, list):
        raise ValueError("not the answer of a Prometheus to an instant query")
    for one in found:
        value = _value(one)
        if math.isfinite(value):
            yield {str(name): str(label) for name, label in one["metric"].items()}, value


def _value(element: Any) -> float:
    try:
        _, text = element["value"]
        if not isinstance(element["metric"], dict):
            raise TypeError
        return float(text)
    except (KeyError, TypeError, ValueError):
        raise ValueError("not the answer of a Prometheus to an instant query") from None
