"""The texts of a message that rules are asked about: fields of a header, lines of a body, addresses.

A field is one text however many lines it has, with LF between them, as Postfix has it. A line of a body is
one without its line end, and never empty, for Postfix does not look up empty ones; one of more than
LINE_BYTES is several.

With `decodes` they are there decoded as well: a field with its encoded words decoded, and unfolded; the text
of a part in UTF-8 and, where it was encoded for transfer, in lines of its own, because those are others than
the encoded ones. Nothing here fails on anything that a message can hold, memory is bounded by the longest
line, and the work is linear.

What stands in the body has a `Spot`, by which it can be edited. Of text that was encoded for transfer that is
the decoded line: the encoded ones are looked up, and not edited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bqfilter.mail.body_edits import AS_IT_STANDS, EncodedPart
from bqfilter.mail.charsets import ToUtf8, codec_of, to_utf8
from bqfilter.mail.encoded_words import decode_words
from bqfilter.mail.fields import Field
from bqfilter.mail.mime import NOWHERE, PartBegin, PartData
from bqfilter.mail.transfer import decoder
from bqfilter.scanning.rule_pattern import Subject

# Postfix cuts at 2048 (line_length_limit); a line of decoded HTML is often longer, and a pattern is not found
# across a cut.
LINE_BYTES = 65536

# Charsets in which ASCII bytes stand for something else.
_SEVEN_BIT = ("utf_7", "hz", "iso2022")
# Those in which a line end is not the byte LF, or what stands behind it depends on what is in front.
_WIDE = ("utf_16", "utf_32")
_NEARLY_ASCII = ("johab", "shift_jis")  # in which a backslash is money
# Those in which many lines at once mean what each of them means, even where there is an error in one.
_LINEWISE = ("utf_8", "iso8859", "cp125", "koi8")
_ENCODINGS = frozenset({"base64", "quoted-printable", "uuencode"})
_AMBIGUOUS = "it can be read in several ways"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a field or line stands in the body: `size` bytes at `at`, counted as in a `Splice`.

    `hindrance` says why it cannot be edited. The others are of lines: what their text is written in (None for
    bytes as they stand), what ends them, and that nothing of the line stands in front or behind.
    """

    at: int = NOWHERE
    size: int = 0
    part: int = AS_IT_STANDS
    hindrance: str = ""
    charset: str | None = None
    is_seven_bit: bool = False
    end: bytes = b"\r\n"
    is_whole: bool = True
    is_field: bool = False


class Cut(NamedTuple):
    """A line without its end, or a piece of one, and where it stands."""

    at: int
    text: bytes
    end: bytes
    is_whole: bool


class Line(NamedTuple):
    """A line; without a model for its spot where it is another form of lines that have one."""

    subject: Subject
    cut: Cut
    model: Spot | None

    @property
    def spot(self) -> Spot | None:
        """Where it stands. Made when asked for: few lines are edited."""
        return None if self.model is None else _spot(self.model, self.cut)


def field_subject(field: Field, decodes: bool) -> Subject:
    """A header field; blanks in front of the colon are left out (as mime_state.c does)."""
    name, _, rest = field.raw.removesuffix(b"\r\n").partition(b":")
    raw = b"%b:%b" % (name.rstrip(b" \t"), rest.replace(b"\r\n", b"\n"))
    return _with_decoded(raw, decode_words(raw)) if decodes else Subject(raw)


def address_subject(address: bytes) -> Subject:
    """An envelope address; the null sender is "<>" (smtpd_null_access_lookup_key)."""
    return Subject(address or b"<>")


def field_spots(part: PartBegin) -> Iterator[Spot]:
    """Where the fields of a part's header stand, one after the other."""
    if part.at == NOWHERE:
        yield from (Spot(hindrance=_AMBIGUOUS, is_field=True) for _ in part.header.fields)
    for field, at in zip(part.header.fields, part.field_places(), strict=False):
        yield Spot(at, len(field.raw), is_field=True)


MayMatter = Callable[[Subject], bool]
"""Asked about many lines at once, with LF between them; where it says no, nobody wants to see one of them."""


def _always(_lines: Subject) -> bool:
    return True


class PartLines:
    """The lines of one part, from its data as that comes; `limit` bytes of it, 0 for all.

    Lines are left out, many at a time, where `may_matter` says that none of them does.
    """

    def __init__(self, part: PartBegin, limit: int, decodes: bool, may_matter: MayMatter = _always) -> None:
        is_text = decodes and any(one.startswith("text/") for one in part.media.types)
        encodings = [one for one in part.media.encodings if one in _ENCODINGS] if is_text else []
        self._charset = part.charset if is_text and not encodings else None
        self._limit = limit
        self._seen_bytes = 0
        self._is_within_line = False
        self._is_cut_off = False
        self._next = NOWHERE  # where data has to go on
        self._may_matter = may_matter
        self._raw = _Lines(self._is_dull)
        self._raw_spot = _raw_spot(part, decodes, is_text)
        self._decoded = [_DecodedLines(one, part, may_matter) for one in encodings]

    @property
    def is_encoded(self) -> bool:
        """Its lines are looked up decoded as well, and edited that way."""
        return bool(self._decoded)

    def encoded_part(self) -> EncodedPart | None:
        """Where the data stands that decoded lines are of, if they can be edited."""
        return self._decoded[0].encoded_part() if len(self._decoded) == 1 else None

    def more(self, data: PartData) -> Iterator[Line]:
        """The lines that `data` ends."""
        if data.at != self._next:
            yield from self.interrupted()
            self._raw.move_to(data.at)
        self._next = data.at if data.at == NOWHERE else data.at + len(data.data)
        for lines in self._decoded:
            lines.note(data)
        within = self._within_limit(data.data)
        self._is_cut_off = self._is_cut_off or len(within) < len(data.data)
        if within:
            yield from map(self._line, self._raw.more(within))
            for lines in self._decoded:
                yield from lines.more(within)

    def interrupted(self) -> Iterator[Line]:
        """A part within this one comes next. The line in front of it ends there, without a line end."""
        yield from map(self._line, self._raw.last())

    def last(self) -> Iterator[Line]:
        """Nothing comes any more."""
        yield from self.interrupted()
        for lines in self._decoded:
            yield from lines.last("it goes on beyond body_limit" if self._is_cut_off else "")

    def _within_limit(self, data: bytes) -> bytes:
        """A line that begins within the limit is looked at to its end."""
        left = max(self._limit - self._seen_bytes, 0)
        self._seen_bytes += len(data)
        if not self._limit or len(data) <= left:
            self._is_within_line = not data.endswith(b"\n")
            return data
        if not left and not self._is_within_line:
            return b""
        end = data.find(b"\n", max(left - 1, 0)) + 1
        self._is_within_line = not end
        return data[:end] if end else data

    def _line(self, cut: Cut) -> Line:
        return Line(self._subject(cut.text), cut, None if self._decoded else self._raw_spot)

    def _is_dull(self, lines: bytes) -> bool:
        """Nobody wants to see any of these lines."""
        if not (self._charset is None or codec_of(self._charset).startswith(_LINEWISE)):
            return False
        return not self._may_matter(self._subject(lines))

    def _subject(self, line: bytes) -> Subject:
        if self._charset is None or (line.isascii() and not codec_of(self._charset).startswith(_SEVEN_BIT)):
            return Subject(line)
        return _with_decoded(line, to_utf8(line, self._charset))


def _spot(model: Spot, cut: Cut) -> Spot:
    """The spot of a line that is like `model` in all that the lines of a part have in common."""
    if cut.at == NOWHERE or model.hindrance:
        return Spot(hindrance=model.hindrance or _AMBIGUOUS)
    return Spot(
        cut.at,
        len(cut.text),
        model.part,
        charset=model.charset,
        is_seven_bit=model.is_seven_bit,
        end=cut.end,
        is_whole=cut.is_whole,
    )


def _raw_spot(part: PartBegin, decodes: bool, is_text: bool) -> Spot:
    """What the spots of lines have in common that are edited as they stand."""
    if not decodes:
        return Spot()
    if is_text and codec_of(part.charset).startswith(_WIDE):
        return Spot(hindrance=f"charset {part.charset}")
    return Spot(charset=part.charset, is_seven_bit=part.encoding not in ("8bit", "binary"))


class _DecodedLines:
    """The lines of text that was encoded for transfer."""

    def __init__(self, encoding: str, part: PartBegin, may_matter: MayMatter) -> None:
        self._encoding = encoding
        self._charset = part.charset
        self._transfer = decoder(encoding)
        self._characters = ToUtf8(part.charset)
        codec = codec_of(part.charset)
        self._is_by_line = not codec.startswith((*_SEVEN_BIT, *_WIDE))
        self._is_ascii_based = not codec.startswith(_NEARLY_ASCII)
        self._model = Spot()  # of all lines, as it was for the last
        self._may_matter = may_matter
        self._lines = _Lines(self._is_dull)
        self._lines.move_to(0)
        self._hindrance = self._hindrance_of(part)
        self._begin = self._end = NOWHERE
        self._ends_line = False

    def encoded_part(self) -> EncodedPart | None:
        """What is decoded, if anything: without the line end behind base64, which is no part of it."""
        if self._hindrance or self._begin == NOWHERE:
            return None
        is_less = self._ends_line and self._encoding == "base64"
        return EncodedPart(self._begin, self._end - 2 * is_less, self._encoding)

    def note(self, data: PartData) -> None:
        """Data comes, also such as is not looked at."""
        if self._begin == NOWHERE:
            self._begin = self._end = data.at
        if data.at == NOWHERE or data.at != self._end:
            self._hindrance = self._hindrance or _AMBIGUOUS
        self._end = data.at + len(data.data)
        self._ends_line = data.data.endswith(b"\r\n")

    def more(self, data: bytes) -> Iterator[Line]:
        yield from self._found(self._transfer.feed(data), is_last=False)

    def last(self, hindrance: str) -> Iterator[Line]:
        """Nothing comes any more that is looked at; `hindrance` is why a line without end is not edited."""
        yield from self._found(self._transfer.finish(), is_last=True)
        yield from (self._line(cut, hindrance) for cut in self._lines.last())

    def _found(self, data: bytes, *, is_last: bool) -> Iterator[Line]:
        if not self._is_by_line:
            data = self._characters.last(data) if is_last else self._characters.more(data)
        yield from map(self._line, self._lines.more(data))

    def _is_dull(self, lines: bytes) -> bool:
        """Nobody wants to see any of these lines."""
        is_utf8 = not self._is_by_line or (self._is_ascii_based and lines.isascii())
        return is_utf8 and not self._may_matter(Subject(None, lines))

    def _line(self, cut: Cut, hindrance: str = "") -> Line:
        is_utf8 = not self._is_by_line or (self._is_ascii_based and cut.text.isascii())
        text = cut.text if is_utf8 else to_utf8(cut.text, self._charset)
        hindrance = self._hindrance or hindrance
        if hindrance != self._model.hindrance or self._begin != self._model.part:
            self._model = Spot(part=self._begin, hindrance=hindrance, charset=self._charset)
        return Line(Subject(None, text), cut, self._model)

    def _hindrance_of(self, part: PartBegin) -> str:
        if len(part.media.encodings) > 1 or part.is_multipart or part.is_message or part.is_extra:
            return _AMBIGUOUS
        if self._encoding == "uuencode":
            return self._encoding
        return "" if self._is_by_line else f"charset {part.charset}"


class _Lines:
    """Cuts what comes in pieces into lines that are not empty, and leaves out those that are dull.

    `is_dull` is asked about several whole lines, each with LF behind it and none too long to be one.
    """

    def __init__(self, is_dull: Callable[[bytes], bool]) -> None:
        self._is_dull = is_dull
        self._rest = b""
        self._at = NOWHERE  # where the rest stands
        self._is_begun = False  # a piece of the line in front of the rest has been given

    def move_to(self, at: int) -> None:
        """What comes next stands there; nothing is left of what came before."""
        self._at = at

    def more(self, data: bytes) -> Iterator[Cut]:
        data = self._rest + data
        *lines, rest = data[self._pass_dull(data) :].split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r")
            end = b"\n" if len(text) == len(line) else b"\r\n"
            if len(text) > LINE_BYTES:
                yield from self._pieces(text, end, is_end=True)
            elif text:
                yield Cut(self._at, text, end, not self._is_begun)
            self._pass(len(line) + 1)
            self._is_begun = False
        whole = len(rest) - len(rest) % LINE_BYTES if len(rest) > LINE_BYTES else 0
        yield from self._pieces(rest[:whole], b"\r\n", is_end=False)
        self._pass(whole)
        self._is_begun = self._is_begun or whole > 0
        self._rest = rest[whole:]

    def last(self) -> Iterator[Cut]:
        rest, self._rest = self._rest, b""
        yield from self._pieces(rest.removesuffix(b"\r"), b"\r\n", is_end=True)
        self._pass(len(rest))
        self._is_begun = False

    def _pass_dull(self, data: bytes) -> int:
        """How much of `data` is passed over: all of its lines, or nothing."""
        end = data.rfind(b"\n") + 1
        lines = data[:end].replace(b"\r\n", b"\n")
        if not end or (end > LINE_BYTES and max(map(len, lines.split(b"\n"))) > LINE_BYTES):
            return 0
        if not self._is_dull(lines):
            return 0
        self._pass(end)
        self._is_begun = False
        return end

    def _pieces(self, text: bytes, end: bytes, *, is_end: bool) -> Iterator[Cut]:
        is_whole = is_end and not self._is_begun and len(text) <= LINE_BYTES
        for at in range(0, len(text), LINE_BYTES):
            place = NOWHERE if self._at == NOWHERE else self._at + at
            yield Cut(place, text[at : at + LINE_BYTES], end, is_whole)

    def _pass(self, count: int) -> None:
        if self._at != NOWHERE:
            self._at += count


def _with_decoded(raw: bytes, decoded: bytes) -> Subject:
    """The same bytes are another text where characters are not bytes: letter case is an example."""
    return Subject(raw, None if decoded == raw and raw.isascii() else decoded)
