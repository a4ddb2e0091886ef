"""What can be done with a message, as the words that settings, rules and log lines have for it.

A `Response` is an action, and whether a copy goes to the quarantine besides: "tag", "reject+quarantine".
Nothing is decided or carried out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What becomes of a message, the mildest first; the order is that of `weight`."""

    ACCEPT = "accept"  # passed on
    TAG = "tag"  # passed on, marked in its header
    REDIRECT = "redirect"  # passed on to somebody else, marked
    DEFER = "defer"  # 4xx: the client tries again
    QUARANTINE = "quarantine"  # 250, kept instead of passed on
    DISCARD = "discard"  # 250, dropped
    REJECT = "reject"  # 5xx

    @property
    def weight(self) -> int:
        """The larger one decides where several actions are asked for."""
        return _ORDER[self]

    @property
    def delivers(self) -> bool:
        """The message is passed on."""
        return self in (Action.ACCEPT, Action.TAG, Action.REDIRECT)

    @property
    def is_final(self) -> bool:
        """Whoever has not been asked yet is not asked any more: the message is not passed on, nor kept."""
        return self in (Action.DISCARD, Action.REJECT)


_ORDER = {action: weight for weight, action in enumerate(Action)}
_COPY = "+quarantine"


@dataclass(frozen=True, slots=True)
class Response:
    """An action, and with `keeps_copy` a copy in the quarantine besides."""

    action: Action
    keeps_copy: bool = False

    @classmethod
    def parse(cls, text: str) -> Response:
        """From "reject" or "reject+quarantine". Raises ValueError."""
        word = text.removesuffix(_COPY)
        try:
            action = Action(word)
        except ValueError:
            raise ValueError("no such action") from None
        if action is Action.QUARANTINE and word != text:
            raise ValueError('"quarantine" keeps the message anyway')
        return cls(action, word != text)

    def __str__(self) -> str:
        return f"{self.action}{_COPY}" if self.keeps_copy else str(self.action)


ACCEPT = Response(Action.ACCEPT)
TAG = Response(Action.TAG)
DEFER = Response(Action.DEFER)
QUARANTINE = Response(Action.QUARANTINE)
DISCARD = Response(Action.DISCARD)
REJECT = Response(Action.REJECT)
