"""An after-filter server in the test's own process: a thread for each connection, on a free loopback port.

It takes every message and remembers it. At any phase it can be told to refuse, to hang up, or to hold: then
it is silent until the test lets it go on, and the test can wait until it is there, so that nothing sleeps.
What else can be done instead of answering is a `Behaviour`, given to `behave`. The phases are the commands'
own words, GREETING for the 220, CONTENT for the first bytes behind 354, and "." for the reply to the end of
data. Nothing is checked of what the filter sends: it is there to be looked at.
"""

import re
import select
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn, Self

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
    ended_at: float = 0.0  # on the clock of time.monotonic: when its final dot had come


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
        super().__init__(("127.0.0.1", port), Conversation)
        self.capabilities = capabilities
        self.messages: list[Message] = []
        self.heard: list[str] = []  # phases at which something came: commands, CONTENT, and "." for its end
        self.connection_count = 0
        self.refusals: dict[str, bytes] = {}
        self.hang_ups: set[str] = set()
        self.behaviours: dict[str, Behaviour] = {}
        self.cue = threading.Event()  # what a behaviour may wait for
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

    def usual(self, phase: str) -> bytes:
        """What is answered at this phase where all goes well."""
        replies = {
            "GREETING": b"220 sink.example ESMTP",
            "EHLO": _multiline(b"sink.example", *self.capabilities),
            "DATA": b"354 go on",
            ".": b"250 2.0.0 Ok: queued as %X" % (1000 + len(self.messages)),
            "QUIT": b"221 2.0.0 Bye",
        }
        return replies.get(phase, b"250 2.0.0 Ok")

    def wait_until_quiet(self, most: int = 0) -> None:
        """Return when no more than so many connections are open; what came on the others has been read."""
        eventually(lambda: len(self._open) <= most, f"no more than {most} connections")

    def behave(self, phase: str, behaviour: "Behaviour") -> None:
        """Do this from now on instead of answering."""
        self.behaviours[phase] = behaviour

    def behave_well(self) -> None:
        """Forget all that was said about behaving otherwise."""
        self.behaviours = {}

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


class HungUp(Exception):
    """The conversation is over, by us or by the filter."""


class Conversation(socketserver.StreamRequestHandler):
    """One connection; what is public is for behaviours."""

    disable_nagle_algorithm = True
    server: Sink

    def say(self, data: bytes) -> None:
        self.wfile.write(data)

    def hang_up(self, *, with_reset: bool = False) -> NoReturn:
        """Close the connection, in good order or with RST."""
        if with_reset:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.wfile.close()
            self.request.close()  # at once: behind a shutdown it would be a close in good order
        raise HungUp

    def has_been_left(self) -> bool:
        """The filter has closed its side, even if bytes of it are still to be read."""
        return self.wait_until_left(0)

    def wait_until_left(self, seconds: float = _HOLD_LIMIT) -> bool:
        """Read nothing until the filter has left, or for so long; whether it has."""
        glance = select.poll()
        glance.register(self.request, select.POLLRDHUP)
        return bool(glance.poll(seconds * 1000))

    def await_cue(self) -> bool:
        """Read nothing until the test gives the cue; False where the filter leaves before that."""
        while not self.server.cue.wait(0.01):
            if self.has_been_left():
                return False
        return True

    def read_some(self) -> None:
        """One more byte of the content, which is then lost."""
        if not self.rfile.read(1):
            raise HungUp

    def handle(self) -> None:
        self._message = Message()
        try:
            self._answer("GREETING", self.server.usual("GREETING"))
            while True:
                self._obey(self._line())
        except HungUp:
            return

    def _obey(self, line: bytes) -> None:
        verb = line.split(b" ")[0].decode("ascii", "replace").upper()
        self.server.heard.append(verb)
        if self._answer(verb, self.server.usual(verb)):
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
                raise HungUp
            case "RSET":
                self._message = Message()

    def _take_content(self) -> None:
        self._meet("CONTENT")
        if "CONTENT" in self.server.behaviours:
            self.server.heard.append("CONTENT")
            self.server.behaviours["CONTENT"](self, b"")
        lines: list[bytes] = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                raise HungUp
            if not lines:
                self.server.heard.append("CONTENT")
            lines.append(re.sub(rb"^\.", b"", line))
        message, self._message = self._message, Message()
        message.content = b"".join(lines)
        message.ended_at = time.monotonic()
        self.server.heard.append(".")
        if "." not in self.server.refusals:
            self.server.messages.append(message)
        self._answer(".", self.server.usual("."))

    def _answer(self, phase: str, reply: bytes) -> bool:
        """True unless the phase is to be refused."""
        self._meet(phase)
        refusal = self.server.refusals.get(phase)
        behaviour = self.server.behaviours.get(phase, Conversation.say)
        behaviour(self, (refusal or reply) + b"\r\n")
        return refusal is None

    def _meet(self, phase: str) -> None:
        gate = self.server.gates.get(phase)
        if gate is not None:
            gate.arrived.append(threading.current_thread())
            gate.opened.wait(_HOLD_LIMIT)
        if phase in self.server.hang_ups:
            raise HungUp

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line:
            raise HungUp
        return line.rstrip(b"\r\n")


Behaviour = Callable[[Conversation, bytes], None]
"""What is done with the conversation at one phase, given the reply that was due there."""


def _multiline(*lines: bytes) -> bytes:
    return b"\r\n".join([*(b"250-" + line for line in lines[:-1]), b"250 " + lines[-1]])


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster
