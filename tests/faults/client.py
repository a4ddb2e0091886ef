"""A before-filter client of which a test decides at which phase it goes wrong, and how.

It takes one message as far as it is let: at the first refusal it says QUIT, as Postfix does. `submit` returns
what it was told, the instant, and whether it was still there to hear it. A `Fault` is done in place of what
would be sent at one phase. A client waits no longer for any reply than the filter was told that it would.
"""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.doubles.programs import eventually
from tests.faults.expectations import CLOSED, LEFT, SILENCE
from tests.faults.server import GARBAGE, PACE
from tests.faults.tempo import scaled
from tests.postfix.smtp_client import PLAIN, Closed, SmtpClient, stuffed

SENDER = "sender@remote.example"
XFORWARD = b"XFORWARD NAME=remote.example ADDR=192.0.2.7 PROTO=ESMTP HELO=mx SOURCE=REMOTE"

BUDGET = 8.0  # seconds for which a client waits for a reply, where Postfix waits a hundred

_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Told:
    """The decisive words, with the phase in front of them where that is not the verdict."""

    words: str
    at: float  # on the clock of time.monotonic
    left_at: float | None = None  # when the client had closed its side, where it did so by itself

    @property
    def is_success(self) -> bool:
        return self.words.startswith("2")


class Left(Exception):
    """The client has gone away, at this instant."""

    def __init__(self) -> None:
        super().__init__()
        self.at = time.monotonic()


class Client(SmtpClient):
    """An SmtpClient that says what was refused."""

    def leave(self, *, with_reset: bool = False) -> None:
        """Go away, and return when the filter's kernel knows it."""
        ends = self._socket.getsockname()[1], self._socket.getpeername()[1]
        with contextlib.suppress(OSError):
            if with_reset:
                self.reset()
            else:
                self._socket.shutdown(socket.SHUT_WR)
        eventually(lambda: not _is_established(*ends), "the news of the end has arrived")
        self.close()
        raise Left

    def wait_until_closed(self) -> None:
        """Until the filter has hung up."""
        self.received_until_closed()

    def trickle(self, data: bytes) -> None:
        """One byte at a time, until the filter hangs up."""
        for at in range(len(data)):
            self._socket.settimeout(scaled(PACE))
            with contextlib.suppress(TimeoutError):
                if self._socket.recv(1, socket.MSG_PEEK) == b"":
                    raise Closed
            self._socket.sendall(data[at : at + 1])
        self._socket.settimeout(scaled(BUDGET))


Fault = Callable[[Client, bytes], None]


def stall(client: Client, _line: bytes) -> None:
    client.wait_until_closed()
    raise Closed


def close(client: Client, _line: bytes) -> None:
    client.leave()


def reset(client: Client, _line: bytes) -> None:
    client.leave(with_reset=True)


def trickle(client: Client, line: bytes) -> None:
    client.trickle(line)


def garbage(client: Client, line: bytes) -> None:
    """Nonsense, to which there has to be a reply, and then what should have been said."""
    client.send(GARBAGE)
    reply = client.reply()
    assert reply.startswith(b"50"), reply
    client.send(line)


def late(client: Client, line: bytes) -> None:
    """What should have been said, when nobody waits for it any more."""
    client.wait_until_closed()
    with contextlib.suppress(OSError):
        client.send(line)
    raise Closed


FAULTS: dict[str, Fault] = {
    "stall": stall,
    "close": close,
    "reset": reset,
    "trickle": trickle,
    "garbage": garbage,
    "late": late,
}


def half(fault: Fault) -> Fault:
    """The first half as it should be, and then this."""

    def act(client: Client, data: bytes) -> None:
        client.send(data[: len(data) // 2])
        fault(client, data[len(data) // 2 :])

    return act


def trickle_a_while(client: Client, data: bytes) -> None:
    """Some bytes one at a time, for longer than a silent client is waited for; then all the others."""
    client.trickle(data[:12])
    client.send(data[12:])


def noise(client: Client, data: bytes) -> None:
    """Content with NUL, stray CR and LF, and lines that look like an end to those who are not careful."""
    client.send(b"\x00\xff\rstray\nlines\n.\n\r.\r\r\n.\r\r\n" + data)


def half_a_dot(client: Client, data: bytes) -> None:
    """What a careless server takes for the end, and then the end."""
    client.send(b".\r\r\n" + data)


CONTENT_FAULTS: dict[str, Fault] = {
    "stall": half(stall),
    "close": half(close),
    "reset": half(reset),
    "trickle": trickle_a_while,
    "garbage": noise,
    "late": half(late),
}

DOT_FAULTS: dict[str, Fault] = {**FAULTS, "trickle": trickle, "garbage": half_a_dot}


@dataclass(frozen=True, slots=True)
class Step:
    """What is said at a phase, and how its answer has to begin for the message to go on."""

    phase: str
    line: bytes
    code: bytes


def steps_for(recipient: str, content: bytes = PLAIN, sender: str = SENDER) -> list[Step]:
    return [
        Step("EHLO", b"EHLO client.example\r\n", b"250"),
        Step("XFORWARD", XFORWARD + b"\r\n", b"250"),
        Step("MAIL", b"MAIL FROM:<%b>\r\n" % sender.encode(), b"250"),
        Step("RCPT", b"RCPT TO:<%b>\r\n" % recipient.encode(), b"250"),
        Step("DATA", b"DATA\r\n", b"354"),
        Step("CONTENT", stuffed(content), b""),
        Step(".", b".\r\n", b"2"),
    ]


def ahead(steps: Sequence[Step], phase: str) -> list[Step]:
    """What is said at this phase goes out with what comes before it, and nobody waits for a reply between."""
    changed = list(steps)
    at = next(at for at, step in enumerate(steps) if step.phase == phase)
    changed[at - 1] = replace(steps[at - 1], line=steps[at - 1].line + steps[at].line)
    changed[at] = replace(steps[at], line=b"")
    return changed


def submit(
    address: tuple[str, int],
    recipient: str,
    faults: dict[str, Fault] | None = None,
    **message: object,
) -> Told:
    """Take a message to its verdict, with a fault at some phases."""
    steps = steps_for(recipient, **message)  # type: ignore[arg-type]
    return play(address, steps, faults or {})


def play(address: tuple[str, int], steps: Sequence[Step], faults: dict[str, Fault]) -> Told:
    """The steps, one after the other; what was said to the last one that was said anything to."""
    try:
        with Client(address, scaled(BUDGET)) as client:
            return _converse(client, steps, faults)
    except Left as left:
        return Told(LEFT, left.at, left.at)
    except (Closed, ConnectionError):
        return Told(CLOSED, time.monotonic())
    except TimeoutError:
        return Told(SILENCE, time.monotonic())


def _converse(client: Client, steps: Sequence[Step], faults: dict[str, Fault]) -> Told:
    reply, at = b"", time.monotonic()
    for step in steps:
        faults.get(step.phase, _say)(client, step.line)
        if not step.code:
            continue
        reply, at = client.reply(), time.monotonic()
        if not reply.startswith(step.code):
            break
    is_verdict = step.phase == "."
    words = reply.decode("ascii").replace("\r\n", " | ")
    with contextlib.suppress(OSError, Closed, Left):
        faults.get("QUIT", _say)(client, b"QUIT\r\n")
    return Told(words if is_verdict else f"{step.phase}: {words}", at)


def _say(client: Client, line: bytes) -> None:
    client.send(line)


def _is_established(own: int, other: int) -> bool:
    """The connection, as the kernel shows the filter's side of it."""
    wanted = re.compile(rf"\d+: \w+:{other:04X} \w+:{own:04X} {_ESTABLISHED} ")
    return wanted.search(Path("/proc/net/tcp").read_text()) is not None
