"""The header section of a message as its fields, byte for byte; and edits of it that leave all others alone.

A header section is a run of fields, each a name, a colon and what follows up to a line that does not begin
with a blank (RFC 5322 section 2.2). It ends at the empty line, or at the first line that is neither a field
nor the continuation of one, where Postfix lets the body begin as well. Nothing is decoded, and nothing is
refused: names may hold any printable character, values any byte.

Edits name fields by their place in the header as it came, so those of different scanners do not disturb each
other, and are carried out together. What is added is made by `make_field`, which lets no value end its line.

Line ends are CRLF throughout; a message is cleaned before it comes here.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from bqfilter.mail.word_encoding import encode_words

# fields: field-name *WSP ":" *( anything but CR ) CRLF *( WSP anything CRLF ); blanks before the colon are
# obsolete (RFC 5322 section 4.5) and still read. Possessive, so that a hostile line is looked at once.
_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:[^\r]*+\r\n(?:[ \t][^\r]*+\r\n)*+")
_SECTION = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\r]*+\r\n(?:[ \t][^\r]*+\r\n)*+)*+")
_FIELD_START = re.compile(rb"[!-9;-~]++[ \t]*+:")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_NAME = re.compile(rb"[!-9;-~]{1,76}")
_LINE_END = re.compile(r"(?:\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029])+([ \t]*)")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")  # how Python keeps bytes that are no UTF-8, of an address for one
_MAX_LINE_CHARS = 998  # RFC 5322 section 2.1.1
_HARD_LINE_CHARS = 900  # where a line is cut that has no place to fold


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its place in the header, its name as it stands, and all its bytes, line ends included."""

    index: int
    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """What stands behind the colon, unfolded (RFC 5322 section 2.2.3), without blanks around it."""
        return _FOLD.sub(b"", self.raw.partition(b":")[2]).strip(b" \t\r\n")


class Header:
    """The fields of `raw`, which is a header section without the empty line behind it."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All fields in order."""
        found: list[Field] = []
        at = 0
        while match := _FIELD.match(self.raw, at):
            found.append(Field(len(found), match[1], match[0]))
            at = match.end()
        return tuple(found)

    @cached_property
    def _by_name(self) -> dict[bytes, list[Field]]:
        found = defaultdict(list)
        for field in self.fields:
            found[field.name.lower()].append(field)
        return dict(found)

    def all(self, name: bytes) -> list[Field]:
        """The fields of this name, in order; names are compared without regard to letter case."""
        return self._by_name.get(name.lower(), [])

    def first(self, name: bytes) -> bytes | None:
        """The value of the first field of this name."""
        fields = self.all(name)
        return fields[0].value if fields else None


def header_end(head: bytes) -> int:
    """Where the header section ends in content that begins with `head`, as far as that reaches."""
    match = _SECTION.match(head)
    return match.end() if match else 0


def may_go_on(head: bytes, end: int) -> bool:
    """What stands at `end` and reaches to the end of `head` may be the beginning of one more field."""
    return head.find(b"\r\n", end) < 0 or _FIELD_START.match(head, end) is not None


@dataclass(frozen=True, slots=True)
class Insert:
    """`text`, a whole field, goes in before field number `at`, or behind all where `at` is their number."""

    at: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Replace:
    """`text` takes the place of field number `at`."""

    at: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Remove:
    """Field number `at` goes."""

    at: int


Edit = Insert | Replace | Remove

TOP = 0


def edited(header: Header, edits: Iterable[Edit]) -> bytes:
    """The header section with all edits carried out.

    Where two edits touch one field the later one counts, except that what was removed stays removed. Whatever
    goes in at one place goes in in the order of the edits.
    """
    return b"".join(new for _, new in carried_out(header, edits))


def carried_out(header: Header, edits: Iterable[Edit]) -> Iterator[tuple[bytes, bytes]]:
    """The same, piece by piece: what stood there, and what does now; empty for what was or is not there."""
    inserts: dict[int, list[bytes]] = defaultdict(list)
    replacements: dict[int, bytes] = {}
    for edit in edits:
        match edit:
            case Insert(at, text):
                inserts[at].append(text)
            case Replace(at, text):
                if replacements.get(at) != b"":
                    replacements[at] = text
            case Remove(at):
                replacements[at] = b""
    for field in header.fields:
        yield from ((b"", text) for text in inserts.get(field.index, ()))
        yield field.raw, replacements.get(field.index, field.raw)
    yield from ((b"", text) for text in inserts.get(len(header.fields), ()))


def touched(edits: Sequence[Edit]) -> set[int]:
    """The numbers of the fields that edits replace or remove."""
    return {edit.at for edit in edits if not isinstance(edit, Insert)}


def make_field(name: str | bytes, value: str | bytes) -> bytes:
    """A whole field that holds `value`, with its line end. Raises ValueError for a name that cannot be one.

    Text beyond ASCII becomes encoded words (RFC 2047), U+FFFD for what is no character. A line end within
    the value stays a fold where a blank follows it and becomes one where none does, so that no value can end
    its field; other control characters go. A line that is longer than RFC 5322 allows is cut, wherever that
    falls.
    """
    name = name.encode("utf-8", "replace") if isinstance(name, str) else name
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} cannot be the name of a header field")
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    text = _SURROGATE.sub("\ufffd", text)
    text = _CONTROL.sub("", _LINE_END.sub(lambda fold: "\n" + (fold[1] or " "), text.strip()))
    first, *others = [line for line in text.split("\n") if line.strip(" \t")] or [""]
    lines = [*_folded(name + b": ", first.lstrip(" \t")), *_continued(first, others)]
    return b"\r\n".join(lines) + b"\r\n"


def _continued(before: str, lines: Iterable[str]) -> Iterator[bytes]:
    """What stands behind the line `before`: lines that begin with a blank.

    One between two encoded words does not count (RFC 2047 section 6.2), so there it is encoded as well.
    """
    for line in lines:
        is_lost = not (before.isascii() or line.isascii())
        yield from _folded(line[0].encode("ascii"), line if is_lost else line[1:])
        before = line


def _folded(lead: bytes, line: str) -> list[bytes]:
    """One line of a value, behind `lead`, as lines that are short enough."""
    if not line.isascii():
        return encode_words(line, lead)
    if len(lead) + len(line) <= _MAX_LINE_CHARS:
        return [lead + line.encode("ascii")]
    pieces = (line[at : at + _HARD_LINE_CHARS] for at in range(0, len(line), _HARD_LINE_CHARS))
    return (lead + b"\r\n ".join(piece.encode("ascii") for piece in pieces)).split(b"\r\n")
