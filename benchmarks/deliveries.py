"""Counts what arrived behind a contender, for a fast filter that loses mail is worth nothing.

`settle` waits until every message expected so far is there, and raises `DeliveryError` when one is missing or
one is there twice. A second copy that comes late is found by the next `settle`, or by the last one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import DeliveryError
from benchmarks.programs import BACKLOG, HOST, UNPRIVILEGED_USER, free_port, greets, is_root, running

ARRIVAL_TIMEOUT = 60.0
STILLNESS = 1.0  # seconds without a message, after which no more is thought to be under way


class Deliveries:
    """The messages expected at one place, against those counted there."""

    def __init__(self, where: str, count: Callable[[], int]) -> None:
        self._where = where
        self._count = count
        self._expected = count()

    def expect(self, messages: int) -> None:
        self._expected += messages

    def settle(self, patience: float | None = None) -> None:
        """`patience` is for how long nothing may arrive while something is missing."""
        patience = ARRIVAL_TIMEOUT if patience is None else patience
        seen, since = self._count(), time.monotonic()
        while (arrived := self._count()) < self._expected and time.monotonic() < since + patience:
            if arrived != seen:
                seen, since = arrived, time.monotonic()
            time.sleep(0.02)
        if arrived != self._expected:
            raise DeliveryError(f"{self._where}: {self._expected} messages expected, {arrived} arrived")

    def start_over(self) -> None:
        """After a run that went wrong: wait until nothing more comes, and expect nothing of what did not."""
        while (arrived := self._count()) != self._expected:
            self._expected = arrived
            time.sleep(STILLNESS)


@contextmanager
def sink(directory: Path) -> Iterator[tuple[int, Deliveries]]:
    """A smtp-sink, which throws messages away, and its own count of them."""
    port = free_port()
    user = ["-u", UNPRIVILEGED_USER] if is_root() else []
    argv = ["smtp-sink", "-4", "-c", *user, f"{HOST}:{port}", str(BACKLOG)]
    with running(f"smtp-sink-{port}", argv, directory) as program:
        program.wait_until(lambda: greets(port))
        yield port, Deliveries(f"smtp-sink on port {port}", lambda: _last_count(program.log))


def _last_count(log: Path) -> int:
    """smtp-sink overwrites one line again and again: `sess=4 quit=4 mesg=4`, a carriage return after each."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 200))
        counts = [line for line in file.read().split(b"\r")[:-1] if b"mesg=" in line]
    return int(counts[-1].rpartition(b"mesg=")[2]) if counts else 0
