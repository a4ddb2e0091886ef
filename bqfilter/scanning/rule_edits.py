"""What rules have asked to be done to the body of one message: lines, and fields of the headers of its parts.

Text of a rule is UTF-8, and what it quotes may be what a sender wrote. It is put into the charset of the part
that it goes to; what that cannot hold becomes "?". It cannot end its line. A field is made as those of the
message's own header are. A line that goes onto the wire as it stands is no longer than RFC 5321 allows: what
is, becomes several.

What cannot be edited is left alone, and whoever asked is told why.
"""

import re

from bqfilter.mail.body_edits import AS_IT_STANDS, EncodedPart, Splice
from bqfilter.mail.charsets import from_utf8
from bqfilter.mail.fields import make_field
from bqfilter.mail.message import Message
from bqfilter.scanning.line_edits import EditedBody, Splices
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.rule_action import FIELD, Verb
from bqfilter.scanning.rule_subjects import Spot
from bqfilter.scanning.rule_table import Applied

_MAX_FIELD_BYTES = (
    10_000  # of a field that is made: a group can hold megabytes, and to encode them takes long
)
_MAX_LINE_BYTES = 998  # RFC 5321 section 4.5.3.1.6, without CRLF
_LINE_END = re.compile(rb"[\r\n\0]")
NOT_A_FIELD = " (not done: no header field)"


class BodyEditor:
    """One message; `hindrance` is why nothing of its body may be edited, if it is so."""

    def __init__(self, message: Message, workspace: Workspace, hindrance: str) -> None:
        self._message = message
        self._hindrance = hindrance
        self._splices = Splices(workspace)
        self.is_within_part = False  # which is encoded, and has edited lines: its end has to be known

    def edit(self, applied: Applied, spot: Spot) -> str:
        """Empty, or why it could not be done."""
        hindrance = self._hindrance or spot.hindrance
        if hindrance:
            return f" (not done: {hindrance})"
        self.is_within_part = self.is_within_part or spot.part != AS_IT_STANDS
        verb = applied.action.verb
        if verb in (Verb.STRIP, Verb.IGNORE):
            takes_end = spot.is_whole and not spot.is_field
            self._splices.add(Splice(spot.at, spot.size, b"", takes_end, spot.part))
            return ""
        text = field_of(applied.text) if spot.is_field else _line(applied, spot)
        if text is None:
            return NOT_A_FIELD
        if verb is Verb.PREPEND:
            end = b"" if spot.is_field else spot.end
            self._splices.add(Splice(spot.at, 0, text + end, part=spot.part))
        else:
            self._splices.add(Splice(spot.at, spot.size, text, part=spot.part))
        return ""

    def settle(self, at: int) -> None:
        """Nothing is edited any more that begins before `at` in the body. Raises ScannerFailure."""
        if self._splices:
            self._splices.settle(at)

    def note_part(self, part: EncodedPart | None) -> None:
        """A part has ended; None where its lines are edited as they stand, or not at all."""
        if self.is_within_part and part is not None:
            self.is_within_part = False
            self._splices.note_part(part)

    def body(self) -> EditedBody | None:
        """What all of it comes to; None where nothing is edited. Raises ScannerFailure."""
        if not self._splices:
            return None
        self._splices.settle()
        return EditedBody(self._message, (self._splices,))


def field_of(text: bytes) -> bytes | None:
    """The header field that a rule has written, with its line end; None where it is none."""
    field = FIELD.fullmatch(text)
    return None if field is None else make_field(field[1], field[2][:_MAX_FIELD_BYTES])


def _line(applied: Applied, spot: Spot) -> bytes:
    """The text of a rule as a line, or several, without the line end behind it."""
    text = _LINE_END.sub(b" ", applied.text_in(lambda text: _written(text, spot)))
    return b"\r\n".join(_short_lines(text)) if spot.part == AS_IT_STANDS else text


def _written(text: bytes, spot: Spot) -> bytes:
    if spot.charset is None:
        return text
    written = from_utf8(text, spot.charset)
    return written if written.isascii() or not spot.is_seven_bit else from_utf8(text, "us-ascii")


def _short_lines(text: bytes) -> list[bytes]:
    """Cut, but not within a character of UTF-8."""
    lines, begin = [], 0
    while len(text) - begin > _MAX_LINE_BYTES:
        end = begin + _MAX_LINE_BYTES
        while end > begin + _MAX_LINE_BYTES - 3 and text[end] & 0xC0 == 0x80:
            end -= 1
        lines.append(text[begin:end])
        begin = end
    return [*lines, text[begin:]]
