"""Input in pieces, as a network would deliver it: cut anywhere, always in the same way for the same bytes."""

import zlib
from collections.abc import Iterator

_SIZES = (1, 2, 3, 7, 30, 200, 1000, 4000)


def choices(data: bytes, salt: int = 0) -> Iterator[int]:
    """Numbers without end that depend on `data` and `salt` alone; from 0 to 65535."""
    state = zlib.crc32(data, salt)
    while True:
        state = (state * 1103515245 + 12345) & 0xFFFFFFFF
        yield state >> 16


def pieces(data: bytes, salt: int = 0) -> list[bytes]:
    """All of `data`, in pieces of at least one byte."""
    found, at, state = [], 0, zlib.crc32(data, salt)
    while at < len(data):
        state = (state * 1103515245 + 12345) & 0xFFFFFFFF
        size = _SIZES[(state >> 16) % len(_SIZES)]
        found.append(data[at : at + size])
        at += size
    return found
