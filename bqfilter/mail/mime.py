"""The parts of a message, as a stream of events, in one pass, whatever the message is made of.

A part begins, has data, ends; parts within it begin and end in between. `PartData` belongs to the innermost
part that is open: for a multipart that is what stands before, between and behind its parts. It comes in
pieces that may end anywhere, as it stands in the message (still encoded), and without the line end in front
of a delimiter, which belongs to that (RFC 2046 section 5.1.1).

Time grows with the size of the message and memory does not grow at all: nothing is kept but one header, a
piece and the open parts, and all of them have limits. Where one is passed `Excess` says so, once for each,
and the walk goes on flat: a part that is too deep is not opened, a header that is too long is cut, and after
too many parts or too much header all that follows is data of the part that is open then. Nothing is raised
but the OSError of a spool that cannot be read.

Where readers of mail disagree, the reading that shows more is taken:

* A line that is no field does not end the header of a part: readers skip it, and what follows counts. Others
  let the body begin there. That reading is given first, as a part of its own. (In the header of the message
  itself the body begins there, because Postfix puts an empty line in.)
* All boundaries of a part with several hold. A multipart without any takes that of the first line with two
  hyphens. A boundary holds on behind its closing delimiter, until its multipart ends.
* A line that only begins with a boundary is data. Some readers take it for a delimiter: what looks like a
  header behind it is given besides, as a part without data.
* Within what claims to be quoted-printable, headers are read decoded as well.
* A message or multipart that claims to be base64 is read as if it were not. Where it is, no part is found in
  it and all of it is data of its own, which whoever wants to know can decode.

Data is not decoded here: see `transfer`. Where it stands is told, so that it can be edited in its place; only
of a header that a limit has cut is that not known.
"""

import quopri
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from bqfilter.mail.fields import Header, header_end
from bqfilter.mail.media import TEXT, Boundary, Media, media_of, media_of_readings
from bqfilter.mail.message import Message

_PIECE_BYTES = 65536
_FILL_BYTES = 16384  # smaller pieces are put together, so that what is held is seldom copied
_LINE_BYTES = 4096  # what is looked at of a line that may be a delimiter; boundaries are shorter

# A field with its continuation lines, or else (no group) one line that is none.
_FIELD_OR_LINE = re.compile(rb"([!-9;-~]++[ \t]*+:[^\r]*+\r\n(?:[ \t][^\r]*+\r\n)*+)|[^\n]*+\n|[^\n]++\Z")
_FIELD_START = re.compile(rb"[!-9;-~]{1,200}[ \t]{0,80}:")
_MESSAGE = "message/rfc822"
_BLANKS = b" \t\r\n"

NOWHERE = -1
"""The place of what does not stand in the body just so."""


class Limit(StrEnum):
    """What a message can have too much of."""

    DEPTH = "depth"
    PARTS = "parts"
    HEADER = "header"  # of one part
    HEADERS = "headers"  # of all parts
    READINGS = "readings"  # of one header: names, types, boundaries


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a walk goes. The message itself is at depth 0 and is the first part."""

    depth: int = 20
    parts: int = 1000
    header_bytes: int = 256 * 1024
    total_header_bytes: int = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part with this header begins, `depth` parts around it; its media is what the header says of it.

    The header was made of the lines in `block`, which stand at `at` in the body: NOWHERE for that of the
    message, and for one that a limit has cut. With `is_extra` they are read otherwise as well: what they hold
    comes once more, as another header or as data.
    """

    depth: int
    header: Header
    media: Media
    block: bytes = b""
    at: int = NOWHERE
    is_extra: bool = False

    def field_places(self) -> Iterator[int]:
        """Where in the body each field of the header begins; nothing where that is not known."""
        if self.at == NOWHERE:
            return
        for match in _FIELD_OR_LINE.finditer(self.block):
            if match[1] is not None:
                yield self.at + match.start()

    @property
    def content_type(self) -> str:
        """The first of its types."""
        return self.media.types[0]

    @property
    def encoding(self) -> str:
        """The first of its transfer encodings, in lower case; "7bit" where it has none."""
        return self.media.encodings[0]

    @property
    def charset(self) -> str:
        """In lower case, empty where it says none."""
        return self.media.charset

    @property
    def names(self) -> tuple[str, ...]:
        """All file names that it can be read to have."""
        return self.media.names

    @property
    def is_multipart(self) -> bool:
        """It is made of parts."""
        return self.media.is_multipart

    @property
    def is_message(self) -> bool:
        """It is a message, which follows as a part within it."""
        return self.media.is_message


@dataclass(frozen=True, slots=True)
class PartData:
    """More data of the part that is open, as it stands in the message, at `at` in the body."""

    data: bytes
    at: int = NOWHERE


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part that is open ends; the one around it, at `depth` less one, goes on."""

    depth: int


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit is passed: what follows is not all that there is."""

    what: Limit


Event = PartBegin | PartData | PartEnd | Excess


def walk(message: Message, limits: Limits | None = None) -> Iterator[Event]:
    """The parts of `message`, as far as `limits` let them be seen. Raises OSError."""
    return _Walk(message, limits or Limits()).events()


@dataclass(slots=True)
class _Open:
    """A part that has begun."""

    depth: int
    boundaries: tuple[Boundary, ...] = ()
    wants_boundary: bool = False  # a multipart that does not say what delimits its parts
    default: str = TEXT  # type of the parts in it
    is_printable: bool = False  # it, or something around it, claims to be quoted-printable
    is_base64: bool = False
    is_closed: bool = field(default=False)  # its closing delimiter has come


class _Delimiter(StrEnum):
    NONE = "none"
    NEXT = "next"
    CLOSE = "close"
    EITHER = "either"  # only the end of its line tells
    LOOKALIKE = "lookalike"


class _Walk:
    """One walk."""

    def __init__(self, message: Message, limits: Limits) -> None:
        self._message = message
        self._limits = limits
        self._source = _Source(message.body())
        self._open: list[_Open] = []
        self._starts: tuple[bytes, ...] = ()  # how lines begin that may be delimiters
        self._held = b""  # a line end that may belong to a delimiter
        self._header_is_next = False
        self._block_at = NOWHERE  # where the header block stands that was read last
        self._part_count = 0
        self._header_bytes = 0
        self._is_flat = False
        self._passed: set[Limit] = set()

    def events(self) -> Iterator[Event]:
        if self._message.header_is_too_large:
            yield from self._excess(Limit.HEADER)
        yield from self._begin(self._message.header, TEXT, self._message.header.raw, NOWHERE)
        while True:
            if self._header_is_next:
                yield from self._read_header()
            elif data := self._source.until(self._starts):
                yield from self._data(data, self._source.position - len(data))
            elif self._source.has_ended:
                break
            else:
                yield from self._read_delimiter()
        yield from self._release()
        yield from self._end(0)

    # beginning and ending parts

    def _begin(self, header: Header, default: str, block: bytes, at: int) -> Iterator[Event]:
        depth = len(self._open)
        media = self._media(header, default, block)
        yield from self._announce(PartBegin(depth, header, media, block, at))
        self._header_bytes += len(header.raw) if depth else 0  # the message's own has its own limit
        is_printable = self._is_printable or "quoted-printable" in media.encodings
        part = _Open(depth, is_printable=is_printable, is_base64="base64" in media.encodings)
        if media.is_multipart or media.is_message:
            if depth >= self._limits.depth:
                yield from self._excess(Limit.DEPTH)
            else:
                self._open_up(part, media)
        self._open.append(part)
        self._find_starts()

    def _announce(self, part: PartBegin) -> Iterator[Event]:
        self._part_count += 1
        yield part
        if part.media.is_cut:
            yield from self._excess(Limit.READINGS)

    def _open_up(self, part: _Open, media: Media) -> None:
        if media.is_multipart:
            part.boundaries = media.boundaries
            part.wants_boundary = not media.boundaries
            part.default = _MESSAGE if media.is_digest else TEXT
        else:
            self._header_is_next = True

    def _end(self, depth: int) -> Iterator[Event]:
        """All open parts from `depth` on end."""
        while len(self._open) > depth:
            yield PartEnd(self._open.pop().depth)
        self._find_starts()

    def _find_starts(self) -> None:
        starts = [b"--" + one.text for part in self._open for one in part.boundaries]
        if self._open and self._open[-1].wants_boundary:
            starts.append(b"--")
        self._starts = () if self._is_flat else tuple(dict.fromkeys(starts))

    @property
    def _is_printable(self) -> bool:
        return bool(self._open) and self._open[-1].is_printable

    def _media(self, header: Header, default: str, block: bytes) -> Media:
        """What a header says that was made of the lines in `block`."""
        if not self._is_printable or b"=" not in block:
            return media_of(header, default)
        lines = re.sub(rb"\r?\n|\r", b"\r\n", quopri.decodestring(block))
        return media_of_readings([header, Header(_fields_of(lines))], default)

    def _excess(self, what: Limit) -> Iterator[Event]:
        if what not in self._passed:
            self._passed.add(what)
            yield Excess(what)

    def _has_room(self, header_bytes: int) -> Iterator[Event]:
        """Says what there is too much of, should one more part begin; then the rest is flat."""
        if self._part_count >= self._limits.parts:
            self._is_flat = True
            yield from self._excess(Limit.PARTS)
        elif self._header_bytes + header_bytes > self._limits.total_header_bytes:
            self._is_flat = True
            yield from self._excess(Limit.HEADERS)

    # headers of parts

    def _read_header(self) -> Iterator[Event]:
        self._header_is_next = False
        if self._open[-1].is_base64 and not _FIELD_START.match(self._source.line(_LINE_BYTES)):
            return
        default = self._open[-1].default
        block = yield from self._header_block()
        yield from self._has_room(len(block))
        if self._is_flat:
            self._find_starts()
            yield from self._data(block, self._block_at)
            return
        strict_end = header_end(block)
        fields = block if strict_end == len(block) else _fields_of(block)
        if strict_end < len(block):
            yield from self._other_reading(block, strict_end, default)
        yield from self._begin(Header(fields), default, block, self._block_at)

    def _header_block(self) -> Generator[Event, None, bytes]:
        """The lines up to the empty one, a delimiter, or the limit."""
        block = bytearray()
        limit = self._limits.header_bytes
        self._block_at = self._source.position
        while True:
            line = self._source.line(_LINE_BYTES)
            at_start = not block or block.endswith(b"\n")
            if not line or (at_start and self._kind(line) in _REAL):
                break
            self._source.skip(len(line))
            if at_start and line == b"\r\n":
                break
            block += line
            if len(block) > limit:
                yield from self._excess(Limit.HEADER)
                self._block_at = NOWHERE
                break
        if block and not block.endswith(b"\r\n"):
            block += b"\r\n"
        return bytes(block)

    def _other_reading(self, block: bytes, at: int, default: str) -> Iterator[Event]:
        """The body begins at the first line that is no field: a part up to the empty line."""
        depth = len(self._open)
        header = Header(block[:at])
        media = self._media(header, default, header.raw)
        yield from self._announce(PartBegin(depth, header, media, header.raw, self._block_at, is_extra=True))
        yield PartData(block[at:], NOWHERE if self._block_at == NOWHERE else self._block_at + at)
        yield PartEnd(depth)

    # data

    def _data(self, data: bytes, at: int) -> Iterator[Event]:
        """Data, but for a line end at its end, which is held until it is known what follows."""
        at = NOWHERE if at == NOWHERE else at - len(self._held)
        if not self._starts:
            data, self._held = self._held + data, b""
        elif data.endswith(b"\r\n"):
            data, self._held = self._held + data[:-2], b"\r\n"
        else:
            data, self._held = self._held + data, b""
        if data:
            yield PartData(data, at)

    def _release(self) -> Iterator[Event]:
        data, self._held = self._held, b""
        if data:
            yield PartData(data, self._source.position - len(data))

    # delimiters

    def _read_delimiter(self) -> Iterator[Event]:
        line = self._source.line(_LINE_BYTES)
        part, kind = self._match(line)
        if kind not in _REAL and self._adopts(line):
            part, kind = self._match(line)
        if part is None or kind not in _REAL:
            self._source.skip(len(line))
            yield from self._data(line, self._source.position - len(line))
            if kind is _Delimiter.LOOKALIKE:
                yield from self._lookalike()
            return
        yield from self._has_room(0)
        if self._is_flat:
            self._find_starts()
            return
        line_end = self._source.skip_line()
        if kind is _Delimiter.EITHER:
            kind = _Delimiter.CLOSE if line_end.rstrip(_BLANKS).endswith(b"--") else _Delimiter.NEXT
        self._held = b""
        yield from self._end(part.depth + 1)
        part.is_closed = kind is _Delimiter.CLOSE
        self._header_is_next = kind is _Delimiter.NEXT

    def _kind(self, line: bytes) -> _Delimiter:
        return self._match(line)[1] if line.startswith(b"--") else _Delimiter.NONE

    def _match(self, line: bytes) -> tuple[_Open | None, _Delimiter]:
        """Whose delimiter is it? That of the longest boundary; of one not closed; of the innermost."""
        found: tuple[int, bool, int] = (-1, False, -1)
        kind = _Delimiter.NONE
        for part in self._open:
            for boundary in part.boundaries:
                if line.startswith(boundary.text, 2):
                    rank = (len(boundary.text), not part.is_closed, part.depth)
                    if rank > found:
                        found, kind = rank, _kind_by(line[2 + len(boundary.text) :], boundary)
        return (self._open[found[2]] if found[2] >= 0 else None), kind

    def _adopts(self, line: bytes) -> bool:
        """A multipart that lacks a boundary takes this line's."""
        part = self._open[-1]
        text = line[2:].rstrip(_BLANKS)
        if not part.wants_boundary or not text or len(line) >= _LINE_BYTES:
            return False
        part.wants_boundary = False
        part.boundaries = (Boundary(text),)
        self._find_starts()
        return True

    def _lookalike(self) -> Iterator[Event]:
        """Behind a line that some take for a delimiter: is there a header?"""
        if not self._source.at_line_start or not _FIELD_START.match(self._source.line(_LINE_BYTES)):
            return
        block = self._source.peek(self._limits.header_bytes)
        end = block.find(b"\r\n\r\n")
        fields = _fields_of(block[: end + 2] if end >= 0 else block)
        yield from self._has_room(len(fields))
        if self._is_flat:
            self._find_starts()
            return
        depth = len(self._open)
        self._header_bytes += len(fields)
        media = self._media(Header(fields), TEXT, fields)
        at = self._source.position if end >= 0 else NOWHERE
        yield from self._announce(
            PartBegin(depth, Header(fields), media, block[: end + 2], at, is_extra=True)
        )
        yield PartEnd(depth)


_REAL = frozenset({_Delimiter.NEXT, _Delimiter.CLOSE, _Delimiter.EITHER})


def _kind_by(rest: bytes, boundary: Boundary) -> _Delimiter:
    """What a line is, by what stands in it behind a boundary."""
    if boundary.is_cut:
        return _Delimiter.EITHER
    rest = rest.rstrip(_BLANKS)
    if rest in (b"", b"--"):
        return _Delimiter.CLOSE if rest else _Delimiter.NEXT
    return _Delimiter.LOOKALIKE


def _fields_of(block: bytes) -> bytes:
    """The fields in a header section, without the lines that are none."""
    return b"".join(match[1] for match in _FIELD_OR_LINE.finditer(block) if match[1] is not None)


class _Source:
    """The content, cut where a reader of lines wants it cut; how it came in pieces leaves no trace."""

    __slots__ = ("_at", "_bytes", "_bytes_at", "_has_ended", "_pieces", "at_line_start")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._bytes = b""
        self._bytes_at = 0  # where they stand in the content
        self._at = 0
        self._has_ended = False
        self.at_line_start = True

    @property
    def position(self) -> int:
        """How much has been taken."""
        return self._bytes_at + self._at

    @property
    def has_ended(self) -> bool:
        """Nothing is left."""
        return not self._fill(1)

    def until(self, starts: tuple[bytes, ...]) -> bytes:
        """What comes before the next line that begins with one of `starts`, or some of it.

        Nothing where such a line, or the end, is next. Each of `starts` begins with two hyphens.
        """
        longest = max(map(len, starts), default=0)
        if not self._fill(4):
            return b""
        if self.at_line_start and starts and self.peek(longest).startswith(starts):
            return b""
        at, end = self._at, self._run_end(starts, longest)
        self.skip(end - at)
        return self._bytes[at:end]

    def line(self, limit: int) -> bytes:
        """The line that is next, with its end, or its first `limit` bytes; nothing is taken."""
        self._fill(limit)
        end = self._bytes.find(b"\r\n", self._at, self._at + limit)
        if end >= 0:
            return self._bytes[self._at : end + 2]
        found = self._bytes[self._at : self._at + limit]
        return found[:-1] if found.endswith(b"\r") and len(found) > 1 else found  # no line end is cut

    def peek(self, limit: int) -> bytes:
        """What is next, `limit` bytes or, at the end, fewer; nothing is taken."""
        self._fill(limit)
        return self._bytes[self._at : self._at + limit]

    def skip(self, count: int) -> None:
        """Take `count` bytes of what has been looked at."""
        if count:
            self._at += count
            self.at_line_start = self._bytes.endswith(b"\r\n", 0, self._at)

    def skip_line(self) -> bytes:
        """Take the rest of this line; gives the end of it."""
        end = b""
        while line := self.line(_PIECE_BYTES):
            self.skip(len(line))
            end = (end + line)[-_LINE_BYTES:]
            if self.at_line_start:
                break
        return end

    def _run_end(self, starts: tuple[bytes, ...], longest: int) -> int:
        """Where the run ends that `until` gives: in front of a hit, or where no line end is cut."""
        held, scan = self._bytes, self._at
        end = min(len(held), self._at + _PIECE_BYTES)
        while starts and (hit := held.find(b"\r\n--", scan, end)) >= 0:
            scan = hit + 2
            if held.startswith(starts, scan) or scan + longest > len(held):
                return scan
        last = held.rfind(b"\r", max(end - 3, self._at + 1), end)
        if last < 0:
            return end
        return last + 2 if held.startswith(b"\n", last + 1) and last + 2 <= end else last

    def _fill(self, count: int) -> bool:
        """Have `count` bytes at hand, as far as there are; is there any?"""
        if len(self._bytes) - self._at < count and not self._has_ended:
            parts = [self._bytes[self._at :]]
            size = len(parts[0])
            wanted = max(count, _FILL_BYTES)
            while size < wanted and (piece := next(self._pieces, None)) is not None:
                parts.append(piece)
                size += len(piece)
            self._has_ended = size < wanted
            self._bytes_at += self._at
            self._bytes, self._at = b"".join(parts), 0
        return self._at < len(self._bytes)
