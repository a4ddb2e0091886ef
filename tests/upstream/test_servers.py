"""Which after-filter server is tried first, and which next; known to all workers of a pool."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.scoreboard import UPSTREAM_RECORD_BYTES
from bqfilter.upstream.board import UpstreamPlace, UpstreamWord
from bqfilter.upstream.servers import Servers
from tests.doubles.clock import FakeClock
from tests.doubles.settings import settings

ADDRESSES = tuple(SocketAddress(2, ("127.0.0.1", port)) for port in (10026, 10027, 10028))


@dataclass
class Pool:
    """Some workers over three servers; "A", "B" and "C" are their names here."""

    balance: str = "order"
    size: int = 4
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        memories = [memoryview(bytearray(self.size * UPSTREAM_RECORD_BYTES)) for _ in ADDRESSES]
        given_settings = settings(f"upstream.balance = '{self.balance}'")
        self.places = [[UpstreamPlace(memory, row) for memory in memories] for row in range(self.size)]
        self.workers = [
            Servers(given_settings, ADDRESSES, self.clock, places, self.size) for places in self.places
        ]

    def order(self, worker: int = 0) -> str:
        return "".join("ABC"[index] for index in self.workers[worker].order())

    def fail(self, name: str, worker: int = 1) -> None:
        self.clock.advance(0.01)
        self.workers[worker].trying("ABC".index(name))
        self.workers[worker].unreached("ABC".index(name))

    def answer(self, name: str, worker: int = 1) -> None:
        self.clock.advance(0.01)
        self.workers[worker].trying("ABC".index(name))
        self.workers[worker].answered("ABC".index(name))

    def open(self, name: str, worker: int) -> None:
        self.workers[worker].opened("ABC".index(name))


def test_those_that_are_well_come_in_the_order_of_the_list() -> None:
    assert Pool().order() == "ABC"


def test_what_one_worker_could_not_reach_comes_last_for_all() -> None:
    pool = Pool()
    pool.fail("A", worker=2)
    assert [pool.order(worker) for worker in range(4)] == ["BCA"] * 4

    pool.fail("B", worker=3)
    assert pool.order() == "CAB"  # A has been out of reach longer


def test_one_whose_time_has_come_is_tried_first_by_one_worker() -> None:
    pool = Pool()
    pool.fail("A")
    pool.clock.advance(1)
    assert [pool.order(worker) for worker in range(4)] == ["ABC"] * 4

    pool.workers[0].trying(0)
    assert [pool.order(worker) for worker in (1, 2, 3)] == ["BCA"] * 3


def test_a_message_tries_one_of_those_whose_time_has_come() -> None:
    pool = Pool()
    pool.fail("A")
    pool.fail("C")
    pool.clock.advance(1)

    assert pool.order() == "ABC"


def test_one_that_answers_is_back_for_all() -> None:
    pool = Pool()
    pool.fail("A")
    pool.clock.advance(1)
    pool.answer("A", worker=0)

    assert [pool.order(worker) for worker in range(4)] == ["ABC"] * 4


def test_a_call_of_which_nothing_came_leaves_the_next_to_another_worker() -> None:
    pool = Pool()
    pool.fail("A")
    pool.clock.advance(1)
    pool.workers[0].trying(0)
    assert pool.order(1) == "BCA"

    pool.workers[0].closed(0)  # the client went away

    assert pool.order(1) == "ABC"


def test_one_that_is_slow_to_greet_while_others_are_greeted_is_busy_and_not_gone() -> None:
    pool = Pool()
    pool.workers[0].trying(0)
    pool.clock.advance(10)
    pool.answer("A", worker=1)
    pool.clock.advance(20)
    pool.workers[0].unreached(0)

    assert pool.order(2) == "ABC"
    assert pool.places[0][0].own[UpstreamWord.UNREACHED] == 1


@pytest.mark.parametrize(
    ("opened", "order"),
    [
        ({"A": 2, "B": 1, "C": 0}, "CBA"),
        ({"A": 0, "B": 1, "C": 2}, "ABC"),
        ({"A": 1, "B": 0, "C": 3}, "BAC"),
    ],
    ids=str,
)
def test_spread_goes_where_the_pool_has_the_fewest_connections(opened: dict[str, int], order: str) -> None:
    pool = Pool("spread")
    for name, count in opened.items():
        for worker in range(count):
            pool.open(name, worker)

    assert [pool.order(worker) for worker in range(4)] == [order] * 4


def test_spread_goes_round_among_equals_and_workers_do_not_begin_alike() -> None:
    pool = Pool("spread", size=64)
    assert {pool.order(worker)[0] for worker in range(64)} == set("ABC")

    first = []
    for _ in range(30):
        first.append(pool.order()[0])
        pool.workers[0].trying("ABC".index(first[-1]))
    assert [first.count(name) for name in "ABC"] == [10, 10, 10]


def test_spread_leaves_alone_what_is_out_of_reach_however_few_connections_it_has() -> None:
    pool = Pool("spread")
    pool.fail("A")
    for worker in range(3):
        pool.open("B", worker)
        pool.open("C", worker)

    assert pool.order()[-1] == "A"


def test_a_worker_in_the_place_of_one_that_was_killed_has_no_connection() -> None:
    pool = Pool("spread")
    pool.open("A", 2)
    Servers(settings(), ADDRESSES, pool.clock, pool.places[2], pool.size)

    assert pool.places[0][0].total(UpstreamWord.OPEN) == 0


def test_with_one_server_there_is_nothing_to_choose() -> None:
    clock = FakeClock()
    servers = Servers(settings(), ADDRESSES[:1], clock)
    servers.trying(0)
    servers.unreached(0)

    assert servers.order() == [0]
    assert not servers.are_several
    assert servers.patience(0, Deadline.after(clock, 95), 0).remaining() == 95


events = st.lists(
    st.tuples(st.sampled_from(["fail", "answer", "wait"]), st.sampled_from("ABC"), st.integers(0, 3)),
    max_size=40,
)


@given(events, st.sampled_from(["order", "spread"]))
def test_every_server_is_in_every_order_and_those_out_of_reach_come_last_but_for_one(
    given_events: list[tuple[str, str, int]], balance: str
) -> None:
    pool = Pool(balance)
    out: set[str] = set()
    for event, name, worker in given_events:
        if event == "wait":
            pool.clock.advance(worker)
        elif event == "fail":
            pool.fail(name, worker)
            out.add(name)
        else:
            pool.answer(name, worker)
            out.discard(name)
        order = pool.order()
        assert sorted(order) == ["A", "B", "C"]
        behind_the_tried_one = order[1:] if order[0] in out else order
        well = [one not in out for one in behind_the_tried_one]
        assert well == sorted(well, reverse=True)
