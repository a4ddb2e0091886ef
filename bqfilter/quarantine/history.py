"""What happened to a kept message since, recipient by recipient; pure, from the lines behind its content.

Each event is a line of its own, written and flushed before the file's state is changed, so that a state never
tells more than the events. A line that a crash has cut is no event: it is passed over.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from bqfilter.quarantine.names import State
from bqfilter.quarantine.record import Record, clean


class What(StrEnum):
    """What an event says."""

    DELIVERED = "delivered"  # passed on when it came: the file is a copy
    HANDOVER = "handover"  # the final dot is sent next; what follows is the reply, or nothing is known
    RELEASED = "released"  # the after-filter server has taken it
    NOT_DELIVERED = "not delivered"  # what was handed over has not been taken: refused, or called off
    FAILED = "failed"  # it did not come to a handover: nothing has changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`at` is an ISO 8601 time, `by` whoever gave the command; addresses are without brackets."""

    what: What
    at: str
    by: str = ""
    recipients: tuple[bytes, ...] = ()
    queue_id: str = ""
    text: str = ""


def instant(at: float) -> str:
    """A time in seconds since 1970 as events have it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def encode(event: Event) -> bytes:
    """The line, with a line end in front too: a torn line before it stays alone."""
    value = {
        "event": event.what,
        "at": event.at,
        "by": clean(event.by),
        "recipients": [address.decode("utf-8", "surrogateescape") for address in event.recipients],
        "queue_id": clean(event.queue_id),
        "text": clean(event.text),
    }
    return b"\n" + json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def decode(lines: bytes) -> tuple[Event, ...]:
    """All events in what stands behind the content."""
    found = (_event(line) for line in lines.split(b"\n") if line)
    return tuple(event for event in found if event is not None)


def _event(line: bytes) -> Event | None:
    try:
        value = json.loads(line)
        recipients = tuple(str(text).encode("utf-8", "surrogateescape") for text in value["recipients"])
        return Event(
            what=What(value["event"]), at=str(value["at"]), by=str(value["by"]), recipients=recipients,
            queue_id=str(value["queue_id"]), text=str(value["text"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # torn: what it was to say did not happen, or its state says it


Standing = Mapping[bytes, Event]
"""The last event of each address, in lower case."""


def standing(events: Iterable[Event]) -> dict[bytes, Event]:
    """How each recipient fares. A handover that came to nothing leaves what was known before it."""
    found: dict[bytes, Event] = {}
    before: dict[bytes, Event] = {}
    for event in events:
        for address in {recipient.lower() for recipient in event.recipients}:
            if event.what is What.HANDOVER:
                before.pop(address, None)
                if address in found:
                    before[address] = found[address]
            if event.what is What.NOT_DELIVERED:
                _step_back(found, before, address)
            elif event.what is not What.FAILED:
                found[address] = event
    return found


def _step_back(found: dict[bytes, Event], before: dict[bytes, Event], address: bytes) -> None:
    found.pop(address, None)
    if address in before:
        found[address] = before.pop(address)


def has_it(address: bytes, fared: Standing) -> Event | None:
    """The event by which this recipient got the message."""
    event = fared.get(address.lower())
    return event if event is not None and event.what in (What.RELEASED, What.DELIVERED) else None


def is_in_doubt(address: bytes, fared: Standing) -> bool:
    """This recipient may have the message, and nobody knows."""
    event = fared.get(address.lower())
    return event is not None and event.what is What.HANDOVER


def resting_state(record: Record, fared: Standing) -> State:
    """Where the file belongs while nothing is under way."""
    if any(event.what is What.HANDOVER for event in fared.values()):
        return State.UNKNOWN
    everyone = all(has_it(recipient.address, fared) for recipient in record.recipients)
    return State.RELEASED if everyone else State.HELD
