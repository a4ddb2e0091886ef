"""The lines about after-filter servers: what they say, and how often."""

from dataclasses import dataclass, field

from bqfilter.breaker import Breaker
from bqfilter.log import Log
from bqfilter.places import Terms
from bqfilter.saturation.servers_notice import ServersNotice
from bqfilter.scoreboard import Scoreboard
from bqfilter.upstream.board import UpstreamBoard, row_of
from tests.doubles.clock import FakeClock
from tests.doubles.recorder import RecordingSink
from tests.saturation.boards import AFTER, SPARE, scoreboard

TERMS = Terms(1, 1.0, 60.0)


@dataclass
class Watched:
    """A notice that is asked four times a second, as the master's loop would."""

    board: Scoreboard = field(default_factory=scoreboard)
    clock: FakeClock = field(default_factory=FakeClock)
    sink: RecordingSink = field(default_factory=RecordingSink)

    def __post_init__(self) -> None:
        self.notice = ServersNotice(self.board)
        self.servers = UpstreamBoard(self.board.upstreams, len(self.board.slots))

    def server(self, number: int) -> Breaker:
        return Breaker(self.servers.place(number, row_of(1)), TERMS, self.clock, 5)

    def go_on(self, seconds: float) -> list[str]:
        seen = len(self.sink.lines)
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)
            self.notice.look(self.clock(), Log(self.sink, is_json=False))
        return self.sink.lines[seen:]


def test_a_server_that_answers_or_that_nobody_has_called_is_no_news() -> None:
    watched = Watched()
    watched.server(0).answered()
    assert watched.go_on(60) == []


def test_one_that_is_out_of_reach_gets_a_line_and_another_when_it_is_back() -> None:
    watched = Watched()
    watched.server(0).failed()
    assert watched.go_on(1) == [
        f'warning: after-filter server out of reach upstream={AFTER} in_reach="1 of 2"'
    ]
    assert watched.go_on(59) == []

    watched.server(0).answered()
    assert watched.go_on(60) == [f'after-filter server is back upstream={AFTER} after="60 s"']


def test_the_last_one_is_told_from_the_first() -> None:
    watched = Watched()
    watched.server(1).failed()
    watched.server(0).failed()
    lines = watched.go_on(2)
    assert [line.partition("upstream=")[2] for line in lines] == [
        f'{AFTER} in_reach="0 of 2"',
        f'{SPARE} in_reach="0 of 2"',
    ]


def test_one_that_comes_and_goes_gets_few_lines_of_which_the_last_is_right() -> None:
    watched = Watched()
    lines = []
    for _ in range(30):
        watched.server(0).failed()
        lines += watched.go_on(1)
        watched.server(0).answered()
        lines += watched.go_on(1)
    lines += watched.go_on(20)

    assert len(lines) <= 8
    assert "is back" in lines[-1]


def test_one_that_a_reload_has_dropped_is_forgotten() -> None:
    watched = Watched()
    watched.server(0).failed()
    assert len(watched.go_on(2)) == 1
    watched.servers.assign([SPARE], TERMS)
    assert watched.go_on(20) == []
