"""The reply to EHLO: what both sides can honour, and XFORWARD last."""

import pytest

from bqfilter.smtp.client import NO_CAPABILITIES, Capabilities
from bqfilter.smtp.ehlo import ehlo_reply, helo_reply, withheld
from bqfilter.smtp.replies import MAX_REPLY_BYTES, Reply


def announcing(*lines: bytes) -> Capabilities:
    return Capabilities({line.split()[0]: b" ".join(line.split()[1:]) for line in lines}, frozenset())


def lines(behind: Capabilities, message_size: int = 0) -> tuple[bytes, ...]:
    return ehlo_reply(b"filter.example", behind, message_size).lines


def test_without_a_server_only_our_own_part_is_announced() -> None:
    assert lines(NO_CAPABILITIES) == (
        b"filter.example",
        b"PIPELINING",
        b"XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT",
    )


def test_xforward_is_on_the_last_line_and_complete() -> None:
    last = lines(announcing(b"8BITMIME", b"DSN", b"XFORWARD NAME"))[-1]

    assert last.split()[0] == b"XFORWARD"
    assert set(last.split()[1:]) == {b"NAME", b"ADDR", b"PORT", b"PROTO", b"HELO", b"IDENT", b"SOURCE"}


@pytest.mark.parametrize("keyword", [b"8BITMIME", b"DSN", b"SMTPUTF8", b"ENHANCEDSTATUSCODES"])
def test_what_passes_through_is_announced_where_the_server_has_it(keyword: bytes) -> None:
    assert keyword in lines(announcing(keyword))
    assert keyword not in lines(NO_CAPABILITIES)


@pytest.mark.parametrize(
    "keyword",
    [b"CHUNKING", b"BINARYMIME", b"STARTTLS", b"AUTH PLAIN", b"ETRN", b"XCLIENT NAME", b"REQUIRETLS"],
)
def test_what_ends_here_is_not_announced(keyword: bytes) -> None:
    assert lines(announcing(keyword)) == lines(NO_CAPABILITIES)


@pytest.mark.parametrize(
    ("theirs", "ours", "announced"),
    [
        pytest.param(b"SIZE 2000", 0, b"SIZE 2000", id="theirs"),
        pytest.param(b"SIZE 2000", 1000, b"SIZE 1000", id="ours is smaller"),
        pytest.param(b"SIZE 2000", 3000, b"SIZE 2000", id="theirs is smaller"),
        pytest.param(b"SIZE 0", 0, b"SIZE", id="no limit on either side"),
        pytest.param(b"SIZE", 1000, b"SIZE 1000", id="ours alone"),
        pytest.param(b"SIZE huge", 0, b"SIZE", id="not a number"),
        pytest.param(b"SIZE " + b"9" * 3000, 0, b"SIZE", id="more digits than a reply may have"),
    ],
)
def test_the_smaller_size_is_announced(theirs: bytes, ours: int, announced: bytes) -> None:
    assert announced in lines(announcing(theirs), ours)


def test_size_is_not_announced_where_the_server_would_refuse_the_parameter() -> None:
    assert lines(NO_CAPABILITIES, 1000) == lines(NO_CAPABILITIES)


def test_the_reply_stays_within_what_postfix_stores() -> None:
    behind = announcing(b"SIZE 99999999999", b"8BITMIME", b"DSN", b"SMTPUTF8", b"ENHANCEDSTATUSCODES")

    assert len(ehlo_reply(b"h" * 255, behind, 0).wire) <= MAX_REPLY_BYTES


def test_helo_gets_our_name_alone() -> None:
    assert helo_reply(b"filter.example") == Reply(250, (b"filter.example",))


def test_what_the_server_in_front_must_not_announce() -> None:
    before = frozenset({b"SIZE", b"DSN", b"AUTH", b"PIPELINING", b"CHUNKING"})

    assert set(withheld(before, announcing(b"SIZE 1"))) == {b"DSN", b"AUTH"}
    assert withheld(frozenset(), NO_CAPABILITIES) == ()
