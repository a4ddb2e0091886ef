"""A live pool under a bounded load, and what `bqfilterd tune` says of it beside what was measured.

    python -m benchmarks.waiting              # the table of docs/tuning.md; about four minutes
    python -m benchmarks.waiting --seconds 20

Messages come at random, independently or in handfuls, each over a connection of its own, and the server
behind takes a random time for each, so the workers wait as they do for a slow scanner. The pool counts who
had to wait; `tune --live` computes who should have had to, from nothing but the pool's own rate and session
times. Everything is on loopback, and there is an end to it: so many seconds a load. A message that is not
accepted ends the run. The figures are those of one run on one machine; no test looks at them.
"""

import argparse
import json
import random
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import LoadError
from benchmarks.programs import BACKLOG, HOST, Program, free_port, greets, running
from benchmarks.simulation import exponential

WORKERS = 8
SERVICE_TIME = 0.25  # seconds, on average, that the after-filter server takes for a message
SECONDS = 60.0
_WIDTH = 40  # characters of a bar
_PATIENCE = 60.0
_MESSAGE = (
    b"EHLO mx.example", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.net>", b"DATA",
    b"Subject: x\r\n\r\nHello.\r\n.",
)  # fmt: skip

_CONFIG = """\
[[listen]]
endpoint = "inet:{host}:{port}"
backlog = {backlog}
[pool]
workers = {workers}
[upstream]
endpoint = "inet:{host}:{upstream_port}"
[metrics]
listen = "inet:{host}:0"
[runtime]
user = "nobody"
directory = "{directory}/run"
"""


@dataclass(frozen=True, slots=True)
class Offer:
    """How messages come: so many a second, in handfuls of so many at once."""

    name: str
    rate: float
    handful: int = 1


OFFERS = (
    Offer("half full", 16.0),
    Offer("three quarters full", 24.0),
    Offer("seven eighths full", 28.0),
    Offer("half full, four at a time", 16.0, handful=4),
)


class _After(socketserver.ThreadingTCPServer):
    """The after-filter server: takes everything, after a while."""

    daemon_threads = True
    request_queue_size = BACKLOG
    allow_reuse_address = True


class _Conversation(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self._say(b"220 after.example ESMTP")
        while line := self.rfile.readline():
            match line[:4].upper():
                case b"EHLO":
                    self._say(b"250-after.example\r\n250-PIPELINING\r\n250 XFORWARD NAME ADDR")
                case b"DATA":
                    self._say(b"354 go on")
                    self._take()
                case b"QUIT":
                    return self._say(b"221 bye")
                case _:
                    self._say(b"250 ok")
        return None

    def _take(self) -> None:
        while self.rfile.readline() not in (b".\r\n", b""):
            pass
        time.sleep(random.expovariate(1 / SERVICE_TIME))
        self._say(b"250 ok: queued")

    def _say(self, reply: bytes) -> None:
        self.wfile.write(reply + b"\r\n")


@contextmanager
def _after_filter_server() -> Iterator[int]:
    with _After((HOST, 0), _Conversation) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def _pool(directory: Path, upstream_port: int) -> Iterator[tuple[Program, int]]:
    port = free_port()
    config = _CONFIG.format(
        host=HOST,
        port=port,
        backlog=BACKLOG,
        workers=WORKERS,
        upstream_port=upstream_port,
        directory=directory,
    )
    (directory / "bqfilterd.toml").write_text(config, encoding="utf-8")
    argv = [sys.executable, "-m", "bqfilter", "serve", "--config", str(directory / "bqfilterd.toml")]
    with running("bqfilterd", argv, directory) as program:
        program.wait_until(lambda: greets(port))
        yield program, port


class _Load:
    """Sends messages until its time is up, each in a thread; a client like Postfix with speed_adjust."""

    def __init__(self, port: int, offer: Offer, seconds: float) -> None:
        self._port = port
        self._gap = exponential(random.Random(7), offer.handful / offer.rate)
        self._handful = offer.handful
        self._seconds = seconds
        self.failures: list[str] = []

    def run(self) -> None:
        threads: list[threading.Thread] = []
        due = time.monotonic()
        end = due + self._seconds
        while (due := due + self._gap()) < end:
            time.sleep(max(0.0, due - time.monotonic()))
            for _ in range(self._handful):
                threads.append(threading.Thread(target=self._send))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _send(self) -> None:
        try:
            with socket.create_connection((HOST, self._port), timeout=_PATIENCE) as client:
                answers = client.makefile("rb")
                self._expect(answers)
                for command in _MESSAGE:
                    client.sendall(command + b"\r\n")
                    self._expect(answers)
                client.sendall(b"QUIT\r\n")
        except OSError as error:
            self.failures.append(str(error))

    def _expect(self, answers: Any) -> None:
        line = answers.readline()
        while line[3:4] == b"-":
            line = answers.readline()
        if line[:1] not in (b"2", b"3"):
            raise OSError(f"answered {line!r}")


def measure(offer: Offer, seconds: float) -> list[str]:
    """The load, as bars, and what tune has to say about it."""
    with tempfile.TemporaryDirectory(prefix="bqfilter-waiting-") as name, _after_filter_server() as upstream:
        directory = Path(name)
        directory.chmod(0o755)
        with _pool(directory, upstream) as (_, port):
            load = _Load(port, offer, seconds)
            load.run()
            if load.failures:
                raise LoadError(f"{len(load.failures)} messages were not taken: {load.failures[0]}")
            return [
                *_bars(offer, _tune(directory, "--live", "--json")),
                *_words(_tune(directory, "--live")),
                "",
            ]


def _tune(directory: Path, *options: str) -> str:
    argv = [sys.executable, "-m", "bqfilter", "tune", "--config", str(directory / "bqfilterd.toml")]
    argv += ["--speed-adjust", *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def _bars(offer: Offer, answer: str) -> Iterator[str]:
    found = json.loads(answer)
    measured, compared = found["measured"], found["comparison"]
    rate, seconds = measured["rate"], measured["service_time"]
    busy = f"utilisation {rate * seconds / WORKERS:.0%}"
    yield f"{offer.name}: {measured['sessions']} sessions, {rate:.1f}/s of {seconds:.3f}s, {busy}"
    for title in ("measured", "predicted"):
        p_wait, mean = compared[f"p_wait_{title}"], compared[f"mean_wait_{title}"]
        bar = "#" * round(p_wait * _WIDTH)
        yield f"  {title:<10}{bar:<{_WIDTH}} P(wait) {p_wait:.3f}  mean wait {mean:.3f}s"


def _words(answer: str) -> Iterator[str]:
    """The section in which tune compares."""
    section = answer.partition("\nMeasured\n")[2].partition("\n\n")[0]
    yield from section.splitlines()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each load [{SECONDS:.0f}]")
    seconds = parser.parse_args().seconds
    print(f"{WORKERS} workers, sessions of {SERVICE_TIME}s on average, {seconds:.0f}s for each load\n")
    try:
        for offer in OFFERS:
            print("\n".join(measure(offer, seconds)), flush=True)
    except LoadError as failure:
        print(f"benchmarks: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
