"""A server whose visitors get a thread each and little time: on a socket that listens already, few at once.

A request may take five seconds and no longer, however often a byte comes, and there are only so many at a
time; further ones are turned away. What goes wrong with one is its own affair: whoever hung up, or was cut
off, will come again.
"""

import contextlib
import socket
import socketserver
import time
from typing import Any

REQUEST_TIMEOUT = 5.0  # seconds for a request and its answer
_MAX_REQUESTS = 8
_OUT_OF_RESOURCES_PAUSE = 0.5  # seconds; the visitor stays in the queue, and would wake us at once again


class BriefServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """`sock` listens; what a `handler` does is the business of whoever makes the server."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, sock: socket.socket, handler: Any) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self._until: dict[socket.socket, float] = {}  # open requests and when they must be over

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            sock, address = self.socket.accept()
        except BlockingIOError:  # it has gone meanwhile
            raise
        except OSError:
            time.sleep(_OUT_OF_RESOURCES_PAUSE)
            raise
        return sock, address or ("unix", 0)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        return len(self._until) < _MAX_REQUESTS

    def process_request(self, request: Any, client_address: Any) -> None:
        self._until[request] = time.monotonic() + REQUEST_TIMEOUT
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self._until.pop(request, None)
        super().close_request(request)

    def service_actions(self) -> None:
        """Twice a second: whoever sends or reads too slowly is cut off."""
        for request, until in list(self._until.items()):
            if time.monotonic() > until:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nobody is told."""
