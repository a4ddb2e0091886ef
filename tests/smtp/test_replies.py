"""Replies: their form on the wire, our own words, and what others' words become before they are relayed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.smtp import replies
from bqfilter.smtp.client import ClientDialogue
from bqfilter.smtp.replies import Reply, relayable

codes = st.integers(200, 599)
texts = st.binary(max_size=80).map(lambda text: text.translate(None, b"\r\n"))
any_texts = st.one_of(texts, st.binary(max_size=900).map(lambda text: text.translate(None, b"\r\n")))
OURS = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}


def parse(wire: bytes) -> Reply | None:
    dialogue = ClientDialogue()
    dialogue.receive(wire)
    return dialogue.next_reply()


@given(codes, st.lists(texts, min_size=1, max_size=5))
def test_a_reply_is_read_back_as_it_was_written(code: int, lines: list[bytes]) -> None:
    reply = Reply(code, tuple(lines))

    assert parse(reply.wire) == reply


def test_all_lines_but_the_last_have_a_hyphen() -> None:
    assert Reply(250, (b"a", b"b", b"c")).wire == b"250-a\r\n250-b\r\n250 c\r\n"
    assert Reply(250).wire == b"250 \r\n"


@pytest.mark.parametrize(("code", "is_positive"), [(250, True), (354, True), (450, False), (550, False)])
def test_two_and_three_hundred_agree(code: int, is_positive: bool) -> None:
    assert Reply(code).is_positive is is_positive


def test_a_reply_is_shown_in_one_line_of_ascii() -> None:
    assert str(Reply(550, (b"a", b"\xff b"))) == r"550 a \xff b"


@pytest.mark.parametrize("name", OURS)
def test_our_own_words_are_one_short_line_with_an_enhanced_code_of_their_class(name: str) -> None:
    reply = OURS[name]

    assert len(reply.lines) == 1
    assert len(reply.wire) < replies.MAX_LINE_BYTES
    assert re.fullmatch(rb"[ -~]+", reply.lines[0])
    if reply is not replies.START_MAIL_INPUT:
        assert reply.lines[0].startswith(b"%d." % (reply.code // 100))


@pytest.mark.parametrize("name", OURS)
def test_no_words_of_ours_make_postfix_drop_the_remote_client(name: str) -> None:
    assert OURS[name].code not in (421, 521)


@pytest.mark.parametrize(
    ("given_reply", "relayed"),
    [
        pytest.param(Reply(550, (b"5.1.1 no",)), Reply(550, (b"5.1.1 no",)), id="as it is"),
        pytest.param(Reply(421, (b"4.3.2 bye",)), Reply(451, (b"4.3.2 bye",)), id="421 becomes 451"),
        pytest.param(Reply(521, (b"no", b"no")), Reply(554, (b"no", b"no")), id="521 becomes 554"),
        pytest.param(Reply(250, (b"a\tb",)), Reply(250, (b"a b",)), id="a tab becomes a blank"),
        pytest.param(Reply(250, (b"a\rb\x00\x7f",)), Reply(250, (b"a?b??",)), id="control characters"),
        pytest.param(Reply(250, (b"M\xc3\xbcller",)), Reply(250, (b"M\xc3\xbcller",)), id="UTF-8 travels"),
        pytest.param(Reply(250, (b"M\xfcller",)), Reply(250, (b"M?ller",)), id="Latin-1 does not"),
        pytest.param(Reply(250, (b"a\xc2\x85b\xe2\x80\xa8",)), Reply(250, (b"a?b?",)), id="NEL and LS"),
        pytest.param(Reply(550, (b"x" * 900,)), Reply(550, (b"x" * 506,)), id="an over-long line is cut"),
    ],
)
def test_what_may_reach_the_client(given_reply: Reply, relayed: Reply) -> None:
    assert relayable(given_reply) == relayed


def test_a_long_reply_keeps_its_last_line() -> None:
    given_reply = Reply(550, (*(b"%d" % number + b"x" * 400 for number in range(20)), b"the last one"))

    relayed = relayable(given_reply)

    assert relayed.lines[:2] == given_reply.lines[:2]
    assert relayed.lines[-1] == b"the last one"


@given(codes, st.lists(any_texts, min_size=1, max_size=12))
def test_whatever_is_relayed_stays_within_what_postfix_takes(code: int, lines: list[bytes]) -> None:
    wire = relayable(Reply(code, tuple(lines))).wire

    assert len(wire) < 2048
    assert not wire.startswith((b"421", b"521"))
    *sent, rest = wire.split(b"\r\n")
    assert rest == b""
    for line in sent:
        assert len(line) < 512
        assert line[:3] == sent[0][:3]
        assert line.decode("utf-8").isprintable() or not re.search(rb"[\x00-\x1f\x7f]", line)


@given(codes, st.lists(any_texts, min_size=1, max_size=5))
def test_relaying_twice_changes_nothing_more(code: int, lines: list[bytes]) -> None:
    once = relayable(Reply(code, tuple(lines)))

    assert relayable(once) == once
