"""Signals as data: handlers only take note; the loop that owns the queue acts when it gets there."""

import contextlib
import os
import signal
from collections.abc import Iterable


class SignalQueue:
    """Signals received and not acted on yet, each once, in order of arrival.

    `fileno` becomes readable with each of them, so that a poll wakes up. The pipe belongs to the process that
    made the queue: a forked child closes `fds`.
    """

    def __init__(self, wanted: Iterable[signal.Signals]) -> None:
        self._pending: list[int] = []
        self.fds = wakeup_pipe()
        self._reader = self.fds[0]
        for number in wanted:
            signal.signal(number, self._note)

    def fileno(self) -> int:
        """For poll."""
        return self._reader

    def take(self) -> list[signal.Signals]:
        """Everything noted so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass
        pending, self._pending = self._pending, []
        return [signal.Signals(number) for number in pending]

    def hand_down(self) -> None:
        """Everything noted so far comes again, to whoever unblocks it: the program that this process becomes.

        All signals of this queue are blocked by now, so none is noted any more behind this.
        """
        for number in self.take():
            os.kill(os.getpid(), number)

    def _note(self, number: int, _frame: object) -> None:
        if number not in self._pending:
            self._pending.append(number)


def wakeup_pipe() -> tuple[int, int]:
    """A pipe of this process that becomes readable with every signal: its ends to read and to write."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader, writer
