"""How wide the window is in which a killed worker leaves a message in doubt.

    python -m tests.soak.window --messages 2000

It opens when the after-filter server has taken the message, which is some time between our final dot and the
arrival of its reply, and closes when our own reply has been handed to the kernel. So two times are measured,
in workers that are left alone: from the dot to its reply, and from its reply to ours. Of a message in several
transactions it is the first dot that counts.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

from .clients import Crowd
from .mail import KINDS, Kind
from .rig import Rig, rig

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


def measure(messages: int) -> dict[str, list[tuple[float, float]]]:
    """Both times of each message, by how many things there are to do once the first dot is out."""
    one = [kind for kind in KINDS if len(kind.delivered) == 1 and not kind.kept]
    several = [kind for kind in KINDS if len(kind.delivered) > 1 or (kind.delivered and kind.kept)]
    sets = {"one transaction": one, "two transactions, or a copy kept": several}
    file = Path("/tmp") / f"bqsoak-window-{time.time_ns()}"
    try:
        with rig(prelude=_WATCH.format(file=file)) as place:
            return {name: _measure(place, kinds, messages // 2, file) for name, kinds in sets.items()}
    finally:
        file.unlink()


def _measure(place: Rig, kinds: Sequence[Kind], messages: int, file: Path) -> list[tuple[float, float]]:
    file.write_bytes(b"")
    file.chmod(0o666)
    crowd = Crowd(place.doors, _CLIENTS, seed=1, kinds=kinds)
    crowd.start()
    while len(crowd.told) < messages and not crowd.failures:
        time.sleep(0.1)
    crowd.stop()
    pairs = [line.split() for line in file.read_text().splitlines()]
    return [(float(behind), float(ours)) for behind, ours in pairs]


def report(found: Mapping[str, list[tuple[float, float]]]) -> Iterator[str]:
    yield "| | messages | median | 95 % | 99 % | longest |"
    yield "| --- | --: | --: | --: | --: | --: |"
    for name, times in found.items():
        yield _row(f"{name}: from the final dot to its reply", [behind for behind, _ in times])
        yield _row(f"{name}: from its reply to ours", [ours for _, ours in times])


def _row(name: str, values: list[float]) -> str:
    parts = quantiles(values, n=100)
    cells = [f"{1000 * value:.2f} ms" for value in (median(values), parts[94], parts[98], max(values))]
    return f"| {name} | {len(values)} | " + " | ".join(cells) + " |"


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is to be left running
    parser = argparse.ArgumentParser(prog="python -m tests.soak.window", description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=2000, help="how many [2000]")
    print("\n".join(report(measure(parser.parse_args().messages))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
