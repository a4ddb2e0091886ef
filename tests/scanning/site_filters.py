"""Filters as a site might write them, good and bad ones, for test_python."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from bqfilter.api import Envelope, Message, Verdict, accept, found, reject

not_callable = 7


def silent(message: Message, envelope: Envelope) -> Verdict | None:
    return None


def shouting(message: Message, envelope: Envelope) -> Verdict | None:
    return found("shouting") if message.header("Subject").isupper() else None


def with_options(message: Message, envelope: Envelope, word: str = "x", more: str = "") -> Verdict:
    return found(f"{word} {more}")


class Counting:
    """Made once, called often."""

    made = 0

    def __init__(self, start: str = "0") -> None:
        type(self).made += 1
        self.count = int(start)

    def __call__(self, message: Message, envelope: Envelope) -> Verdict:
        self.count += 1
        if message.header("Subject") == "hang":
            while True:
                pass
        return found(f"message {self.count} to {len(envelope.recipients)}")


class Uncallable:
    pass


class Holder:
    class Inner:
        def __call__(self, message: Message, envelope: Envelope) -> Verdict:
            return found(f"inner of {message.header('Subject')} to {len(envelope.recipients)}")


def wrong_type(message: Message, envelope: Envelope) -> object:
    return "reject"


def too_few_arguments(message: Message) -> None:
    return None


def prints(message: Message, envelope: Envelope) -> Verdict:
    print("forged: line", "reject=1")  # noqa: T201
    print("forged: line", file=sys.stderr)  # noqa: T201
    sys.stdout.buffer.write(b"bytes")
    return accept()


def raising(message: Message, envelope: Envelope) -> None:
    kinds = {
        "value": ValueError("bad\nthing"),
        "exit": SystemExit(0),
        "interrupt": KeyboardInterrupt(),
        "memory": MemoryError(),
        "generator": GeneratorExit(),
        "unspeakable": Unspeakable(),
    }
    raise kinds[message.header("Subject")]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Unending(Exception):
    def __str__(self) -> str:
        while True:
            pass


def raising_for_ever(message: Message, envelope: Envelope) -> None:
    raise Unending


def recursive(message: Message, envelope: Envelope) -> None:
    recursive(message, envelope)


def endless(message: Message, envelope: Envelope) -> None:
    while True:
        pass


def stubborn(message: Message, envelope: Envelope) -> Verdict:
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            if message.header("Subject") == "gives in":
                return reject("as if nothing had been")


def backtracking(message: Message, envelope: Envelope) -> None:
    re.match(r"(a+)+$", "a" * 200 + "b")


def streamed(message: Message, envelope: Envelope) -> Verdict:
    def pieces() -> Iterator[bytes]:
        for piece in message.body():
            yield piece.upper()

    return accept().replace_body(pieces())


def flood(message: Message, envelope: Envelope) -> Verdict:
    return accept().replace_body(iter(lambda: b"x" * 65536, b""))


def text_pieces(message: Message, envelope: Envelope) -> Verdict:
    return accept().replace_body(["text"])  # type: ignore[list-item]


def runs_a_program(message: Message, envelope: Envelope) -> Verdict:
    return found(f"status {subprocess.run(['/bin/sh', '-c', 'exit 3'], check=False).returncode}")


def takes_the_alarm(message: Message, envelope: Envelope) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
