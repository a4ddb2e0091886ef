"""A page by HTTP: whole or not at all, with a password that goes nowhere else."""

import base64
import socket
import threading

import pytest

from bqfilter.saturation import fetching
from bqfilter.saturation.fetching import fetch, without_password
from tests.doubles.http_server import Action, http_server


def says(answer: bytes) -> Action:
    def speak(connection: socket.socket, _over: threading.Event) -> None:
        connection.sendall(answer)

    return speak


def page(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def test_status_and_content() -> None:
    with http_server(says(page(b"hello", "404 Not Found"))) as server:
        assert fetch(f"http://127.0.0.1:{server.address.sockaddr[1]}/a/b?c=d") == (404, b"hello")
    (request,) = server.requests
    assert request.startswith(b"GET /a/b?c=d HTTP/1.1\r\n")
    assert b"Authorization" not in request


def test_name_and_password_of_the_address_are_sent() -> None:
    with http_server(says(page(b""))) as server:
        fetch(f"http://me:se%20cret@127.0.0.1:{server.address.sockaddr[1]}")
    expected = base64.b64encode(b"me:se cret")
    assert b"\r\nAuthorization: Basic " + expected + b"\r\n" in server.requests[0]


def test_a_redirection_is_not_followed() -> None:
    answer = page(b"", "302 Found", "Location: http://127.0.0.1:1/")
    with http_server(says(answer)) as server:
        assert fetch(f"http://me:pw@127.0.0.1:{server.address.sockaddr[1]}/")[0] == 302
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer", [pytest.param(b"SSH-2.0\r\n", id="no HTTP"), pytest.param(page(b"abc")[:-1], id="cut off")]
)
def test_what_is_no_answer_is_an_error(answer: bytes) -> None:
    with http_server(says(answer)) as server, pytest.raises(ValueError, match="no answer in HTTP"):
        fetch(f"http://127.0.0.1:{server.address.sockaddr[1]}/")


def test_a_flood_is_left_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MOST_BYTES", 1000)
    with http_server(says(page(b"x" * 1001))) as server, pytest.raises(ValueError, match="more than"):
        fetch(f"http://127.0.0.1:{server.address.sockaddr[1]}/")


def test_nobody_there_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        fetch(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "http://host:port/", "http://host/a b\r\nc"])
def test_what_is_no_address_is_an_error(url: str) -> None:
    with pytest.raises((ValueError, OSError)):
        fetch(url)


def test_a_password_is_not_shown() -> None:
    assert without_password("https://me:pw@host:9090/p?q=1") == "https://host:9090/p?q=1"
    assert without_password("http://host/") == "http://host/"
