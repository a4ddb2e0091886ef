"""Dovecot's authentication socket with one user, as `smtpd_sasl_type = dovecot` asks it: PLAIN alone."""

import base64
import contextlib
import os
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

USER, PASSWORD = "ann@box.example", "open sesame"

_GREETING = (
    *("VERSION\t1\t1", "MECH\tPLAIN\tplaintext", f"SPID\t{os.getpid()}", "CUID\t1"),
    *("COOKIE\t00000000000000000000000000000000", "DONE"),
)


@contextlib.contextmanager
def authenticating(path: Path) -> Iterator[None]:
    """Until the end of the block."""
    with socketserver.ThreadingUnixStreamServer(str(path), _Handler) as server:
        server.daemon_threads = True
        path.chmod(0o666)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write("".join(f"{line}\n" for line in _GREETING).encode())
        for line in self.rfile:
            command, *words = line.decode().rstrip("\n").split("\t")
            if command == "AUTH":
                self.wfile.write(f"{_verdict(*words)}\n".encode())


def _verdict(number: str, _mechanism: str, *parameters: str) -> str:
    response = next((one.removeprefix("resp=") for one in parameters if one.startswith("resp=")), "")
    _, user, password = base64.b64decode(response).decode().split("\0")
    is_known = (user, password) == (USER, PASSWORD)
    return f"OK\t{number}\tuser={user}" if is_known else f"FAIL\t{number}\tuser={user}"
