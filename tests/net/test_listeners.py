"""Listening sockets: who waits, how long, who left already, and which socket files may be replaced."""

import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bqfilter.errors import ConfigError
from bqfilter.net.address import LOOPBACK_NETWORKS, AllowList, Endpoint, SocketAddress, parse_network
from bqfilter.net.listeners import Accepted, Listener, adopt, bind_inet, bind_unix

LIMIT = 30.0  # seconds for what takes milliseconds


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
def tcp(request: pytest.FixtureRequest) -> Iterator[Listener]:
    host: str = request.param
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = bind_inet(SocketAddress(family, (host, 0)), 16)
    yield Listener(sock, Endpoint("inet", host, sock.getsockname()[1]), AllowList(LOOPBACK_NETWORKS))
    sock.close()


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Listener]:
    path = str(tmp_path / "smtp.sock")
    sock = bind_unix(path, 16, 0o660, "")
    yield Listener(sock, Endpoint("unix", path=path), AllowList(()))
    sock.close()


def call(listener: Listener) -> socket.socket:
    client = socket.socket(listener.socket.family)
    client.connect(listener.socket.getsockname())
    return client


def accept(listener: Listener) -> Accepted:
    end = time.monotonic() + LIMIT
    while (accepted := listener.accept()) is None:
        assert time.monotonic() < end
    accepted.socket.close()
    return accepted


def test_nobody_waits(tcp: Listener, unix: Listener) -> None:
    assert tcp.accept() is None
    assert unix.accept() is None


def test_a_tcp_client_is_known_by_its_address(tcp: Listener) -> None:
    with call(tcp) as client:
        accepted = accept(tcp)

        host, port = client.getsockname()[:2]
        assert (accepted.host, accepted.peer) == (host, f"{host}:{port}")
        assert not accepted.is_abandoned


def test_a_unix_client_has_no_address_and_no_known_wait(unix: Listener) -> None:
    with call(unix):
        accepted = accept(unix)

    assert (accepted.host, accepted.waited, accepted.is_abandoned) == ("", None, False)
    assert accepted.peer == str(unix.endpoint)


def test_the_wait_in_the_queue_of_a_tcp_listener_is_known(tcp: Listener) -> None:
    pause = 0.01
    waited = 0.0
    while not waited:  # until the kernel's clock has ticked between handshake and accept
        with call(tcp):
            began = time.monotonic()
            time.sleep(pause)
            waited = accept(tcp).waited or 0.0
            most = time.monotonic() - began + 1.0
        pause *= 2
        assert pause < LIMIT

    assert waited <= most


def test_the_first_to_come_is_the_first_to_be_served(tcp: Listener) -> None:
    clients = [call(tcp) for _ in range(3)]

    assert [accept(tcp).peer.rpartition(":")[2] for _ in clients] == [
        str(client.getsockname()[1]) for client in clients
    ]
    for client in clients:
        client.close()


def test_a_tcp_client_that_closed_in_the_queue_has_abandoned(tcp: Listener) -> None:
    call(tcp).close()

    assert accept(tcp).is_abandoned


def test_a_tcp_client_that_reset_in_the_queue_has_abandoned(tcp: Listener) -> None:
    client = call(tcp)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()

    assert accept(tcp).is_abandoned


def test_a_unix_client_that_closed_in_the_queue_has_abandoned(unix: Listener) -> None:
    call(unix).close()

    assert accept(unix).is_abandoned


def test_a_client_that_speaks_first_has_not_abandoned(tcp: Listener, unix: Listener) -> None:
    for listener in (tcp, unix):
        with call(listener) as client:
            client.sendall(b"EHLO too.early\r\n")

            assert not accept(listener).is_abandoned


def test_a_listener_that_was_shut_down_has_no_clients(tcp: Listener) -> None:
    tcp.socket.shutdown(socket.SHUT_RDWR)

    assert tcp.accept() is None


def test_an_accepted_connection_does_not_hold_small_writes_back(tcp: Listener) -> None:
    with call(tcp):
        accepted = tcp.accept()
        assert accepted is not None
        with accepted.socket as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert sock.getblocking()


def test_only_allowed_addresses_may_come_in(tcp: Listener) -> None:
    with call(tcp):
        accepted = accept(tcp)

    assert tcp.permits(accepted)
    assert not Listener(tcp.socket, tcp.endpoint, AllowList([parse_network("192.0.2.0/24")])).permits(
        accepted
    )


def test_on_a_unix_socket_the_file_s_permissions_decide(unix: Listener) -> None:
    with call(unix):
        assert unix.permits(accept(unix))


def test_an_ipv6_listener_leaves_ipv4_alone() -> None:
    with bind_inet(SocketAddress(socket.AF_INET6, ("::", 0)), 1) as six:
        port = six.getsockname()[1]
        with bind_inet(SocketAddress(socket.AF_INET, ("127.0.0.1", port)), 1):
            pass


def test_an_address_in_use_is_a_matter_of_configuration(tcp: Listener) -> None:
    address = SocketAddress(tcp.socket.family, tcp.socket.getsockname())

    with pytest.raises(ConfigError, match=r"cannot listen on inet:.*: Address already in use"):
        bind_inet(address, 16)


def test_an_inherited_socket_becomes_one_of_ours() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        os.set_inheritable(sock.fileno(), True)
        assert adopt(sock, 5) is sock

        assert not sock.getblocking()
        assert not sock.get_inheritable()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_a_unix_socket_gets_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    before = os.umask(0o077)
    try:
        with bind_unix(str(path), 1, 0o666, ""):
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_a_unix_socket_is_never_wider_than_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with bind_unix(str(path), 1, 0o600, ""):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    bind_unix(path, 1, 0o660, "").close()

    with bind_unix(path, 1, 0o660, ""), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_live_unix_socket_is_refused_and_goes_on(unix: Listener) -> None:
    path = unix.endpoint.path

    with pytest.raises(ConfigError, match="another program listens there"):
        bind_unix(path, 1, 0o660, "")
    call(unix).close()
    accept(unix)


def test_a_live_unix_socket_with_a_full_queue_is_refused_too(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    clients = []
    with bind_unix(path, 0, 0o660, "") as listener:
        while True:
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].setblocking(False)
            if clients[-1].connect_ex(path):
                break
        with pytest.raises(ConfigError, match="another program listens there"):
            bind_unix(path, 1, 0o660, "")
        assert listener.fileno() >= 0
    for client in clients:
        client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to any group")
def test_a_link_put_in_the_place_of_the_socket_does_not_lead_the_group_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("root's own")
    path, real = tmp_path / "socket", os.chown

    def chown(*arguments: Any, **options: Any) -> None:
        path.unlink()
        path.symlink_to(precious)
        real(*arguments, **options)

    monkeypatch.setattr(os, "chown", chown)
    bind_unix(str(path), 1, 0o660, "nogroup").close()

    assert path.lstat().st_gid != 0
    assert precious.stat().st_gid == 0


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "socket"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigError, match="is not a socket"):
        bind_unix(str(path), 1, 0o660, "")
    assert path.is_symlink() or path.exists()


@pytest.mark.parametrize(
    ("name", "group"),
    [("socket", "no-such-group"), ("no/such/directory", "")],
    ids=["unknown group", "missing directory"],
)
def test_a_unix_socket_that_cannot_be_made_is_a_matter_of_configuration(
    tmp_path: Path, name: str, group: str
) -> None:
    with pytest.raises(ConfigError, match="cannot listen on unix:"):
        bind_unix(str(tmp_path / name), 1, 0o660, group)
