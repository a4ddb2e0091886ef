"""What the after-filter server has taken: files of the Maildir, compared with what should be there.

The server writes on top of each what an onlooker wants to know: Return-Path, a Delivered-To for each
recipient, and the XFORWARD facts in a last line. What follows is the content as it came.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bqfilter.demo.maildir import Maildir
from bqfilter.demo.scenes import Arrival

_LAST_LINE = b"X-Demo-XFORWARD:"
_RECIPIENT = b"Delivered-To: "
_SUBJECT = b"Subject: "


@dataclass(frozen=True, slots=True)
class Arrived:
    """One file: for whom it is, and the content with LF at the ends of lines."""

    path: Path
    to: tuple[str, ...]
    content: bytes

    @classmethod
    def read(cls, path: Path) -> "Arrived":
        lines = path.read_bytes().splitlines(keepends=True)
        end = next(number for number, line in enumerate(lines, 1) if line.startswith(_LAST_LINE))
        to = tuple(_text(line, _RECIPIENT) for line in lines[:end] if line.startswith(_RECIPIENT))
        return cls(path, to, b"".join(lines[end:]))

    def __str__(self) -> str:
        subjects = [_text(line, _SUBJECT) for line in self.content.splitlines() if line.startswith(_SUBJECT)]
        subject = subjects[0] if subjects else "none"
        return f'new/{self.path.name} (subject "{subject}", to {", ".join(self.to)})'


class Watch:
    """Looks for files that come from now on."""

    def __init__(self, maildir: Maildir) -> None:
        self._maildir = maildir
        self._known = set(maildir.messages())

    def arrived(self) -> list[Arrived]:
        """Those that have come since, the oldest first."""
        return [Arrived.read(path) for path in self._maildir.messages() if path not in self._known]


def complaints(expected: Sequence[Arrival], arrived: Sequence[Arrived]) -> list[str]:
    """What should be there and is not, or is there and should not be."""
    if len(arrived) != len(expected):
        return [f"messages that should have arrived: {len(expected)}"]
    pairs = list(zip(expected, arrived, strict=True))
    return [
        *(f"it should have gone to {', '.join(one.to)}" for one, found in pairs if one.to != found.to),
        *("the message is not as it should be" for one, found in pairs if _kept(one) != found.content),
    ]


def _kept(arrival: Arrival) -> bytes:
    """The content as it lies in a Maildir: un-stuffed, with LF at the ends of lines."""
    return (b"\r\n" + arrival.content).replace(b"\r\n.", b"\r\n").replace(b"\r\n", b"\n")[1:]


def _text(line: bytes, start: bytes) -> str:
    return line[len(start) :].rstrip(b"\n").decode("utf-8", "replace")
