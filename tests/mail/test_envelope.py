"""Facts about the remote client, and the difference between unknown and not told."""

import pytest

from bqfilter.mail.envelope import Client, Envelope
from bqfilter.smtp.commands import Mail


def test_later_facts_win_over_earlier_ones() -> None:
    first = Client({b"NAME": b"a.example", b"ADDR": b"192.0.2.1"})

    second = first.with_attributes(((b"NAME", b"b.example"), (b"PORT", b"1"), (b"PORT", b"2")))

    assert second.attributes == {b"NAME": b"b.example", b"ADDR": b"192.0.2.1", b"PORT": b"2"}
    assert first.attributes[b"NAME"] == b"a.example", "facts are not changed in place"


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        pytest.param(b"mail.example", b"mail.example", id="known"),
        pytest.param(b"a+2Bb", b"a+b", id="decoded"),
        pytest.param(b"[UNAVAILABLE]", None, id="unknown"),
        pytest.param(b"[unavailable]", None, id="unknown, odd case"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_a_fact_is_decoded_or_none(value: bytes, fact: bytes | None) -> None:
    assert Client({b"HELO": value}).fact(b"HELO") == fact


def test_what_was_not_told_is_none_but_not_among_the_attributes() -> None:
    assert Client().fact(b"NAME") is None
    assert b"NAME" not in Client().attributes
    assert b"NAME" in Client({b"NAME": b"[UNAVAILABLE]"}).attributes


@pytest.mark.parametrize(
    ("value", "address"),
    [
        pytest.param(b"192.0.2.7", b"192.0.2.7", id="IPv4"),
        pytest.param(b"IPv6:2001:db8::7", b"2001:db8::7", id="IPv6"),
        pytest.param(b"ipv6:::1", b"::1", id="IPv6, odd case"),
        pytest.param(b"[UNAVAILABLE]", b"unknown", id="unknown"),
    ],
)
def test_the_address_is_bare(value: bytes, address: bytes) -> None:
    assert Client({b"ADDR": value}).address == address


def test_a_client_of_which_nothing_is_known_has_postfix_s_words() -> None:
    assert (Client().name, Client().address, Client().helo) == (b"unknown", b"unknown", b"")


def test_an_envelope_begins_without_recipients() -> None:
    envelope = Envelope(Client(), Mail(b"MAIL FROM:<>", b"", b""))

    assert envelope.recipients == []
    assert envelope.refused_count == 0
