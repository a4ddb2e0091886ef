"""A request that is not taken to its end, and replies that go on for ever."""

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import PeerLost, PeerTimeout, ProtocolViolation, ScannerFailure
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.exchange import Exchange, one_line
from tests.doubles.clock import FakeClock
from tests.doubles.streams import FakeStream, ScriptedStream

NUL = re.compile(rb"\0")


def exchange_on(stream: FakeStream, seconds: float = 10.0) -> Exchange:
    return Exchange(stream, Deadline.after(stream.clock, seconds))  # type: ignore[arg-type]  # keeps Stream's promises


def test_a_request_is_sent_part_by_part(clock: FakeClock) -> None:
    stream = FakeStream(clock)
    exchange = exchange_on(stream)
    exchange.send(iter([b"one ", b"two"]))
    exchange.end_request()
    exchange.check_sent()

    assert stream.written == b"one two"
    assert stream.is_shut


def test_a_reply_to_half_a_request_is_read_but_not_taken_for_one_to_the_whole(clock: FakeClock) -> None:
    stream = ScriptedStream(clock, [b"too long\0"])
    stream.is_reset = True
    exchange = exchange_on(stream)
    exchange.send([b"request"])
    exchange.end_request()

    assert exchange.read_until(NUL, 100) == b"too long"
    with pytest.raises(PeerLost, match="broken pipe"):
        exchange.check_sent()


def test_an_answer_to_the_beginning_of_a_request_is_read_but_not_taken_for_one_to_the_whole(
    clock: FakeClock,
) -> None:
    stream = FakeStream(clock)

    def parts() -> Iterator[bytes]:
        yield b"one "
        stream.inbox += b"fine\0"
        yield b"two"

    exchange = exchange_on(stream)
    exchange.send(parts())

    assert stream.written == b"one two"
    assert exchange.read_until(NUL, 100) == b"fine"
    with pytest.raises(ProtocolViolation, match="before it had the whole request"):
        exchange.check_sent()


def test_a_peer_that_answers_and_closes_before_our_side_is_closed_has_answered(clock: FakeClock) -> None:
    stream = FakeStream(clock)
    exchange = exchange_on(stream)
    exchange.send([b"request"])
    stream.inbox += b"reply\0"
    stream.is_reset = True
    exchange.end_request()

    assert exchange.read_until(NUL, 100) == b"reply"
    exchange.check_sent()


def test_without_a_reply_it_is_the_first_loss_that_counts(clock: FakeClock) -> None:
    stream = FakeStream(clock)
    stream.has_left = stream.is_reset = True
    exchange = exchange_on(stream)
    exchange.send([b"request"])

    with pytest.raises(PeerLost, match="broken pipe"):
        exchange.read_until(NUL, 100)


def test_a_peer_that_takes_nothing_is_not_waited_for_twice(clock: FakeClock) -> None:
    stream = FakeStream(clock)
    stream.is_stuck = True

    with pytest.raises(PeerTimeout):
        exchange_on(stream).send([b"request"])


def test_what_cannot_be_read_back_from_the_spool_is_no_fault_of_the_peer(clock: FakeClock) -> None:
    def parts() -> list[bytes]:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        exchange_on(FakeStream(clock)).send(part for _ in "x" for part in parts())


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_a_reply_may_come_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    exchange = exchange_on(ScriptedStream(FakeClock(), [*pieces, b"end\0next"]))

    parts = (data + b"end").split(b"\0")
    assert [exchange.read_until(NUL, 100) for _ in parts] == parts
    assert exchange.read_exactly(4) == b"next"


def test_a_reply_beyond_its_limit_is_not_read_to_its_end(clock: FakeClock) -> None:
    stream = FakeStream(clock)
    stream.inbox += b"x" * 1_000_000

    with pytest.raises(ScannerFailure, match="more than 100 bytes"):
        exchange_on(stream).read_until(NUL, 100)
    assert len(stream.inbox) > 900_000


def test_a_peer_that_trickles_does_not_extend_the_deadline(clock: FakeClock) -> None:
    stream = ScriptedStream(clock, [b"x", 1] * 100)

    with pytest.raises(PeerTimeout):
        exchange_on(stream, 10).read_until(NUL, 1000)
    assert clock() == 1010
    with pytest.raises(PeerTimeout):
        exchange_on(stream, 10).read_exactly(1000)
    assert clock() == 1020


@given(st.binary(max_size=300))
def test_one_line_is_printable_ascii_and_short(text: bytes) -> None:
    line = one_line(text, 50)

    assert len(line) <= 50
    assert line.isascii()
    assert line.isprintable()


def test_one_line_of_what_is_harmless_is_the_same() -> None:
    assert one_line(b" Local.Eicar.UNOFFICIAL \r\n") == "Local.Eicar.UNOFFICIAL"
    assert one_line(b"a\r\nb\xff") == "a??b?"
