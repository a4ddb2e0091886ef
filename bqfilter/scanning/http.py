"""HTTP client: one request and its response, over a connection of its own, all of it by one Deadline.

The protocol is h11's, which does no I/O; the bytes go through a Stream. So a server that trickles extends
nothing, which the usual clients let it do: their timeouts begin anew with every read.

What comes back is bounded, head and framing included, and whole: a body that ends with the connection cannot
be told from one cut short, so it is refused. A server may answer before it has heard all of the request, to
say why it will not; such an answer counts only if it is an error.

Raises ConversationLost; and ScannerFailure for what may be a single message's doing: a response that is too
large, or a request that cannot be sent as it was announced. Redirects, encodings, TLS and kept connections
are not for this client, and whom to call is not its business: see `dialling`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import h11

from bqfilter.errors import PeerLost, ProtocolViolation, ScannerFailure
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream

MAX_HEAD_BYTES = 16384  # of a response's status line and header, and of each chunk's head
_PIECE_BYTES = 65536  # small pieces of a body are sent together up to here

Headers = Sequence[tuple[bytes, bytes]]


def _nothing() -> Iterator[bytes]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. `body` begins to read it anew with each call, and has `length` bytes."""

    method: bytes
    target: bytes
    headers: Headers = ()
    length: int = 0
    body: Callable[[], Iterator[bytes]] = _nothing


@dataclass(frozen=True, slots=True)
class Response:
    """What came back, whole; names of `headers` are in lower case."""

    status: int
    reason: bytes
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> bytes:
        """The value of the first header of this name, empty where there is none."""
        return next((value for one, value in self.headers if one == name), b"")


def exchange(request: Request, stream: Stream, deadline: Deadline, max_bytes: int) -> Response:
    """Send the request on a connection that is new; the response has at most `max_bytes`."""
    return _Exchange(stream, deadline, max_bytes).run(request)


class _Exchange:
    """One request and its response over `stream`."""

    def __init__(self, stream: Stream, deadline: Deadline, max_bytes: int) -> None:
        self._stream = stream
        self._deadline = deadline
        self._room = max_bytes
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)

    def run(self, request: Request) -> Response:
        try:
            is_whole = self._send(request)
        except h11.LocalProtocolError as error:  # a body that is not as long as announced, for one
            raise ScannerFailure(f"cannot be sent by HTTP: {error}") from error
        try:
            response = self._receive()
        except h11.RemoteProtocolError as error:
            raise ProtocolViolation(f"not HTTP: {error}") from error
        if not is_whole and response.status < 400:
            raise ProtocolViolation(f"answered {response.status} before it had the whole request")
        return response

    def _send(self, request: Request) -> bool:
        """Whether all of it went out; the server may have answered or closed before that."""
        try:
            for data in self._wire_form(request):
                if self._stream.has_input():
                    return False
                self._stream.write(data, self._deadline)
        except PeerLost:  # its reason may be there to be read, and if not, reading says the same
            return False
        return True

    def _wire_form(self, request: Request) -> Iterator[bytes]:
        framing = [(b"Host", b"localhost"), (b"Connection", b"close")]
        if request.method != b"GET":
            framing.append((b"Content-Length", b"%d" % request.length))
        head = h11.Request(method=request.method, target=request.target, headers=[*framing, *request.headers])
        pending = self._protocol.send(head) or b""
        for piece in request.body():
            pending += self._protocol.send(h11.Data(data=piece)) or b""
            if len(pending) >= _PIECE_BYTES:
                yield pending
                pending = b""
        pending += self._protocol.send(h11.EndOfMessage()) or b""
        if pending:  # with nothing left to send an answer is no early one
            yield pending

    def _receive(self) -> Response:
        head = self._response_head()
        body = bytearray()
        while isinstance(event := self._next_event(), h11.Data):
            body += event.data
        return Response(head.status_code, bytes(head.reason), tuple(head.headers), bytes(body))

    def _response_head(self) -> h11.Response:
        while isinstance(event := self._next_event(), h11.InformationalResponse):
            pass  # 1xx: the real one follows, within the same bounds
        if not isinstance(event, h11.Response):
            raise PeerLost("connection closed")
        return event

    def _next_event(self) -> h11.Event:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            data = self._stream.read(self._deadline)
            self._room -= len(data)
            if self._room < 0:
                raise ScannerFailure("the response is too large")
            self._protocol.receive_data(data)
        if not isinstance(event, h11.Event):
            raise ProtocolViolation("answered out of turn")  # h11.PAUSED
        return event
