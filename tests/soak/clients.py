"""Remote clients that write down what they were told: one reply a message, or that there was none.

Some come through the before-filter Postfix in either of its modes, some talk to the filter itself, as an
after-queue Postfix does. Some leave with their message on its way. Nothing is ever sent twice: what a real
client would do after a 4xx is just what must not be needed to find out what became of the first attempt.
"""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.postfix.smtp_client import Closed, SmtpClient, stuffed

from .mail import KINDS, SENDER, Kind, Message, Sizes

Address = tuple[str, int]

DIRECT = "direct"
_POSTFIX_LOST_US = b"451 4.3.0 Error: queue file write error"
_IMPATIENT_SHARE = 0.02
_PATIENCE = 120.0  # seconds for a reply: Postfix's own patience with the filter, and some


@dataclass(slots=True)
class Told:
    """What a client was told last about its message; None where the connection was lost, or left, before."""

    message: Message
    door: str
    reply: bytes | None = None
    has_left: bool = False  # of its own accord, without waiting for the reply
    began: float = 0.0
    ended: float = 0.0

    @property
    def is_positive(self) -> bool:
        return self.reply is not None and self.reply.startswith(b"2")

    @property
    def is_lost(self) -> bool:
        """The filter was lost before it replied: the client has seen it, or Postfix says so."""
        return self.reply is None or self.reply.startswith(_POSTFIX_LOST_US)


@dataclass(slots=True)
class Crowd:
    """`size` clients, each in a thread, which connect to any of `doors`; `told` grows until `stop`."""

    doors: dict[str, Address]
    size: int
    seed: int
    sizes: Sizes = field(default_factory=Sizes)
    longest_pause: float = 0.1  # seconds between two messages of a client
    kinds: Sequence[Kind] = KINDS
    told: list[Told] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _count: int = 0

    def start(self) -> None:
        for index in range(self.size):
            thread = threading.Thread(target=self._run, args=(random.Random(f"{self.seed}/{index}"),))
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """No new messages; return when those on their way have been answered."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, chance: random.Random) -> None:
        try:
            while not self._over.is_set():
                self._send_one(chance)
                self._over.wait(chance.uniform(0.0, self.longest_pause))
        except Exception as error:  # a thread must not end unheard
            self.failures.append(f"a client: {type(error).__name__}: {error}")

    def _send_one(self, chance: random.Random) -> None:
        kind = chance.choices(self.kinds, [kind.share for kind in self.kinds])[0]
        door = chance.choice(list(self.doors))
        message = Message(self._next_number(), kind, self.sizes.draw(chance))
        told = Told(message, door, began=time.monotonic())
        try:
            deliver(self.doors[door], told, leaves=chance.random() < _IMPATIENT_SHARE)
        except (Closed, ConnectionError):
            told.reply = None
        told.ended = time.monotonic()
        self.told.append(told)

    def _next_number(self) -> int:
        with self._lock:
            self._count += 1
            return self._count


def deliver(server: Address, told: Told, *, leaves: bool) -> None:
    """One message over a connection of its own; `told.reply` is the first refusal on the way, or the verdict.

    A client that `leaves` closes its connection behind the final dot.
    """
    message = told.message
    with SmtpClient(server, _PATIENCE) as client:
        _introduce(client, told)
        if _is_refused(told, client.command(b"MAIL FROM:<%s>" % SENDER.encode()), b"2"):
            return
        for recipient in message.recipients:
            if _is_refused(told, client.command(b"RCPT TO:<%s>" % recipient.encode()), b"2"):
                return
        if _is_refused(told, client.command(b"DATA"), b"3"):
            return
        client.send(stuffed(message.content()) + b".\r\n")
        if leaves:
            told.has_left = True
            return
        told.reply = client.reply()
        client.send(b"QUIT\r\n")


def _introduce(client: SmtpClient, told: Told) -> None:
    """Tell whom the message comes from: each one has a remote client of its own."""
    name = told.message.client.encode()
    client.greet()
    if told.door == DIRECT:
        client.expect(b"250", b"XFORWARD ADDR=%s NAME=[UNAVAILABLE] SOURCE=REMOTE" % name)
    else:
        client.expect(b"220", b"XCLIENT ADDR=%s NAME=[UNAVAILABLE]" % name)
        client.greet()


def _is_refused(told: Told, reply: bytes, good: bytes) -> bool:
    if reply.startswith(good):
        return False
    told.reply = reply
    return True
