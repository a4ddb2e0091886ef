r"""Transcripts: whole conversations as text, played against a real Session and a real upstream leg.

The first line is a sentence that says what is shown. Lines "with KEY = VALUE" set configuration keys, lines
that begin with "#" explain. Then comes what happens, in order:

    C:  the client sends                        S:  we answer
    U<  the after-filter server sends           U>  we send it, or do, in brackets: "(hangs up)"
    !   an event from outside, see `playback`   L:  we log; "..." stands for anything

Each line of a peer ends in CRLF, unless it ends in a backslash: then nothing follows. \r, \n, \t, \xNN and
\\ are what they are in C, and {300*x} is x three hundred times over. Lines of one peer that stand together
arrive together, so a pipelined group is written as it is. Every warning we log has to stand in the
transcript; other log lines only where they are the point.
"""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MARKS = ("C:", "S:", "U>", "U<", "!", "L:")
_INPUTS = frozenset({"C:", "U<", "!"})
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|([rnt\\]))")
_PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}
_SHOWN = {value[0]: f"\\{key.decode()}" for key, value in _PLAIN.items()}
_REPEATED = re.compile(r"\{([0-9]+)\*(.+?)\}")
_RUN = re.compile(r"([^\\])\1{39,}")


@dataclass(frozen=True, slots=True)
class Step:
    """One line."""

    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.mark} {self.text}".rstrip()

    @property
    def is_input(self) -> bool:
        """It happens to us; everything else is our doing."""
        return self.mark in _INPUTS


@dataclass(frozen=True, slots=True)
class Transcript:
    """A transcript as it was read."""

    title: str
    settings: tuple[str, ...]
    steps: tuple[Step, ...]

    @classmethod
    def read(cls, path: Path) -> "Transcript":
        """Raises ValueError for a line that means nothing."""
        title, *lines = path.read_text(encoding="ascii").splitlines()
        lines = [line for line in lines if line.strip() and not line.startswith("#")]
        settings = tuple(line.removeprefix("with ") for line in lines if line.startswith("with "))
        steps = tuple(_step(line) for line in lines if not line.startswith("with "))
        return cls(title, settings, steps)


def _step(line: str) -> Step:
    mark, _, text = line.partition(" ")
    if mark not in _MARKS:
        raise ValueError(f"not a line of a transcript: {line!r}")
    if mark in ("!", "L:") or text.startswith("("):
        return Step(mark, text)
    return Step(mark, shown(wire(text)))


def wire(text: str) -> bytes:
    """The bytes that a line of a peer stands for."""
    text = _REPEATED.sub(lambda found: found[2] * int(found[1]), text)
    data = text.encode("ascii")
    has_end = not re.search(rb"(?<!\\)(?:\\\\)*\\$", data)
    data = data if has_end else data[:-1]
    data = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else _PLAIN[found[2]], data)
    return data + b"\r\n" if has_end else data


def shown(data: bytes) -> str:
    """The line for one line's bytes, in the one spelling that is compared."""
    body = data.removesuffix(b"\r\n")
    text = "".join(
        _SHOWN.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in body
    )
    text = _RUN.sub(lambda run: f"{{{len(run[0])}*{run[1]}}}", text)
    return text if len(body) < len(data) else text + "\\"


class Script:
    """Plays the inputs of a transcript in order and writes down what happened, ours included.

    Inputs happen when somebody waits for them. What stands next without any doing of ours in front of it has
    happened already for whoever only looks; the passing of time is the exception.
    """

    def __init__(self, steps: tuple[Step, ...], perform: Callable[[Step], None]) -> None:
        self._steps = [step for step in steps if step.mark != "L:"]
        self._log_patterns = [step.text for step in steps if step.mark == "L:"]
        self._perform = perform
        self._at = 0
        self._partial = ("", b"")  # what we wrote to one peer and have not finished the line of
        self.actual: list[Step] = []

    @property
    def next_step(self) -> Step | None:
        return self._steps[self._at] if self._at < len(self._steps) else None

    def wait(self) -> bool:
        """Let the next input happen; False where the script has none for this session."""
        while self.next_step and not self.next_step.is_input:
            self._at += 1  # not done, or done differently: the comparison will tell
        if self.next_step is None or is_arrival(self.next_step):
            return False
        self._play()
        return True

    def look(self) -> None:
        """Let everything happen that has happened by now."""
        while (step := self.next_step) and step.is_input and not (is_arrival(step) or _passes_time(step)):
            self._play()

    def arrive(self) -> Step | None:
        """The client connects: the step that says so, if it is next."""
        step = self.next_step
        if step is None or not is_arrival(step):
            return None
        self._happened(step)
        self._at += 1
        return step

    def wrote(self, mark: str, data: bytes) -> None:
        """We sent these bytes to a peer."""
        if self._partial[0] != mark:
            self.settle()
        *lines, rest = (self._partial[1] + data).split(b"\r\n")
        self._partial = (mark, b"")
        for line in lines:
            self._did(Step(mark, shown(line + b"\r\n")))
        self._partial = (mark, rest)

    def did(self, mark: str, deed: str) -> None:
        """We did something that is not bytes."""
        self.settle()
        self._did(Step(mark, f"({deed})"))

    def logged(self, line: str, is_alarm: bool) -> None:
        """We wrote a log line."""
        for pattern in self._log_patterns:
            if re.fullmatch(".*".join(map(re.escape, pattern.split("..."))), line):
                self._happened(Step("L:", pattern))
                return
        if is_alarm:
            self._happened(Step("L:", line))

    def settle(self) -> None:
        """Whatever line we have not finished stays unfinished."""
        mark, rest = self._partial
        self._partial = ("", b"")
        if rest:
            self._did(Step(mark, shown(rest)))

    def _did(self, step: Step) -> None:
        self.actual.append(step)
        if self.next_step and not self.next_step.is_input:
            self._at += 1

    def _happened(self, step: Step) -> None:
        self.settle()
        self.actual.append(step)

    def _play(self) -> None:
        """The next input, and with it the further lines that the same peer sends."""
        mark = self._steps[self._at].mark
        while True:
            step = self._steps[self._at]
            self._at += 1
            self._happened(step)
            self._perform(step)
            if mark == "!" or self.next_step is None or self.next_step.mark != mark:
                return


ARRIVAL = re.compile(r"client connects(?:, having waited ([0-9]+) s)?")
TIME_PASSES = re.compile(r"([0-9]+) s pass")
UNREACHABLE = {"upstream refuses": errno.ECONNREFUSED, "upstream is not there": errno.ETIMEDOUT}


def is_arrival(step: Step) -> bool:
    """A new session begins."""
    return step.mark == "!" and ARRIVAL.fullmatch(step.text) is not None


def _passes_time(step: Step) -> bool:
    return step.mark == "!" and TIME_PASSES.fullmatch(step.text) is not None
