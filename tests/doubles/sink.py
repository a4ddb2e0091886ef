"""An after-filter server in the test's own process: a thread for each connection, on a free loopback port.

It takes every message and remembers it. At any phase it can be told to refuse, to hang up, or to hold: then
it is silent until the test lets it go on, and the test can wait until it is there, so that nothing sleeps.
The phases are the commands' own words, GREETING for the 220, CONTENT for the first bytes behind 354, and "."
for the reply to the end of data. Nothing is checked of what the filter sends: it is there to be looked at.
"""

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from tests.doubles.programs import eventually

_CAPABILITIES = (
    b"PIPELINING",
    b"SIZE 10240000",
    b"8BITMIME",
    b"XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
)
_HOLD_LIMIT = 60.0  # seconds after which a forgotten hold ends by itself


@dataclass(slots=True)
class Message:
    """One message: its command lines as they came, and its content without the dots and the final one."""

    xforward: list[bytes] = field(default_factory=list)
    sender: bytes = b""
    recipients: list[bytes] = field(default_factory=list)
    content: bytes = b""


@dataclass(slots=True)
class _Gate:
    """A phase that is held, and who has arrived there."""

    opened: threading.Event = field(default_factory=threading.Event)
    arrived: list[threading.Thread] = field(default_factory=list)


class Sink(socketserver.ThreadingTCPServer):
    """The server; a context manager. `messages` holds what reached its end of data and was not refused."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, capabilities: tuple[bytes, ...] = _CAPABILITIES, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Conversation)
        self.capabilities = capabilities
        self.messages: list[Message] = []
        self.connection_count = 0
        self.refusals: dict[str, bytes] = {}
        self.hang_ups: set[str] = set()
        self.gates: dict[str, _Gate] = {}
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for gate in self.gates.values():
            gate.opened.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._open):
            _shut(connection)
        eventually(lambda: not self._open, "every conversation of the sink has ended")

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"inet:127.0.0.1:{self.port}"

    def refuse(self, phase: str, reply: bytes) -> None:
        """Answer this from now on instead of going along."""
        self.refusals[phase] = reply

    def hang_up(self, phase: str) -> None:
        """Close the connection at this point from now on, instead of answering."""
        self.hang_ups.add(phase)

    @contextmanager
    def held(self, phase: str) -> Iterator[_Gate]:
        """Be silent at this phase until the block ends."""
        gate = self.gates[phase] = _Gate()
        try:
            yield gate
        finally:
            del self.gates[phase]
            gate.opened.set()

    def wait_until_held(self, phase: str, count: int = 1) -> None:
        """Return when `count` conversations stand at a phase that is held."""
        gate = self.gates[phase]
        eventually(lambda: len(gate.arrived) >= count, f"{count} conversations at {phase}")

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        self.connection_count += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        _shut(request)
        request.close()
        self._open.discard(request)

    def handle_error(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        """A filter that hangs up is part of many tests; what matters is looked at by the test."""


class _HungUp(Exception):
    """The conversation is over, by us or by the filter."""


class _Conversation(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: Sink

    def handle(self) -> None:
        self._message = Message()
        try:
            self._answer("GREETING", b"220 sink.example ESMTP")
            while True:
                self._obey(self._line())
        except _HungUp:
            return

    def _obey(self, line: bytes) -> None:
        verb = line.split(b" ")[0].decode("ascii", "replace").upper()
        replies = {
            "EHLO": _multiline(b"sink.example", *self.server.capabilities),
            "DATA": b"354 go on",
            "QUIT": b"221 2.0.0 Bye",
        }
        if self._answer(verb, replies.get(verb, b"250 2.0.0 Ok")):
            self._note(verb, line)

    def _note(self, verb: str, line: bytes) -> None:
        match verb:
            case "XFORWARD":
                self._message.xforward.append(line)
            case "MAIL":
                self._message.sender = line
            case "RCPT":
                self._message.recipients.append(line)
            case "DATA":
                self._take_content()
            case "QUIT":
                raise _HungUp
            case "RSET":
                self._message = Message()

    def _take_content(self) -> None:
        self._meet("CONTENT")
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                raise _HungUp
            lines.append(re.sub(rb"^\.", b"", line))
        message, self._message = self._message, Message()
        message.content = b"".join(lines)
        if "." not in self.server.refusals:
            self.server.messages.append(message)
        self._answer(".", b"250 2.0.0 Ok: queued as %X" % (1000 + len(self.server.messages)))

    def _answer(self, phase: str, reply: bytes) -> bool:
        """True unless the phase is to be refused."""
        self._meet(phase)
        refusal = self.server.refusals.get(phase)
        self.wfile.write((refusal or reply) + b"\r\n")
        return refusal is None

    def _meet(self, phase: str) -> None:
        gate = self.server.gates.get(phase)
        if gate is not None:
            gate.arrived.append(threading.current_thread())
            gate.opened.wait(_HOLD_LIMIT)
        if phase in self.server.hang_ups:
            raise _HungUp

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line:
            raise _HungUp
        return line.rstrip(b"\r\n")


def _multiline(*lines: bytes) -> bytes:
    return b"\r\n".join([*(b"250-" + line for line in lines[:-1]), b"250 " + lines[-1]])


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster
