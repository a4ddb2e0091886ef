"""A scraper, as Prometheus is one: HTTP to the exporter's address, and samples by name and labels."""

import http.client
import re
import socket
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.doubles.programs import Bqfilterd

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What came back."""

    status: int
    content_type: str
    text: str


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one scrape; names without "bqfilterd_"."""

    values: dict[tuple[str, Labels], float]
    kinds: dict[str, str]

    def value(self, name: str, **labels: str) -> float:
        return self.values[f"bqfilterd_{name}", tuple(sorted(labels.items()))]

    def has(self, name: str) -> bool:
        return any(key[0] == f"bqfilterd_{name}" for key in self.values)

    def buckets(self, name: str, **labels: str) -> list[tuple[float, float]]:
        """Bounds and cumulative counts of a histogram."""
        wanted = set(labels.items())
        found = [
            (float(dict(key[1])["le"]), value)
            for key, value in self.values.items()
            if key[0] == f"bqfilterd_{name}_bucket" and wanted < set(key[1])
        ]
        return sorted(found)

    @property
    def monotone(self) -> dict[tuple[str, Labels], float]:
        """Those that must never fall."""
        return {
            key: value
            for key, value in self.values.items()
            if self.kinds[key[0]] == "counter" or key[0].endswith(("_count", "_sum", "_bucket"))
        }


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


def exporter_port(daemon: Bqfilterd) -> int:
    return int(daemon.wait_for_log(r"metrics served at=inet:127\.0\.0\.1:(\d+)")[1])


def agent_line(daemon: Bqfilterd) -> str:
    """What a load balancer is told; it reads to the end of the connection."""
    host, port = daemon.wait_for_log(r"agent served at=inet:([0-9.]+):(\d+)").groups()
    with socket.create_connection((host, int(port)), 30) as sock, sock.makefile("r") as answer:
        return answer.read()


def get(daemon: Bqfilterd, path: str = "/metrics", **headers: str) -> Page:
    return fetch(http.client.HTTPConnection("127.0.0.1", exporter_port(daemon), timeout=10), path, **headers)


def fetch(connection: http.client.HTTPConnection, path: str, **headers: str) -> Page:
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
        return Page(response.status, re.split(";", response.headers["Content-Type"])[0], body)
    finally:
        connection.close()


def scrape(daemon: Bqfilterd) -> Samples:
    page = get(daemon)
    assert page.status == 200, page
    return parse(page.text)


def parse(text: str) -> Samples:
    """What a page says."""
    values, kinds = {}, {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
            kinds[sample.name] = family.type
    return Samples(values, kinds)
