"""The least that a pre-forked SMTP proxy in Python can do, as a contender.

    python -m benchmarks.lockstep_proxy HOST PORT UPSTREAM_PORT CHILDREN {one|kept}

Each child takes a connection, gives every line of the client to the server behind and every reply back, and
gathers the content first, as a filter must. That is all: no deadline, no log, no metrics, nothing parsed,
checked or promised, and a client that pipelines is not understood. What it costs is what the interpreter and
the kernel cost, so it shows what is left to be won for a filter in this language.

With `kept` a child keeps its connection to the server behind, and answers the greeting, EHLO and QUIT itself.
"""

import os
import signal
import socket
import sys

from benchmarks.programs import BACKLOG

_EHLO_REPLY = b"250-lockstep.example\r\n250 8BITMIME\r\n"


def _serve(listener: socket.socket, upstream: tuple[str, int], is_kept: bool) -> None:
    behind = _connect(upstream, introduced=True) if is_kept else None
    while True:
        client, _ = listener.accept()
        server = behind or _connect(upstream, introduced=False)
        client.sendall(b"220 lockstep.example ESMTP\r\n" if is_kept else server.recv(65536))
        _carry(client, server, answers_itself=is_kept)
        client.close()
        if not is_kept:
            server.close()


def _connect(address: tuple[str, int], *, introduced: bool) -> socket.socket:
    server = socket.create_connection(address)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if introduced:
        server.recv(65536)
        server.sendall(b"EHLO lockstep.example\r\n")
        server.recv(65536)
    return server


def _carry(client: socket.socket, server: socket.socket, *, answers_itself: bool) -> None:
    while said := client.recv(65536):
        verb = said[:4].upper()
        if answers_itself and verb in (b"EHLO", b"HELO"):
            client.sendall(_EHLO_REPLY)
            continue
        if answers_itself and verb == b"QUIT":
            client.sendall(b"221 2.0.0 Bye\r\n")
            return
        server.sendall(said)
        client.sendall(server.recv(65536))
        if verb == b"DATA":
            content = bytearray()
            while not content.endswith(b"\r\n.\r\n"):
                content += client.recv(65536) or sys.exit("client left in its content")
            server.sendall(content)
            client.sendall(server.recv(65536))
        elif verb == b"QUIT":
            return


def _main(host: str, port: int, upstream_port: int, children: int, *, is_kept: bool) -> None:
    listener = socket.create_server((host, port), backlog=BACKLOG)
    for _ in range(children):
        if os.fork() == 0:
            _serve(listener, (host, upstream_port), is_kept)
    signal.pause()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), is_kept=sys.argv[5] == "kept")
