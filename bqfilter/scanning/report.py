"""Reports: what one scanner says about one message, as a value.

A report says what was found and may ask for something: a response, the words of a refusal, changes to the
message. Whether that is done is decided elsewhere, by policy. Every text in a report is a peer's or an
author's: whoever puts it into a log line, reply or header cleans it there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from bqfilter.config.actions import Response
from bqfilter.mail.fields import Edit
from bqfilter.smtp.replies import Reply


class Finding(StrEnum):
    """What a scanner found."""

    CLEAN = "clean"  # looked at, and nothing to say against it
    HIT = "hit"  # something
    ERROR = "error"  # it failed: nothing is known
    UNSCANNED = "unscanned"  # it was not asked: too large for it, no time, or left alone after failures


Body = Callable[[], Iterator[bytes]]
"""Begins to read a new body, in pieces with any line ends; it may be called more than once."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a scanner wants changed about a message, should that be passed on.

    `edits` are of the header as it came. `body` takes the place of everything behind it. `recipients`, where
    not None, take the place of all that there are; `copies` get the message besides. Both are addresses
    without brackets.
    """

    edits: tuple[Edit, ...] = ()
    body: Body | None = field(default=None, compare=False)
    recipients: tuple[bytes, ...] | None = None
    copies: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.edits or self.body or self.copies) or self.recipients is not None


NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class Report:
    """What a scanner says.

    `detail` names what was found, or why there is no answer, in one line. `response` is what the scanner
    itself asks for, where it is one that does; None leaves it to its settings. `reply` are its own words for
    a refusal. `changes` are wanted whatever was found. The runner fills in `scanner` and `seconds`.
    """

    finding: Finding
    detail: str = ""
    score: float | None = None
    response: Response | None = None
    reply: Reply | None = None
    changes: Changes = NO_CHANGES
    scanner: str = ""
    seconds: float = 0.0

    @property
    def score_text(self) -> str:
        """The score as people write it, empty without one."""
        return "" if self.score is None else f"{self.score:g}"


CLEAN = Report(Finding.CLEAN)
