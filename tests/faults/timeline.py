"""Time as a list of things to come, for sessions without sockets: whoever waits lets the next one happen."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Clock
from bqfilter.net.stream import Stream
from tests.doubles.clock import FakeClock
from tests.doubles.streams import FakeStream
from tests.doubles.upstream import FakeUpstream, ServerStream


@dataclass(slots=True)
class Timeline:
    """What happens at which instant of `clock`; `begin` is the instant 0 of those who plan."""

    clock: FakeClock
    begin: float = field(init=False)
    _plans: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin = self.clock()

    @property
    def now(self) -> float:
        return self.clock() - self.begin

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Let this happen so many seconds after the beginning; never, where that is infinite."""
        if seconds < math.inf:
            self._plans.append((self.begin + seconds, action))
            self._plans.sort(key=lambda plan: plan[0])

    def happen(self) -> None:
        """Everything up to now."""
        while self._plans and self._plans[0][0] <= self.clock():
            self._plans.pop(0)[1]()

    def wait(self, until: float) -> None:
        """Until the next thing happens, or to the end of the wait."""
        self.clock.now = min(until, self._plans[0][0]) if self._plans else until
        self.happen()


class TimedStream(FakeStream):
    """A client."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline.clock)
        self._timeline = timeline

    def on_wait(self) -> None:
        self._timeline.wait(self.until)

    def on_look(self) -> None:
        self._timeline.happen()


class TimedServerStream(ServerStream):
    """A connection to the after-filter server."""

    def __init__(self, upstream: "TimedUpstream", address: SocketAddress) -> None:
        self._timed = upstream
        self._spoken_for = 0.0  # the instant of the last answer that is still to come
        super().__init__(upstream, address)

    def on_wait(self) -> None:
        self._timed.timeline.wait(self.until)

    def on_look(self) -> None:
        self._timed.timeline.happen()

    def _answer(self, verb: bytes) -> bytes:
        """When its time has come, and behind all that is still to be said."""
        timeline = self._timed.timeline
        self._spoken_for = max(self._spoken_for, timeline.now + self._timed.takes.get(verb, 0.0))
        if self._spoken_for <= timeline.now:
            return super()._answer(verb)
        reply = self._timed.reply_to(verb)
        timeline.at(self._spoken_for, lambda: self._say(reply))
        return reply

    def _say(self, reply: bytes) -> None:
        if not self.is_closed:
            self.inbox += reply


class TimedUpstream(FakeUpstream):
    """An after-filter server that takes its time: `takes` has the seconds for each verb, "." for the last.

    `dots` are the seconds after the beginning at which a final dot had come.
    """

    def __init__(self, timeline: Timeline, takes: dict[bytes, float]) -> None:
        super().__init__(timeline.clock)
        self.timeline = timeline
        self.takes = takes
        self.dots: list[float] = []

    def connect(self, address: SocketAddress, _clock: Clock) -> Stream:
        stream = TimedServerStream(self, address)
        self.connections.append(stream)
        return stream  # type: ignore[return-value]  # it has every method of Stream, and no socket

    def reply_to(self, verb: bytes) -> bytes:
        if verb == b".":
            self.dots.append(self.timeline.now)
        return super().reply_to(verb)
