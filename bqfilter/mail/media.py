"""Media: what the header of a message or part says about its content, in every way in which it can be read.

Mail programs read a broken header differently, and whoever hides an attachment relies on that: two
Content-Type fields, a name in one and another in Content-Disposition, sections of a name out of order, a
quotation mark too few. So nothing here decides which reading is right. All types, all encodings, all
boundaries and all names are given, the most likely first. A reading that no program has costs nothing; one
that is missing is a hole.

Nothing is refused, and each byte is looked at a fixed number of times. The number of readings that are kept
has a limit that no honest header comes near: `is_cut` says that there were more.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from bqfilter.mail.charsets import bare_to_utf8, to_utf8
from bqfilter.mail.encoded_words import decoded_text
from bqfilter.mail.fields import Header

TEXT = "text/plain"
_T = TypeVar("_T")
_MAX_BOUNDARY_BYTES = 2048  # what Postfix compares (mime_boundary_length_limit), far above the 70 of RFC 2046

# How many readings are kept: of a field that should be there once, and of names with sections of names.
_MAX_FIELDS = 10
_MAX_NAMES = 1000

# One parameter, or a word that is none. Every branch takes what it has looked at, so nothing is read twice
# but blanks. A quoted string may lack its end; what follows it up to the semicolon belongs to the value too.
_QUOTED_AWARE = re.compile(
    rb"""([^\s;="]++)(?:\s*+=\s*+((?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z))?+[^;]*+))?+""", re.DOTALL
)
# The same for readers that look for semicolons alone; a parameter may also follow without one.
_QUOTE_BLIND = re.compile(rb"""([^\s;="]++)(?:\s*+=\s*+((?:[^;\s]|\s(?![^\s;="]{1,64}+\s*+=))*+))?+""")
_SECTION = re.compile(rb"([^*]++)(?:\*(\d{1,18}+))?+(\*?)")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*+)"?', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT = re.compile(rb"\([^()]*+\)")
_TYPE = re.compile(rb"[^\s;()\"',/]++\s*+(?:/\s*+[^\s;()\"',]*+)?+")
_ENCODING = re.compile(rb"[A-Za-z0-9-]++")
_CHARSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_UNREADABLE = "\ufffd"  # what `to_utf8` writes for it
_WANTED = (b"boundary", b"charset")
_NAMES = (b"filename", b"name")
_SEALED = frozenset(
    {
        "multipart/signed",
        "multipart/encrypted",
        "application/pkcs7-mime",
        "application/x-pkcs7-mime",
        "application/pkcs7-signature",
        "application/x-pkcs7-signature",
    }
)
_ALIASES = {
    "base64": "base64",
    "quoted-printable": "quoted-printable",
    "x-uuencode": "uuencode",
    "x-uue": "uuencode",
    "uuencode": "uuencode",
}


@dataclass(frozen=True, slots=True)
class Boundary:
    """What delimits the parts of a multipart. Of one that is very long only the beginning, `is_cut`."""

    text: bytes
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Media:
    """What a header says: types, encodings and names of every reading. All but names are in lower case."""

    types: tuple[str, ...] = (TEXT,)
    encodings: tuple[str, ...] = ("7bit",)
    charset: str = ""
    boundaries: tuple[Boundary, ...] = ()
    names: tuple[str, ...] = ()
    disposition: str = ""
    is_cut: bool = False  # there were more types, encodings, boundaries or names than are kept

    @property
    def is_multipart(self) -> bool:
        """Some reading has it made of parts."""
        return any(one.startswith("multipart/") or one == "multipart" for one in self.types)

    @property
    def is_digest(self) -> bool:
        """Its parts are messages where they do not say otherwise (RFC 2046 section 5.1.5)."""
        return "multipart/digest" in self.types

    @property
    def is_message(self) -> bool:
        """Some reading has it be a message with a header of its own."""
        return any(one in ("message/rfc822", "message/global", "message/news") for one in self.types)

    @property
    def is_sealed(self) -> bool:
        """What is in it is signed or encrypted (RFC 1847, RFC 8551): a change would be noticed."""
        return any(one in _SEALED for one in self.types)


def media_of(header: Header, default: str = TEXT) -> Media:
    """What `header` says; `default` is the type where it says nothing that can be read as one."""
    return _media([header], default)


def media_of_readings(headers: Iterable[Header], default: str = TEXT) -> Media:
    """The same, where a header itself can be read in several ways."""
    return _media(list(headers), default)


def _media(headers: list[Header], default: str) -> Media:
    kept = _Kept()
    types = kept.first(_values(headers, b"Content-Type"), _MAX_FIELDS)
    dispositions = kept.first(_values(headers, b"Content-Disposition"), _MAX_FIELDS)
    encodings = kept.first(_values(headers, b"Content-Transfer-Encoding"), _MAX_FIELDS)
    parameters = [one for value in types for one in _parameters(value, _QUOTED_AWARE) if one[0] in _WANTED]
    charsets = [_text(_plain(value)) for name, value in parameters[:_MAX_FIELDS] if name == b"charset"]
    boundaries = (_boundary(value) for name, value in parameters if name == b"boundary")
    names = (name for value in [*dispositions, *types] for name in _names(value, kept))
    return Media(
        kept.first(filter(None, map(_type, types)), _MAX_FIELDS) or (default,),
        kept.first(filter(None, map(_encoding, encodings)), _MAX_FIELDS) or ("7bit",),
        next((one.lower() for one in charsets if _CHARSET.fullmatch(one)), ""),
        kept.first(boundaries, _MAX_FIELDS),
        kept.first(filter(None, names), _MAX_NAMES),
        next((_text(match[0]).lower() for value in dispositions if (match := _ENCODING.search(value))), ""),
        kept.is_cut,
    )


class _Kept:
    """What is kept of the readings of one header."""

    def __init__(self) -> None:
        self.is_cut = False  # there were more

    def first(self, found: Iterable[_T], limit: int) -> tuple[_T, ...]:
        """The first ones, each once."""
        kept: dict[_T, None] = {}
        for one in found:
            if len(kept) >= limit and one not in kept:
                self.is_cut = True
                break
            kept[one] = None
        return tuple(kept)


def _values(headers: list[Header], name: bytes) -> Iterator[bytes]:
    return (field.value for header in headers for field in header.all(name))


def _type(value: bytes) -> str:
    match = _TYPE.search(_COMMENT.sub(b"", value))
    return re.sub(r"\s", "", _text(match[0])).lower() if match else ""


def _encoding(value: bytes) -> str:
    match = _ENCODING.search(_COMMENT.sub(b"", value))
    word = _text(match[0]).lower() if match else ""
    return _ALIASES.get(word, word)


def _boundary(value: bytes) -> Boundary:
    text = _plain(value).rstrip(b" \t")
    return Boundary(text[:_MAX_BOUNDARY_BYTES], len(text) > _MAX_BOUNDARY_BYTES)


def _parameters(value: bytes, pattern: re.Pattern[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for match in pattern.finditer(value):
        if match[2] is not None:
            yield match[1].lower(), match[2].strip()


def _names(value: bytes, kept: _Kept) -> Iterator[str]:
    """Every file name that a value of Content-Type or Content-Disposition can be read to hold."""
    if b"name" not in value.lower():
        return
    for pattern in (_QUOTED_AWARE, _QUOTE_BLIND):
        sections: dict[bytes, list[tuple[int, bool, bytes]]] = {name: [] for name in _NAMES}
        for name, one in _parameters(value, pattern):
            match = _SECTION.fullmatch(name)
            if match is None or match[1] not in sections:
                continue
            if match[2] is None and not match[3]:
                yield from _plain_names(one)
            elif len(sections[match[1]]) >= _MAX_NAMES:
                kept.is_cut = True
            else:
                sections[match[1]].append((int(match[2] or 0), bool(match[3]), one))
        for found in sections.values():
            yield from _sectioned_names(found)


def _plain_names(value: bytes) -> Iterator[str]:
    """The readings of an ordinary parameter: quoted or not, escapes kept, with or without what follows."""
    for raw in dict.fromkeys(_readings(value)):
        text = _text(raw)
        yield _with_encoded_words(text)
        yield text
        if "%" in text:
            yield _text(unquote_to_bytes(raw))


def _readings(value: bytes) -> Iterator[bytes]:
    yield _plain(value)
    match = _QUOTED.match(value)
    if match:
        yield match[1]  # with its backslashes: in the path of a file they stand for themselves
        yield value.replace(b'"', b"")
    else:
        yield value.replace(b'"', b"").strip()
        yield _COMMENT.sub(b"", value).strip()


def _plain(value: bytes) -> bytes:
    """What a reader that keeps to the grammar takes for the value."""
    match = _QUOTED.match(value)
    if match:
        return _ESCAPE.sub(rb"\1", match[1])
    return value.split(None, 1)[0] if value.strip() else b""


def _sectioned_names(sections: list[tuple[int, bool, bytes]]) -> Iterator[str]:
    """RFC 2231: in order of numbers; up to a gap, the first or the last of each number; as they stand."""
    if not sections:
        return
    last = {one[0]: one for one in sections}
    first = {one[0]: one for one in reversed(sections)}
    ordered = sorted(sections, key=lambda one: one[0])
    for reading in (ordered, list(_unbroken(first)), list(_unbroken(last)), sections):
        yield from _joined(reading)


def _unbroken(sections: dict[int, tuple[int, bool, bytes]]) -> Iterator[tuple[int, bool, bytes]]:
    number = 0
    while number in sections:
        yield sections[number]
        number += 1


def _joined(sections: list[tuple[int, bool, bytes]]) -> Iterator[str]:
    charset, parts = "", []
    for place, (_, is_encoded, value) in enumerate(sections):
        raw = _plain(value)
        if is_encoded and not place and raw.count(b"'") >= 2:
            language, _, raw = raw.partition(b"'")
            charset, raw = _text(language), raw.partition(b"'")[2]
        parts.append(unquote_to_bytes(raw) if is_encoded else raw)
    yield from map(_with_encoded_words, _decoded(b"".join(parts), charset))


def _with_encoded_words(text: str) -> str:
    """Encoded words have no place in a parameter (RFC 2047 section 5); programs write them there anyway."""
    if "=?" not in text:
        return text
    raw = text.encode("utf-8")
    return decoded_text(raw, len(raw))  # wherever they stand: the last one has the name's end


def _decoded(raw: bytes, charset: str) -> Iterator[str]:
    """`raw` in its charset, and where not all of it is what that says, also as if none were told."""
    text = to_utf8(raw, charset).decode("utf-8")
    yield text
    if _UNREADABLE in text:
        yield _text(raw)


def _text(raw: bytes) -> str:
    return bare_to_utf8(raw).decode("utf-8")
