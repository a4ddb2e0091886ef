"""The edits of a body that rules have asked for, from when they are found to when they are carried out.

A rule can apply to every line of a message, so splices are kept as what filters give back is: in memory
first, past a limit in a file without a name. Only which encoded parts they are of is held, of which a message
has no more than a walk finds. They are carried out when the body is read, as often as somebody does.
"""

import heapq
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from bqfilter.mail.body_edits import EncodedPart, Pair, Splice, changed_text, edited_body
from bqfilter.mail.message import Message
from bqfilter.scanning.output import Output, Workspace

_HEAD = struct.Struct("=qqq?q")  # part, place, size, takes_end, length of the text behind it
_IN_ORDER = attrgetter("order")
_END = 1 << 62  # behind all of any body


class Splices:
    """The splices that one scanner wants for one message."""

    def __init__(self, workspace: Workspace) -> None:
        self._output = Output(workspace)
        self._pending: list[Splice] = []
        self.parts: dict[int, EncodedPart] = {}

    def __bool__(self) -> bool:
        return bool(self._pending or self._output.size)

    def add(self, splice: Splice) -> None:
        """One more; those behind each other in one place stay in that order."""
        self._pending.append(splice)

    def settle(self, at: int = _END) -> None:
        """None comes any more that begins before `at`. Raises ScannerFailure for too many, or a full disk."""
        self._pending.sort(key=_IN_ORDER)
        count = next((n for n, one in enumerate(self._pending) if one.order[0] >= at), len(self._pending))
        records = []
        for one in self._pending[:count]:
            records += [_HEAD.pack(one.part, one.at, one.size, one.takes_end, len(one.text)), one.text]
        if records:
            self._output.append(b"".join(records))
        del self._pending[:count]

    def note_part(self, part: EncodedPart) -> None:
        """An encoded part, should any splice be of it."""
        self.parts[part.start] = part

    def __iter__(self) -> Iterator[Splice]:
        """All that are settled, in their order. Raises OSError."""
        held = b""
        for piece in self._output.pieces():
            held += piece
            at = 0
            while len(held) - at >= _HEAD.size:
                part, place, size, takes_end, length = _HEAD.unpack_from(held, at)
                begin = at + _HEAD.size
                if len(held) - begin < length:
                    break
                yield Splice(place, size, held[begin : begin + length], takes_end, part)
                at = begin + length
            held = held[at:]


@dataclass(frozen=True, slots=True)
class EditedBody:
    """The body of a message with the splices of one scanner or several; called, it begins to read that."""

    message: Message
    splices: tuple[Splices, ...]

    def __call__(self) -> Iterator[bytes]:
        """In pieces. Raises OSError."""
        return edited_body(self.message.body(), self._merged(), self._parts())

    def changed_text(self) -> Iterator[Pair]:
        """What goes and what comes instead. Raises OSError."""
        return changed_text(self.message.body(), self._merged(), self._parts())

    def with_those_of(self, other: "EditedBody") -> "EditedBody":
        """These, and then those of somebody else about the same message."""
        return EditedBody(self.message, (*self.splices, *other.splices))

    def _merged(self) -> Iterator[Splice]:
        return heapq.merge(*self.splices, key=_IN_ORDER)

    def _parts(self) -> dict[int, EncodedPart]:
        return {start: part for one in self.splices for start, part in one.parts.items()}
