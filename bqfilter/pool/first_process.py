"""First process: where we are process 1, as in a container, what ends any other process ends us, too.

The kernel has no default action for the signals of process 1: a SIGTERM that comes before the master is there
to hear it would be lost, and the container would go on to serve until it is killed. For any other process
this does nothing. The master's own handlers take the place of these.
"""

import os
import signal

_FIRST = 1
_STATUS_OF_A_SIGNAL = 128  # and its number: what a shell calls the exit status of a process ended by it


def end_when_told() -> None:
    """From now on, until somebody knows better. (SIGINT ends Python anyway.)"""
    if os.getpid() == _FIRST:
        for number in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    """Nothing has been bound, promised or begun."""
    os._exit(_STATUS_OF_A_SIGNAL + number)
