"""Edits of a body in place: what nobody asked to be changed stays byte for byte as it came.

A splice puts text in the place of some bytes. It counts them in the body as it stands or, where it is of the
text of a part that is encoded for transfer, in the data of that part, decoded: the part is decoded then,
edited, and encoded again as it was, and everything around it stays. Splices of several authors are carried
out together, because all of them mean the body as it came.

Nothing is kept but the text of a splice and what it takes the place of; the time grows with the body. What
the text may be is not looked at: whoever makes a splice sees to it that it ends no line that it should not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from bqfilter.mail.transfer import decoder
from bqfilter.mail.transfer_encoding import encoder

AS_IT_STANDS = -1
"""The part of a splice that is of no encoded part."""

_PEEK_BYTES = 2  # of a line end


@dataclass(frozen=True, slots=True)
class EncodedPart:
    """The data of a part, from `start` up to `end` in the body."""

    start: int
    end: int
    encoding: str


@dataclass(frozen=True, slots=True)
class Splice:
    """`text` takes the place of `size` bytes at `at`, or goes in there where that is 0.

    `part` is where the data of the part begins whose decoded data is meant. With `takes_end` a line end that
    follows goes as well.
    """

    at: int
    size: int
    text: bytes
    takes_end: bool = False
    part: int = AS_IT_STANDS

    @property
    def order(self) -> tuple[int, int]:
        """Where it comes in the body."""
        return (self.at, AS_IT_STANDS) if self.part == AS_IT_STANDS else (self.part, self.at)


Pair = tuple[bytes, bytes]
"""What stood there, and what does now."""

_InPart = Callable[[Iterator[Pair], EncodedPart], Iterator[Pair]]


def edited_body(
    body: Iterable[bytes], splices: Iterable[Splice], parts: Mapping[int, EncodedPart]
) -> Iterator[bytes]:
    """The body with all splices, which come in their order, carried out; `parts` are known by their start.

    Of several in one place all that goes in goes in, in front. Of several that take its bytes away the last
    counts, except that what was removed stays removed. One that reaches into what is edited is left out.
    """
    return (new for _, new in _carried_out(body, splices, parts, _encoded) if new)


def changed_text(
    body: Iterable[bytes], splices: Iterable[Splice], parts: Mapping[int, EncodedPart]
) -> Iterator[Pair]:
    """The same, as what goes and what comes instead: decoded in parts that are encoded."""
    return ((old, new) for old, new in _carried_out(body, splices, parts, _decoded) if old != new)


def _carried_out(
    body: Iterable[bytes],
    splices: Iterable[Splice],
    parts: Mapping[int, EncodedPart],
    in_part: _InPart,
) -> Iterator[Pair]:
    cursor = _Cursor(body)
    for start, run in groupby(splices, key=lambda splice: splice.part):
        if start == AS_IT_STANDS:
            yield from _spliced(cursor, run)
            continue
        part = parts.get(start)
        if part is not None and cursor.at <= part.start:
            yield from _unchanged(cursor.upto(part.start))
            yield from in_part(_within(cursor, part, run), part)
    yield from _unchanged(cursor.rest())


def _within(cursor: "_Cursor", part: EncodedPart, run: Iterator[Splice]) -> Iterator[Pair]:
    """The decoded data of a part, as it was and as it is."""
    inner = _Cursor(_transfer_decoded(cursor.upto(part.end), part.encoding))
    yield from _spliced(inner, run)
    yield from _unchanged(inner.rest())


def _transfer_decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    transfer = decoder(encoding)
    yield from map(transfer.feed, pieces)
    yield transfer.finish()


def _encoded(pairs: Iterator[Pair], part: EncodedPart) -> Iterator[Pair]:
    transfer = encoder(part.encoding)
    for _, new in pairs:
        yield b"", transfer.feed(new)
    yield b"", transfer.finish()


def _decoded(pairs: Iterator[Pair], _part: EncodedPart) -> Iterator[Pair]:
    return pairs


def _unchanged(pieces: Iterator[bytes]) -> Iterator[Pair]:
    return ((piece, piece) for piece in pieces)


def _spliced(cursor: "_Cursor", splices: Iterator[Splice]) -> Iterator[Pair]:
    """Up to the last splice, that included."""
    for at, here in groupby(splices, key=lambda splice: splice.at):
        if at < cursor.at:
            continue
        yield from _unchanged(cursor.upto(at))
        takes: Splice | None = None
        for splice in here:
            if not splice.size:
                yield b"", splice.text
            elif takes is None or takes.text or splice.takes_end:
                takes = splice
        if takes is not None:
            old = b"".join(cursor.upto(at + takes.size))
            yield old + (cursor.line_end() if takes.takes_end else b""), takes.text


class _Cursor:
    """A place in bytes that come in pieces."""

    __slots__ = ("_held", "_pieces", "_taken", "at")

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""
        self._taken = 0  # of what is held
        self.at = 0

    def upto(self, end: int) -> Iterator[bytes]:
        """What comes before `end`, as far as there is anything."""
        while self.at < end and (held := self._fill(1)):
            yield self._take(min(held, end - self.at))

    def rest(self) -> Iterator[bytes]:
        """All that is left."""
        while held := self._fill(1):
            yield self._take(held)

    def line_end(self) -> bytes:
        """The line end that is next, if there is one."""
        self._fill(_PEEK_BYTES)
        if self._held.startswith(b"\r\n", self._taken):
            return self._take(2)
        return self._take(1) if self._held.startswith(b"\n", self._taken) else b""

    def _take(self, count: int) -> bytes:
        begin = self._taken
        self._taken += count
        self.at += count
        return self._held[begin : self._taken]

    def _fill(self, count: int) -> int:
        """Have `count` bytes at hand, as far as there are; gives how many there are."""
        while len(self._held) - self._taken < count and (piece := next(self._pieces, None)) is not None:
            self._held, self._taken = self._held[self._taken :] + piece, 0
        return len(self._held) - self._taken
