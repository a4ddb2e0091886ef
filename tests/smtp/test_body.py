"""Content on the wire: its end, its strays, and that what leaves can be read in one way only."""

import re
from collections.abc import Iterable
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.smtp.body import (
    TERMINATOR,
    BodyScanner,
    clean_wire_form,
    stuff,
    unstuff,
    without_strays,
)

# Content made of what matters: line ends in all shapes, dots, and some text.
pieces = st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"a", b"\r\n.\r\n", b"\n.\n", b"\r\n.\r\r\n"])
contents = st.lists(pieces, max_size=30).map(b"".join)
cuts = st.lists(st.integers(0, 60), max_size=8)


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """`data` in pieces, some of them empty."""
    ends = sorted(min(end, len(data)) for end in at)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def scan(pieces: list[bytes]) -> tuple[bytes, bool]:
    """What belongs to the message, and whether it is clean; everything where no end was found."""
    scanner = BodyScanner()
    taken = b""
    for piece in pieces:
        end = scanner.scan(piece, len(piece))
        if end >= 0:
            return taken + piece[:end], scanner.is_clean
        taken += piece
    return taken, scanner.is_clean


def naive_message(data: bytes) -> bytes:
    """The same by the book: the DATA line's CRLF, then everything to the first CRLF.CRLF."""
    end = (b"\r\n" + data).find(TERMINATOR)
    return data if end < 0 else data[: end + len(TERMINATOR) - 2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b".\r\nQUIT\r\n", b".\r\n", id="an empty message"),
        pytest.param(b"a\r\n.\r\nQUIT\r\n", b"a\r\n.\r\n", id="one line"),
        pytest.param(b"a\r\n.\r\n.\r\n", b"a\r\n.\r\n", id="the first of two ends"),
        pytest.param(b"\r\n.\r\n", b"\r\n.\r\n", id="an empty line"),
    ],
)
def test_the_end_of_data_is_crlf_dot_crlf(data: bytes, message: bytes) -> None:
    assert scan([data])[0] == message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"a\n.\n", id="LF . LF"),
        pytest.param(b"a\r\n.\n", id="CRLF . LF"),
        pytest.param(b"a\n.\r\n", id="LF . CRLF"),
        pytest.param(b"a\r.\r", id="CR . CR"),
        pytest.param(b"a\r\n.\r\r\n", id="CRLF . CR CRLF"),
        pytest.param(b"a\r.\r\n", id="CR . CRLF"),
        pytest.param(b"a\r\n..\r\n", id="a stuffed dot"),
        pytest.param(b"a.\r\n", id="a dot at the end of a line"),
        pytest.param(b"QUIT\r\n", id="QUIT"),
        pytest.param(b"\n.\r\n", id="LF . CRLF at the start"),
    ],
)
def test_nothing_else_is_an_end_of_data(data: bytes) -> None:
    scanner = BodyScanner()

    assert scanner.scan(data, len(data)) == -1


def test_only_the_given_length_is_looked_at() -> None:
    buffer = bytearray(b"a\r\n.\r\nstale bytes\r\n.\r\n")

    assert BodyScanner().scan(buffer, 5) == -1
    assert BodyScanner().scan(buffer, 6) == 6


@given(contents, cuts)
def test_the_end_of_data_is_found_wherever_the_stream_is_cut(data: bytes, at: list[int]) -> None:
    message, is_clean = scan(cut(data, at))

    assert message == naive_message(data)
    assert (message, is_clean) == scan([data])


@pytest.mark.parametrize("data", [b".\r\nQUIT\r\n", b"a\r\n.\r\nQUIT\r\n", b"\r\n..\r\n.\r\n\r\n.\r\n"])
def test_an_end_of_data_cut_at_any_three_places_is_found(data: bytes) -> None:
    for places in combinations_with_replacement(range(len(data) + 1), 3):
        assert scan(cut(data, [*places, len(data)]))[0] == naive_message(data)


@given(contents, cuts)
def test_a_message_is_clean_when_it_has_no_stray_cr_or_lf(data: bytes, at: list[int]) -> None:
    message, is_clean = scan(cut(data, at))

    assert is_clean == (re.search(rb"\r(?!\n)|(?<!\r)\n", message) is None)


@given(contents, cuts)
def test_unstuffing_undoes_stuffing(data: bytes, at: list[int]) -> None:
    assert b"".join(unstuff(stuff(cut(data, at)))) == data


@given(contents, cuts)
def test_every_transformation_is_the_same_wherever_the_stream_is_cut(data: bytes, at: list[int]) -> None:
    for transform in (stuff, unstuff, without_strays, clean_wire_form):
        assert b"".join(transform(cut(data, at))) == b"".join(transform([data]))


@given(contents, cuts)
def test_what_leaves_has_no_stray_and_ends_once(data: bytes, at: list[int]) -> None:
    body = naive_message(data + b"\r\n.\r\n").removesuffix(b".\r\n")

    leaving = b"".join(clean_wire_form(cut(body, at))) + b".\r\n"

    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", leaving)
    assert (b"\r\n" + leaving).count(TERMINATOR) == 1
    assert leaving.endswith(b".\r\n")


@given(contents)
def test_a_clean_message_is_cleaned_to_itself(data: bytes) -> None:
    body = b"".join(stuff(without_strays([data])))

    assert b"".join(clean_wire_form([body])) == body


@pytest.mark.parametrize(
    ("stray", "replaced"),
    [
        pytest.param(b"a\nb", b"a\r\nb", id="a lone LF is a line end"),
        pytest.param(b"a\rb", b"a b", id="a lone CR is a blank"),
        pytest.param(b"a\r\r\nb", b"a \r\nb", id="CR before CRLF"),
        pytest.param(b"a\n\rb\r", b"a\r\n b ", id="LF CR, and CR at the end"),
        pytest.param(b"a\r\nb\r\n", b"a\r\nb\r\n", id="nothing astray"),
        pytest.param(b"a\x0b\x0c\x85b", b"a\x0b\x0c\x85b", id="VT, FF and NEL are no line ends"),
    ],
)
def test_strays_are_replaced(stray: bytes, replaced: bytes) -> None:
    assert b"".join(without_strays([stray])) == replaced


@pytest.mark.parametrize(
    ("content", "on_the_wire"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b".", b"..", id="a dot at the very start"),
        pytest.param(b"a\r\n.\r\n", b"a\r\n..\r\n", id="a lone dot"),
        pytest.param(b"a\r\n..b\r\n", b"a\r\n...b\r\n", id="two dots"),
        pytest.param(b"a.b\r\n", b"a.b\r\n", id="a dot within a line"),
        pytest.param(b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n", id="dots in a row"),
    ],
)
def test_a_dot_at_the_start_of_a_line_is_doubled(content: bytes, on_the_wire: bytes) -> None:
    assert b"".join(stuff([content])) == on_the_wire
    assert b"".join(unstuff([on_the_wire])) == content
