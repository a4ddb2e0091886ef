"""Run a site's own code until a deadline, and take the processor away from it then.

For the main thread of a worker, which has no other; calls do not nest. A timer of the kernel (ITIMER_REAL)
sends SIGALRM at the deadline, and the handler raises an exception out of whatever runs: Python code, a
regular expression of `re` (which looks for signals while it searches), a system call that waits. The caller
gets ScannerInterrupted, also where the code caught the exception and returned something in the end.

Code that swallows the exception is hit again, twenty times a second. An endless loop around `except
BaseException` would swallow them all, because each comes while the same `try` is at work. So from the second
time on another exception follows the first one: one line of source later, then two, then three, until it
comes where nothing catches it.

Nothing is ever raised outside the code: the handler looks at the stack and raises only where `_inside` is on
it. So there is no flag that could be set a moment too late, and no exception that escapes behind the return.

`strike` is for the handler of another signal that has to end such code; it does not insist.

What it cannot interrupt is C code that never comes back to the interpreter, nor code that takes SIGALRM for
itself. The master kills a worker that outlives every limit.
"""

import signal
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

from bqfilter.errors import ScannerFailure, ScannerInterrupted
from bqfilter.net.deadline import Deadline

T = TypeVar("T")

_INTERVAL = 0.05  # seconds between two exceptions, for code that swallows them
_MOST_LINES = 50  # of source between an exception that was swallowed and the one that follows it
_LONGEST = 24 * 3600.0  # the kernel's timer takes no infinity


class Overrun(BaseException):
    """Raised into code whose time is up; not an Exception, so that `except Exception` lets it pass."""


class Spent(Overrun):
    """Raised by `strike`."""


def strike(frame: FrameType | None) -> None:
    """In a signal handler, with the frame that was interrupted: end the code, if that is what runs."""
    if _frames_inside(frame):
        raise Spent


def call(function: Callable[[], T], deadline: Deadline) -> T:
    """What `function` returns or raises, or ScannerInterrupted where it does not do so by the deadline."""
    left = deadline.remaining()
    if left <= 0:
        raise ScannerFailure("no time left")
    alarm = _Alarm()
    before, tracer = signal.signal(signal.SIGALRM, alarm.ring), sys.gettrace()
    try:
        signal.setitimer(signal.ITIMER_REAL, min(left, _LONGEST), _INTERVAL)
        result = _inside(function)
    except BaseException as error:
        if alarm.has_rung:
            raise ScannerInterrupted("did not finish in time, interrupted") from error
        if isinstance(error, Spent):
            raise ScannerInterrupted("used up the processor time there is, interrupted") from error
        raise
    finally:
        # In this order: a signal that is still pending finds our handler, which is outside and does nothing.
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.settrace(tracer)
        signal.signal(signal.SIGALRM, before)
    if alarm.has_rung:
        raise ScannerInterrupted("did not finish in time, and swallowed the interruption")
    return result


def _inside(function: Callable[[], T]) -> T:
    return function()


class _Alarm:
    """The handler of SIGALRM for one call."""

    __slots__ = ("_lines_left", "_times")

    def __init__(self) -> None:
        self._times = 0
        self._lines_left = 0

    @property
    def has_rung(self) -> bool:
        return self._times > 0

    def ring(self, _number: int, frame: FrameType | None) -> None:
        """Raise into the code that runs, if that is the code and not the handler of another signal."""
        frames = _frames_inside(frame)
        if not frames:
            return
        self._times += 1
        if self._times > 1:
            self._lie_in_wait(frames)
        raise Overrun

    def _lie_in_wait(self, frames: list[FrameType]) -> None:
        """For a line behind the one that swallows the exception, each time further behind."""
        self._lines_left = (self._times - 2) % _MOST_LINES
        for frame in frames:
            frame.f_trace = self._trace
        sys.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        """Called by the interpreter at each line; an exception from here puts an end to the tracing."""
        if event != "line":
            return self._trace
        if not _frames_inside(frame):
            return None
        self._lines_left -= 1
        if self._lines_left < 0:
            raise Overrun
        return self._trace


def _frames_inside(frame: FrameType | None) -> list[FrameType]:
    """The frames of the code, from this one up; none where this one is outside, or in a signal's handler.

    A worker that is told to drain takes note of that undisturbed.
    """
    handlers = _handlers()
    frames: list[FrameType] = []
    while frame is not None and frame.f_code not in handlers:
        if frame.f_code is _inside.__code__:
            return [*frames, frame]
        frames.append(frame)
        frame = frame.f_back
    return []


def _handlers() -> set[CodeType | None]:
    """The code of all signal handlers."""
    found = (signal.getsignal(number) for number in signal.valid_signals())
    return {getattr(handler, "__code__", None) for handler in found}
