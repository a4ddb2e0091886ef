"""What Rspamd is told beside the content: facts that are known, and nothing that a remote client made up."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.envelope import Client, Envelope
from bqfilter.scanning.rspamd_request import MAX_RECIPIENT_BYTES, request_headers
from bqfilter.smtp.commands import Mail, Rcpt

RSPAMD_LIMIT_BYTES = 80 * 1024  # HTTP_MAX_HEADER_SIZE


def envelope(sender: bytes = b"", *recipients: bytes, session: str = "", **facts: bytes) -> Envelope:
    client = Client({name.encode(): value for name, value in facts.items()})
    people = [Rcpt(b"", address, b"") for address in recipients]
    return Envelope(client, Mail(b"", sender, b""), people, session_id=session)


def told(one: Envelope, name: bytes, hostname: str = "mx.example", password: str = "") -> list[bytes]:
    return [value for key, value in request_headers(one, hostname, password) if key == name]


def test_everything_that_is_known_is_told() -> None:
    one = envelope(
        b"a@example.com", b"b@example.org", b"c@example.org", session="4B1",
        NAME=b"mail.example.com", ADDR=b"192.0.2.7", HELO=b"mail.example.com",
    )  # fmt: skip

    assert request_headers(one, "mx.example", "secret") == (
        (b"Password", b"secret"),
        (b"Queue-Id", b"4B1"),
        (b"MTA-Name", b"mx.example"),
        (b"Hostname", b"mail.example.com"),
        (b"Helo", b"mail.example.com"),
        (b"IP", b"192.0.2.7"),
        (b"From", b"<a@example.com>"),
        (b"Rcpt", b"<b@example.org>"),
        (b"Rcpt", b"<c@example.org>"),
    )


def test_what_is_unknown_is_left_out() -> None:
    one = envelope(b"", b"b@example.org", NAME=b"[UNAVAILABLE]", ADDR=b"[UNAVAILABLE]")

    assert request_headers(one, "", "") == (
        (b"From", b"<>"),
        (b"Deliver-To", b"b@example.org"),
        (b"Rcpt", b"<b@example.org>"),
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_who_it_is_delivered_to_is_told_where_there_is_one_recipient(count: int) -> None:
    one = envelope(b"", *[b"b%d@example.org" % number for number in range(count)])
    assert told(one, b"Deliver-To") == ([b"b0@example.org"] if count == 1 else [])


@pytest.mark.parametrize(
    ("fact", "ip"),
    [
        pytest.param(b"192.0.2.7", b"192.0.2.7", id="IPv4"),
        pytest.param(b"IPv6:2001:DB8:0::7", b"2001:db8::7", id="IPv6"),
        pytest.param(b"IPv6:::ffff:c000:207", b"::ffff:192.0.2.7", id="IPv4 in IPv6"),
        pytest.param(b"ipv6:::1", b"::1", id="lower case"),
        pytest.param(b"unknown", None, id="unknown"),
        pytest.param(b"192.0.2.7.8", None, id="not an address"),
        pytest.param(b"IPv6:fe80::1%eth0", None, id="with a scope"),
        pytest.param(b"IPv6:fe80::1%+0D+0APassword: q", None, id="a scope with a line end"),
        pytest.param(b"192.0.2.7+0D+0AIP: 192.0.2.8", None, id="two lines"),
        pytest.param(b"\xd9\xa1.1.1.1", None, id="digits beyond ASCII"),
    ],
)
def test_the_address_of_the_remote_client_is_an_ip_address_or_left_out(fact: bytes, ip: bytes | None) -> None:
    assert told(envelope(ADDR=fact), b"IP") == ([ip] if ip else [])


@pytest.mark.parametrize(
    ("name", "attribute", "value", "is_told"),
    [
        pytest.param(b"Helo", "HELO", b"[192.0.2.7]", True, id="literal"),
        pytest.param(b"Helo", "HELO", b"h+FFllo", True, id="eight bits"),
        pytest.param(b"Helo", "HELO", b"a+0D+0AIP: 192.0.2.8", False, id="line end"),
        pytest.param(b"Helo", "HELO", b"a+0Ab", False, id="bare LF"),
        pytest.param(b"Helo", "HELO", b"a+00b", False, id="NUL"),
        pytest.param(b"Helo", "HELO", b"a+20b", False, id="blank"),
        pytest.param(b"Helo", "HELO", b"a" * 256, False, id="too long"),
        pytest.param(b"Hostname", "NAME", b"mail.example.com", True, id="host name"),
        pytest.param(b"Hostname", "NAME", b"mail+0Aexample", False, id="host name with LF"),
        pytest.param(b"Hostname", "NAME", b"m\xe9", False, id="host name with eight bits"),
    ],
)
def test_names_are_told_unless_they_hold_what_no_name_can(
    name: bytes, attribute: str, value: bytes, is_told: bool
) -> None:
    assert bool(told(envelope(**{attribute: value}), name)) == is_told


# The last column was seen with Rspamd 3.4; tests/scanning/test_rspamd.py asks it again.
ADDRESSES = [
    (b"a@example.com", True),
    (b"a.b+c=d/e@x--y.example", True),
    (b"SRS0=ab=cd=x.example=u@y.example", True),
    (b"a@under_score.example", True),
    (b"a@example.com.", True),
    (b"a@[192.0.2.1]", True),
    (b"a@[IPv6:2001:db8::1]", True),
    (b'"a b"@x.example', True),
    (b'"a\\"b, <c>"@x.example', True),
    (b'""@x.example', True),
    (b"y" * 300 + b"@x.example", True),
    (b"y" * 600 + b"@x.example", False),
    (b"postmaster", False),
    (b"a..b@example.com", False),
    (b"a.@example.com", False),
    (b"a,b@example.com", False),
    (b"a b@example.com", False),
    (b"a:b@example.com", False),
    (b"a@b@example.com", False),
    (b"a@-x.example", False),
    (b"a@x-.example", False),
    (b"a@x..example", False),
    (b"a@", False),
    (b"@x.example", False),
    (b"a>, <b@example.com", False),
    (b"a@example.com\r\nPassword: q", False),
    (b"a@example.com\n", False),
    (b"a\0@example.com", False),
    (b"a\xc3\xa9@x.example", False),
    (b"a@\xc3\xa9.example", False),
]


@pytest.mark.parametrize(("address", "is_told"), ADDRESSES)
def test_addresses_are_told_as_far_as_rspamd_can_read_them(address: bytes, is_told: bool) -> None:
    expected = [b"<%b>" % address] if is_told else []
    assert told(envelope(address), b"From") == expected
    assert told(envelope(b"", address, b"other@example.org"), b"Rcpt") == [*expected, b"<other@example.org>"]


def test_of_very_many_recipients_as_many_are_told_as_rspamd_takes() -> None:
    addresses = [b"recipient-%d@some.where.example.org" % number for number in range(5000)]
    headers = request_headers(envelope(b"", *addresses), "mx.example", "")
    some = [value for name, value in headers if name == b"Rcpt"]

    assert some == [b"<%b>" % address for address in addresses[: len(some)]]
    assert MAX_RECIPIENT_BYTES - 100 < sum(len(value) + 8 for value in some) <= MAX_RECIPIENT_BYTES


TEXT = st.binary(max_size=40) | st.sampled_from(
    [b"a@example.com", b'"a"@x', b"\r\n", b"IPv6:::1", b"x" * 9000]
)


@given(
    st.lists(TEXT, max_size=4).map(b"".join),
    st.lists(st.lists(TEXT, max_size=4).map(b"".join), max_size=5),
    st.dictionaries(st.sampled_from(["NAME", "ADDR", "HELO"]), TEXT),
    st.text(max_size=20),
)
def test_no_byte_of_a_peer_ends_a_request_header_or_makes_it_too_large(
    sender: bytes, recipients: list[bytes], facts: dict[str, bytes], session: str
) -> None:
    headers = request_headers(envelope(sender, *recipients, session=session, **facts), session, "")

    assert not any(set(value) & set(b"\r\n\0") for _, value in headers)
    assert sum(len(name) + len(value) + 4 for name, value in headers) < RSPAMD_LIMIT_BYTES
    h11.Request(method="POST", target="/checkv2", headers=[(b"Host", b"localhost"), *headers])
