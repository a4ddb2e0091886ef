"""What Rspamd wants changed about a message, as edits of its header and of its recipients.

This is what a milter would do to it, in the same places: what is removed is counted in the header as it came,
an order of 0 is its top, 1 is below its first field (which is the Received field of the before-filter
Postfix), -1 is its end. Signatures go to the top. They are over the message as Rspamd saw it: whoever changes
a field that is signed, or the body, breaks them.

A value becomes a field by `make_field`, which keeps folds and lets none end its field. A name that cannot be
one, or a recipient that is no address, raises ScannerFailure. A sender is never changed, nor a body.
"""

import re
from collections.abc import Iterator, Sequence

from bqfilter.errors import ScannerFailure
from bqfilter.mail.fields import TOP, Edit, Header, Insert, Remove, Replace, make_field
from bqfilter.scanning.report import Changes
from bqfilter.scanning.rspamd_reply import ALL, AddedHeader, Answer, RemovedHeader

_ADDRESS = re.compile(rb"[!#-+\--;=?A-\[\]-~\x80-\xff]{1,64}@[A-Za-z0-9.:\[\]_\x80-\xff-]{1,255}")


def changes(answer: Answer, header: Header, recipients: Sequence[bytes]) -> Changes:
    """All that the answer asks for; `recipients` are those of the message. Raises ScannerFailure."""
    try:
        edits = tuple(_edits(answer, header))
    except ValueError as error:
        raise ScannerFailure(f"its answer cannot be followed: {error}") from error
    added = tuple(_address(text) for text in answer.added_recipients)
    if not answer.deleted_recipients:
        return Changes(edits, copies=added)
    return Changes(edits, recipients=_remaining(answer, recipients, added))


def _edits(answer: Answer, header: Header) -> Iterator[Edit]:
    """Signatures first: of what goes in at one place the first stands on top."""
    for signature in answer.signatures:
        yield Insert(TOP, make_field("DKIM-Signature", signature))
    for removed in answer.removed:
        yield from _removals(removed, header)
    yield from _insertions(answer.added, len(header.fields))
    if answer.subject is not None:
        yield _with_subject(answer.subject, header)


def _removals(removed: RemovedHeader, header: Header) -> Iterator[Edit]:
    fields = header.all(removed.name.encode("utf-8", "replace"))
    at = removed.nth - 1 if removed.nth > 0 else removed.nth
    if removed.nth == ALL:
        yield from (Remove(field.index) for field in fields)
    elif -len(fields) <= at < len(fields):
        yield Remove(fields[at].index)


def _insertions(added: Sequence[AddedHeader], count: int) -> Iterator[Edit]:
    """Counted from the top, a later one goes above an earlier one of the same order, as with a milter."""
    from_top = [one for one in added if one.order >= 0]
    from_end = [one for one in added if one.order < 0]
    for one in reversed(from_top):
        yield Insert(min(one.order, count), make_field(one.name, one.value))
    for one in from_end:
        yield Insert(max(count + one.order + 1, TOP), make_field(one.name, one.value))


def _with_subject(subject: str, header: Header) -> Edit:
    text = make_field("Subject", subject)
    present = header.all(b"Subject")
    return Replace(present[0].index, text) if present else Insert(len(header.fields), text)


def _remaining(answer: Answer, recipients: Sequence[bytes], added: tuple[bytes, ...]) -> tuple[bytes, ...]:
    deleted = {_address(text).lower() for text in answer.deleted_recipients}
    kept = tuple(address for address in recipients if address.lower() not in deleted)
    if not kept and not added:
        raise ScannerFailure("its answer cannot be followed: no recipient would be left")
    return kept + added


def _address(text: str) -> bytes:
    address = text.strip().removeprefix("<").removesuffix(">").encode("utf-8", "replace")
    if not _ADDRESS.fullmatch(address):
        raise ScannerFailure(f"its answer cannot be followed: {text[:80]!r} is no address")
    return address
