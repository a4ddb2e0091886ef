"""Debian's Prometheus on a free port: it scrapes its targets once a second, and is asked over its API.

A minute of the shipped rules is a second here: `in_a_hurry` divides every duration in them by sixty, and
changes nothing else, so what is tried out are the rules themselves.
"""

import contextlib
import http.client
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.doubles.programs import eventually

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\[|\bfor: |\boffset )(\d+)([smhd])\b")

_CONFIGURATION = """\
global: {{scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs: [{{job_name: bqfilterd, static_configs: [{{targets: {targets}}}]}}]
"""


def in_a_hurry(rules: str) -> str:
    """The same rules with ranges, offsets and waiting times a sixtieth as long."""

    def shorten(found: re.Match[str]) -> str:
        milliseconds = int(found[2]) * _UNITS[found[3]] * 1000 // 60
        return f"{found[1]}{milliseconds}ms"

    return _DURATION.sub(shorten, rules)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one."""

    port: int

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query; an error is a failure."""
        return list(self._get("query?" + urlencode({"query": expression}))["result"])

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def is_ready(self) -> bool:
        """Until then it answers everything with 503."""
        return self._fetch("/-/ready")[0] == 200

    def _get(self, path: str) -> dict[str, Any]:
        _, body = self._fetch(f"/api/v1/{path}")
        answer = json.loads(body)
        assert answer["status"] == "success", (path, answer)
        return dict(answer["data"])

    def _fetch(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextlib.contextmanager
def scraping(program: str, targets: Sequence[str], rules: str, directory: Path) -> Iterator[Prometheus]:
    """One that has scraped every target for the first time, which takes it six seconds from its start."""
    (directory / "prometheus.yml").write_text(_CONFIGURATION.format(targets=list(targets)))
    (directory / "rules.yml").write_text(rules)
    log = directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield _ready(process, log, len(targets))
    finally:
        process.kill()
        process.wait()


def _ready(process: subprocess.Popen[bytes], log: Path, targets: int) -> Prometheus:
    def port() -> re.Match[str] | None:
        assert process.poll() is None, log.read_text()
        return re.search(r'"Listening on" address=127\.0\.0\.1:(\d+)', log.read_text())

    prometheus = Prometheus(int(eventually(port, "a port of Prometheus")[1]))
    eventually(prometheus.is_ready, "a Prometheus that is ready")
    eventually(lambda: len(prometheus.query("up == 1")) == targets, "a scrape of each target")
    return prometheus
