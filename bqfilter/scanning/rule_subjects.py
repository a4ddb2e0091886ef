"""The texts of a message that rules are asked about: fields of a header, lines of a body, addresses.

A field is one text however many lines it has, with LF between them, as Postfix has it. A line of a body is
one without its line end, and never empty, for Postfix does not look up empty ones; one of more than
LINE_BYTES is several.

With `decodes` they are there decoded as well: a field with its encoded words decoded, and unfolded; the text
of a part in UTF-8 and, where it was encoded for transfer, in lines of its own, because those are others than
the encoded ones. Nothing here fails on anything that a message can hold, memory is bounded by the longest
line, and the work is linear.
"""

from __future__ import annotations

from collections.abc import Iterator

from bqfilter.mail.charsets import ToUtf8, codec_of, to_utf8
from bqfilter.mail.encoded_words import decode_words
from bqfilter.mail.fields import Field
from bqfilter.mail.mime import PartBegin
from bqfilter.mail.transfer import Decoder, decoder
from bqfilter.scanning.rule_pattern import Subject

# Postfix cuts at 2048 (line_length_limit); a line of decoded HTML is often longer, and a pattern is not found
# across a cut.
LINE_BYTES = 65536

# Charsets in which ASCII bytes stand for something else.
_SEVEN_BIT = ("utf_7", "hz", "iso2022")
_ENCODINGS = frozenset({"base64", "quoted-printable", "uuencode"})


def field_subject(field: Field, decodes: bool) -> Subject:
    """A header field; blanks in front of the colon are left out (as mime_state.c does)."""
    name, _, rest = field.raw.removesuffix(b"\r\n").partition(b":")
    raw = b"%b:%b" % (name.rstrip(b" \t"), rest.replace(b"\r\n", b"\n"))
    return _with_decoded(raw, decode_words(raw)) if decodes else Subject(raw)


def address_subject(address: bytes) -> Subject:
    """An envelope address; the null sender is "<>" (smtpd_null_access_lookup_key)."""
    return Subject(address or b"<>")


class PartLines:
    """The lines of one part, from its data as that comes; `limit` bytes of it, 0 for all."""

    def __init__(self, part: PartBegin, limit: int, decodes: bool) -> None:
        is_text = decodes and any(one.startswith("text/") for one in part.media.types)
        encodings = [one for one in part.media.encodings if one in _ENCODINGS] if is_text else []
        self._charset = part.charset if is_text and not encodings else None
        self._limit = limit
        self._seen_bytes = 0
        self._raw = _Lines()
        self._decoded = [_DecodedLines(decoder(one), part.charset) for one in encodings]

    def more(self, data: bytes) -> Iterator[Subject]:
        """The lines that `data` ends."""
        data = self._within_limit(data)
        if not data:
            return
        yield from map(self._subject, self._raw.more(data))
        for lines in self._decoded:
            yield from lines.more(data)

    def interrupted(self) -> Iterator[Subject]:
        """A part within this one comes next. The line in front of it ends there, without a line end."""
        yield from map(self._subject, self._raw.last())

    def last(self) -> Iterator[Subject]:
        """Nothing comes any more."""
        yield from self.interrupted()
        for lines in self._decoded:
            yield from lines.last()

    def _within_limit(self, data: bytes) -> bytes:
        """A line that begins within the limit is looked at to its end."""
        left = self._limit - self._seen_bytes
        self._seen_bytes += len(data)
        if not self._limit or len(data) <= left:
            return data
        return data[: data.find(b"\n", left - 1) + 1] or data if left > 0 else b""

    def _subject(self, line: bytes) -> Subject:
        if self._charset is None or (line.isascii() and not codec_of(self._charset).startswith(_SEVEN_BIT)):
            return Subject(line)
        return _with_decoded(line, to_utf8(line, self._charset))


class _DecodedLines:
    """The lines of text that was encoded for transfer."""

    def __init__(self, transfer: Decoder, charset: str) -> None:
        self._transfer = transfer
        self._characters = ToUtf8(charset)
        self._lines = _Lines()

    def more(self, data: bytes) -> Iterator[Subject]:
        for line in self._lines.more(self._characters.more(self._transfer.feed(data))):
            yield Subject(None, line)

    def last(self) -> Iterator[Subject]:
        for line in [*self._lines.more(self._characters.last(self._transfer.finish())), *self._lines.last()]:
            yield Subject(None, line)


class _Lines:
    """Cuts what comes in pieces into lines that are not empty."""

    def __init__(self) -> None:
        self._rest = b""

    def more(self, data: bytes) -> Iterator[bytes]:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from _pieces(line.removesuffix(b"\r"))
        whole = len(rest) - len(rest) % LINE_BYTES if len(rest) > LINE_BYTES else 0
        yield from _pieces(rest[:whole])
        self._rest = rest[whole:]

    def last(self) -> Iterator[bytes]:
        rest, self._rest = self._rest, b""
        yield from _pieces(rest.removesuffix(b"\r"))


def _pieces(line: bytes) -> Iterator[bytes]:
    return (line[at : at + LINE_BYTES] for at in range(0, len(line), LINE_BYTES))


def _with_decoded(raw: bytes, decoded: bytes) -> Subject:
    """The same bytes are another text where characters are not bytes: letter case is an example."""
    return Subject(raw, None if decoded == raw and raw.isascii() else decoded)
