"""The entries of a zip archive, by every header in it that anybody could go by.

An archive has the names of its entries twice: in front of each entry, and all together in a directory at its
end. Programs trust one or the other, look for the directory from the front or from the back, and tolerate
what stands in front of, between and behind. So no structure is followed here. Each signature of a header is
found, wherever it stands, and read as one; what a program could extract has one of them. That also reaches
the entries of archives that are stored without compression within this one, of archives in several parts, and
of those cut off. Method and encryption stand twice as well, and the directory may contradict the header in
front of an entry: whoever looks into an entry chooses how to read it.

Headers are read from the file one at a time, so memory does not grow with their number. Nothing is raised but
OSError; a header that is cut off is passed over.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

STORED = 0
DEFLATED = 8

_BLOCK_BYTES = 65536
_INPUT_BYTES = 16384
_SIGNATURE = re.compile(rb"PK(?:\x01\x02|\x03\x04)")
_NEXT = re.compile(rb"PK[\x01-\x08][\x01-\x08]")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_EXTRA = struct.Struct("<HH")
_UNICODE_PATH = 0x7075  # Info-ZIP: a name in UTF-8 that takes the place of the other one
_METHODS = frozenset({*range(21), 93, 94, 95, 96, 97, 98, 99})
_HIGHEST_VERSION = 63
_IS_ENCRYPTED, _IS_UTF8 = 1, 1 << 11


@dataclass(frozen=True, slots=True)
class Entry:
    """One header: the names it gives, and for one in front of an entry where the data is, else None."""

    names: tuple[str, ...]
    method: int
    is_encrypted: bool
    data_at: int | None
    at: int = 0  # where the header is
    header_bytes: int = 0  # how long it is

    @property
    def is_readable(self) -> bool:
        """Its data is packed in a way that is known here."""
        return self.method in (STORED, DEFLATED)


def entries(file: IO[bytes]) -> Iterator[Entry]:
    """Every entry of every header. Raises OSError."""
    for at in _signatures(file):
        entry = _entry(file, at)
        if entry is not None:
            yield entry


class Unpacking:
    """What an entry holds, in pieces no larger than `piece_bytes`, up to where it ends or is broken.

    `method` is how it is read, whatever its header says. As one that is stored it is what follows, to the end
    of the file: that may be more than it holds. `end_at` is how far it has been read. Raises OSError.
    """

    def __init__(self, file: IO[bytes], entry: Entry, method: int, piece_bytes: int = _BLOCK_BYTES) -> None:
        self._file = file
        self._method = method
        self._piece_bytes = piece_bytes
        self._is_there = entry.data_at is not None
        self.end_at = entry.data_at or 0

    def __iter__(self) -> Iterator[bytes]:
        if not self._is_there:
            return
        if self._method == STORED:
            yield from self._read_on(self._piece_bytes)
        elif self._method == DEFLATED:
            yield from self._inflate()

    def _inflate(self) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        for data in self._read_on(_INPUT_BYTES):
            rest = data
            while rest and not inflater.eof:
                try:
                    piece = inflater.decompress(rest, self._piece_bytes)
                except zlib.error:  # broken from here on; what came before may still be of use to somebody
                    return
                rest = inflater.unconsumed_tail
                if piece:
                    yield piece
            if inflater.eof:
                self.end_at -= len(inflater.unused_data)
                return

    def _read_on(self, size: int) -> Iterator[bytes]:
        while block := _read_at(self._file, self.end_at, size):
            self.end_at += len(block)
            yield block


def _signatures(file: IO[bytes]) -> Iterator[int]:
    """Where they stand; the file may be read elsewhere in between."""
    at, tail = 0, b""
    while block := _read_at(file, at, _BLOCK_BYTES):
        start = at - len(tail)
        window = tail + block
        for match in _SIGNATURE.finditer(window):
            yield start + match.start()
        at += len(block)
        tail = window[-3:]  # shorter than a signature: none is found twice


def _entry(file: IO[bytes], at: int) -> Entry | None:
    head = _read_at(file, at, _CENTRAL.size)
    is_local = head.startswith(b"PK\x03\x04")
    form = _LOCAL if is_local else _CENTRAL
    if len(head) < form.size:
        return None
    version, flags, method = struct.unpack_from("<HHH", head, 4 if is_local else 6)
    name_bytes, extra_bytes = struct.unpack_from("<HH", head, 26 if is_local else 28)
    names_at = at + form.size
    raw = _read_at(file, names_at, name_bytes + extra_bytes)
    name, extra = raw[:name_bytes], raw[name_bytes:]
    names = tuple(
        dict.fromkeys([*_readings(name, flags), *_cut_readings(name, flags), *_unicode_paths(extra)])
    )
    is_plausible = version & 0xFF <= _HIGHEST_VERSION and method in _METHODS and len(name) == name_bytes > 0
    is_encrypted = bool(flags & _IS_ENCRYPTED) and is_plausible  # four bytes may also be there by chance
    return Entry(
        names,
        method,
        is_encrypted,
        names_at + name_bytes + extra_bytes if is_local else None,
        at,
        form.size + len(raw),
    )


def _readings(name: bytes, flags: int) -> Iterator[str]:
    try:
        yield name.decode("utf-8")
    except ValueError:
        yield name.decode("cp437")
    else:
        if not name.isascii() and not flags & _IS_UTF8:
            yield name.decode("cp437")


def _cut_readings(name: bytes, flags: int) -> Iterator[str]:
    """A length that reaches into the next header: some readers take a name to end with the directory."""
    match = _NEXT.search(name)
    if match and match.start():
        yield from _readings(name[: match.start()], flags)


def _unicode_paths(extra: bytes) -> Iterator[str]:
    at = 0
    while at + _EXTRA.size <= len(extra):
        kind, size = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if kind == _UNICODE_PATH and size > 5:
            yield extra[at + 5 : at + size].decode("utf-8", "replace")
        at += size


def _read_at(file: IO[bytes], at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)
