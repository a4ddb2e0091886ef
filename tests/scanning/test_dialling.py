"""Which endpoint is called, for how long, and what is remembered of it."""

import errno
from collections.abc import Callable

import pytest

from bqfilter.errors import (
    ConversationLost,
    PeerLost,
    PeerTimeout,
    PeerUnreachable,
    ProtocolViolation,
    ScannerFailure,
)
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.net.stream import Stream
from bqfilter.scanning.dialling import Dialler
from tests.doubles.clock import FakeClock
from tests.doubles.streams import FakeStream

FIRST, SECOND, THIRD = (SocketAddress(2, ("192.0.2.1", port)) for port in (1, 2, 3))


class Network:
    """Makes FakeStreams; `unreachable` says which addresses cannot be had, and with which errno."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.unreachable: dict[SocketAddress, int] = {}
        self.called: list[SocketAddress] = []
        self.streams: list[FakeStream] = []

    def connect(self, address: SocketAddress, _clock: Clock) -> Stream:
        stream = FakeStream(self.clock, str(address))
        stream.unreachable = self.unreachable.get(address, 0)
        self.called.append(address)
        self.streams.append(stream)
        return stream  # type: ignore[return-value]  # keeps Stream's promises

    def dialler(self, *addresses: SocketAddress) -> Dialler:
        return Dialler(addresses, self.clock, self.connect)


@pytest.fixture
def network(clock: FakeClock) -> Network:
    return Network(clock)


def call(dialler: Dialler, clock: FakeClock, seconds: float = 30.0) -> str:
    with dialler.stream(Deadline.after(clock, seconds)) as stream:
        return stream.peer


def fail(dialler: Dialler, clock: FakeClock, failure: Exception) -> None:
    with pytest.raises(type(failure)), dialler.stream(Deadline.after(clock, 30)):
        raise failure


def test_the_first_endpoint_is_called_first(network: Network, clock: FakeClock) -> None:
    assert call(network.dialler(FIRST, SECOND), clock) == str(FIRST)
    assert network.called == [FIRST]


def test_where_one_refuses_the_next_is_called_and_remembered(network: Network, clock: FakeClock) -> None:
    network.unreachable = {FIRST: errno.ECONNREFUSED}
    dialler = network.dialler(FIRST, SECOND)

    assert call(dialler, clock) == str(SECOND)
    assert call(dialler, clock) == str(SECOND)
    assert network.called == [FIRST, SECOND, SECOND]


def test_after_a_minute_the_first_gets_another_chance(network: Network, clock: FakeClock) -> None:
    network.unreachable = {FIRST: errno.ECONNREFUSED}
    dialler = network.dialler(FIRST, SECOND)
    call(dialler, clock)
    network.unreachable = {}
    clock.advance(61)

    assert call(dialler, clock) == str(FIRST)


def test_a_silent_endpoint_costs_five_seconds_where_there_is_another(
    network: Network, clock: FakeClock
) -> None:
    network.unreachable = {FIRST: errno.ETIMEDOUT}
    before = clock()

    assert call(network.dialler(FIRST, SECOND), clock) == str(SECOND)
    assert clock() - before == 5


def test_a_silent_endpoint_leaves_the_others_their_share(network: Network, clock: FakeClock) -> None:
    network.unreachable = {FIRST: errno.ETIMEDOUT, SECOND: errno.ETIMEDOUT}
    before = clock()

    assert call(network.dialler(FIRST, SECOND, THIRD), clock, 6) == str(THIRD)
    assert clock() - before == pytest.approx(4)


def test_the_only_endpoint_may_take_all_the_time(network: Network, clock: FakeClock) -> None:
    network.unreachable = {FIRST: errno.ETIMEDOUT}
    before = clock()

    with pytest.raises(PeerUnreachable, match=r"^inet:192\.0\.2\.1:1: Connection timed out$"):
        call(network.dialler(FIRST), clock, 20)
    assert clock() - before == 20


def test_where_none_can_be_had_each_is_named_with_its_cause(network: Network, clock: FakeClock) -> None:
    network.unreachable = {FIRST: errno.ECONNREFUSED, SECOND: errno.ETIMEDOUT}

    with pytest.raises(PeerUnreachable) as failure:
        call(network.dialler(FIRST, SECOND), clock)
    assert failure.value.cause == (
        "inet:192.0.2.1:1: Connection refused; inet:192.0.2.1:2: Connection timed out"
    )
    assert all(stream.is_closed for stream in network.streams)


@pytest.mark.parametrize("kind", [PeerLost, PeerTimeout, ProtocolViolation])
def test_a_conversation_that_is_lost_moves_on_for_the_next_message(
    network: Network, clock: FakeClock, kind: type[ConversationLost]
) -> None:
    dialler = network.dialler(FIRST, SECOND)
    fail(dialler, clock, kind("gone"))

    assert network.called == [FIRST]
    assert call(dialler, clock) == str(SECOND)
    fail(dialler, clock, kind("gone as well"))
    assert call(dialler, clock) == str(FIRST)


def test_an_answer_that_is_an_error_moves_nothing(network: Network, clock: FakeClock) -> None:
    dialler = network.dialler(FIRST, SECOND)
    fail(dialler, clock, ScannerFailure("the message is too long"))

    assert call(dialler, clock) == str(FIRST)


@pytest.mark.parametrize(
    "failure",
    [PeerLost("gone", 7), PeerTimeout("silent"), ProtocolViolation("noise"), ScannerFailure("no")],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failure_is_named_after_its_endpoint_and_stays_what_it_is(
    network: Network, clock: FakeClock, failure: ConversationLost | ScannerFailure
) -> None:
    with (
        pytest.raises(type(failure)) as raised,
        network.dialler(FIRST).stream(Deadline.after(clock, 1)),
    ):
        raise failure

    assert raised.value.cause == f"inet:192.0.2.1:1: {failure.cause}"
    assert getattr(raised.value, "written", 0) == getattr(failure, "written", 0)


@pytest.mark.parametrize("failure", [None, OSError("spool"), PeerLost("gone"), ScannerFailure("no")])
def test_a_connection_is_closed_whatever_happened(
    network: Network, clock: FakeClock, failure: Exception | None
) -> None:
    if failure:
        fail(network.dialler(FIRST), clock, failure)
    else:
        call(network.dialler(FIRST), clock)

    assert [stream.is_closed for stream in network.streams] == [True]


def silence(clock: FakeClock) -> Callable[[Stream, Deadline], str]:
    """The first endpoint is silent until its limit, the others answer."""

    def ask(stream: Stream, limit: Deadline) -> str:
        if stream.peer == str(FIRST):
            clock.now = limit.at
            raise PeerTimeout("nothing received")
        return "here"

    return ask


def test_a_survey_asks_every_endpoint_within_its_share(network: Network, clock: FakeClock) -> None:
    network.unreachable = {SECOND: errno.ECONNREFUSED}
    before = clock()
    line = network.dialler(FIRST, SECOND, THIRD).survey(silence(clock), Deadline.after(clock, 9))

    assert line == (
        "inet:192.0.2.1:1: nothing received; inet:192.0.2.1:2: Connection refused; inet:192.0.2.1:3: here"
    )
    assert clock() - before == 3


def test_a_survey_without_any_answer_is_a_failure(network: Network, clock: FakeClock) -> None:
    network.unreachable = {SECOND: errno.ECONNREFUSED}

    with pytest.raises(PeerUnreachable, match=r"nothing received; .* Connection refused"):
        network.dialler(FIRST, SECOND).survey(silence(clock), Deadline.after(clock, 9))
