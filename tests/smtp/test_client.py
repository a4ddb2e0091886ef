"""Replies of an after-filter server, read from any pieces, and what cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import ProtocolViolation
from bqfilter.smtp.client import (
    MAX_REPLY_LINE_BYTES,
    MAX_REPLY_LINES,
    NO_CAPABILITIES,
    Capabilities,
    ClientDialogue,
    parse_capabilities,
)
from bqfilter.smtp.replies import Reply

replies = st.builds(
    Reply,
    st.integers(200, 599),
    st.lists(st.sampled_from([b"", b"ok", b"2.0.0 Ok", b"- ", b"\xff"]), min_size=1, max_size=3).map(tuple),
)


def read_all(dialogue: ClientDialogue) -> list[Reply]:
    found = []
    while (reply := dialogue.next_reply()) is not None:
        found.append(reply)
    return found


@given(st.lists(replies, max_size=6), st.lists(st.integers(0, 20), max_size=20))
def test_replies_are_the_same_however_the_bytes_arrive(said: list[Reply], sizes: list[int]) -> None:
    dialogue = ClientDialogue()
    rest = b"".join(reply.wire for reply in said)
    found = []
    for size in sizes:
        dialogue.receive(rest[:size])
        rest = rest[size:]
        found += read_all(dialogue)
    dialogue.receive(rest)
    found += read_all(dialogue)

    assert found == said


def test_replies_are_read_one_by_one() -> None:
    dialogue = ClientDialogue()
    dialogue.receive(b"250-a\r\n250 b\r\n354 go\r\n55")

    assert dialogue.next_reply() == Reply(250, (b"a", b"b"))
    assert dialogue.next_reply() == Reply(354, (b"go",))
    assert dialogue.next_reply() is None


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        pytest.param(b"250\r\n", Reply(250, (b"",)), id="no text"),
        pytest.param(b"250 ok\n", Reply(250, (b"ok",)), id="a bare LF"),
        pytest.param(b"250-a\r\n250\r\n", Reply(250, (b"a", b"")), id="no text on the last line"),
    ],
)
def test_liberties_that_are_harmless_are_taken(data: bytes, reply: Reply) -> None:
    dialogue = ClientDialogue()
    dialogue.receive(data)

    assert dialogue.next_reply() == reply


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        pytest.param(b"Hello\r\n", "garbled", id="no code"),
        pytest.param(b"\r\n", "garbled", id="an empty line"),
        pytest.param(b"150 what\r\n", "garbled", id="1xx"),
        pytest.param(b"650 what\r\n", "garbled", id="6xx"),
        pytest.param(b"250\tok\r\n", "garbled", id="a tab"),
        pytest.param(b"250-fine\r\n550 no\r\n", "garbled", id="two codes in one reply"),
        pytest.param(
            b"250 " + b"x" * (MAX_REPLY_LINE_BYTES + 1) + b"\r\n", "over-long", id="an over-long line"
        ),
        pytest.param(b"250-x\r\n" * MAX_REPLY_LINES, "endless", id="no end"),
    ],
)
def test_what_is_no_reply_ends_the_conversation(data: bytes, cause: str) -> None:
    dialogue = ClientDialogue()
    dialogue.receive(data)

    with pytest.raises(ProtocolViolation, match=cause):
        dialogue.next_reply()


def test_a_segment_seen_before_does_not_overtake_what_is_still_unread() -> None:
    first, second = ClientDialogue(), ClientDialogue()
    first.receive(b"250 ok\r\n")
    assert first.next_reply() == Reply(250, (b"ok",))

    second.receive(b"550 no\r\n25")
    second.receive(b"0 ok\r\n")
    second.receive(b"250 ok\r\n")
    second.receive(b"354-go\r\n")
    second.receive(b"354 on\r\n")

    assert [reply.code for reply in read_all(second)] == [550, 250, 250, 354]


@given(st.binary(max_size=300), st.lists(st.integers(0, 40), max_size=6))
def test_bytes_of_any_kind_are_replies_or_a_violation(data: bytes, sizes: list[int]) -> None:
    dialogue = ClientDialogue()
    try:
        for size in sizes:
            dialogue.receive(data[:size])
            read_all(dialogue)
    except ProtocolViolation:
        pass


def test_capabilities_are_keywords_with_parameters() -> None:
    found = parse_capabilities(
        Reply(250, (b"PIPELINING in the greeting", b"size 1000", b"8BITMIME ", b"", b"AUTH PLAIN LOGIN"))
    )

    assert found.keywords == {b"SIZE": b"1000", b"8BITMIME": b"", b"AUTH": b"PLAIN LOGIN"}
    assert not found.pipelining
    assert parse_capabilities(Reply(250, (b"x", b"pipelining"))).pipelining


def test_only_xforward_attributes_that_we_know_are_kept() -> None:
    found = parse_capabilities(Reply(250, (b"x", b"XFORWARD name ADDR DOMAIN SOURCE")))

    assert found.xforward == {b"NAME", b"ADDR", b"SOURCE"}


def test_without_ehlo_nothing_is_announced() -> None:
    assert NO_CAPABILITIES.keywords == {}
    assert NO_CAPABILITIES.xforward == frozenset()
    assert not Capabilities({}, frozenset()).pipelining
