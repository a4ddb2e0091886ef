"""What a filter gives back: a body or a whole message, of a size that nobody knows before.

Kept in memory first, past a limit in a file without a name in the spool directory, so that nothing is left
behind by a crash. It is limited in size: a filter that does not stop writing must not fill the disk.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from bqfilter.errors import ScannerFailure
from bqfilter.mail.nameless import open_nameless

_PIECE_BYTES = 65536
_NO_LIMIT = 1024 * 1024 * 1024  # bytes, where messages have no limit: output has


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where output goes: a file in `directory` past `memory` bytes, no more than `limit`; 0 is any size."""

    directory: str
    memory: int
    limit: int = 0


class Output:
    """The output of one filter about one message; it lets go of its file when nobody holds it any more."""

    __slots__ = ("_file", "_parts", "_workspace", "size")

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.size = 0

    def append(self, data: bytes) -> None:
        """Keep more. Raises ScannerFailure, also for a full disk."""
        self.size += len(data)
        if self.size > (self._workspace.limit or _NO_LIMIT):
            raise ScannerFailure("gave back more than a message may have")
        if self._file is None and self.size <= self._workspace.memory:
            self._parts.append(bytes(data))
            return
        try:
            self._write(data)
        except OSError as error:
            raise ScannerFailure(f"its output cannot be kept: {error.strerror}") from error

    def pieces(self) -> Iterator[bytes]:
        """All of it, from the beginning, as often as somebody asks. Raises OSError."""
        if self._file is None:
            yield from self._parts
            return
        at = 0
        while piece := os.pread(self._file.fileno(), _PIECE_BYTES, at):
            at += len(piece)
            yield piece

    def head(self, limit: int) -> bytes:
        """The first bytes, at most `limit` of them."""
        head = b""
        for piece in self.pieces():
            head += piece
            if len(head) >= limit:
                break
        return head[:limit]

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = open_nameless(self._workspace.directory)
            parts, self._parts = self._parts, []
            for part in parts:
                _write_fully(self._file, part)
        _write_fully(self._file, data)

    def __del__(self) -> None:
        # A report has no end of its own: it is dropped when its message is answered.
        if self._file is not None:
            with contextlib.suppress(OSError):  # unbuffered and without a name: nothing can be lost here
                self._file.close()


def _write_fully(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
