"""FakeHttpServer: takes connections on loopback, hears each request out, and says what a test wants said."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

from bqfilter.net.address import SocketAddress

GIVE_UP = 20.0  # seconds after which a peer that waits for something ends, and the test with it

Action = Callable[[socket.socket, threading.Event], None]


class FakeHttpServer:
    """`requests` are those that came, whole; `action` speaks, until its event says that the test is over."""

    def __init__(self, listener: socket.socket, action: Action, hears: bool) -> None:
        self.address = SocketAddress(listener.family, listener.getsockname())
        self.requests: list[bytes] = []
        self._listener = listener
        self._action = action
        self._hears = hears
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(GIVE_UP * 2)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # shut down: the test is over
            while True:
                self._answer(self._listener.accept()[0])

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(GIVE_UP)
        with connection, contextlib.suppress(OSError):  # a client may hang up as it likes
            if self._hears:
                self.requests.append(whole_request(connection))
            self._action(connection, self._over)


@contextlib.contextmanager
def http_server(action: Action, hears: bool = True) -> Iterator[FakeHttpServer]:
    """One on a port of its own; with `hears` it hears a request before it acts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = FakeHttpServer(listener, action, hears)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def saying(*pieces: bytes) -> Action:
    """Sends these and closes."""

    def act(connection: socket.socket, _over: threading.Event) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return act


def answering(body: bytes, status: str = "200 OK", *headers: str) -> Action:
    """A response with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return saying("\r\n".join(lines).encode() + body)


def trickling(data: bytes, first: bytes = b"") -> Action:
    """One byte of `data` every few milliseconds, over and over, for much longer than any test waits."""

    def act(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        for at in range(int(GIVE_UP / 0.02)):
            if over.wait(0.02):
                return
            connection.sendall(data[at % len(data) :][:1])

    return act


def silent(_connection: socket.socket, over: threading.Event) -> None:
    """Says nothing."""
    over.wait(GIVE_UP)


def whole_request(connection: socket.socket) -> bytes:
    """Head and as many bytes of body as it announces."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    announced = re.search(rb"(?im)^content-length: (\d+)", head)
    while announced and len(body) < int(announced[1]):
        body += _more(connection)
    return head + b"\r\n\r\n" + body


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise OSError("client closed")
    return data
