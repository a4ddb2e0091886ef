"""Names of files in the quarantine: when a message was kept, what cannot be guessed, and the file's state.

    20261125/20261125-132723-482913-9f3ac41e77b1.held
    day      day      time   micros random       state

The time is UTC, so names sort by age, and day and time are known without opening a file. Nothing in a name
comes from a message. The state is changed by rename(2) alone, so a file is always in exactly one of them.
"""

import os
import re
import time
from enum import StrEnum
from typing import NamedTuple

_ID = re.compile(r"([0-9]{8})-([0-9]{6})-([0-9]{6})-[0-9a-f]{12}")
_DAY = re.compile(r"[0-9]{8}")
_PREFIX = re.compile(r"[0-9a-f-]{1,36}")
_RANDOM_BYTES = 6  # two messages of one microsecond differ, and nobody guesses a name from a log line


class State(StrEnum):
    """What a file is, and so what is known about its message should everything stop at this instant."""

    NEW = "new"  # being written: nobody has been told that it is kept
    PENDING = "pending"  # a safety copy of a delivery that is under way, or was when its worker ended
    HELD = "held"  # kept, with nothing under way
    RELEASING = "releasing"  # being released, and its final dot has certainly not been sent
    UNKNOWN = "unknown"  # the final dot was about to be sent, and no reply to it is known
    RELEASED = "released"  # all its recipients have it


SETTLED = frozenset({State.HELD, State.RELEASED})
"""The states in which nothing is under way or in doubt; what is in another one is never expired."""


class Name(NamedTuple):
    """One file: the message's identifier, and its state."""

    id: str
    state: State

    @classmethod
    def parse(cls, file: str) -> "Name | None":
        """None for a file that is none of ours."""
        stem, _, suffix = file.partition(".")
        state = _STATES.get(suffix)
        return cls(stem, state) if state and _ID.fullmatch(stem) else None

    @property
    def file(self) -> str:
        """The file's name within its day's directory."""
        return f"{self.id}.{self.state}"

    @property
    def day(self) -> str:
        """The name of the directory."""
        return self.id[:8]

    @property
    def kept_at(self) -> str:
        """When it was kept, in ISO 8601 form."""
        day, clock = self.id[:8], self.id[9:15]
        return f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}+00:00"

    def turned(self, state: State) -> "Name":
        """The same message in another state."""
        return Name(self.id, state)


_STATES = {str(state): state for state in State}


def new_id(now: float) -> str:
    """An identifier for a message kept at `now`, in seconds since 1970."""
    return f"{stamp(now)}-{os.urandom(_RANDOM_BYTES).hex()}"


def stamp(at: float) -> str:
    """What the identifiers of an instant begin with: those of later ones sort behind it."""
    seconds, micros = divmod(int(at * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}-{micros:06d}"


def is_day(directory: str) -> bool:
    """Directories of other names are none of ours."""
    return _DAY.fullmatch(directory) is not None


def is_id(text: str) -> bool:
    """A whole identifier."""
    return _ID.fullmatch(text) is not None


def is_prefix(text: str) -> bool:
    """Could an identifier begin like this?"""
    return _PREFIX.fullmatch(text) is not None
