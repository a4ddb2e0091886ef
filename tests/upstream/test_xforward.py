"""XFORWARD lines that no after-filter server can refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.envelope import Client
from bqfilter.smtp import grammar
from bqfilter.upstream.xforward import essential, xforward_lines

ALL = frozenset(grammar.XFORWARD_ATTRIBUTES)

values = st.one_of(
    st.binary(max_size=300), st.sampled_from([b"192.0.2.7", b"mail.example", b"[UNAVAILABLE]"])
)
clients = st.dictionaries(st.sampled_from(grammar.XFORWARD_ATTRIBUTES), values).map(Client)


def words(lines: list[bytes]) -> list[bytes]:
    return [word for line in lines for word in line.split(b" ")[1:]]


def test_what_is_unknown_is_said_to_be_unavailable_and_remote() -> None:
    assert xforward_lines(Client(), ALL) == [
        b"XFORWARD "
        + b"".join(name + b"=[UNAVAILABLE] " for name in grammar.XFORWARD_ATTRIBUTES[:-1])
        + b"SOURCE=REMOTE"
    ]


def test_only_what_was_announced_is_sent() -> None:
    client = Client({b"NAME": b"mail.example", b"ADDR": b"192.0.2.7"})

    assert xforward_lines(client, frozenset({b"SOURCE", b"ADDR"})) == [
        b"XFORWARD ADDR=192.0.2.7 SOURCE=REMOTE"
    ]
    assert xforward_lines(client, frozenset()) == []


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        pytest.param(b"SOURCE", b"LOCAL", b"LOCAL", id="a local message stays local"),
        pytest.param(b"SOURCE", b"[UNAVAILABLE]", b"REMOTE", id="unknown source counts as remote"),
        pytest.param(b"NAME", b"192.0.2.7", b"[UNAVAILABLE]", id="an address is no name"),
        pytest.param(b"HELO", b"a+20b", b"a+20b", id="xtext is passed on as it is"),
        pytest.param(b"HELO", b"x" * 256, b"[UNAVAILABLE]", id="an over-long value"),
        pytest.param(b"PROTO", b"ES\rMTP", b"[UNAVAILABLE]", id="control characters"),
    ],
)
def test_a_value_that_would_not_pass_is_replaced(name: bytes, value: bytes, sent: bytes) -> None:
    assert xforward_lines(Client({name: value}), frozenset({name})) == [b"XFORWARD " + name + b"=" + sent]


@given(clients, st.sets(st.sampled_from(grammar.XFORWARD_ATTRIBUTES)))
def test_lines_are_short_and_tell_each_announced_attribute_once(
    client: Client, announced: set[bytes]
) -> None:
    lines = xforward_lines(client, frozenset(announced))

    told = [word.partition(b"=") for word in words(lines)]
    assert sorted(name for name, _, _ in told) == sorted(announced)
    for name, _, value in told:
        assert value == grammar.UNAVAILABLE or grammar.XFORWARD_VALUES[name].fullmatch(value)
    for line in lines:
        assert len(line) + 2 <= 512
        assert not {0x00, 0x0A, 0x0D} & set(line)


def test_the_essentials_are_what_no_server_refuses() -> None:
    assert essential(ALL) == {b"SOURCE", b"PROTO", b"HELO"}
    assert essential(frozenset({b"SOURCE", b"ADDR"})) == {b"SOURCE"}
