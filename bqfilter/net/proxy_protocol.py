r"""The PROXY protocol's header: what a load balancer says before its client's first byte, read without I/O.

After "The PROXY protocol", versions 1 and 2, by Willy Tarreau (doc/proxy-protocol.txt of HAProxy). Version 1
is a line of text, version 2 binary, with a length:

    PROXY TCP4 192.0.2.10 198.51.100.1 41234 10025\r\n
    \r\n\r\n\0\r\nQUIT\n  version, command  family, transport  length  addresses, ports, TLVs

Both begin so that they are told apart, and from SMTP, by their first bytes. `wanted` says how many more bytes
surely belong to the header, so whoever reads never takes one of those behind it. `announced` is what the
header says. Anything that is not exactly of one of the two forms is a ValueError, as early as it shows:
nothing is guessed, since who speaks here decides who may relay.

TLVs are skipped, checksums among them: the proxies are on networks that carry mail without any.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from bqfilter.net.address import written

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # of version 2
_KEYWORD = b"PROXY "  # of version 1

_SHORTEST_LINE = len(b"PROXY UNKNOWN\r\n")
_LONGEST_LINE = 107  # bytes with CRLF: UNKNOWN with two IPv6 addresses, by the specification
_FIXED_BYTES = 16  # of version 2: signature, two bytes of kind, two of length
# Bytes of version 2 in all. Addresses of unix sockets are 216, the names in TLVs a few hundred.
LONGEST_HEADER = 4096

_LOCAL, _PROXY = 0x20, 0x21  # version and command
_ADDRESS_BYTES = {0x0: 0, 0x1: 12, 0x2: 36, 0x3: 216}  # by family: unspecified, IPv4, IPv6, unix
_TCP4, _TCP6 = 0x11, 0x21  # family and transport
_TRANSPORTS = frozenset({0x0, 0x1, 0x2})  # unspecified, stream, datagram

_TCP_LINE = re.compile(r"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_UNKNOWN_LINE = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_MOST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Announcement:
    """For whom a proxy has made a connection; `host` is empty where it names no internet address.

    `is_local`: for nobody, it wants to know whether we are there.
    """

    host: str = ""
    port: int = 0
    is_local: bool = False


def wanted(head: bytes) -> int:
    """How many bytes behind `head` are certainly still of the header; 0 when it is complete.

    Raises ValueError where no header begins like this.
    """
    if not head.startswith((_SIGNATURE[: len(head)], _KEYWORD[: len(head)])):
        raise ValueError("neither version of the PROXY protocol begins like this")
    if len(head) < _SHORTEST_LINE:
        return _SHORTEST_LINE - len(head)
    return _wanted_of_line(head) if head.startswith(_KEYWORD) else _wanted_of_block(head)


def _wanted_of_line(head: bytes) -> int:
    if head.endswith(b"\r\n"):
        return 0
    if len(head) >= _LONGEST_LINE or b"\n" in head or b"\r" in head[:-1]:
        raise ValueError(f"no CRLF ends the line of the PROXY protocol within {_LONGEST_LINE} bytes")
    return 1 if head.endswith(b"\r") or len(head) == _LONGEST_LINE - 1 else 2


def _wanted_of_block(head: bytes) -> int:
    if len(head) < _FIXED_BYTES:
        return _FIXED_BYTES - len(head)
    length = _FIXED_BYTES + int.from_bytes(head[14:16], "big")
    if length > LONGEST_HEADER:
        raise ValueError(f"a PROXY header of {length} bytes; {LONGEST_HEADER} are taken")
    return length - len(head)


def announced(header: bytes) -> Announcement:
    """What a complete header says. Raises ValueError."""
    return _read_line(header) if header.startswith(_KEYWORD) else _read_block(header)


def _read_line(line: bytes) -> Announcement:
    if _UNKNOWN_LINE.fullmatch(line):
        return Announcement()
    found = _TCP_LINE.fullmatch(line.decode("ascii", "replace"))
    if not found:
        raise ValueError("the line of the PROXY protocol is not of its form")
    version, source, destination, *ports = found.groups()
    if any(port != str(int(port)) or int(port) > _MOST_PORT for port in ports):
        raise ValueError("a port in the PROXY header is no number from 0 to 65535")
    kind = IPv4Address if version == "4" else IPv6Address
    addresses = [kind(text) for text in (source, destination)]  # raises AddressValueError
    return Announcement(written(addresses[0]), int(ports[0]))


def _read_block(block: bytes) -> Announcement:
    command, kind = block[12], block[13]
    if command not in (_LOCAL, _PROXY):
        raise ValueError(f"version and command 0x{command:02x} of the PROXY header are not known")
    if command == _LOCAL:
        return Announcement(is_local=True)
    family, transport = kind >> 4, kind & 0xF
    if family not in _ADDRESS_BYTES or transport not in _TRANSPORTS:
        raise ValueError(f"family and transport 0x{kind:02x} of the PROXY header are not known")
    addresses = block[_FIXED_BYTES:]
    if transport and len(addresses) < _ADDRESS_BYTES[family]:
        raise ValueError(f"the PROXY header has {len(addresses)} bytes of addresses, too few")
    if kind == _TCP4:
        return _inet(addresses[0:4], addresses[8:10])
    if kind == _TCP6:
        return _inet(addresses[0:16], addresses[32:34])
    return Announcement()


def _inet(address: bytes, port: bytes) -> Announcement:
    return Announcement(written(ipaddress.ip_address(address)), int.from_bytes(port, "big"))
