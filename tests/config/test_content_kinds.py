"""Kinds about content: what may be written, what is refused, and that nothing written can break a line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import Action
from bqfilter.config.content_kinds import (
    ADDRESS,
    AddressPattern,
    AddressPatternKind,
    Flag,
    HeaderKind,
    HeaderTemplate,
    MapOf,
    ReplyKind,
    ReplyTemplate,
    ResponseKind,
)
from bqfilter.config.kinds import Count, Decimal, Kind, Text

_NAMES = Text("name", "[a-z]+", "letters")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param(Flag(), True, id="flag"),
        pytest.param(ResponseKind(), "tag+quarantine", id="response"),
        pytest.param(AddressPatternKind(), "@.example.com", id="subdomains"),
        pytest.param(AddressPatternKind(), "<>", id="null sender"),
        pytest.param(ReplyKind(), "554 5.7.1 Refused: {detail}", id="reply"),
        pytest.param(HeaderKind(), "X-Spam-Score: {score}", id="header"),
        pytest.param(MapOf(_NAMES, Count(1, 9)), {"a": 1, "b": 2}, id="map"),
        pytest.param(Decimal(0, 10), 2.5, id="decimal"),
    ],
)
def test_what_is_read_is_written_the_same_way(kind: Kind, value: Any) -> None:
    import tomllib

    read = kind.read(value)
    assert kind.read(tomllib.loads(f"x = {kind.toml(read)}")["x"]) == read


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param(Flag(), "yes", id="a flag in words"),
        pytest.param(Flag(), 1, id="a flag as a number"),
        pytest.param(ResponseKind((Action.ACCEPT,)), "reject", id="an action that makes no sense here"),
        pytest.param(ReplyKind(), "250 2.0.0 fine", id="a reply that accepts"),
        pytest.param(ReplyKind(), "421 4.7.1 go away", id="421"),
        pytest.param(ReplyKind(), "521 5.7.1 go away", id="521"),
        pytest.param(ReplyKind(), "550 4.7.1 two classes", id="code and enhanced code of two classes"),
        pytest.param(ReplyKind(), "550 no enhanced code", id="no enhanced code"),
        pytest.param(ReplyKind(), "550 5.7.1 one\r\n250 ok", id="a reply of two lines"),
        pytest.param(ReplyKind(), "550 5.7.1 grüße", id="a reply beyond ASCII"),
        pytest.param(ReplyKind(), "550 5.7.1 {sender}", id="a field that there is not"),
        pytest.param(ReplyKind(), "550 5.7.1 {detail.__class__}", id="a field with an attribute"),
        pytest.param(ReplyKind(), "550 5.7.1 {detail!r:>9}", id="a field with a format"),
        pytest.param(ReplyKind(), "550 5.7.1 {", id="an open brace"),
        pytest.param(HeaderKind(), "X-A: b\r\nBcc: c", id="two header fields"),
        pytest.param(HeaderKind(), "X A: b", id="a blank in a name"),
        pytest.param(HeaderKind(), "nothing", id="no colon"),
        pytest.param(AddressPatternKind(), "example.com", id="a domain without @"),
        pytest.param(AddressPatternKind(), "@", id="nothing on either side"),
        pytest.param(AddressPatternKind(), "a b@c", id="a blank in an address"),
        pytest.param(MapOf(_NAMES, Count(1, 9)), ["a"], id="an array for a map"),
        pytest.param(MapOf(_NAMES, Count(1, 9)), {"A": 1}, id="a key of the wrong form"),
        pytest.param(ADDRESS, "a@b>\r\nDATA", id="an address with a line end"),
        pytest.param(ADDRESS, "a@b> SIZE=1", id="an address with a parameter"),
        pytest.param(Decimal(0, 1), True, id="true for a number"),
    ],
)
def test_what_means_nothing_is_refused(kind: Kind, value: object) -> None:
    with pytest.raises(ValueError):
        kind.read(value)


@pytest.mark.parametrize(
    ("pattern", "address", "is_meant"),
    [
        ("user@example.com", b"User@Example.COM", True),
        ("user@example.com", b"other@example.com", False),
        ("user@", b"user@anywhere.example", True),
        ("user@", b"user", True),  # Postfix appends $myorigin
        ("@user", b"user", False),
        ("user@", b'"us\\er"@example.com', True),
        ("@example.com", b"user@example.com.", True),
        ('"user"@', b"user@example.com", True),
        ("@example.com", b"any@example.com", True),
        ("@example.com", b"any@sub.example.com", False),
        ("@.example.com", b"any@sub.example.com", True),
        ("@.example.com", b"any@example.com", False),
        ("@example.com", b'"odd@local"@example.com', True),
        ("<>", b"", True),
        ("<>", b"a@b", False),
        ("@example.com", b"", False),
    ],
)
def test_which_addresses_a_pattern_means(pattern: str, address: bytes, is_meant: bool) -> None:
    assert AddressPattern.parse(pattern).matches(address) is is_meant


@given(st.text(max_size=400))
def test_a_reply_is_one_line_whatever_is_filled_in(detail: str) -> None:
    reply = ReplyTemplate.parse("554 5.7.1 Refused: {detail}").render(detail=detail)

    assert reply.wire.count(b"\r\n") == 1
    assert reply.wire.endswith(b"\r\n")
    assert len(reply.wire) <= 512
    assert reply.wire.strip().isascii()
    assert not set(reply.wire[:-2]) & set(range(32))


def test_what_is_not_known_is_left_empty() -> None:
    assert ReplyTemplate.parse("550 5.7.1 [{score}]").render().text == b"5.7.1 []"
    assert HeaderTemplate.parse("X-A: {detail}!").render(detail="found\r\nit") == "found  it!"
