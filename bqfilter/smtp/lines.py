"""LineBuffer: bytes in, lines out; bounded, and it never looks at a byte twice.

A line ends at LF; the one CR before it, if any, belongs to the line end. Nothing else ends a line: no lone
CR, VT, FF or NEL (and so no `splitlines` here). What is left of a stray CR stays in the line for all to see.
"""


class LineTooLong(Exception):
    """A whole line beyond the limit went by; `head` is its beginning."""

    def __init__(self, head: bytes) -> None:
        super().__init__(head)
        self.head = head


class LineBuffer:
    """Bytes that have arrived and have not been read as lines yet.

    `limit` bounds a line without its line end, in bytes. An over-long line is thrown away while it arrives,
    so memory stays within the limit and one read; at its end `next_line` raises `LineTooLong` once.
    """

    __slots__ = ("_data", "_dropped_head", "_limit", "_scanned", "_start")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = b""
        self._start = 0  # where the present line begins
        self._scanned = 0  # up to where it is known to hold no LF
        self._dropped_head: bytes | None = None  # beginning of the over-long line now being thrown away

    def feed(self, data: bytes) -> None:
        """Append what has arrived."""
        if self._start == len(self._data):
            self._data, self._start, self._scanned = data, 0, 0
        else:
            self._scanned -= self._start
            self._data = self._data[self._start :] + data
            self._start = 0

    def next_line(self) -> bytes | None:
        """The next line without its line end, or None: need more bytes. Raises LineTooLong."""
        data, start = self._data, self._start
        if start == len(data):
            return None
        end = data.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(data)
            if len(data) - start > self._limit + 1:
                self._drop(data[start:])
            return None
        self._start = self._scanned = end + 1
        if end > start and data[end - 1] == 0x0D:
            end -= 1
        if self._dropped_head is not None or end - start > self._limit:
            head, self._dropped_head = self._dropped_head or data[start : start + 64], None
            raise LineTooLong(head)
        return data[start:end]

    @property
    def is_empty(self) -> bool:
        """Nothing has arrived that was not read as a line."""
        return self._start == len(self._data) and self._dropped_head is None

    def take_rest(self) -> bytes:
        """Everything not read as lines yet; the buffer is empty afterwards."""
        rest = self._data[self._start :]
        self._data, self._start, self._scanned = b"", 0, 0
        return rest

    def _drop(self, line: bytes) -> None:
        if self._dropped_head is None:
            self._dropped_head = line[:64]
        self._data, self._start, self._scanned = b"", 0, 0
