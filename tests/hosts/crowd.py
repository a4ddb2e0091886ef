"""Remote clients that keep trying, and write down each attempt: what was said to it, and when.

Each message has a recipient of its own, and each attempt a remote client of its own, so that whatever became
of an attempt can be told from all others. After a 4xx, or a connection lost, the message is sent again, as
any mail server does; a 5xx, which nothing here deserves, is a failure of the run.
"""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.doubles.programs import eventually
from tests.postfix.smtp_client import SENDER, Closed, SmtpClient

Address = tuple[str, int]
DOMAIN = "elsewhere.example"

_PATIENCE = 150.0  # seconds for a reply: Postfix's own with the filter, and some
_RETRY_AFTER = 0.3
_SIZE = 4000


@dataclass(slots=True)
class Attempt:
    """One try; `reply` is the verdict or an earlier refusal, None where the connection was lost before it."""

    client: str
    began: float
    ended: float = float("inf")
    reply: bytes | None = None

    @property
    def is_accepted(self) -> bool:
        return self.reply is not None and self.reply.startswith(b"2")


@dataclass(slots=True)
class Letter:
    """A message and its attempts. `until` is a file: as long as it is missing the first attempt is held."""

    number: int
    seconds: float
    until: Path | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def recipient(self) -> str:
        return f"letter-{self.number}@{DOMAIN}"

    @property
    def is_accepted(self) -> bool:
        return bool(self.attempts) and self.attempts[-1].is_accepted

    def content(self) -> bytes:
        held = f"X-Until: {self.until}\r\n" if self.until and len(self.attempts) == 1 else ""
        head = f"Subject: {self.number}\r\nX-Seconds: {self.seconds:.4f}\r\n{held}\r\n"
        return head.encode() + (b"x" * 70 + b"\r\n") * (_SIZE // 72)


class Crowd:
    """`size` clients that send one letter after the other to any of `doors`, and others on request.

    They are on the host on which this is entered, and have all been answered when it is left. `others` is how
    many letters may be on their way by request.
    """

    def __init__(
        self, doors: Sequence[Address], size: int, seconds: Callable[[], float], others: int = 10
    ) -> None:
        self._doors = doors
        self._size = size
        self._others = others
        self._seconds = seconds
        self._numbers = itertools.count(1)
        self._clients = itertools.count(1)
        self._is_over = threading.Event()
        self.letters: list[Letter] = []
        self.failures: list[str] = []

    def __enter__(self) -> "Crowd":
        self._pool = ThreadPoolExecutor(self._size + self._others)
        for _ in range(self._size):
            self._pool.submit(self._send_all)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._pool.shutdown()

    @property
    def accepted(self) -> int:
        return sum(letter.is_accepted for letter in self.letters)

    def wait_for_more(self, count: int) -> None:
        wanted = self.accepted + count
        eventually(lambda: self.accepted >= wanted or self.failures, f"{count} letters more", 60.0)

    def send(self, seconds: float, until: Path | None = None) -> tuple[Letter, "Future[None]"]:
        """One more letter; the future is done when it has been accepted."""
        letter = self._letter(seconds, until)
        return letter, self._pool.submit(self._deliver, letter)

    def _send_all(self) -> None:
        while not self._is_over.is_set() and not self.failures:
            self._deliver(self._letter(self._seconds()))

    def _letter(self, seconds: float, until: Path | None = None) -> Letter:
        letter = Letter(next(self._numbers), seconds, until)
        self.letters.append(letter)
        return letter

    def _deliver(self, letter: Letter) -> None:
        try:
            while not letter.is_accepted:
                if letter.attempts:
                    time.sleep(_RETRY_AFTER)
                self._attempt(letter)
                verdict = letter.attempts[-1].reply
                assert verdict is None or verdict[:1] in b"24", verdict
        except Exception as failure:  # a thread must not end unheard
            self.failures.append(f"letter {letter.number}: {failure!r}")

    def _attempt(self, letter: Letter) -> None:
        number = next(self._clients)
        attempt = Attempt(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", time.monotonic())
        letter.attempts.append(attempt)
        with contextlib.suppress(Closed, ConnectionError):
            attempt.reply = try_once(random.choice(self._doors), attempt.client, letter)
        attempt.ended = time.monotonic()


def try_once(door: Address, client_address: str, letter: Letter) -> bytes:
    """Over a connection of its own, as that client; the verdict, or an earlier refusal."""
    with SmtpClient(door, _PATIENCE) as client:
        client.greet()
        client.expect(b"220", b"XCLIENT ADDR=%s NAME=[UNAVAILABLE]" % client_address.encode())
        client.greet()
        for command in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{letter.recipient}>", "DATA"):
            reply = client.command(command.encode())
            if reply[:1] not in (b"2", b"3"):
                return reply
        verdict = client.end(letter.content())
        client.send(b"QUIT\r\n")
        return verdict
