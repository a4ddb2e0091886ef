"""Which messages are meant: a row for each thing that can be asked."""

from typing import Any

import pytest

from bqfilter.config.content_kinds import AddressPattern
from bqfilter.mail.envelope import Client
from bqfilter.net.address import parse_network
from bqfilter.quarantine.selection import Selection
from tests.doubles.kept import mail, record


def pattern(*texts: str) -> tuple[AddressPattern, ...]:
    return tuple(map(AddressPattern.parse, texts))


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        pytest.param({}, True, id="nothing"),
        pytest.param({"senders": pattern("@remote.example")}, True, id="the sender's domain"),
        pytest.param({"senders": pattern("<>")}, False, id="another sender"),
        pytest.param({"senders": pattern("x@y", "a@remote.example")}, True, id="one of two senders"),
        pytest.param({"recipients": pattern("c@example.org")}, True, id="one of its recipients"),
        pytest.param({"recipients": pattern("d@example.org")}, False, id="none of its recipients"),
        pytest.param({"clients": (parse_network("192.0.2.0/24"),)}, True, id="the client's network"),
        pytest.param({"clients": (parse_network("2001:db8::/32"),)}, False, id="another network"),
        pytest.param({"reason": "EICAR"}, True, id="a part of the reason"),
        pytest.param({"reason": "Phishing"}, False, id="another reason"),
        pytest.param({"scanner": "clamd"}, True, id="a scanner that found something"),
        pytest.param({"scanner": "spamd"}, False, id="a scanner that found nothing"),
        pytest.param({"policy": "inbound"}, True, id="its policy"),
        pytest.param({"policy": "in"}, False, id="another policy"),
        pytest.param({"policy": "inbound", "reason": "Phishing"}, False, id="one of two things"),
    ],
)
def test_a_message_fits_what_is_asked(asked: dict[str, Any], fits: bool) -> None:
    assert Selection(**asked).fits(record(b"b@example.org", b"c@example.org")) is fits


def test_the_null_sender_can_be_asked_for() -> None:
    bounce = record(sender=mail(b"MAIL FROM:<>"))
    assert Selection(senders=pattern("<>")).fits(bounce)


def test_an_unknown_client_is_in_no_network() -> None:
    asked = Selection(clients=(parse_network("0.0.0.0/0"), parse_network("::/0")))
    assert not asked.fits(record(client=Client({b"ADDR": b"[UNAVAILABLE]"})))


def test_an_ipv6_client_is_found() -> None:
    asked = Selection(clients=(parse_network("2001:db8::/32"),))
    assert asked.fits(record(client=Client({b"ADDR": b"IPv6:2001:db8::7"})))


def test_a_selection_that_asks_nothing_is_false() -> None:
    assert not Selection()
    assert Selection(policy="inbound")
