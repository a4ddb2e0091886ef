"""Where we listen and whom we call: endpoints, the socket addresses behind them, and who may come in.

Everything here is a value parsed from text and printed back: `Endpoint.parse(str(endpoint)) == endpoint`.
What cannot be parsed or resolved raises ValueError with a sentence fit for the operator's eyes. Nothing here
opens a socket, and nothing but `resolve()` asks a name service: an allow list holds addresses, never names,
so that a slow or lying name server has no say in who comes in.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Literal

Network = IPv4Network | IPv6Network

# sockaddr_un.sun_path is 108 bytes, the last of them the closing NUL (unix(7)).
_MAX_UNIX_PATH_BYTES = 107
_MAX_PORT = 65535
_MAX_NAME_LENGTH = 253

# Underscores are no host name by RFC 952, but container networks use them. A last label of digits alone is
# refused: the resolver would read "127.1" or "10.0.0.010" as an address, and not as the one a person reads.
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")

_MAPPED = IPv6Network("::ffff:0:0/96")

# Answers an allow list remembers: far more peers than a before-filter host has, and still small when a
# scanner of the whole network is refused address by address.
_MAX_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen or to connect: `inet:HOST:PORT` or `unix:/PATH`; the other fields stay empty."""

    scheme: Literal["inet", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """The endpoint `text` stands for; port 0 means any free port, which only a listener can use."""
        scheme, colon, rest = text.partition(":")
        if colon and scheme == "inet":
            return _parse_inet(rest)
        if colon and scheme == "unix":
            return cls("unix", path=_check_unix_path(rest))
        raise ValueError('an endpoint is written "inet:HOST:PORT" or "unix:/PATH"')

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"inet:{host}:{self.port}"


def _parse_inet(rest: str) -> Endpoint:
    host, colon, port = rest.rpartition(":")
    if not colon or not host:
        raise ValueError('an inet endpoint needs a host and a port, for example "inet:127.0.0.1:10025"')
    return Endpoint("inet", host=_parse_host(host), port=_parse_port(port))


def _parse_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        return _parse_ipv6(host[1:-1])
    if ":" in host:
        raise ValueError('an IPv6 address is written in brackets, for example "inet:[::1]:10025"')
    if _is_ipv4(host):
        return host
    if len(host) > _MAX_NAME_LENGTH or not _NAME.fullmatch(host):
        raise ValueError("the host is neither an IP address nor a host name")
    return host.lower()


def _parse_ipv6(literal: str) -> str:
    try:
        return written(IPv6Address(literal))
    except ValueError:
        raise ValueError("what stands in the brackets is not an IPv6 address") from None


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


def _parse_port(port: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _MAX_PORT:
        raise ValueError(f"the port is a number from 0 to {_MAX_PORT}")
    return int(port)


def _check_unix_path(path: str) -> str:
    # Linux's abstract sockets ("@name") are left out on purpose: they have no mode and no owner, so every
    # local user could connect.
    if not path.startswith("/"):
        raise ValueError('the path of a unix socket is absolute, for example "unix:/run/bqfilter/smtp.sock"')
    if path.endswith("/") or not path.isprintable():
        raise ValueError("the path of a unix socket names a file and holds no control characters")
    if len(os.fsencode(path)) > _MAX_UNIX_PATH_BYTES:
        raise ValueError(f"the path of a unix socket has at most {_MAX_UNIX_PATH_BYTES} bytes")
    return path


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """What `socket.bind()` and `connect()` take, with the family the socket needs; printed for the log."""

    family: int
    sockaddr: tuple[Any, ...] | str

    def __str__(self) -> str:
        if isinstance(self.sockaddr, str):
            return f"unix:{self.sockaddr}"
        return str(Endpoint("inet", host=str(self.sockaddr[0]), port=int(self.sockaddr[1])))


def resolve(endpoint: Endpoint) -> tuple[SocketAddress, ...]:
    """Every address of an endpoint, the resolver's favourite first; a host name may block on the DNS."""
    if endpoint.scheme == "unix":
        return (SocketAddress(socket.AF_UNIX, endpoint.path),)
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"{endpoint} cannot be resolved: {error.strerror or error}") from error
    return tuple(dict.fromkeys(SocketAddress(family, sockaddr) for family, _, _, _, sockaddr in found))


def is_loopback(endpoint: Endpoint) -> bool:
    """Can only this machine reach the endpoint? A name other than `localhost` is not trusted to say so."""
    if endpoint.scheme == "unix" or endpoint.host == "localhost":
        return True
    try:
        return plain(ipaddress.ip_address(endpoint.host)).is_loopback
    except ValueError:
        return False


def written(address: IPv4Address | IPv6Address) -> str:
    """As inet_ntop(3) does: an IPv4-mapped one ends in an IPv4 address. str() has it so since Python 3.13.

    One with a scope, which a mapped address has no use for, is as str() has it.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None and address.scope_id is None:
        return f"::ffff:{address.ipv4_mapped}"
    return str(address)


def plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address inside an IPv4-mapped one: a dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_same_host(one: str, other: str) -> bool:
    """Two names of the same peer; an IPv4 address may be mapped into IPv6. "" is a unix peer."""
    if not one or not other:
        return one == other
    return plain(ipaddress.ip_address(one)) == plain(ipaddress.ip_address(other))


def parse_network(text: str) -> Network:
    """A network "127.0.0.0/8", or the network of one address "192.0.2.7"; host bits and netmasks are errors.

    An IPv4-mapped network becomes the IPv4 network inside, because that is what its peers are compared as.
    """
    address, slash, prefix = text.partition("/")
    if "%" in text or (slash and not re.fullmatch(r"[0-9]{1,3}", prefix)):
        raise ValueError('a network is written "192.0.2.0/24", "2001:db8::/32" or as one address')
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError('a network is written "192.0.2.0/24", "2001:db8::/32" or as one address') from None
    if network.network_address != ipaddress.ip_address(address):
        raise ValueError(f'the address has bits set behind the prefix; the network is "{network}"')
    return _plain_network(network)


def _plain_network(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))
    return network


LOOPBACK_NETWORKS: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class AllowList:
    """Who may connect. Answers are remembered: the few hosts that talk to us do so thousands of times."""

    __slots__ = ("_answers", "_networks")

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        self._answers: dict[str, bool] = {}

    def permits(self, host: str) -> bool:
        """May the peer at `host` come in? Anything that is not an IP address may not."""
        answer = self._answers.get(host)
        if answer is None:
            answer = self._decide(host)
            self._remember(host, answer)
        return answer

    def _decide(self, host: str) -> bool:
        try:
            address = plain(ipaddress.ip_address(host))
        except ValueError:
            return False
        # A scope ("fe80::1%eth0") is not compared: it says by which interface the peer came, not who it is.
        return any(address in network for network in self._networks)

    def _remember(self, host: str, answer: bool) -> None:
        if len(self._answers) >= _MAX_REMEMBERED:
            self._answers.clear()
        self._answers[host] = answer
