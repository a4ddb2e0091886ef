"""Headers of both versions by the specification, whole, cut, garbled and over-long."""

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.net.proxy_protocol import LONGEST_HEADER, Announcement, announced, wanted

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BEHIND = b"EHLO mx.example\r\nMAIL FROM:<a@example.org>\r\n"


def block(command: int, kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A header of version 2, with a length that may lie."""
    return SIGNATURE + struct.pack("!BBH", command, kind, len(body) if length is None else length) + body


def tcp4(source: str = "192.0.2.10", port: int = 41234, tlvs: bytes = b"") -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton("198.51.100.1")
    return block(0x21, 0x11, addresses + struct.pack("!HH", port, 10025) + tlvs)


def tcp6(source: str = "2001:db8::10", port: int = 41234, tlvs: bytes = b"") -> bytes:
    addresses = b"".join(socket.inet_pton(socket.AF_INET6, one) for one in (source, "2001:db8::1"))
    return block(0x21, 0x21, addresses + struct.pack("!HH", port, 10025) + tlvs)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def read(stream: bytes) -> tuple[Announcement, bytes]:
    """As a reader does it: never more bytes than are wanted; what was announced, and what is left."""
    head = b""
    while (count := wanted(head)) > 0:
        piece = stream[len(head) : len(head) + count]
        if not piece:
            raise EOFError(head)
        head += piece
    return announced(head), stream[len(head) :]


SOMEBODY = Announcement("192.0.2.10", 41234)
SOMEBODY6 = Announcement("2001:db8::10", 41234)
NOBODY = Announcement()
ITSELF = Announcement(is_local=True)

GOOD = {
    "version 1 of IPv4": (b"PROXY TCP4 192.0.2.10 198.51.100.1 41234 10025\r\n", SOMEBODY),
    "version 1 of IPv6": (b"PROXY TCP6 2001:db8::10 2001:db8::1 41234 10025\r\n", SOMEBODY6),
    "its shortest of IPv4": (b"PROXY TCP4 1.1.1.1 1.1.1.1 0 0\r\n", Announcement("1.1.1.1", 0)),
    "its shortest of IPv6": (b"PROXY TCP6 :: :: 0 0\r\n", Announcement("::", 0)),
    "its longest of IPv4": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        Announcement("255.255.255.255", 65535),
    ),
    "its longest of IPv6": (
        b"PROXY TCP6 " + b" ".join([b":".join([b"fFfF"] * 8)] * 2) + b" 65535 65535\r\n",
        Announcement(":".join(["ffff"] * 8), 65535),
    ),
    "an IPv4 address as IPv6 has it": (
        b"PROXY TCP6 ::ffff:192.0.2.10 ::1 41234 1\r\n",
        Announcement("::ffff:192.0.2.10", 41234),
    ),
    "an IPv4 address as IPv6 has it, version 2": (
        tcp6("::ffff:192.0.2.10"),
        Announcement("::ffff:192.0.2.10", 41234),
    ),
    "nobody known": (b"PROXY UNKNOWN\r\n", NOBODY),
    "nobody known, and what is to be ignored": (b"PROXY UNKNOWN 1.2.3.4 anything \xff\r\n", NOBODY),
    "the worst case of the specification": (
        b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        NOBODY,
    ),
    "version 2 of IPv4": (tcp4(), SOMEBODY),
    "version 2 of IPv6": (tcp6(), SOMEBODY6),
    "with TLVs": (tcp4(tlvs=tlv(0x02, b"mx.example") + tlv(0x20, b"\1\0\0\0\0" * 20)), SOMEBODY),
    "with TLVs that make no sense": (tcp6(tlvs=b"\x05\xff\xff\0"), SOMEBODY6),
    "as long as is taken": (tcp4(tlvs=bytes(LONGEST_HEADER - 28)), SOMEBODY),
    "a health check": (block(0x20, 0x00), ITSELF),
    "a health check with addresses, which do not count": (block(0x20, 0x11, bytes(12)), ITSELF),
    "a health check of a family that nobody knows": (block(0x20, 0xF7, b"xyz"), ITSELF),
    "unspecified": (block(0x21, 0x00), NOBODY),
    "unspecified, with something": (block(0x21, 0x00, bytes(40)), NOBODY),
    "no transport": (block(0x21, 0x10, bytes(3)), NOBODY),
    "datagrams": (block(0x21, 0x12, bytes(12)), NOBODY),
    "datagrams of IPv6": (block(0x21, 0x22, bytes(36)), NOBODY),
    "a unix socket": (block(0x21, 0x31, bytes(216)), NOBODY),
}

BAD = {
    "SMTP": b"EHLO mx.example\r\n",
    "one byte of it": b"E",
    "an empty line": b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaa",
    "lower case": b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    "a tab": b"PROXY\tTCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    "another family": b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n",
    "UNKNOWN in disguise": b"PROXY UNKNOWNS 1.1.1.1 1.1.1.1 1 1\r\n",
    "two blanks": b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n",
    "a blank at the end": b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
    "no destination port": b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
    "one word more": b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
    "leading noughts": b"PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n",
    "three numbers": b"PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n",
    "256": b"PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n",
    "IPv6 as IPv4": b"PROXY TCP4 ::1 ::1 1 1\r\n",
    "IPv4 as IPv6": b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
    "a scope": b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
    "a bad destination": b"PROXY TCP4 1.1.1.1 1.1.1 1 1\r\n",
    "a port with a nought": b"PROXY TCP4 1.1.1.1 1.1.1.1 025 1\r\n",
    "a port too large": b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n",
    "a port with a sign": b"PROXY TCP4 1.1.1.1 1.1.1.1 +25 1\r\n",
    "digits of other scripts": "PROXY TCP4 1.1.1.1 1.1.1.1 ٢٥ 1\r\n".encode(),
    "LF alone": b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n" + BEHIND,
    "CR alone": b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r" + BEHIND,
    "LF alone behind UNKNOWN": b"PROXY UNKNOWN\nEHLO mx.example\r\n",
    "CR alone behind UNKNOWN": b"PROXY UNKNOWN \rEHLO mx.example\r\n",
    "a line without an end": b"PROXY UNKNOWN " + b"x" * 5000,
    "108 bytes": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "an end that comes a byte late": b"PROXY UNKNOWN " + b"x" * 93 + b"\r\n",
    "version 1 in the block": block(0x11, 0x11, bytes(12)),
    "version 3": block(0x31, 0x11, bytes(12)),
    "an unknown command": block(0x22, 0x11, bytes(12)),
    "an unknown family": block(0x21, 0x41, bytes(216)),
    "an unknown transport": block(0x21, 0x13, bytes(12)),
    "IPv4 in eleven bytes": block(0x21, 0x11, bytes(11)),
    "IPv6 in the room for IPv4": block(0x21, 0x21, bytes(12)),
    "a unix socket in 215 bytes": block(0x21, 0x31, bytes(215)),
    "one byte too long": block(0x21, 0x11, bytes(LONGEST_HEADER - 15)),
    "the largest length": block(0x20, 0x00, length=0xFFFF),
    "a signature with a slip": SIGNATURE[:-1] + b"\r" + bytes(4),
}


@pytest.mark.parametrize(("header", "meaning"), GOOD.values(), ids=GOOD)
def test_a_header_is_read_to_its_end_and_no_further(header: bytes, meaning: Announcement) -> None:
    assert read(header + BEHIND) == (meaning, BEHIND)


@pytest.mark.parametrize(("header", "meaning"), GOOD.values(), ids=GOOD)
def test_whoever_begins_in_the_middle_of_a_read_gets_the_same(header: bytes, meaning: Announcement) -> None:
    assert all(wanted(header[:cut]) in range(1, len(header) - cut + 1) for cut in range(len(header)))
    assert wanted(header) == 0


@pytest.mark.parametrize("stream", BAD.values(), ids=BAD)
def test_what_is_no_header_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError):
        read(stream)


@pytest.mark.parametrize(("header", "meaning"), GOOD.values(), ids=GOOD)
def test_a_header_that_is_cut_is_never_taken_for_a_shorter_one(header: bytes, meaning: Announcement) -> None:
    for cut in range(len(header)):
        with pytest.raises((EOFError, ValueError)):
            read(header[:cut])


def test_smtp_is_recognised_by_its_first_byte() -> None:
    """So that whoever forgot send-proxy hears of it at once, and not when a deadline is over."""
    with pytest.raises(ValueError, match="neither version"):
        wanted(b"E")


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=200))
def test_version_2_carries_every_address(address: ipaddress._BaseAddress, port: int, tlvs: bytes) -> None:
    made = tcp4 if address.version == 4 else tcp6
    assert read(made(str(address), port, tlvs) + BEHIND) == (Announcement(str(address), port), BEHIND)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_version_1_carries_every_address(address: ipaddress._BaseAddress, port: int) -> None:
    line = f"PROXY TCP{address.version} {address} {address} {port} 25\r\n".encode()
    assert read(line + BEHIND) == (Announcement(str(address), port), BEHIND)


@given(st.sampled_from([header for header, _ in GOOD.values()]), st.data())
def test_a_slip_in_a_header_ends_in_an_announcement_or_a_refusal(header: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(header) - 1))
    garbled = header[:at] + bytes([data.draw(st.integers(0, 255))]) + header[at + 1 :] + BEHIND
    try:
        found, rest = read(garbled)
    except (ValueError, EOFError):
        return
    assert garbled.endswith(rest)
    assert not found.host or ipaddress.ip_address(found.host)


@given(st.binary(max_size=300))
def test_no_bytes_whatever_do_harm(stream: bytes) -> None:
    try:
        read(stream)
    except (ValueError, EOFError):
        return


@given(st.binary(max_size=120))
def test_no_line_whatever_does_harm(text: bytes) -> None:
    try:
        found, _ = read(b"PROXY TCP4 " + text + b"\r\n")
    except (ValueError, EOFError):
        return
    assert ipaddress.IPv4Address(found.host)
