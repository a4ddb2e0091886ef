"""After-filter servers that are out of reach are called without a message until they answer."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bqfilter.breaker import Breaker, State
from bqfilter.net.address import SocketAddress
from bqfilter.places import Label, Terms
from bqfilter.pool.calls import Calls
from bqfilter.scoreboard import Scoreboard
from bqfilter.upstream.board import UpstreamBoard, row_of
from tests.doubles.clock import FakeClock
from tests.saturation.boards import AFTER, SPARE, scoreboard

TERMS = Terms(1, 1.0, 60.0)
TIMEOUT = 65.0  # seconds that a call may take


@dataclass
class Site:
    """Two after-filter servers that answer or not, and what a worker knows of them."""

    board: Scoreboard = field(default_factory=scoreboard)
    clock: FakeClock = field(default_factory=FakeClock)
    there: set[SocketAddress] = field(default_factory=set)
    called: list[SocketAddress] = field(default_factory=list)
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.servers = UpstreamBoard(self.board.upstreams, len(self.board.slots))
        self.calls = Calls(
            self.board, lambda: (AFTER, SPARE), self.call, self.waiting.append, self.clock, TIMEOUT
        )

    def call(self, address: SocketAddress) -> bool:
        self.called.append(address)
        return address in self.there

    def look(self) -> None:
        self.calls.look()
        while self.waiting:
            self.waiting.pop()()

    def worker(self, number: int = 0, slot: int = 1) -> Breaker:
        place = self.servers.place(number, row_of(slot))
        return Breaker(place, TERMS, self.clock, row_of(len(self.board.slots)), TIMEOUT)


def test_nobody_is_called_who_is_well_or_whom_nobody_has_called_yet() -> None:
    site = Site()
    site.worker(0).answered()
    site.look()
    site.clock.advance(3600)
    site.look()

    assert site.called == []


def test_one_out_of_reach_is_called_when_its_time_has_come_and_then_less_and_less_often() -> None:
    site = Site()
    site.worker().failed()
    at = []
    for second in range(70):
        site.look()
        if site.called:
            at.append(second)
            site.called.clear()
        site.clock.advance(1)

    assert at == [1, 2, 4, 8, 16, 32, 64]


def test_when_it_answers_workers_know() -> None:
    site = Site(there={AFTER})
    site.worker().failed()
    site.clock.advance(1)
    site.look()

    assert site.called == [AFTER]
    assert site.worker().state is State.CLOSED
    assert site.worker(slot=0).state is State.CLOSED


def test_a_call_that_takes_its_time_holds_up_no_other_and_is_not_made_twice() -> None:
    site = Site()
    for number in (0, 1):
        site.worker(number).failed()
    site.clock.advance(1)
    for _ in range(3):
        site.calls.look()
        site.clock.advance(1)

    assert len(site.waiting) == 2
    assert site.worker().state is State.OPEN  # and no message is spent on it meanwhile


def test_one_that_is_not_in_the_list_any_more_is_not_called() -> None:
    site = Site()
    site.worker().failed()
    site.servers.assign([SPARE], TERMS)
    site.clock.advance(1)
    site.look()

    assert site.called == []


def test_a_trouble_of_our_own_says_nothing_of_the_server() -> None:
    site = Site()
    site.worker().failed()
    site.clock.advance(1)

    def without_descriptors(_address: SocketAddress) -> bool:
        raise OSError(24, "Too many open files")

    site.calls._call = without_descriptors
    site.look()

    assert site.worker().state is State.PROBING


def test_while_names_cannot_be_looked_up_it_is_called_at_the_address_that_workers_have() -> None:
    """They go on with it, and load balancers have to hear that it is back."""
    site = Site(there={AFTER})
    site.calls._addresses = tuple
    site.worker().failed()
    site.clock.advance(1)
    site.look()

    assert site.called == [AFTER]
    assert site.worker().state is State.CLOSED


def test_a_label_that_is_no_address_is_nobody_to_call() -> None:
    site = Site()
    site.servers.give([Label("inet:\n:99999", TERMS)])
    site.worker(2).failed()
    site.clock.advance(1)
    site.look()

    assert site.called == []


def test_where_no_thread_is_to_be_had_for_a_call_it_is_made_the_next_time() -> None:
    """The caller must live on: a load balancer that was told "down" sends no message that would find out."""
    site = Site(there={AFTER})
    site.worker().failed()
    site.clock.advance(1)
    calls = Calls(site.board, lambda: (AFTER, SPARE), site.call, no_thread, site.clock, TIMEOUT)
    calls.look()

    assert site.called == []
    site.look()
    assert site.called == [AFTER]
    assert site.worker().state is State.CLOSED


def no_thread(_call: Callable[[], None]) -> None:
    raise RuntimeError("can't start new thread")
