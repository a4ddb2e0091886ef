"""Letters: kept messages as mail to a mailbox, with fields on top; and how they are had back from a file.

People and mail filters read three of them: why it was kept, and its envelope. Programs read the fourth:

    X-Bqfilter-Record: 20261125-135619-392560-86e430483771 1/1
     base64 of a deflated text: the line that a file of the quarantine begins with (see `record`), and the
     header of the message as it came, with the empty line behind it if there was one

The header travels with it because those that deliver mail change headers: they drop fields and add others.
The body stands where it always does. Both together must have the size and the digest that the line tells:
a body that was converted on its way is noticed, and not sent to anybody as if it were the message.

That is no proof of where a file comes from. Anybody can write one, and send it to the mailbox: whoever has
one released has to look at the envelope, and has to want it.

A long record is cut into several fields, "1/3" and so on, because Postfix cuts those beyond 100 KB
(header_size_limit). Nothing here is believed that can be checked. Raises QuarantineFailure.
"""

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from bqfilter.errors import QuarantineFailure
from bqfilter.mail.fields import TOP, Edit, Header, Insert, Remove, make_field
from bqfilter.mail.message import Message
from bqfilter.quarantine import record as records
from bqfilter.quarantine.names import is_id
from bqfilter.quarantine.record import Record, Stored

HEADER_LIMIT = 16 * 1024 * 1024  # bytes of a file's header: the largest that we pass on, deflated or not

_REASON, _FROM, _TO = b"X-Bqfilter-Quarantined", b"X-Bqfilter-Envelope-From", b"X-Bqfilter-Envelope-To"
_RECORD = b"X-Bqfilter-Record"
_LINE_CHARS = 76
_FIELD_LINES = 600  # 46 KB, half of what Postfix takes
_MOST_FIELDS = 10_000
_MOST_BYTES = 64 * 1024 * 1024  # inflated: as much as a file's first line may have, and the header
_TITLE = re.compile(rb"(\S+)[ \t]+([0-9]{1,5})/([0-9]{1,5})[ \t]+")


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that was kept, as a file has it; `content` reads the file."""

    id: str
    stored: Stored
    header: bytes
    message: Message

    @property
    def record(self) -> Record:
        return self.stored.record

    def content(self) -> Iterator[bytes]:
        """The message byte for byte as it was kept. Raises QuarantineFailure at its end where it is not."""
        digest, size = hashlib.sha256(), 0
        for piece in self._pieces():
            digest.update(piece)
            size += len(piece)
            yield piece
        if size != self.stored.size or digest.hexdigest() != self.stored.sha256:
            raise QuarantineFailure("its body is not what was kept: it was converted or changed on its way")

    def _pieces(self) -> Iterator[bytes]:
        if self.header:
            yield self.header
        yield from self.message.body()


def edits(message: Message, record: Record, identifier: str) -> tuple[Edit, ...]:
    """What makes a letter of a message; fields of these names that it came with go. Raises OSError."""
    names = (_REASON, _FROM, _TO, _RECORD)
    forged = [Remove(field.index) for name in names for field in message.header.all(name)]
    recipients = b",\r\n ".join(b"<%b>" % rcpt.address for rcpt in record.recipients)
    told = (
        make_field(_REASON, record.reason or record.action),
        make_field(_FROM, b"<%b>" % record.sender.address),
        make_field(_TO, recipients),
        *_record_fields(message, record, identifier),
    )
    return (*forged, *(Insert(TOP, field) for field in told))


def read(message: Message) -> Letter:
    """What a file holds; `message` has been made with HEADER_LIMIT. Raises QuarantineFailure, OSError."""
    if message.header_is_too_large:
        raise QuarantineFailure("its header is too large")
    identifier, packed = _gathered(message.header)
    line, end, header = _inflated(packed).partition(b"\n")
    told = records.decode(line + end, identifier)
    records.check(told.record)
    # As a file of ours will have it, with texts cut and cleaned, to be compared with that.
    stored = records.decode(records.encode(told.record, identifier, told.size, told.sha256), identifier)
    return Letter(identifier, stored, header, message)


def _record_fields(message: Message, record: Record, identifier: str) -> list[bytes]:
    digest, size, head = hashlib.sha256(), 0, bytearray()
    for piece in message.content():
        digest.update(piece)
        size += len(piece)
        if len(head) < message.body_at:
            head += piece[: message.body_at - len(head)]
    line = records.encode(record, identifier, size, digest.hexdigest()).rstrip() + b"\n"
    text = base64.b64encode(zlib.compress(line + head))
    lines = [text[at : at + _LINE_CHARS] for at in range(0, len(text), _LINE_CHARS)]
    parts = [lines[at : at + _FIELD_LINES] for at in range(0, len(lines), _FIELD_LINES)]
    titles = (b"%b: %b %d/%d" % (_RECORD, identifier.encode("ascii"), number, len(parts))
              for number in range(1, len(parts) + 1))  # fmt: skip
    return [b"\r\n ".join([title, *part]) + b"\r\n" for title, part in zip(titles, parts, strict=True)]


def _gathered(header: Header) -> tuple[str, bytes]:
    """The identifier, and what the fields hold together, in whatever order they stand."""
    found: dict[int, bytes] = {}
    titles = set()
    for field in header.all(_RECORD):
        match = _TITLE.match(field.value)
        if match is None:
            raise QuarantineFailure("its X-Bqfilter-Record cannot be read")
        titles.add((match[1], match[3]))
        found[int(match[2])] = re.sub(rb"[ \t]+", b"", field.value[match.end() :])
    if not titles:
        raise QuarantineFailure("it has no X-Bqfilter-Record: it did not come from quarantine.quarantine_to")
    if len(titles) > 1:
        raise QuarantineFailure("it has the X-Bqfilter-Record of several messages")
    ((name, total),) = titles
    identifier = name.decode("ascii", "replace")
    if not is_id(identifier) or sorted(found) != list(range(1, min(int(total), _MOST_FIELDS) + 1)):
        raise QuarantineFailure("its X-Bqfilter-Record is not whole")
    try:
        return identifier, base64.b64decode(
            b"".join(found[number] for number in sorted(found)), validate=True
        )
    except binascii.Error as error:
        raise QuarantineFailure(f"its X-Bqfilter-Record cannot be read: {error}") from None


def _inflated(packed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, _MOST_BYTES)
    except zlib.error as error:
        raise QuarantineFailure(f"its X-Bqfilter-Record cannot be read: {error}") from None
    if not inflater.eof:
        raise QuarantineFailure("its X-Bqfilter-Record is cut, or far too large")
    return data
