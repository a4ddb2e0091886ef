"""A milter that adds a field to each message, as one that signs does, and knows whom it was asked about.

The protocol of Sendmail's libmilter, as far as Postfix speaks it to a milter that wants to hear everything.
"""

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator

ADDED = b"X-Signed: by the milter"

_VERSION, _ADDS_FIELDS = 6, 1
_SILENT = b"DA"  # macros and abort are not answered


class Signer:
    """`clients` are the addresses of those whose connections it was told of, in order."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[str] = []


@contextlib.contextmanager
def signing() -> Iterator[Signer]:
    """One on a port of 127.0.0.1 until the end of the block."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while packet := _read(self.request):
                command, data = packet[:1], packet[1:]
                if command == b"Q":
                    return
                if command == b"C":
                    signer.clients.append(data.rstrip(b"\0").rpartition(b"\0")[2][3:].decode())
                for answer in _answers(command):
                    self.request.sendall(struct.pack("!I", len(answer)) + answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        signer = Signer(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield signer
        finally:
            server.shutdown()
            thread.join()


def _answers(command: bytes) -> Iterator[bytes]:
    if command == b"O":
        yield b"O" + struct.pack("!III", _VERSION, _ADDS_FIELDS, 0)
    elif command not in _SILENT:
        if command == b"E":
            name, _, value = ADDED.partition(b": ")
            yield b"h%b\0%b\0" % (name, value)
        yield b"c"


def _read(sock: socket.socket) -> bytes:
    """A packet without its length; empty at the end."""
    with sock.makefile("rb", buffering=0) as file:
        head = file.read(4)
        if not head or len(head) < 4:
            return b""
        (length,) = struct.unpack("!I", head)
        packet = b""
        while len(packet) < length:
            packet += file.read(length - len(packet)) or b""
        return packet
