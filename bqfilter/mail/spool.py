"""Spool: the bytes of one message, from the first to the last; in memory first, past a limit in a file.

The bytes are kept as they came over the wire, dot-stuffed and with the final ".CRLF", because that is the
form in which a clean message leaves again. The file has no name, so nothing is left behind by a crash.

A spool that cannot take more bytes does not raise: it remembers why, lets go of what it had, and swallows the
rest. The client must be heard out to its end of data before it can be told anything.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import IO

from bqfilter.mail.nameless import open_nameless
from bqfilter.smtp.body import DOT

_CHUNK_BYTES = 65536
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Spool:
    """One message. `directory` is where a file goes; `memory` and `limit` are bytes, limit 0 for none."""

    __slots__ = (
        "_directory",
        "_file",
        "_limit",
        "_memory",
        "_parts",
        "failure",
        "is_clean",
        "is_too_big",
        "wire_bytes",
    )

    def __init__(self, directory: str, memory: int, limit: int) -> None:
        self._directory = directory
        self._memory = memory
        self._limit = limit
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.failure: OSError | None = None
        self.is_too_big = False
        self.is_clean = False  # the wire form has no stray CR or LF and may leave as it is
        self.wire_bytes = 0

    @property
    def content_bytes(self) -> int:
        """Size of the content on the wire, without the final dot."""
        return self.wire_bytes - len(DOT)

    @property
    def has_no_room(self) -> bool:
        """The failure, if there is one, is a full disk or quota."""
        return self.failure is not None and self.failure.errno in _FULL

    def append(self, data: bytes | memoryview) -> None:
        """Keep more bytes of the wire form; never raises (see `failure` and `is_too_big`)."""
        self.wire_bytes += len(data)
        if self._limit and self.wire_bytes > self._limit + len(DOT):
            self.is_too_big = True
            self.close()
        if self.is_too_big or self.failure is not None:
            return
        try:
            self._keep(data)
        except OSError as error:
            self._fail(error)
        except MemoryError:
            self._fail(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))

    def head(self, limit: int) -> bytes:
        """The first bytes, at most `limit` of them; none where they cannot be read (see `failure`)."""
        if self._file is None:
            return b"".join(self._parts)[:limit]
        try:
            self._file.seek(0)
            return self._file.read(min(limit, self.content_bytes))
        except OSError as error:
            self._fail(error)
            return b""

    def wire(self) -> bytes | None:
        """The whole wire form with its final dot if it lies in memory, else None."""
        return None if self._file is not None else b"".join(self._parts)

    def fileno(self) -> int:
        """The descriptor of the file that holds the wire form; only where `wire` is None."""
        assert self._file is not None, "the message is in memory"  # noqa: S101
        return self._file.fileno()

    def content(self) -> Iterator[bytes]:
        """The wire form without its final dot, in pieces. Raises OSError where it cannot be read back.

        Each reader has a place of its own: a site's filter may look at a message twice at the same time.
        """
        if self._file is None:
            yield b"".join(self._parts)[: self.content_bytes]
            return
        size, at = self.content_bytes, 0
        while at < size and (piece := os.pread(self._file.fileno(), min(size - at, _CHUNK_BYTES), at)):
            at += len(piece)
            yield piece
        if at < size:  # half a message must not look like a whole one
            raise OSError(errno.EIO, "spool file is shorter than what was written to it")

    def close(self) -> None:
        """Let go of everything."""
        self._parts = []
        if self._file is not None:
            with contextlib.suppress(OSError):  # an unbuffered file without a name: nothing can be lost here
                self._file.close()
            self._file = None

    def _fail(self, error: OSError) -> None:
        self.failure = error
        self.close()

    def _keep(self, data: bytes | memoryview) -> None:
        if self._file is None and self.wire_bytes <= self._memory:
            self._parts.append(bytes(data))
        else:
            self._write(data)

    def _write(self, data: bytes | memoryview) -> None:
        if self._file is None:
            self._file = open_nameless(self._directory)
            parts, self._parts = self._parts, []
            for part in parts:
                self._write_fully(part)
        self._write_fully(data)

    def _write_fully(self, data: bytes | memoryview) -> None:
        assert self._file is not None  # noqa: S101
        while data:
            data = data[self._file.write(data) :]
