"""A clamd that finds nothing, takes a while over it, and can be told to misbehave.

It speaks INSTREAM as far as bqfilterd uses it, with a thread for each connection, and remembers nothing.
"""

import contextlib
import random
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Mode = Literal["well", "fails", "hangs"]

_LONGEST_SCAN = 0.03  # seconds
_HANG = 0.5  # seconds between two looks at whether to hang on


class SlowScanner(socketserver.ThreadingUnixStreamServer):
    """Answers "OK" while its `mode` is "well"; otherwise it hangs up, or is silent."""

    daemon_threads = True
    request_queue_size = 256
    mode: Mode = "well"


class _Scan(socketserver.StreamRequestHandler):
    server: SlowScanner

    def handle(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._expect(len(b"zINSTREAM\0"))
            while length := struct.unpack("!I", self._expect(4))[0]:
                self._expect(length)
            time.sleep(random.uniform(0.0, _LONGEST_SCAN))
            if self.server.mode == "fails":
                return
            while self.server.mode == "hangs":
                time.sleep(_HANG)
            self.wfile.write(b"stream: OK\0")

    def _expect(self, count: int) -> bytes:
        data = self.rfile.read(count)
        if len(data) < count:
            raise EOFError
        return data


@contextlib.contextmanager
def slow_scanner(path: Path) -> Iterator[SlowScanner]:
    """At a unix socket that everybody may use."""
    with SlowScanner(str(path), _Scan) as server:
        path.chmod(0o666)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.mode = "well"
            server.shutdown()
            thread.join()
