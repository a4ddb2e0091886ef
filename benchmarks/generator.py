"""A load generator: messages that begin by a timetable, each on a connection of its own, every step timed.

    timetable = [0.0, 0.004, 0.013]  # seconds from now
    for trace in play(port, timetable, content(4096)):
        trace.whole, trace.banner, trace.envelope, trace.dot, trace.lag  # nanoseconds

The conversation is that of a Postfix smtpd with a proxy filter: nothing before the banner, EHLO, XFORWARD
with the attributes that were announced, MAIL, RCPT, DATA, content and dot in one write, then QUIT and close
without a look at the reply. A message begins when its time has come, whether or not earlier ones are done,
and its time counts from there: a server that stands still is charged for all who had to wait meanwhile. One
process does it all, so it can be late itself; `lag` says by how much. Begins that are drawn at random fall
anywhere into the work of this loop, so their lag is also what the times of replies suffer.

A reply of the wrong class, a lost connection, or nothing at all for `PATIENCE` raise `LoadError`. Nothing is
tried twice.
"""

import errno
import gc
import math
import os
import re
import select
import socket
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import LoadError
from benchmarks.programs import HOST

PATIENCE = 60.0  # seconds in which no message makes a step
# Connections at once: select(2) takes no descriptor above 1023. Beyond that a message begins late; its time
# counts from its place in the timetable all the same, and the lag shows it.
MOST_AT_ONCE = 900
URGENCY = -15  # the nice value of a generator run by root: one that waits for the servers measures itself

_TIMER_SLACK = Path("/proc/self/timerslack_ns")  # by how much the kernel may wake us late, to save wake-ups
_LAST_LINE = re.compile(rb"^\d{3}(?: [^\n]*)?\r?\n\Z", re.MULTILINE)
_XFORWARD = re.compile(rb"^250[- ]XFORWARD ([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_ATTRIBUTES = {  # in Postfix's order
    b"NAME": b"client.example",
    b"ADDR": b"192.0.2.7",
    b"PORT": b"41322",
    b"HELO": b"client.example",
    b"IDENT": b"[UNAVAILABLE]",
    b"PROTO": b"ESMTP",
    b"SOURCE": b"REMOTE",
}
_HEADER = (
    b"Received: from client.example (client.example [192.0.2.7])\r\n"
    b"\tby mx.example (Postfix) with ESMTP;\r\n\tMon, 23 Nov 2026 09:00:00 +0000 (UTC)\r\n"
    b"From: <sender@example.com>\r\nTo: <user@example.net>\r\nSubject: of the load generator\r\n\r\n"
)
_LINE = b"X" * 78 + b"\r\n"


@dataclass(frozen=True, slots=True)
class Trace:
    """One message: instants in nanoseconds of one clock."""

    due: int
    began: int
    greeted: int  # the banner was there
    invited: int  # the reply to DATA was there
    answered: int  # the reply to the dot was there

    @property
    def lag(self) -> int:
        """By how much the generator was late."""
        return self.began - self.due

    @property
    def whole(self) -> int:
        return self.answered - self.due

    @property
    def banner(self) -> int:
        """From the connect."""
        return self.greeted - self.began

    @property
    def envelope(self) -> int:
        """From EHLO to the reply to DATA."""
        return self.invited - self.greeted

    @property
    def dot(self) -> int:
        """From the first byte of the content to the reply to its dot."""
        return self.answered - self.invited


def content(size: int) -> bytes:
    """A message of this size or a little less, without the final dot."""
    return _HEADER + _LINE * max(1, (size - len(_HEADER)) // len(_LINE))


def play(port: int, timetable: Sequence[float], message: bytes, at_once: int = MOST_AT_ONCE) -> list[Trace]:
    """Send a message at each of these times, ascending, in seconds from now; in the order of their ends."""
    with _undisturbed():
        start = time.perf_counter_ns()
        dues = deque(start + round(seconds * 1e9) for seconds in timetable)
        return _Play(port, dues, message + b".\r\n", at_once).run()


def play_alone(port: int, messages: int, message: bytes, limit: float = math.inf) -> list[Trace]:
    """One message after the other, each when the last was answered; none begins after so many seconds."""
    end = time.monotonic() + limit
    traces = play(port, [0.0], message)
    while len(traces) < messages and time.monotonic() < end:
        traces += play(port, [0.0], message)
    return traces


class _Play:
    """Who is due, and who is in hand."""

    def __init__(self, port: int, dues: deque[int], message: bytes, at_once: int) -> None:
        self._port, self._message, self._at_once = port, message, at_once
        self._dues = dues
        self._in_hand: dict[int, _Conversation] = {}
        self._traces: list[Trace] = []

    def run(self) -> list[Trace]:
        try:
            while self._dues or self._in_hand:
                self._begin_what_is_due()
                self._go_on_where_there_is_news()
        finally:
            for conversation in self._in_hand.values():
                conversation.close()
        return self._traces

    def _begin_what_is_due(self) -> None:
        while self._may_begin() and self._dues[0] <= time.perf_counter_ns():
            conversation = _Conversation(self._port, self._dues.popleft(), self._message)
            self._in_hand[conversation.descriptor] = conversation

    def _may_begin(self) -> bool:
        return bool(self._dues) and len(self._in_hand) < self._at_once

    def _go_on_where_there_is_news(self) -> None:
        """By select(2), for its timeout is one of microseconds; epoll and poll oversleep by up to one ms."""
        sending = [number for number, one in self._in_hand.items() if one.has_unsent]
        readable, writable, _ = select.select(list(self._in_hand), sending, [], self._seconds_left())
        if not (readable or writable or self._may_begin()):
            raise LoadError(
                f"port {self._port}: {len(self._in_hand)} messages made no step in {PATIENCE:.0f} s"
            )
        for number in writable:
            self._in_hand[number].send()
        for number in readable:
            if trace := self._in_hand[number].read():
                self._traces.append(trace)
                self._in_hand.pop(number).close()

    def _seconds_left(self) -> float:
        if not self._may_begin():
            return PATIENCE
        return min(PATIENCE, max(0, self._dues[0] - time.perf_counter_ns()) / 1e9)


@dataclass(frozen=True, slots=True)
class _Step:
    """What is said next, and the class of the reply that lets the conversation go on."""

    says: bytes
    wants: bytes = b"2"


class _Conversation:
    """One message on its connection."""

    def __init__(self, port: int, due: int, message: bytes) -> None:
        self._due, self._began = due, time.perf_counter_ns()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if (number := self._socket.connect_ex((HOST, port))) not in (0, errno.EINPROGRESS):
            self._socket.close()
            raise LoadError(f"port {port}: {os.strerror(number)}")
        self._steps = _conversation(message)
        self._step = next(self._steps)
        self._heard = b""
        self._unsent = memoryview(b"")
        self._replied: list[int] = []  # when

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def read(self) -> Trace | None:
        """Take what has come; the message's trace once it has had its last reply."""
        self._heard += self._receive()
        if not _LAST_LINE.search(self._heard):
            return None
        self._replied.append(time.perf_counter_ns())
        reply, self._heard = self._heard, b""
        if not reply.startswith(self._step.wants):
            raise LoadError(f"{self._step.says[:60]!r} was answered {reply!r}")
        try:
            self._step = self._steps.send(reply)
        except StopIteration:
            return self._trace()
        self._say(self._step.says)
        return None

    def send(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            raise LoadError(f"lost the connection: {error.strerror}") from None

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(65536)
        except OSError as error:
            raise LoadError(f"no reply to {self._step.says[:60]!r}: {error.strerror}") from None
        if not data:
            raise LoadError(f"connection closed after {self._step.says[:60]!r}")
        return data

    def _say(self, data: bytes) -> None:
        self._unsent = memoryview(data)
        self.send()

    def _trace(self) -> Trace:
        self._say(b"QUIT\r\n")
        return Trace(self._due, self._began, self._replied[0], self._replied[-2], self._replied[-1])


def _conversation(message: bytes) -> Generator[_Step, bytes, None]:
    yield _Step(b"")  # the banner comes unasked
    announced = yield _Step(b"EHLO mx.example\r\n")
    if attributes := _attributes(announced):
        yield _Step(b"XFORWARD " + b" ".join(attributes) + b"\r\n")
    yield _Step(b"MAIL FROM:<sender@example.com>\r\n")
    yield _Step(b"RCPT TO:<user@example.net>\r\n")
    yield _Step(b"DATA\r\n", wants=b"3")
    yield _Step(message)


def _attributes(announced: bytes) -> list[bytes]:
    found = _XFORWARD.search(announced)
    names = found[1].upper().split() if found else []
    return [name + b"=" + value for name, value in _ATTRIBUTES.items() if name in names]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Woken to the microsecond, without the collector's pauses, before others as far as that is allowed."""
    nice, collects = os.getpriority(os.PRIO_PROCESS, 0), gc.isenabled()
    is_urgent = _be_nice(URGENCY)
    _TIMER_SLACK.write_text("1")
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
        _TIMER_SLACK.write_text("0")  # the default
        if is_urgent:
            _be_nice(nice)


def _be_nice(value: int) -> bool:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, value)
    except PermissionError:
        return False
    return True
