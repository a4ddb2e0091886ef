"""Who is let in, by the peer's address or by the header of a proxy, and that nothing behind it is read."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from bqfilter.net.address import AllowList, Endpoint, parse_network
from bqfilter.net.deadline import Deadline
from bqfilter.net.listeners import Accepted, Listener
from bqfilter.net.stream import Stream
from bqfilter.pool.reception import Standing, Visitor, receive
from tests.net.test_proxy_protocol import block, tcp4, tcp6

PROXY = "198.51.100.1"
LOCAL = block(0x20, 0x00)
V1 = b"PROXY TCP4 192.0.2.10 198.51.100.9 41234 10025\r\n"
BEHIND = b"EHLO mx.example\r\n"


@dataclass(slots=True)
class Door:
    """A connection as it was accepted, and the other end of it."""

    listener: Listener
    accepted: Accepted
    client: socket.socket

    def receive(self, seconds: float = 30.0, *, is_queued: bool = False) -> Visitor:
        stream = Stream(self.accepted.socket, self.accepted.peer, time.monotonic)
        deadline = Deadline.after(time.monotonic, seconds)
        return receive(self.listener, self.accepted, stream, deadline, is_queued=is_queued)

    def unread(self) -> bytes:
        self.client.shutdown(socket.SHUT_WR)
        rest = b""
        while piece := self.accepted.socket.recv(4096):
            rest += piece
        return rest


Make = Callable[..., Door]


@pytest.fixture
def door() -> Iterator[Make]:
    """Makes doors; without `proxies` the peer is whom it is about."""
    pairs: list[socket.socket] = []

    def make(
        host: str = PROXY,
        allow: tuple[str, ...] = ("192.0.2.0/24",),
        proxies: tuple[str, ...] | None = (PROXY,),
    ) -> Door:
        ours, theirs = socket.socketpair()
        pairs.extend((ours, theirs))
        lists = [AllowList(map(parse_network, names)) for names in (allow, proxies or ())]
        endpoint = Endpoint("inet", "127.0.0.1", 10025)
        listener = Listener(ours, endpoint, lists[0], proxies=None if proxies is None else lists[1])
        peer = f"{host}:999" if host else "unix:/s"
        return Door(listener, Accepted(ours, peer, host, 0.0 if host else None, False), theirs)

    yield make
    for sock in pairs:
        sock.close()


class TestWithoutProxies:
    def test_the_peer_counts(self, door: Make) -> None:
        assert door("192.0.2.7", proxies=None).receive() == Visitor(Standing.CLIENT, "192.0.2.7:999")
        assert door("192.0.3.7", proxies=None).receive() == Visitor(Standing.STRANGER, "192.0.3.7:999")

    def test_a_header_is_smtp_like_any_other(self, door: Make) -> None:
        """Whoever is allowed to send mail must not be able to say that he is somebody else."""
        made = door("192.0.2.7", proxies=None)
        made.client.sendall(V1)
        assert made.receive().peer == "192.0.2.7:999"
        assert made.unread() == V1

    @pytest.mark.parametrize(
        ("waited", "is_queued", "standing"),
        [
            pytest.param(0.0, False, Standing.PASSED_BY, id="nobody had to wait"),
            pytest.param(0.4, True, Standing.PASSED_BY, id="too short for a Postfix to lose patience"),
            pytest.param(100.0, True, Standing.LEFT, id="its patience was over"),
            pytest.param(None, True, Standing.LEFT, id="unix, all were busy"),
            pytest.param(None, False, Standing.PASSED_BY, id="unix, somebody was idle"),
        ],
    )
    def test_one_that_has_gone(
        self, door: Make, waited: float | None, is_queued: bool, standing: Standing
    ) -> None:
        made = door("192.0.2.7", proxies=None)
        made.accepted = replace(made.accepted, is_abandoned=True, waited=waited)
        assert made.receive(is_queued=is_queued).standing is standing


class TestBehindAProxy:
    @pytest.mark.parametrize("header", [V1, tcp4(), tcp4(tlvs=b"\x04\0\x0240")], ids=["1", "2", "with TLVs"])
    def test_the_announced_address_counts_and_smtp_behind_it_stays(self, door: Make, header: bytes) -> None:
        made = door()
        made.client.sendall(header + BEHIND)
        assert made.receive() == Visitor(Standing.CLIENT, "192.0.2.10:41234")
        assert made.unread() == BEHIND

    def test_it_may_be_one_of_ipv6(self, door: Make) -> None:
        made = door(allow=("2001:db8::/32",))
        made.client.sendall(tcp6())
        assert made.receive() == Visitor(Standing.CLIENT, "2001:db8::10:41234")

    def test_one_outside_the_list_is_a_stranger(self, door: Make) -> None:
        made = door()
        made.client.sendall(tcp4("192.0.3.1"))
        assert made.receive() == Visitor(Standing.STRANGER, "192.0.3.1:41234")

    def test_only_a_named_proxy_is_listened_to(self, door: Make) -> None:
        made = door("192.0.2.10")  # may send mail, by way of a proxy
        made.client.sendall(V1)
        assert made.receive() == Visitor(Standing.STRANGER, "192.0.2.10:999")
        assert made.unread() == V1

    def test_the_mode_of_a_unix_socket_names_the_proxies(self, door: Make) -> None:
        made = door("", proxies=())
        made.client.sendall(tcp4())
        assert made.receive() == Visitor(Standing.CLIENT, "192.0.2.10:41234")
        other = door("", proxies=())
        other.client.sendall(tcp4("192.0.3.1"))
        assert other.receive().standing is Standing.STRANGER

    def test_a_header_in_single_bytes_is_put_together(self, door: Make) -> None:
        made = door()
        for byte in V1:
            made.client.sendall(bytes([byte]))
        assert made.receive().standing is Standing.CLIENT

    @pytest.mark.parametrize(
        "header",
        [
            pytest.param(LOCAL, id="LOCAL"),
            pytest.param(b"PROXY UNKNOWN\r\n", id="UNKNOWN"),
            pytest.param(block(0x21, 0x00), id="unspecified"),
            pytest.param(block(0x21, 0x31, bytes(216)), id="a unix socket"),
            pytest.param(tcp4(PROXY), id="its own address"),
        ],
    )
    def test_a_proxy_that_speaks_for_itself_may_not_send(self, door: Make, header: bytes) -> None:
        made = door()
        made.client.sendall(header + BEHIND)
        assert made.receive().standing is Standing.PROXY
        assert made.unread() == BEHIND

    def test_unless_its_address_is_allowed_and_it_does_not_say_that_it_is_a_check(self, door: Make) -> None:
        standings = []
        for header in (b"PROXY UNKNOWN\r\n", tcp4(PROXY), LOCAL):
            made = door(allow=(PROXY,))
            made.client.sendall(header)
            standings.append(made.receive().standing)
        assert standings == [Standing.CLIENT, Standing.CLIENT, Standing.PROXY]

    def test_its_own_address_may_come_mapped_into_ipv6(self, door: Make) -> None:
        """As on a socket of systemd's that takes both; the header has it plain."""
        made = door(f"::ffff:{PROXY}")
        made.client.sendall(tcp4(PROXY))
        assert made.receive().standing is Standing.PROXY

    def test_a_check_that_connects_and_leaves_has_passed_by(self, door: Make) -> None:
        made = door()
        made.client.close()
        assert made.receive() == Visitor(Standing.PASSED_BY, f"{PROXY}:999")

    def test_so_has_one_that_says_so_and_leaves(self, door: Make) -> None:
        made = door()
        made.accepted = replace(made.accepted, is_abandoned=True, waited=50.0)
        made.client.sendall(LOCAL)
        made.client.close()
        assert made.receive(is_queued=True).standing is Standing.PASSED_BY

    def test_a_client_that_has_lost_its_patience_is_missed(self, door: Make) -> None:
        made = door()
        made.accepted = replace(made.accepted, is_abandoned=True, waited=50.0)
        made.client.sendall(V1)
        made.client.close()
        assert made.receive(is_queued=True) == Visitor(Standing.LEFT, "192.0.2.10:41234")

    @pytest.mark.parametrize(
        ("stream", "cause"),
        [
            pytest.param(BEHIND, "neither version of the PROXY protocol begins like this", id="SMTP"),
            pytest.param(V1.replace(b"\r\n", b"\n") + BEHIND, "no CRLF", id="LF alone"),
            pytest.param(b"PROXY UNKNOWN " + b"x" * 5000, "no CRLF", id="without an end"),
            pytest.param(block(0x21, 0x11, length=65535), "PROXY header of 65551 bytes", id="over-long"),
            pytest.param(tcp4()[:20], "connection closed", id="cut"),
        ],
    )
    def test_garbage_is_refused_long_before_the_deadline(self, door: Make, stream: bytes, cause: str) -> None:
        made = door()
        made.client.sendall(stream)
        made.client.shutdown(socket.SHUT_WR)
        visitor = made.receive()
        assert (visitor.standing, visitor.peer) == (Standing.UNANNOUNCED, f"{PROXY}:999")
        assert cause in visitor.cause

    def test_garbage_is_refused_while_the_connection_is_open(self, door: Make) -> None:
        made = door()
        made.client.sendall(b"E")
        assert made.receive(3600.0).standing is Standing.UNANNOUNCED

    @pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 192.0.2.10 ", tcp4()[:15]], ids=["0", "1", "2"])
    def test_a_header_that_does_not_come_is_not_waited_for(self, door: Make, begun: bytes) -> None:
        made = door()
        made.client.sendall(begun)
        assert made.receive(0.05) == Visitor(Standing.UNANNOUNCED, f"{PROXY}:999", "nothing received")
