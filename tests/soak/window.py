"""How wide the window is in which a killed worker leaves a message in doubt.

    python -m tests.soak.window --messages 2000

It opens when the after-filter server has taken the message, which is some time between our final dot and the
arrival of its reply, and closes when our own reply has been handed to the kernel. So two times are measured,
in workers that are left alone: from the dot to its reply, and from its reply to ours. Of a message in several
transactions it is the first dot that counts.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from .clients import Crowd
from .rig import rig

_CLIENTS = 4

# Runs in bqfilterd before its own code; a line for each message: seconds to the reply, seconds from there on.
_WATCH = """
import os, time
from bqfilter.session import Session
from bqfilter.upstream.connection import Connection
final_reply, flush, seen = Connection.final_reply, Session._flush, []

def timed_reply(self, last_moment):
    began = time.perf_counter()
    reply = final_reply(self, last_moment)
    seen.extend([began, time.perf_counter()] if not seen else [])
    return reply

def timed_flush(self):
    flush(self)
    if seen:
        began, answered = seen
        seen.clear()
        with open("{file}", "a") as file:
            file.write(f"{{answered - began}} {{time.perf_counter() - answered}}\\n")

Connection.final_reply, Session._flush = timed_reply, timed_flush
"""


def measure(messages: int) -> list[tuple[float, float]]:
    """Both times of each message."""
    file = Path("/tmp") / f"bqsoak-window-{time.time_ns()}"
    file.touch()
    file.chmod(0o666)
    try:
        with rig(prelude=_WATCH.format(file=file)) as place:
            crowd = Crowd(place.doors, _CLIENTS, seed=1)
            crowd.start()
            while len(crowd.told) < messages and not crowd.failures:
                time.sleep(0.1)
            crowd.stop()
        pairs = [line.split() for line in file.read_text().splitlines()]
        return [(float(behind), float(ours)) for behind, ours in pairs]
    finally:
        file.unlink()


def report(times: list[tuple[float, float]]) -> Iterator[str]:
    yield f"{len(times)} messages handed over"
    yield ""
    yield "| | median | 95 % | 99 % | longest |"
    yield "| --- | --: | --: | --: | --: |"
    for name, values in (
        ("from the final dot to its reply", [behind for behind, _ in times]),
        ("from its reply to ours", [ours for _, ours in times]),
    ):
        parts = quantiles(values, n=100)
        cells = [f"{1000 * value:.2f} ms" for value in (median(values), parts[94], parts[98], max(values))]
        yield f"| {name} | " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.window", description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=2000, help="how many [2000]")
    print("\n".join(report(measure(parser.parse_args().messages))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
