"""Signals as data: handlers only take note; the loop that owns the queue acts when it gets there."""

import contextlib
import signal
import socket
from collections.abc import Iterable


class SignalQueue:
    """Signals received and not acted on yet, each once, in order of arrival.

    `fileno` becomes readable with each of them, so that a poll wakes up. The pair of sockets belongs to the
    process that made the queue; a forked child makes its own.
    """

    def __init__(self, wanted: Iterable[signal.Signals]) -> None:
        self._pending: list[int] = []
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        for number in wanted:
            signal.signal(number, self._note)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        """For poll."""
        return self._reader.fileno()

    def take(self) -> list[signal.Signals]:
        """Everything noted so far."""
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
        pending, self._pending = self._pending, []
        return [signal.Signals(number) for number in pending]

    def close(self) -> None:
        """In a forked child: let go of the parent's queue."""
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()

    def _note(self, number: int, _frame: object) -> None:
        if number not in self._pending:
            self._pending.append(number)
