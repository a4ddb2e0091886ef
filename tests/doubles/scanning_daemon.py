"""A scanning daemon with a script, on a real socket: what clamd, spamd or something broken would say.

Each connection walks through the same steps in a thread of its own and is closed behind the last one. Steps
that would go on for ever end with the test.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bqfilter.net.address import SocketAddress

_JOIN_LIMIT = 60.0
_PAUSE = 0.005  # seconds between two pieces, so that they arrive one by one as a rule; nothing depends on it

_BUFFER_BYTES = 65536  # without a limit the kernel may take tens of MiB for whoever does not read


@dataclass(slots=True)
class Talk:
    """One connection: what has been heard on it so far, and whether the test is over."""

    sock: socket.socket
    over: threading.Event
    heard: bytearray = field(default_factory=bytearray)


Step = Callable[[Talk], None]


def hear(end: bytes) -> Step:
    """Read until all that was heard ends like this."""

    def step(talk: Talk) -> None:
        while not talk.heard.endswith(end):
            data = talk.sock.recv(65536)
            if not data:
                raise ConnectionError("the client has left")
            talk.heard += data

    return step


def hear_all(talk: Talk) -> None:
    """Read until the client has closed its side."""
    while data := talk.sock.recv(65536):
        talk.heard += data


def hear_some(talk: Talk) -> None:
    """Read the beginning, and no more."""
    talk.heard += talk.sock.recv(1000)


def say(*pieces: bytes) -> Step:
    """Send the pieces, one after the other."""

    def step(talk: Talk) -> None:
        for piece in pieces:
            talk.sock.sendall(piece)
            talk.over.wait(_PAUSE if len(pieces) > 1 else 0)

    return step


def trickle(byte: bytes) -> Step:
    """Send this byte again and again, some twenty milliseconds apart."""

    def step(talk: Talk) -> None:
        while not talk.over.wait(0.02):
            talk.sock.sendall(byte)

    return step


def flood(data: bytes) -> Step:
    """Send this again and again, as fast as it is taken."""

    def step(talk: Talk) -> None:
        while not talk.over.is_set():
            talk.sock.sendall(data)

    return step


def hang(talk: Talk) -> None:
    """Do nothing."""
    talk.over.wait(_JOIN_LIMIT)


def reset(talk: Talk) -> None:
    """Close without a farewell (on a unix socket that is a close like any other)."""
    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class ScriptedDaemon:
    """Listens at `address`; `talks` are the connections so far. `steps` are for those to come."""

    def __init__(self, listener: socket.socket, steps: tuple[Step, ...]) -> None:
        self._listener = listener
        self.steps = steps
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.talks: list[Talk] = []
        self.address = SocketAddress(listener.family, listener.getsockname())

    @property
    def heard(self) -> bytes:
        """All that was heard on the last connection."""
        return bytes(self.talks[-1].heard)

    def begin(self) -> None:
        self._start(self._accept)

    def end(self) -> None:
        self._over.set()
        for talk in list(self.talks):
            with contextlib.suppress(OSError):
                talk.sock.shutdown(socket.SHUT_RDWR)
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_JOIN_LIMIT)
            assert not thread.is_alive()
        self._listener.close()

    def _start(self, action: Callable[[], None]) -> None:
        thread = threading.Thread(target=action)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # the test is over
            talk = Talk(sock, self._over)
            self.talks.append(talk)
            self._start(lambda talk=talk: self._converse(talk))  # type: ignore[misc]

    def _converse(self, talk: Talk) -> None:
        with talk.sock, contextlib.suppress(OSError):
            for step in self.steps:
                step(talk)


@contextlib.contextmanager
def scripted_daemon(*steps: Step, path: Path | None = None) -> Iterator[ScriptedDaemon]:
    """At a unix socket where a path is given, else at a free port of loopback."""
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    listener.bind(str(path) if path else ("127.0.0.1", 0))
    listener.listen(20)
    daemon = ScriptedDaemon(listener, steps)
    daemon.begin()
    try:
        yield daemon
    finally:
        daemon.end()
