"""Splices of a body: what they change, and that they change nothing else."""

import base64
import quopri
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.body_edits import EncodedPart, Pair, Splice, changed_text, edited_body

BODY = b"one\r\ntwo\r\nthree\r\n"


def spliced(*splices: Splice, body: bytes = BODY, parts: Iterable[EncodedPart] = ()) -> bytes:
    ordered = sorted(splices, key=lambda splice: splice.order)
    return b"".join(edited_body([body], ordered, {part.start: part for part in parts}))


def changes(*splices: Splice, body: bytes = BODY, parts: Iterable[EncodedPart] = ()) -> list[Pair]:
    return list(changed_text([body], splices, {part.start: part for part in parts}))


@pytest.mark.parametrize(
    ("splices", "body"),
    [
        pytest.param([], BODY, id="none"),
        pytest.param([Splice(5, 3, b"2")], b"one\r\n2\r\nthree\r\n", id="replaced"),
        pytest.param([Splice(5, 3, b"")], b"one\r\n\r\nthree\r\n", id="emptied"),
        pytest.param([Splice(5, 3, b"", True)], b"one\r\nthree\r\n", id="removed with its end"),
        pytest.param([Splice(5, 0, b"1.5\r\n")], b"one\r\n1.5\r\ntwo\r\nthree\r\n", id="put in"),
        pytest.param([Splice(17, 0, b"end")], BODY + b"end", id="put in behind all"),
        pytest.param([Splice(10, 99, b"")], b"one\r\ntwo\r\n", id="more than there is"),
        pytest.param(
            [Splice(0, 3, b"", True), Splice(5, 3, b"", True), Splice(10, 5, b"", True)], b"", id="all of it"
        ),
        pytest.param(
            [Splice(0, 0, b"a "), Splice(0, 3, b"1"), Splice(0, 0, b"b ")],
            b"a b 1" + BODY[3:],
            id="one place",
        ),
    ],
)
def test_splices_are_carried_out(splices: list[Splice], body: bytes) -> None:
    assert spliced(*splices) == body


@pytest.mark.parametrize(
    ("splices", "line"),
    [
        pytest.param([Splice(0, 3, b"a"), Splice(0, 3, b"b")], b"b\r\n", id="the later one counts"),
        pytest.param([Splice(0, 3, b"a"), Splice(0, 3, b"", True)], b"", id="removed later"),
        pytest.param([Splice(0, 3, b"", True), Splice(0, 3, b"b")], b"", id="stays removed"),
        pytest.param([Splice(0, 3, b"a"), Splice(1, 2, b"b")], b"a\r\n", id="one that reaches into another"),
        pytest.param([Splice(0, 3, b"", True), Splice(3, 0, b"b")], b"", id="one in a line end that went"),
    ],
)
def test_where_two_are_at_odds_it_is_settled(splices: list[Splice], line: bytes) -> None:
    assert spliced(*splices) == line + BODY[5:]


def test_what_was_changed_is_told() -> None:
    assert changes(Splice(0, 0, b"x\r\n"), Splice(0, 3, b"1"), Splice(5, 3, b"", True)) == [
        (b"", b"x\r\n"),
        (b"one", b"1"),
        (b"two\r\n", b""),
    ]
    assert changes(Splice(0, 3, b"one")) == []


TEXT = "zwölf Boxkämpfer\r\njagen\r\nVictor\r\n".encode()


def encoded(encoding: str, text: bytes) -> bytes:
    if encoding == "base64":
        return base64.encodebytes(text).replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    return quopri.encodestring(text.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_an_encoded_part_is_edited_decoded(encoding: str) -> None:
    data = encoded(encoding, TEXT)
    body = b"--b\r\n\r\n" + data + b"\r\n--b--\r\n"
    part = EncodedPart(7, 7 + len(data), encoding)
    at = TEXT.index(b"jagen")
    edits = [Splice(0, 0, b"pre\r\n"), Splice(at, 5, "fängt".encode(), part=7)]
    new = TEXT.replace(b"jagen", "fängt".encode())

    assert spliced(*edits, body=body, parts=[part]) == body.replace(data, encoded(encoding, new)).replace(
        b"--b\r\n", b"pre\r\n--b\r\n"
    )
    assert changes(*edits, body=body, parts=[part]) == [(b"", b"pre\r\n"), (b"jagen", "fängt".encode())]


def test_what_is_of_no_part_or_within_an_edited_one_is_left_out() -> None:
    data = encoded("base64", TEXT)
    part = EncodedPart(0, len(data), "base64")

    assert spliced(Splice(0, 1, b"x", part=3), body=data, parts=[part]) == data
    once = spliced(Splice(0, 1, b"Z", part=0), body=data, parts=[part])
    assert spliced(Splice(0, 1, b"Z", part=0), Splice(9, 1, b"!"), body=data, parts=[part]) == once


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, list[Splice], bytes]:
    """A body, splices of some of its lines, and what comes of them."""
    body, new = b"", b""
    splices: list[Splice] = []
    for line in draw(
        st.lists(st.binary(max_size=5).filter(lambda line: not {10, 13} & set(line)), max_size=12)
    ):
        text = draw(st.none() | st.binary(max_size=5)) if line else None
        if text is not None:
            splices.append(Splice(len(body), len(line), text, takes_end=not text))
        new += line + b"\r\n" if text is None else text + b"\r\n" if text else b""
        body += line + b"\r\n"
    return body, splices, new


def cut(body: bytes, cuts: Sequence[int]) -> list[bytes]:
    at = [0, *sorted(min(one, len(body)) for one in cuts), len(body)]
    return [body[begin:end] for begin, end in pairwise(at)]


@given(bodies(), st.lists(st.integers(0, 80), max_size=6))
def test_all_that_is_not_edited_stays_however_it_is_cut(
    given_body: tuple[bytes, list[Splice], bytes], cuts: list[int]
) -> None:
    body, splices, new = given_body

    assert b"".join(edited_body(cut(body, cuts), splices, {})) == new


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
@given(given_text=bodies(), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_all_that_is_not_edited_means_the_same_in_an_encoded_part(
    encoding: str, given_text: tuple[bytes, list[Splice], bytes], cuts: list[int]
) -> None:
    text, splices, new = given_text
    data = encoded(encoding, text)
    part = EncodedPart(4, 4 + len(data), encoding)
    inner = [Splice(one.at, one.size, one.text, one.takes_end, part=4) for one in splices]

    found = b"".join(edited_body(cut(b"top\n" + data + b"\nend", cuts), inner, {4: part}))

    assert (found[:4], found[-4:]) == (b"top\n", b"\nend")
    decoded = base64.decodebytes(found[4:-4]) if encoding == "base64" else quopri.decodestring(found[4:-4])
    assert decoded == new
    if not splices:
        assert found[4:-4] == data
