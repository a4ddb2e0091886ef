"""HTTP client: responses come whole and bounded or not at all, and one deadline holds for everything."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import (
    ConversationLost,
    PeerLost,
    PeerTimeout,
    ProtocolViolation,
    ScannerFailure,
)
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream, connect
from bqfilter.scanning import http
from tests.doubles.clock import FakeClock
from tests.doubles.http_server import (
    GIVE_UP,
    Action,
    FakeHttpServer,
    answering,
    http_server,
    saying,
    silent,
    trickling,
)

CLOCK = time.monotonic
LONG = 60.0  # seconds that nothing here comes near to
SHORT = 0.3  # seconds that are waited for
MAX = 100_000
GET = http.Request(b"GET", b"/ping")
OK = b"HTTP/1.1 200 OK\r\n"


def post(*pieces: bytes, length: int | None = None, headers: http.Headers = ()) -> http.Request:
    size = sum(map(len, pieces)) if length is None else length
    return http.Request(b"POST", b"/check", headers, size, lambda: iter(pieces))


def ask(
    server: FakeHttpServer, request: http.Request = GET, seconds: float = LONG, max_bytes: int = MAX
) -> http.Response:
    deadline = Deadline.after(CLOCK, seconds)
    with contextlib.closing(connect(server.address, CLOCK)) as stream:
        stream.finish_connecting(deadline)
        return http.exchange(request, stream, deadline, max_bytes)


def test_a_request_goes_out_with_its_headers_and_its_body_in_order() -> None:
    request = post(b"one ", b"", b"two", headers=((b"Rcpt", b"<a@x>"), (b"Rcpt", b"<b@x>")))
    with http_server(answering(b"fine")) as server:
        response = ask(server, request)

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /check HTTP/1.1",
        b"Host: localhost",
        b"Connection: close",
        b"Content-Length: 7",
        b"Rcpt: <a@x>",
        b"Rcpt: <b@x>",
    ]
    assert body == b"one two"
    assert (response.status, response.body) == (200, b"fine")


def test_a_large_body_is_read_piece_by_piece_and_never_held_whole() -> None:
    unsent, most = 0, 0

    def body() -> Iterator[bytes]:
        nonlocal unsent, most
        for _ in range(64):
            unsent += 1
            most = max(most, unsent)
            yield b"x" * 65536
            unsent -= 1

    with http_server(answering(b"fine")) as server:
        response = ask(server, http.Request(b"POST", b"/", (), 64 * 65536, body))

    assert response.status == 200
    assert most == 1
    assert server.requests[0].endswith(b"\r\n\r\n" + b"x" * (64 * 65536))


def test_a_response_may_come_in_chunks_and_behind_an_informational_one() -> None:
    chunked = b"Transfer-Encoding: chunked\r\nX-One: 1\r\n\r\n4\r\nfi"
    with http_server(saying(b"HTTP/1.1 100 Continue\r\n\r\n", OK, chunked, b"ne\r\n0\r\n\r\n")) as server:
        response = ask(server)

    assert response.body == b"fine"
    assert response.header(b"x-one") == b"1"
    assert response.header(b"x-two") == b""


def test_the_same_goes_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        server = FakeHttpServer(listener, answering(b"fine"), hears=True)
        server.start()
        try:
            assert ask(server).body == b"fine"
        finally:
            server.stop()


ENDLESS = b"x" * 65536


@pytest.mark.parametrize(
    ("action", "error", "cause"),
    [
        pytest.param(saying(b"\0\1\2 garbage\r\n\r\n"), ProtocolViolation, "not HTTP", id="garbage"),
        pytest.param(saying(b"220 mail.example ESMTP\r\n\r\n"), ProtocolViolation, "not HTTP", id="smtp"),
        pytest.param(
            saying(OK, b"X: ", ENDLESS * 2), ProtocolViolation, "not HTTP", id="endless header line"
        ),
        pytest.param(
            saying(OK, b"X: y\r\n" * 20000),
            ProtocolViolation,
            "not HTTP",
            id="endless header lines",
        ),
        pytest.param(
            saying(OK, b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"),
            ProtocolViolation,
            "not HTTP",
            id="chunk",
        ),
        pytest.param(
            saying(OK, b"Content-Length: -1\r\n\r\n"), ProtocolViolation, "not HTTP", id="negative length"
        ),
        pytest.param(saying(OK, b"Content-Length: 9\r\n\r\nfine"), PeerLost, "closed", id="half a body"),
        pytest.param(
            saying(OK, b"Transfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n"),
            PeerLost,
            "closed",
            id="no last chunk",
        ),
        pytest.param(saying(OK, b"\r\nfine"), PeerLost, "closed", id="body without length"),
        pytest.param(saying(OK), PeerLost, "closed", id="half a head"),
        pytest.param(saying(), PeerLost, "closed", id="nothing"),
    ],
)
def test_what_is_not_a_whole_response_is_a_lost_conversation(
    action: Action, error: type[ConversationLost], cause: str
) -> None:
    with http_server(action) as server, pytest.raises(error, match=cause):
        ask(server)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n"] * 9000, id="informational responses"),
        pytest.param([OK, b"Content-Length: 9999999999\r\n\r\n", *[ENDLESS] * 9], id="body"),
        pytest.param(
            [OK, b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + ENDLESS + b"\r\n"] * 9], id="chunks"
        ),
    ],
)
def test_a_response_that_is_too_large_may_be_a_messages_doing_and_is_no_lost_conversation(
    pieces: list[bytes],
) -> None:
    with http_server(saying(*pieces)) as server, pytest.raises(ScannerFailure, match="too large"):
        ask(server)


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(silent, id="silent"),
        pytest.param(trickling(b"HTTP/1.1 200 OK, very long "), id="trickling its status line"),
        pytest.param(trickling(b"X: y\r\n", OK), id="trickling headers"),
        pytest.param(trickling(b"x", OK + b"Content-Length: 50000\r\n\r\n"), id="trickling its body"),
        pytest.param(
            trickling(b"1\r\nx\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"), id="trickling chunks"
        ),
    ],
)
def test_a_server_that_says_little_or_nothing_does_not_outlive_the_deadline(action: Action) -> None:
    with http_server(action) as server, pytest.raises(PeerTimeout):
        ask(server, seconds=SHORT)


def test_a_server_that_takes_no_data_does_not_outlive_the_deadline() -> None:
    with http_server(silent, hears=False) as server, pytest.raises(PeerTimeout, match="takes no data"):
        ask(server, post(*[ENDLESS] * 200), seconds=SHORT)


def early_answer(status: bytes) -> http.Response:
    """To a request whose body goes on only when the server has answered, and then for some megabytes."""
    answered = threading.Event()

    def answer_and_drain(connection: socket.socket, _over: threading.Event) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 3\r\n\r\nwhy")
        answered.set()
        while connection.recv(65536):
            pass

    def body() -> Iterator[bytes]:
        yield ENDLESS
        assert answered.wait(GIVE_UP)
        yield from [ENDLESS] * 99

    with http_server(answer_and_drain, hears=False) as server:
        return ask(server, http.Request(b"POST", b"/", (), 100 * len(ENDLESS), body))


def test_an_error_that_comes_before_the_end_of_the_request_is_heard() -> None:
    response = early_answer(b"413 Too Large")
    assert (response.status, response.reason, response.body) == (413, b"Too Large", b"why")


def test_a_success_that_comes_before_the_end_of_the_request_is_not_believed() -> None:
    with pytest.raises(ProtocolViolation, match="answered 200 before it had the whole request"):
        early_answer(b"200 OK")


def test_an_answer_that_comes_with_the_last_byte_is_not_taken_for_an_early_one() -> None:
    answered = threading.Event()

    def answer(connection: socket.socket, over: threading.Event) -> None:
        answering(b"fine")(connection, over)
        answered.set()

    def body() -> Iterator[bytes]:
        yield ENDLESS
        assert answered.wait(GIVE_UP)  # all has been said, and nobody has seen yet that it was all

    with http_server(answer) as server:
        assert ask(server, http.Request(b"POST", b"/", (), len(ENDLESS), body)).body == b"fine"


def hangs_up(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(10)


def test_a_server_that_hangs_up_during_the_request_is_lost() -> None:
    with http_server(hangs_up, hears=False) as server, pytest.raises(PeerLost):
        ask(server, post(*[ENDLESS] * 200))


@pytest.mark.parametrize("length", [3, 5], ids=["more than announced", "less than announced"])
def test_a_body_of_another_length_than_announced_is_a_failure_of_ours(length: int) -> None:
    with http_server(answering(b"fine")) as server, pytest.raises(ScannerFailure, match="cannot be sent"):
        ask(server, post(b"four", length=length))


@pytest.mark.parametrize("value", [b"a\r\nPassword: q", b"a\nb", b"a\0b"], ids=["crlf", "lf", "nul"])
def test_a_header_that_would_become_two_is_never_sent(value: bytes) -> None:
    with http_server(answering(b"fine")) as server, pytest.raises(ScannerFailure, match="cannot be sent"):
        ask(server, post(b"x", headers=((b"Helo", value),)))


def test_what_the_spool_cannot_read_back_is_passed_on() -> None:
    def broken() -> Iterator[bytes]:
        raise OSError("Input/output error")
        yield b""

    with http_server(answering(b"fine")) as server, pytest.raises(OSError, match="Input/output"):
        ask(server, http.Request(b"POST", b"/", (), 3, broken))


PARTS = [
    *(OK, b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.0 404 No\r\n", b"\r\n"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: keep-alive\r\n"),
    *(b"3\r\n", b"0\r\n", b"abc", b"X: " + b"y" * 20000),
]


@given(st.lists(st.sampled_from(PARTS) | st.binary(max_size=30), max_size=12))
def test_whatever_a_server_says_is_a_response_or_one_of_our_failures(parts: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"".join(parts))
        theirs.shutdown(socket.SHUT_WR)
        stream = Stream(ours, "peer", FakeClock())
        try:
            response = http.exchange(GET, stream, Deadline.after(FakeClock(), LONG), MAX)
            assert 200 <= response.status < 600
        except (ConversationLost, ScannerFailure):
            pass
        finally:
            stream.close()
