"""The duplicate window: a real session and a real upstream leg, over a clock that is moved."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest

from bqfilter.config.loader import parse
from bqfilter.ledger import Ledger
from bqfilter.log import Log
from bqfilter.net.address import SocketAddress
from bqfilter.outcome import Outcome
from bqfilter.session import Session, Surroundings
from bqfilter.upstream import Upstream
from tests.doubles.clock import FakeClock
from tests.doubles.means import means
from tests.doubles.recorder import RecordingSink
from tests.doubles.settings import HOSTNAME, settings
from tests.faults import window
from tests.faults.expectations import LEFT, UNHEARD, UNKNOWN
from tests.faults.patterns import matches
from tests.faults.timeline import TimedStream, TimedUpstream, Timeline
from tests.faults.window import SWEEPS, Course, Stretch, Sweep

OPENING = b"EHLO c\r\nMAIL FROM:<a@remote.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
MESSAGE = b"Subject: x\r\n\r\ntext\r\n.\r\n"


@dataclass(frozen=True, slots=True)
class Passage:
    """One message: what the client was told, and when; when final dots went out; what was counted."""

    told: str
    at: float | None
    dots: list[float]
    counted: Counter[str]
    sink: RecordingSink

    @property
    def is_success(self) -> bool:
        return self.told.startswith("2")


class _Client(TimedStream):
    """Says one message at once, hears its replies, and leaves at an instant of its own."""

    def __init__(self, timeline: Timeline, left: float) -> None:
        super().__init__(timeline)
        self.verdict = LEFT
        self.heard_at: float | None = None
        self.inbox += OPENING + MESSAGE
        timeline.at(left, self._leave)

    def _leave(self) -> None:
        self.has_left = True

    def on_write(self, data: bytes) -> None:
        replies = data.decode("ascii").split("\r\n")
        if not self.has_left and not data.startswith(b"220 ") and "354 " not in data.decode("ascii"):
            self.verdict, self.heard_at = replies[0], self._timeline.now


def passage(course: Course) -> Passage:
    timeline = Timeline(FakeClock())
    takes = {b"DATA": course.data, b".": course.reply}
    server = TimedUpstream(timeline, takes)
    clock, sink, counted = timeline.clock, RecordingSink(), Counter[str]()
    given, log = settings(window.PATIENT), Log(sink, is_json=False)
    upstream = Upstream(given, [SocketAddress(2, ("127.0.0.1", 10026))], HOSTNAME, clock, server.connect, log)

    def count(outcome: Outcome) -> None:
        counted[f'messages{{result="{outcome.result}"}}'] += 1
        counted[UNHEARD] += outcome.is_unheard

    around = Surroundings(means(given, upstream, clock, log), HOSTNAME, clock, bytearray(65536), count)
    client = _Client(timeline, course.left)
    Session(client, around, Ledger(clock, lambda *_: None), log).run()
    assert not any("internal error" in line for line in sink.lines), sink.lines
    assert len(server.messages) == len(server.dots)
    return Passage(client.verdict, client.heard_at, server.dots, +counted, sink)


def test_the_limits_are_those_of_the_page() -> None:
    default = parse(
        "[upstream]\nendpoint = 'inet:127.0.0.1:1'\n[[listen]]\nendpoint = 'inet:127.0.0.1:2'\n", "x"
    )
    budget = default.budget
    assert budget.proxy_timeout == window.BUDGET
    assert budget.proxy_timeout - budget.margin - budget.commit_reserve == window.LAST_DOT


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.title)
def test_what_comes_of_it_is_what_the_page_says_second_by_second(sweep: Sweep) -> None:
    for figure in sweep.figures:
        course, expected = replace(sweep.course, **{sweep.moved: figure}), sweep.expected(figure)
        seen = passage(course)
        assert matches(expected.told, seen.told), course
        assert seen.counted == Counter(expected.counted), course
        assert len(seen.dots) == expected.has_dot, course
        if expected.told != LEFT:
            assert seen.at == pytest.approx(_due(course, expected), abs=0.001), course


def _due(course: Course, expected: Stretch) -> float:
    return course.data + course.reply if expected.at is None else expected.at


COURSES = [
    Course(data, reply, left)
    for data in (0, 40, 80, 84.9, 85, 90, 120)
    for reply in (0, 10, 14.1, 20, 60, 98.9, 99, 120)
    for left in (0.5, 40, 84.95, 90, 99.5, 100)
]


@pytest.mark.parametrize("course", COURSES, ids=str)
def test_no_dot_is_sent_too_late_or_for_nobody_and_every_doubt_is_counted_and_logged(course: Course) -> None:
    seen = passage(course)

    assert all(at < min(course.left, window.LAST_DOT) for at in seen.dots)
    assert not seen.is_success or len(seen.dots) == 1
    may_be_twice = len(seen.dots) == 1 and not seen.is_success
    assert seen.counted[UNKNOWN] + seen.counted[UNHEARD] == may_be_twice
    assert any("possible duplicate" in line for line in seen.sink.alarms) == may_be_twice
    assert seen.at is None or seen.at <= window.LAST_MOMENT
