"""Policies: which one a recipient comes under, and that each comes under one."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import REJECT
from bqfilter.config.content import PolicySettings
from bqfilter.config.content_kinds import AddressPattern
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.net.address import Endpoint
from bqfilter.scanning.policy import DEFAULT, Group, Policies
from bqfilter.smtp.commands import Mail, Rcpt
from tests.doubles.scanners import scanner, with_scanners
from tests.doubles.settings import settings

LISTENER = Endpoint("inet", "127.0.0.1", 10025)
OTHER_LISTENER = Endpoint("inet", "127.0.0.1", 10027)


def patterns(*texts: str) -> tuple[AddressPattern, ...]:
    return tuple(map(AddressPattern.parse, texts))


def rcpt(address: bytes) -> Rcpt:
    return Rcpt(b"RCPT TO:<%b>" % address, address, b"")


def envelope(*recipients: bytes, sender: bytes = b"s@sender.example", **facts: str) -> Envelope:
    attributes = {name.upper().encode(): value.encode() for name, value in facts.items()}
    mail = Mail(b"MAIL FROM:<%b>" % sender, sender, b"")
    return Envelope(Client(attributes), mail, [rcpt(one) for one in recipients], listener=LISTENER)


def groups(policies: list[PolicySettings], given: Envelope, size: int = 1000) -> list[Group]:
    fakes = [scanner("first"), scanner("second"), scanner("third")]
    return Policies(with_scanners(settings(), fakes, *policies)).groups(given, size)


def shown(found: list[Group]) -> list[tuple[str, list[bytes]]]:
    return [(group.policy.name, [one.address for one in group.recipients]) for group in found]


@dataclass(frozen=True)
class Case:
    keys: dict[str, Any]
    facts: dict[str, str]
    sender: bytes = b"s@sender.example"
    size: int = 1000


@pytest.mark.parametrize(
    ("case", "is_meant"),
    [
        pytest.param(Case({}, {}), True, id="no condition"),
        pytest.param(Case({"listeners": (LISTENER,)}, {}), True, id="its listener"),
        pytest.param(Case({"listeners": (OTHER_LISTENER,)}, {}), False, id="another listener"),
        pytest.param(
            Case({"clients": (IPv4Network("192.0.2.0/24"),)}, {"addr": "192.0.2.7"}), True, id="its network"
        ),
        pytest.param(
            Case({"clients": (IPv4Network("192.0.2.0/24"),)}, {"addr": "198.51.100.7"}),
            False,
            id="another network",
        ),
        pytest.param(
            Case({"clients": (IPv6Network("2001:db8::/32"),)}, {"addr": "IPv6:2001:db8::1"}),
            True,
            id="an IPv6 network",
        ),
        pytest.param(
            Case({"clients": (IPv4Network("0.0.0.0/0"),)}, {}), False, id="an address that nobody told"
        ),
        pytest.param(
            Case({"clients": (IPv4Network("0.0.0.0/0"),)}, {"addr": "[UNAVAILABLE]"}),
            False,
            id="an address that nobody knows",
        ),
        pytest.param(Case({"source": "local"}, {"source": "LOCAL"}), True, id="local"),
        pytest.param(Case({"source": "local"}, {}), False, id="a source that nobody told is not local"),
        pytest.param(Case({"source": "remote"}, {}), True, id="a source that nobody told is remote"),
        pytest.param(
            Case({"helo": ("Mail.example",)}, {"helo": "mail.EXAMPLE"}), True, id="helo in odd case"
        ),
        pytest.param(Case({"helo": (".example",)}, {"helo": "a.b.example"}), True, id="helo below"),
        pytest.param(Case({"helo": (".example",)}, {"helo": "anexample"}), False, id="helo that ends alike"),
        pytest.param(Case({"helo": ("mail.example",)}, {}), False, id="no helo"),
        pytest.param(Case({"senders": patterns("@sender.example")}, {}), True, id="its sender"),
        pytest.param(Case({"senders": patterns("@other.example")}, {}), False, id="another sender"),
        pytest.param(Case({"senders": patterns("<>")}, {}, b""), True, id="the null sender"),
        pytest.param(Case({"senders": patterns("@sender.example")}, {}, b""), False, id="null is no domain"),
        pytest.param(Case({"larger_than": 999}, {}), True, id="larger"),
        pytest.param(Case({"larger_than": 1000}, {}), False, id="just as large"),
        pytest.param(
            Case({"larger_than": 1, "senders": patterns("@other.example")}, {}), False, id="one of two only"
        ),
    ],
)
def test_a_policy_is_for_messages_that_meet_all_its_conditions(case: Case, is_meant: bool) -> None:
    given_envelope = envelope(b"r@x", sender=case.sender, **case.facts)
    found = groups([PolicySettings(name="meant", **case.keys)], given_envelope, case.size)

    assert shown(found) == [("meant" if is_meant else DEFAULT, [b"r@x"])]


def test_the_first_policy_counts_and_recipients_keep_their_order() -> None:
    policies = [
        PolicySettings(name="one", recipients=patterns("boss@x", "@y")),
        PolicySettings(name="two", recipients=patterns("@x", "@y")),
    ]
    found = groups(policies, envelope(b"a@x", b"boss@x", b"b@z", b"c@y", b"d@x"))

    assert shown(found) == [("two", [b"a@x", b"d@x"]), ("one", [b"boss@x", b"c@y"]), (DEFAULT, [b"b@z"])]


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(b"BOSS@Example.COM", id="letter case"),
        pytest.param(b"boss@example.com.", id="a dot behind the domain"),
        pytest.param(b'"boss"@example.com', id="quotes that are not needed"),
        pytest.param(b'"b\\oss"@example.com', id="a backslash that is not needed"),
    ],
)
@pytest.mark.parametrize("pattern", ["boss@example.com", "boss@", "@example.com"])
def test_no_other_way_to_write_an_address_leads_round_a_policy(address: bytes, pattern: str) -> None:
    found = groups([PolicySettings(name="boss", recipients=patterns(pattern))], envelope(address))

    assert shown(found) == [("boss", [address])]


def test_an_address_without_a_domain_is_a_local_one() -> None:
    local = PolicySettings(name="local", recipients=patterns("postmaster@"))
    domain = PolicySettings(name="domain", recipients=patterns("@postmaster"))

    assert shown(groups([domain, local], envelope(b"postmaster"))) == [("local", [b"postmaster"])]


def test_a_policy_that_a_site_calls_default_is_not_the_one_for_all_others() -> None:
    named = PolicySettings(name=DEFAULT, recipients=patterns("@x"), action=REJECT)
    first, second = groups([named], envelope(b"a@x", b"b@y"))

    assert (first.policy.settings.action, len(first.recipients)) == (REJECT, 1)
    assert second.policy.settings == PolicySettings(name=DEFAULT)


@pytest.mark.parametrize(
    ("names", "expanded"),
    [
        pytest.param(("*",), ("first", "second", "third"), id="all"),
        pytest.param((), (), id="none"),
        pytest.param(("third", "first"), ("third", "first"), id="in an order of its own"),
        pytest.param(("third", "*"), ("third", "first", "second"), id="one before all others"),
        pytest.param(("*", "first"), ("second", "third", "first"), id="one behind all others"),
    ],
)
def test_a_policy_names_its_scanners_in_order(names: tuple[str, ...], expanded: tuple[str, ...]) -> None:
    (group,) = groups([PolicySettings(name="some", scanners=names)], envelope(b"a@x"))

    assert group.policy.scanners == expanded


def test_the_default_policy_asks_all_scanners() -> None:
    (group,) = groups([], envelope(b"a@x"))

    assert group.policy.scanners == ("first", "second", "third")


@given(
    st.lists(st.sampled_from([b"a@x", b"b@x", b"a@y", b"c@z", b"", b"@", b'"@x"@y', b"\xff@x"]), min_size=1),
    st.lists(st.lists(st.sampled_from(["a@", "@x", "@.x", "b@x", "<>"]), max_size=3), max_size=4),
)
def test_every_recipient_is_in_one_group_and_in_order(
    recipients: list[bytes], conditions: list[list[str]]
) -> None:
    policies = [
        PolicySettings(name=f"p{number}", recipients=patterns(*texts))
        for number, texts in enumerate(conditions)
    ]
    given_envelope = envelope(*recipients)
    found = groups(policies, given_envelope)
    placed = [one for group in found for one in group.recipients]

    assert sorted(map(id, placed)) == sorted(map(id, given_envelope.recipients))
    assert len({group.policy.name for group in found}) == len(found)
    for group in found:
        places = [
            next(i for i, r in enumerate(given_envelope.recipients) if r is one) for one in group.recipients
        ]
        assert places == sorted(places)
