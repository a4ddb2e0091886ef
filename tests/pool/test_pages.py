"""The exporter's server against scrapers that are slow, many or hostile."""

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bqfilter.net.address import SocketAddress
from bqfilter.net.listeners import bind_inet
from bqfilter.pool import brief_server, pages
from bqfilter.saturation.reader import Board
from bqfilter.scoreboard import ExporterWord, MasterWord
from tests.doubles.programs import eventually
from tests.saturation.boards import scoreboard

REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of those who are cut off. Who asks in good order may be cut off, too, on a busy machine."""
    monkeypatch.setattr(brief_server, "REQUEST_TIMEOUT", 0.5)


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """A server in a thread of this process."""
    board = scoreboard()
    board.header.set_seconds(ExporterWord.SAMPLED, time.monotonic() + 3600)
    board.header.set_seconds(MasterWord.HEARTBEAT, time.monotonic())
    sock = bind_inet(SocketAddress(socket.AF_INET, ("127.0.0.1", 0)), 64)
    server = pages._Server(sock, pages.Pages(Board(board.view)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield sock.getsockname()
    server.shutdown()
    thread.join()
    server.server_close()


def ask(address: tuple[str, int], request: bytes = REQUEST) -> bytes:
    with socket.create_connection(address, 10) as sock:
        sock.sendall(request)
        return everything_from(sock)


def everything_from(sock: socket.socket) -> bytes:
    pieces = []
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(4096):
            pieces.append(piece)
    return b"".join(pieces)


def test_a_page_is_served(address: tuple[str, int]) -> None:
    assert ask(address).startswith(b"HTTP/1.0 200 OK")
    assert ask(address).endswith(b"\r\n\r\nhealthy\n")


@pytest.mark.usefixtures("impatience")
def test_a_scraper_that_says_nothing_is_cut_off(address: tuple[str, int]) -> None:
    with socket.create_connection(address, 10) as sock:
        assert everything_from(sock) == b""


@pytest.mark.usefixtures("impatience")
def test_one_that_sends_a_byte_now_and_then_is_cut_off_as_well(address: tuple[str, int]) -> None:
    with socket.create_connection(address, 10) as sock:
        sock.settimeout(0.05)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 20:
                sock.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    if sock.recv(1) == b"":
                        break
        assert time.monotonic() - began < 20


@pytest.mark.usefixtures("impatience")
def test_many_that_say_nothing_do_not_keep_others_out_for_long(address: tuple[str, int]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(address, 10))
        eventually(lambda: ask(address).startswith(b"HTTP/1.0 200 OK"), "an answer")


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\r\n\r\n", id="nothing"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="a TLS hello"),
        pytest.param(b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", id="a long path"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", id="many headers"),
        pytest.param(b"POST /-/ready HTTP/1.1\r\nContent-Length: -1\r\n\r\n", id="a body that cannot be"),
        pytest.param(b"EHLO client.example\r\n", id="SMTP"),
    ],
)
def test_nonsense_does_no_harm(address: tuple[str, int], request_bytes: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        ask(address, request_bytes)
    eventually(lambda: ask(address).startswith(b"HTTP/1.0 200 OK"), "an answer")


def test_without_a_descriptor_for_a_scraper_the_server_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in the queue stays readable: without a pause the server would take a whole CPU."""
    pauses: list[float] = []
    monkeypatch.setattr(pages.time, "sleep", pauses.append)
    with contextlib.closing(bind_inet(SocketAddress(socket.AF_INET, ("127.0.0.1", 0)), 64)) as sock:
        server = pages._Server(sock, pages.Pages(Board(scoreboard().view)))
        with socket.create_connection(sock.getsockname(), 10):
            monkeypatch.setattr(socket.socket, "_accept", no_descriptor)
            server._handle_request_noblock()  # type: ignore[attr-defined]  # of the standard library
    assert pauses == [0.5]


def no_descriptor(_self: socket.socket) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_scraper_that_resets_does_no_harm(address: tuple[str, int]) -> None:
    with socket.create_connection(address, 10) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.sendall(REQUEST)
    assert ask(address).startswith(b"HTTP/1.0 200 OK")
