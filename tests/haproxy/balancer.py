"""Debian's HAProxy with the shipped configuration, on addresses of this test run's own.

What is changed in the file: addresses, the number of connections, and how often it checks. Everything else is
what sites use. What HAProxy thinks of its servers is asked at its own socket.
"""

import contextlib
import csv
import io
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.doubles.programs import REPOSITORY, eventually

SHIPPED = REPOSITORY / "contrib" / "haproxy" / "haproxy.cfg"
SMTP_PORT, AGENT_PORT = 10025, 9926  # in the file


@dataclass(frozen=True, slots=True)
class Balancer:
    """A running HAProxy; its servers are called filter1, filter2 and so on."""

    directory: Path
    address: tuple[str, int]

    def server(self, name: str) -> dict[str, str]:
        """The line of a server in the statistics."""
        rows = csv.DictReader(io.StringIO(self._ask("show stat").lstrip("# ")))
        (row,) = [row for row in rows if row["pxname"] == "bqfilterd" and row["svname"] == name]
        return row

    def wait_for(self, name: str, status: str) -> None:
        """Return when a server is in this state; the words are HAProxy's, and this is how they begin."""
        eventually(lambda: self.server(name)["status"].startswith(status), f"{name} {status}")

    def weight(self, name: str) -> int:
        return int(self.server(name)["weight"])

    def order(self, command: str) -> None:
        """What an administrator types."""
        assert self._ask(command).strip() == ""

    def log(self) -> str:
        return (self.directory / "haproxy.log").read_text(encoding="utf-8", errors="replace")

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(self.directory / "admin.sock"))
            sock.sendall(command.encode() + b"\n")
            with sock.makefile("r") as answer:
                return answer.read()


def configuration(directory: Path, network: str, workers: int, interval: str) -> str:
    """The shipped file in a hurry; `network` are the first three numbers of all addresses.

    `interval` is between two checks, and between two words of the agent.
    """
    text = SHIPPED.read_text(encoding="utf-8")
    for pattern, replacement in {
        r"192\.0\.2\.": f"{network}.",
        r"/run/haproxy/admin\.sock": str(directory / "admin.sock"),
        r"log /dev/log local0": "log stdout format raw local0",
        r"maxconn 20 ": f"maxconn {workers} ",
        r"(?<=inter )2s": interval,
    }.items():
        text, count = re.subn(pattern, replacement, text)
        assert count, f"nothing in {SHIPPED} is like {pattern}"
    return text


@contextlib.contextmanager
def balancing(
    program: str, directory: Path, network: str, workers: int, interval: str = "200ms"
) -> Iterator[Balancer]:
    config = directory / "haproxy.cfg"
    config.write_text(configuration(directory, network, workers, interval), encoding="utf-8")
    with (directory / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-db", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    balancer = Balancer(directory, (f"{network}.5", SMTP_PORT))
    try:
        eventually(lambda: _is_up(balancer, process), "a HAProxy that answers")
        yield balancer
    finally:
        process.kill()
        process.wait()


def _is_up(balancer: Balancer, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, balancer.log()
    with contextlib.suppress(OSError, ValueError):
        return bool(balancer.server("filter1"))
    return False
