"""What is handed over: the original as it came, or an edited message that no edit can make end too soon."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.fields import Edit, Insert, Remove, Replace
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited, Original
from bqfilter.mail.spool import Spool
from bqfilter.smtp.body import DOT, BodyScanner, unstuff

_WIRE = b"A: 1\r\nB: 2\r\n\r\nbody\r\n..dot\r\n.\r\n"
_CONTENT = b"A: 1\r\nB: 2\r\n\r\nbody\r\n.dot\r\n"


def spooled(tmp_path: Path, wire: bytes, memory: int, *, is_clean: bool) -> Spool:
    spool = Spool(str(tmp_path), memory, 0)
    spool.append(wire)
    spool.is_clean = is_clean
    return spool


def edited(content: bytes, *edits: Edit, body: bytes | None = None, size: int = 1000) -> bytes:
    message = Message(lambda: (content[at : at + size] for at in range(0, len(content), size)))
    pieces = None if body is None else lambda: iter((body,))
    return b"".join(Edited(message, edits, pieces, is_small=False).pieces())


def test_a_clean_message_in_memory_leaves_as_it_came(tmp_path: Path) -> None:
    original = Original(spooled(tmp_path, _WIRE, 1000, is_clean=True))

    assert original.wire() == _WIRE
    assert original.file() is None


def test_a_clean_message_in_a_file_leaves_from_the_file(tmp_path: Path) -> None:
    spool = spooled(tmp_path, _WIRE, 0, is_clean=True)

    assert Original(spool).wire() is None
    assert Original(spool).file() == (spool.fileno(), len(_WIRE) - len(DOT))
    spool.close()


@pytest.mark.parametrize("memory", [0, 1000], ids=["in a file", "in memory"])
def test_a_message_with_strays_is_cleaned_on_the_way(tmp_path: Path, memory: int) -> None:
    spool = spooled(tmp_path, b"A: 1\r\n\r\nx\n.\r\r\ny\r\n.\r\n", memory, is_clean=False)
    original = Original(spool)

    assert (original.wire(), original.file()) == (None, None)
    assert b"".join(original.pieces()) == b"A: 1\r\n\r\nx\r\n.. \r\ny\r\n"
    spool.close()


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("edits", "outcome"),
    [
        pytest.param((), b"A: 1\r\nB: 2\r\n\r\nbody\r\n..dot\r\n", id="none"),
        pytest.param(
            (Insert(0, b"N: 0\r\n"),), b"N: 0\r\nA: 1\r\nB: 2\r\n\r\nbody\r\n..dot\r\n", id="insert"
        ),
        pytest.param((Remove(0), Replace(1, b".B: 3\r\n")), b"..B: 3\r\n\r\nbody\r\n..dot\r\n", id="stuffed"),
        pytest.param(
            (Insert(2, b"N: 0\n.\r\r\n"),),
            b"A: 1\r\nB: 2\r\nN: 0\r\n. \r\n\r\nbody\r\n..dot\r\n",
            id="strays",
        ),
        pytest.param((Remove(0), Remove(1)), b"\r\nbody\r\n..dot\r\n", id="no header left"),
    ],
)
def test_an_edited_message_is_stuffed_behind_its_edits(
    size: int, edits: tuple[Edit, ...], outcome: bytes
) -> None:
    # ". " begins with a dot as well, and is stuffed in the real output.
    assert edited(_CONTENT, *edits, size=size) == outcome.replace(b"\r\n. \r\n", b"\r\n.. \r\n")


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        pytest.param(
            b"A: 1\r\nno separator\r\n",
            b"N: 0\r\nA: 1\r\nno separator\r\n",
            id="the body's first line ends it",
        ),
        pytest.param(b"no header\r\n", b"N: 0\r\n\r\nno header\r\n", id="no header"),
        pytest.param(b"\r\nbody\r\n", b"N: 0\r\n\r\nbody\r\n", id="an empty header"),
        pytest.param(b"", b"N: 0\r\n\r\n", id="an empty message"),
    ],
)
def test_a_field_for_a_message_without_a_proper_header(content: bytes, outcome: bytes) -> None:
    assert edited(content, Insert(0, b"N: 0\r\n")) == outcome


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        pytest.param(b"new\r\n", b"new\r\n", id="CRLF"),
        pytest.param(b"new\n.\nline\n", b"new\r\n..\r\nline\r\n", id="LF"),
        pytest.param(b"new", b"new\r\n", id="no line end"),
        pytest.param(b"new\r", b"new \r\n", id="CR"),
        pytest.param(b"", b"", id="empty"),
        pytest.param(b"To: x\r\n", b"To: x\r\n", id="what looks like a header"),
    ],
)
def test_another_body_takes_the_place_of_what_was_there(body: bytes, outcome: bytes) -> None:
    assert edited(_CONTENT, body=body) == b"A: 1\r\nB: 2\r\n\r\n" + outcome
    assert edited(b"A: 1\r\nno separator\r\n", body=body) == b"A: 1\r\n\r\n" + outcome


def test_a_small_message_is_handed_over_whole() -> None:
    message = Message.in_memory(_CONTENT)

    assert Edited(message, (Remove(0),), None, is_small=True).wire() == b"B: 2\r\n\r\nbody\r\n..dot\r\n.\r\n"
    assert Edited(message, (Remove(0),), None, is_small=False).wire() is None
    assert Edited(message, (), lambda: iter((b"x" * 10,)), is_small=True).wire() is None
    assert Edited(message, (), None, is_small=True).file() is None


@given(
    st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"x", b"\r\n.\r\n", b"\n.\n"]), max_size=12),
    st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"X: y\r\n"]), max_size=6),
    st.integers(1, 5),
)
def test_nothing_but_the_final_dot_ends_an_edited_message(
    body: list[bytes], field: list[bytes], size: int
) -> None:
    message = Message.in_memory(b"A: 1\r\n\r\nold\r\n")
    text = b"".join(body)

    def pieces() -> Iterator[bytes]:
        return (text[at : at + size] for at in range(0, len(text), size))

    sent = b"".join(Edited(message, (Insert(1, b"".join(field)),), pieces, is_small=False).pieces())

    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", sent)
    assert sent.endswith(b"\r\n")
    scanner = BodyScanner()
    assert scanner.scan(sent + DOT, len(sent + DOT)) == len(sent + DOT)
    assert b"".join(unstuff([sent])).count(b"\r\n") == sent.count(b"\r\n")
