"""LineBuffer against a model that knows all bytes at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.smtp.lines import LineBuffer, LineTooLong

TOO_LONG = "too long"
_LIMIT = 6

streams = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"ab", b"cdefgh"]), max_size=25).map(b"".join)


def lines_of(buffer: LineBuffer) -> list[bytes | str]:
    found: list[bytes | str] = []
    while True:
        try:
            line = buffer.next_line()
        except LineTooLong:
            found.append(TOO_LONG)
            continue
        if line is None:
            return found
        found.append(line)


def naive_lines(data: bytes, limit: int) -> list[bytes | str]:
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")[:-1]]
    return [line if len(line) <= limit else TOO_LONG for line in lines]


@given(streams, st.lists(st.integers(1, 9), max_size=40))
def test_lines_are_the_same_however_the_bytes_arrive(data: bytes, sizes: list[int]) -> None:
    buffer = LineBuffer(_LIMIT)
    found: list[bytes | str] = []
    rest = data
    for size in sizes:
        buffer.feed(rest[:size])
        found += lines_of(buffer)
        rest = rest[size:]
    buffer.feed(rest)
    found += lines_of(buffer)

    assert found == naive_lines(data, _LIMIT)


@given(streams, st.integers(0, 30))
def test_what_is_not_read_as_lines_is_taken_as_it_came(data: bytes, count: int) -> None:
    buffer = LineBuffer(1000)
    buffer.feed(data)
    lines = data.split(b"\n")[:-1][:count]
    for _ in lines:
        buffer.next_line()

    assert buffer.take_rest() == data[sum(len(line) + 1 for line in lines) :]
    assert buffer.is_empty
    assert buffer.next_line() is None


@pytest.mark.parametrize(
    ("data", "line"),
    [
        pytest.param(b"a\r\n", b"a", id="CRLF"),
        pytest.param(b"a\n", b"a", id="LF"),
        pytest.param(b"a\r\r\n", b"a\r", id="one CR only belongs to the line end"),
        pytest.param(b"a\rb\r\n", b"a\rb", id="a CR within stays for all to see"),
        pytest.param(b"a\x0b\x0c\x85\xe2\x80\xa8b\n", b"a\x0b\x0c\x85\xe2\x80\xa8b", id="VT FF NEL LS"),
        pytest.param(b"\r\n", b"", id="an empty line"),
    ],
)
def test_a_line_ends_at_lf_and_nowhere_else(data: bytes, line: bytes) -> None:
    buffer = LineBuffer(100)
    buffer.feed(data)

    assert buffer.next_line() == line
    assert buffer.next_line() is None


def test_a_line_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    buffer = LineBuffer(5)
    buffer.feed(b"12345\r\n123456\r\nnext\r\n")

    assert lines_of(buffer) == [b"12345", TOO_LONG, b"next"]


def test_an_over_long_line_is_told_once_by_its_beginning() -> None:
    buffer = LineBuffer(100)
    for _ in range(50):
        buffer.feed(b"0123456789" * 100)
        assert buffer.next_line() is None
    buffer.feed(b"end\r\nnext\r\n")

    with pytest.raises(LineTooLong) as too_long:
        buffer.next_line()
    assert too_long.value.head == (b"0123456789" * 10)[:64]
    assert buffer.next_line() == b"next"


def test_an_over_long_line_is_thrown_away_while_it_arrives() -> None:
    buffer = LineBuffer(100)
    for _ in range(1000):
        buffer.feed(b"x" * 1000)
        buffer.next_line()

    assert not buffer.is_empty, "the line has not ended"
    assert len(buffer.take_rest()) <= 1100
