"""Run a site's own code until a deadline, and take the processor away from it then.

For the main thread of a worker, which has no other; calls do not nest. A timer of the kernel (ITIMER_REAL)
sends SIGALRM at the deadline, and the handler raises an exception out of whatever runs: Python code, a
regular expression of `re` (which looks for signals while it searches), a system call that waits. It is raised
again and again, so that code that swallows it is hit by the next one. The caller gets ScannerInterrupted,
also where the code caught the exception and returned something in the end.

Nothing is ever raised outside the code: the handler looks at the stack and raises only where `_inside` is on
it. So there is no flag that could be set a moment too late, and no exception that escapes behind the return.

What it cannot interrupt is C code that never comes back to the interpreter, nor code that takes SIGALRM for
itself. The master kills a worker that outlives every limit.
"""

import signal
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TypeVar

from bqfilter.errors import ScannerFailure, ScannerInterrupted
from bqfilter.net.deadline import Deadline

T = TypeVar("T")

_INTERVAL = 0.05  # seconds between two exceptions, for code that swallows them
_LONGEST = 24 * 3600.0  # the kernel's timer takes no infinity


class Overrun(BaseException):
    """Raised into code whose time is up; not an Exception, so that `except Exception` lets it pass."""


def call(function: Callable[[], T], deadline: Deadline) -> T:
    """What `function` returns or raises, or ScannerInterrupted where it does not do so by the deadline."""
    left = deadline.remaining()
    if left <= 0:
        raise ScannerFailure("no time left")
    alarm = _Alarm()
    before = signal.signal(signal.SIGALRM, alarm.ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, min(left, _LONGEST), _INTERVAL)
        result = _inside(function)
    except BaseException as error:
        if alarm.has_rung:
            raise ScannerInterrupted("did not finish in time, interrupted") from error
        raise
    finally:
        # In this order: a signal that is still pending finds our handler, which is outside and does nothing.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if alarm.has_rung:
        raise ScannerInterrupted("did not finish in time, and swallowed the interruption")
    return result


def _inside(function: Callable[[], T]) -> T:
    return function()


class _Alarm:
    """The handler of SIGALRM for one call."""

    __slots__ = ("has_rung",)

    def __init__(self) -> None:
        self.has_rung = False

    def ring(self, _number: int, frame: FrameType | None) -> None:
        """Raise into the code that runs, if that is the code and not the handler of another signal."""
        handlers = _handlers()
        while frame is not None and frame.f_code not in handlers:
            if frame.f_code is _inside.__code__:
                self.has_rung = True
                raise Overrun
            frame = frame.f_back


def _handlers() -> set[CodeType | None]:
    """The code of all signal handlers: a worker that is told to drain takes note of it undisturbed."""
    found = (signal.getsignal(number) for number in signal.valid_signals())
    return {getattr(handler, "__code__", None) for handler in found}
