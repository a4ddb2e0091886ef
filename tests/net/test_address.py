"""Endpoints and allow lists: what is read, what is refused, and who comes in."""

import socket
import string
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.net.address import (
    LOOPBACK_NETWORKS,
    AllowList,
    Endpoint,
    SocketAddress,
    is_loopback,
    parse_network,
    resolve,
)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        pytest.param("inet:127.0.0.1:10025", Endpoint("inet", "127.0.0.1", 10025), id="IPv4"),
        pytest.param("inet:[::1]:10025", Endpoint("inet", "::1", 10025), id="IPv6"),
        pytest.param("inet:[fe80::1%eth0]:25", Endpoint("inet", "fe80::1%eth0", 25), id="IPv6 with a scope"),
        pytest.param("inet:localhost:10026", Endpoint("inet", "localhost", 10026), id="name"),
        pytest.param("inet:scan_1.mail-net:25", Endpoint("inet", "scan_1.mail-net", 25), id="underscore"),
        pytest.param("inet:127.0.0.1:0", Endpoint("inet", "127.0.0.1", 0), id="any free port"),
        pytest.param("unix:/run/x.sock", Endpoint("unix", path="/run/x.sock"), id="unix"),
        pytest.param("unix:/run/a:b c", Endpoint("unix", path="/run/a:b c"), id="unix with colon and blank"),
    ],
)
def test_an_endpoint_is_parsed_and_printed_back(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint
    assert str(endpoint) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        pytest.param("inet:[0:0:0:0:0:0:0:1]:25", "inet:[::1]:25", id="IPv6 in its short form"),
        pytest.param("inet:[::FFFF:7f00:1]:25", "inet:[::ffff:127.0.0.1]:25", id="IPv4 in IPv6"),
        pytest.param("inet:LocalHost:25", "inet:localhost:25", id="name in lower case"),
        pytest.param("inet:127.0.0.1:00025", "inet:127.0.0.1:25", id="port without zeros"),
    ],
)
def test_an_endpoint_has_one_spelling(text: str, canonical: str) -> None:
    assert str(Endpoint.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("", "an endpoint is written", id="nothing"),
        pytest.param("127.0.0.1:10025", "an endpoint is written", id="no scheme"),
        pytest.param("INET:127.0.0.1:10025", "an endpoint is written", id="scheme in capitals"),
        pytest.param("inet", "an endpoint is written", id="scheme alone"),
        pytest.param("inet:10025", "needs a host and a port", id="port alone"),
        pytest.param("inet::10025", "needs a host and a port", id="empty host"),
        pytest.param("inet:127.0.0.1:", "the port is a number", id="empty port"),
        pytest.param("inet:127.0.0.1:65536", "the port is a number", id="port too large"),
        pytest.param("inet:127.0.0.1:-1", "the port is a number", id="port negative"),
        pytest.param("inet:127.0.0.1:smtp", "the port is a number", id="port by name"),
        pytest.param("inet:127.0.0.1:٢٥", "the port is a number", id="digits of another script"),
        pytest.param("inet:127.0.0.1:25\n", "the port is a number", id="newline behind"),
        pytest.param("inet:::1:25", "in brackets", id="IPv6 without brackets"),
        pytest.param("inet:[127.0.0.1]:25", "not an IPv6 address", id="IPv4 in brackets"),
        pytest.param("inet:[::g]:25", "not an IPv6 address", id="no IPv6"),
        pytest.param("inet:127.1:25", "neither an IP address nor a host name", id="short IPv4"),
        pytest.param("inet:10.0.0.010:25", "neither an IP address nor a host name", id="octal IPv4"),
        pytest.param("inet:*:25", "neither an IP address nor a host name", id="star"),
        pytest.param("inet:\u212aelvin:25", "neither an IP address nor a host name", id="letter like K"),
        pytest.param("inet:a..b:25", "neither an IP address nor a host name", id="empty label"),
        pytest.param("inet:-a:25", "neither an IP address nor a host name", id="hyphen first"),
        pytest.param("inet:" + "a" * 64 + ":25", "neither an IP address nor a host name", id="long label"),
        pytest.param("inet:" + "a." * 127 + "a:25", "neither an IP address nor a host name", id="long name"),
        pytest.param("unix:run/x.sock", "is absolute", id="relative path"),
        pytest.param("unix:@abstract", "is absolute", id="abstract socket"),
        pytest.param("unix:/run/", "names a file", id="directory"),
        pytest.param("unix:/run/a\nb", "no control characters", id="newline in the path"),
        pytest.param("unix:/run/a\0b", "no control characters", id="NUL in the path"),
        pytest.param("unix:/" + "é" * 54, "at most 107 bytes", id="path of 109 bytes"),
    ],
)
def test_an_endpoint_that_makes_no_sense_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Endpoint.parse(text)


def test_a_unix_path_may_fill_the_kernels_structure() -> None:
    assert Endpoint.parse("unix:/" + "x" * 106).path == "/" + "x" * 106


_LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
_HOSTS = st.one_of(
    st.ip_addresses().map(str),
    st.lists(_LABELS, min_size=1, max_size=4).map(".".join),
)
_INET = st.builds(Endpoint, st.just("inet"), _HOSTS, st.integers(0, 65535), st.just(""))
_PATHS = st.text(string.ascii_letters + string.digits + "/._-: é", min_size=1, max_size=50)
_UNIX = _PATHS.map(lambda path: Endpoint("unix", path=f"/{path}x"))


@given(_INET | _UNIX)
def test_every_endpoint_survives_printing(endpoint: Endpoint) -> None:
    assert Endpoint.parse(str(endpoint)) == endpoint


@given(st.text(max_size=40) | st.text(max_size=40).map("inet:{}".format) | st.text().map("unix:{}".format))
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint


def test_literal_addresses_are_resolved_without_a_name_service() -> None:
    (ipv4,) = resolve(Endpoint("inet", "127.0.0.1", 25))
    assert (ipv4.family, ipv4.sockaddr) == (socket.AF_INET, ("127.0.0.1", 25))
    assert str(ipv4) == "inet:127.0.0.1:25"
    (ipv6,) = resolve(Endpoint("inet", "::1", 25))
    assert ipv6.family == socket.AF_INET6
    assert ipv6.sockaddr[:2] == ("::1", 25)
    assert str(ipv6) == "inet:[::1]:25"


def test_a_unix_endpoint_resolves_to_its_path() -> None:
    (address,) = resolve(Endpoint("unix", path="/run/x.sock"))
    assert address == SocketAddress(socket.AF_UNIX, "/run/x.sock")
    assert str(address) == "unix:/run/x.sock"


def test_a_name_resolves_to_all_its_addresses_in_order_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = (socket.SOCK_STREAM, 6, "")
    answer = [
        (socket.AF_INET6, *stream, ("::1", 25, 0, 0)),
        (socket.AF_INET, *stream, ("127.0.0.1", 25)),
        (socket.AF_INET, *stream, ("127.0.0.1", 25)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: answer)
    addresses = resolve(Endpoint("inet", "mail.example", 25))
    assert [str(address) for address in addresses] == ["inet:[::1]:25", "inet:127.0.0.1:25"]


def test_a_name_nobody_knows_is_a_value_error_with_the_resolvers_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ValueError, match=r"inet:nobody\.invalid:25 cannot be resolved: Name or service"):
        resolve(Endpoint("inet", "nobody.invalid", 25))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        pytest.param("inet:127.0.0.1:25", True, id="IPv4 loopback"),
        pytest.param("inet:127.9.9.9:25", True, id="any of 127/8"),
        pytest.param("inet:[::1]:25", True, id="IPv6 loopback"),
        pytest.param("inet:[::ffff:127.0.0.1]:25", True, id="mapped loopback"),
        pytest.param("inet:localhost:25", True, id="localhost"),
        pytest.param("unix:/run/x.sock", True, id="unix"),
        pytest.param("inet:0.0.0.0:25", False, id="every IPv4 address"),
        pytest.param("inet:[::]:25", False, id="every address"),
        pytest.param("inet:192.0.2.7:25", False, id="other address"),
        pytest.param("inet:localhost.example:25", False, id="other name"),
    ],
)
def test_only_loopback_addresses_and_localhost_count_as_this_machine(text: str, answer: bool) -> None:
    assert is_loopback(Endpoint.parse(text)) is answer


@pytest.mark.parametrize(
    ("text", "network"),
    [
        pytest.param("127.0.0.0/8", "127.0.0.0/8", id="IPv4 network"),
        pytest.param("192.0.2.7", "192.0.2.7/32", id="IPv4 address"),
        pytest.param("::1", "::1/128", id="IPv6 address"),
        pytest.param("2001:DB8::/32", "2001:db8::/32", id="IPv6 network"),
        pytest.param("::ffff:192.0.2.0/120", "192.0.2.0/24", id="mapped network"),
        pytest.param("::ffff:192.0.2.7", "192.0.2.7/32", id="mapped address"),
        pytest.param("::/0", "::/0", id="everything IPv6"),
    ],
)
def test_a_network_is_parsed(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("", "a network is written", id="nothing"),
        pytest.param("mail.example", "a network is written", id="a name"),
        pytest.param("192.0.2", "a network is written", id="three numbers"),
        pytest.param("192.0.2.0/33", "a network is written", id="prefix too long"),
        pytest.param("192.0.2.0/", "a network is written", id="prefix missing"),
        pytest.param("192.0.2.0/255.255.255.0", "a network is written", id="netmask"),
        pytest.param("fe80::1%eth0", "a network is written", id="scope"),
        pytest.param("192.0.2.7/24", r'the network is "192\.0\.2\.0/24"', id="host bits"),
    ],
)
def test_a_network_that_makes_no_sense_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_network(text)


def _allow(*texts: str) -> AllowList:
    return AllowList(parse_network(text) for text in texts)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        pytest.param("192.0.2.1", True, id="inside"),
        pytest.param("192.0.3.1", False, id="outside"),
        pytest.param("::ffff:192.0.2.1", True, id="inside and mapped"),
        pytest.param("::ffff:192.0.3.1", False, id="outside and mapped"),
        pytest.param("fe80::1%eth0", True, id="with a scope"),
        pytest.param("fe80::2%eth0", False, id="with a scope outside"),
        pytest.param("", False, id="a unix peer"),
        pytest.param("mail.example", False, id="a name"),
    ],
)
def test_an_allow_list_permits_the_networks_in_it_and_nobody_else(host: str, answer: bool) -> None:
    allow = _allow("192.0.2.0/24", "fe80::1")
    assert allow.permits(host) is answer
    assert allow.permits(host) is answer, "the remembered answer differs"


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 32))
def test_an_ipv4_peer_and_network_are_the_same_written_as_ipv6(
    peer: IPv4Address, member: IPv4Address, prefix: int
) -> None:
    network = IPv4Network((int(member), prefix), strict=False)
    mapped = f"::ffff:{network.network_address}/{96 + prefix}"

    answers = {
        _allow(allowed).permits(host)
        for allowed in (str(network), mapped)
        for host in (str(peer), f"::ffff:{peer}")
    }

    assert answers == {peer in network}


def test_an_empty_allow_list_permits_nobody() -> None:
    assert not AllowList(()).permits("127.0.0.1")


def test_the_loopback_networks_permit_this_machine_alone() -> None:
    allow = AllowList(LOOPBACK_NETWORKS)
    assert allow.permits("127.0.0.1")
    assert allow.permits("::1")
    assert not allow.permits("192.0.2.1")


def test_an_ipv4_peer_is_not_let_in_by_an_ipv6_network() -> None:
    assert not _allow("::/0").permits("::ffff:192.0.2.1")


def test_an_allow_list_stays_right_and_bounded_when_a_whole_network_knocks() -> None:
    allow = _allow("10.0.0.0/16")
    hosts = [f"10.{second}.{third}.1" for second in (0, 1) for third in range(256)] * 3
    hosts += [f"172.16.{third}.{last}" for third in range(16) for last in range(256)]
    assert all(allow.permits(host) is host.startswith("10.0.") for host in hosts)
    assert len(allow._answers) <= 1024
