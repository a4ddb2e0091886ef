"""The messages of a long run: what kinds there are, and what has to become of each of them.

Every message has a number; its recipients and the address of its remote client say it, so a log line, a
scoreboard slot and a quarantine file can all be told which message they are about.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

DOMAIN = "soak.example"
SENDER = "sender@remote.example"
_LINE = b"one line of very many, with nothing in it\r\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """`delivered` and `kept` are the names of recipients; a message comes with all of them."""

    name: str
    share: int  # of a hundred messages
    reply: int  # the class of the reply where nothing goes wrong
    delivered: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def recipients(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.delivered, *self.kept, *self.dropped)))


KINDS = (
    Kind("plain", 50, 2, delivered=("plain",)),
    Kind("run through a program", 5, 2, delivered=("program",)),
    Kind("tagged", 8, 2, delivered=("marked",)),
    Kind("in two transactions", 8, 2, delivered=("plain", "marked")),
    Kind("quarantined", 10, 2, kept=("kept",)),
    Kind("delivered, with a copy kept", 6, 2, delivered=("copied",), kept=("copied",)),
    Kind("discarded", 4, 2, dropped=("dropped",)),
    Kind("rejected", 5, 5, dropped=("refused",)),
    Kind("not scanned, deferred", 4, 4, dropped=("unscanned",)),
)

# What bqfilterd is told about them, beside the scanner that everything passes; a message is in the hands of
# some scanner, the quarantine or the after-filter server when something happens.
POLICIES = (
    {"name": "program", "recipients": ["program@"], "scanners": ["slow", "program"]},
    {"name": "marked", "recipients": ["marked@"], "scanners": ["slow", "marks"]},
    {"name": "kept", "recipients": ["kept@"], "scanners": ["slow"], "action": "quarantine"},
    {"name": "copied", "recipients": ["copied@"], "scanners": ["slow"], "action": "accept+quarantine"},
    {"name": "dropped", "recipients": ["dropped@"], "scanners": ["slow"], "action": "discard"},
    {"name": "refused", "recipients": ["refused@"], "scanners": ["slow"], "action": "reject"},
    {"name": "unscanned", "recipients": ["unscanned@"], "scanners": ["slow", "absent"]},
    {"name": "plain", "scanners": ["slow"]},
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large messages are: bytes of content, each with a weight."""

    weights: Mapping[int, int] = field(default_factory=lambda: {500: 50, 4_000: 35, 60_000: 12, 700_000: 3})

    def draw(self, chance: random.Random) -> int:
        return chance.choices(list(self.weights), list(self.weights.values()))[0]


@dataclass(frozen=True, slots=True)
class Message:
    """One message, before it is sent."""

    number: int
    kind: Kind
    size: int

    @property
    def recipients(self) -> list[str]:
        return [address(self.number, name) for name in self.kind.recipients]

    @property
    def client(self) -> str:
        """The remote client's address: out of 10.0.0.0/8, a number of its own."""
        return ".".join(map(str, (10, *self.number.to_bytes(3, "big"))))

    def content(self) -> bytes:
        head = b"Subject: number %d\r\nMessage-ID: <%d@soak.example>\r\n\r\n" % (self.number, self.number)
        return head + _LINE * (self.size // len(_LINE))


def address(number: int, name: str) -> str:
    """One of a message's recipients. The local part is the name, so that a policy knows it."""
    return f"{name}@{number}.{DOMAIN}"
