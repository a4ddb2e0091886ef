"""The message as scanners see it: read in pieces, again and again, with its header found."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.message import Message
from bqfilter.mail.spool import Spool
from bqfilter.smtp.body import DOT

_CONTENT = b"A: 1\r\nB: 2\r\n\r\nfirst\r\n\r\n.second\r\n"


def spooled(tmp_path: Path, wire: bytes, *, memory: int, is_clean: bool = True) -> Spool:
    spool = Spool(str(tmp_path), memory, 0)
    spool.append(wire)
    spool.is_clean = is_clean
    return spool


@given(st.integers(1, 40))
def test_header_and_body_do_not_depend_on_how_it_is_cut(size: int) -> None:
    message = Message(lambda: (_CONTENT[at : at + size] for at in range(0, len(_CONTENT), size)))

    assert message.header.raw == b"A: 1\r\nB: 2\r\n"
    assert message.has_separator
    assert b"".join(message.body()) == b"first\r\n\r\n.second\r\n"
    assert b"".join(message.content()) == _CONTENT
    assert message.size == len(_CONTENT)


@pytest.mark.parametrize("memory", [0, 1000], ids=["in a file", "in memory"])
@pytest.mark.parametrize(
    ("wire", "is_clean"),
    [
        pytest.param(_CONTENT.replace(b"\n.", b"\n.."), True, id="stuffed"),
        pytest.param(b"A: 1\nB: 2\r\n\nfirst\r\n\n.second\n", False, id="with stray line ends"),
    ],
)
def test_what_is_spooled_is_seen_as_it_would_be_delivered(
    tmp_path: Path, memory: int, wire: bytes, is_clean: bool
) -> None:
    spool = spooled(tmp_path, wire + DOT, memory=memory, is_clean=is_clean)
    message = Message.spooled(spool)

    for _ in range(2):
        assert b"".join(message.content()).replace(b"..second", b".second") == _CONTENT
    assert [field.name for field in message.header.fields] == [b"A", b"B"]
    spool.close()


@pytest.mark.parametrize(
    ("content", "header", "body", "has_separator"),
    [
        pytest.param(b"", b"", b"", False, id="empty"),
        pytest.param(b"\r\nbody\r\n", b"", b"body\r\n", True, id="no header"),
        pytest.param(b"A: 1\r\nbody\r\n", b"A: 1\r\n", b"body\r\n", False, id="no empty line"),
        pytest.param(b"A: 1\r\n", b"A: 1\r\n", b"", False, id="no body"),
        pytest.param(b"A: 1\r\n\r\n", b"A: 1\r\n", b"", True, id="an empty body"),
        pytest.param(b"body\r\n\r\nA: 1\r\n", b"", b"body\r\n\r\nA: 1\r\n", False, id="a body only"),
    ],
)
def test_where_the_body_begins(content: bytes, header: bytes, body: bytes, has_separator: bool) -> None:
    message = Message.in_memory(content)

    assert message.header.raw == header
    assert b"".join(message.body()) == body
    assert message.has_separator is has_separator


@pytest.mark.parametrize(
    ("content", "is_too_large"),
    [
        pytest.param(b"A: 1\r\n" * 100, True, id="many fields"),
        pytest.param(b"A: " + b"x" * 500 + b"\r\n\r\n", True, id="one large field"),
        pytest.param(b"A: 1\r\n" + b"x" * 500, True, id="nobody can tell yet what it is"),
        pytest.param(b"A: 1\r\n\r\n" + b"x" * 500, False, id="a large body"),
        pytest.param(b"A: 1\r\nbody\r\n" * 100, False, id="a header without an empty line"),
        pytest.param(b"A: 1\r\n" * 5, False, id="small"),
    ],
)
def test_a_header_that_is_too_large_is_seen_to_be(content: bytes, is_too_large: bool) -> None:
    message = Message(lambda: (content[at : at + 7] for at in range(0, len(content), 7)), header_limit=64)

    assert message.header_is_too_large is is_too_large


def test_a_large_header_is_not_held_in_memory() -> None:
    taken = []

    def pieces() -> Iterator[bytes]:
        for number in range(1000):
            taken.append(number)
            yield b"A: 1\r\n" * 100

    assert Message(pieces, header_limit=5000).header_is_too_large
    assert len(taken) < 12


def test_a_header_of_more_lines_than_can_be_held_is_too_large() -> None:
    lines = 1024 * 1024 // 32

    assert not Message.in_memory(b"A:\r\n" * lines + b"\r\n").header_is_too_large
    assert Message.in_memory(b"A:\r\n" * (lines + 1) + b"\r\n").header_is_too_large
    assert not Message.in_memory(b"A:\r\n" * 1000 + b"\r\n", header_limit=16384).header_is_too_large
