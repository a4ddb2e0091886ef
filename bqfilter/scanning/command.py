"""Command: a program as a scanner. The message is on its standard input, its exit status is the answer.

The table `_MEANINGS` has every status that says something; docs/commands.md is its manual. Any other one, and
the end by a signal or by the deadline, is a ScannerFailure. 1 is what nearly every program ends with when
something went wrong in it, so a finding needs words: a line on standard output that says what was found.

The program sees lines that end in LF, as programs do, and may give back lines that end in either. What it
gives back is compared with what it got: fields and a body that are the same stay byte for byte as they came.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from bqfilter.config.actions import DEFER, DISCARD, QUARANTINE, REJECT, Response
from bqfilter.config.content import CommandSettings
from bqfilter.errors import ScannerFailure
from bqfilter.mail.difference import edits_between
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning import child
from bqfilter.scanning.output import Output, Workspace
from bqfilter.scanning.report import CLEAN, NO_CHANGES, Body, Changes, Finding, Report
from bqfilter.smtp.body import without_strays
from bqfilter.smtp.replies import Reply

_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_VALUE = 4096  # bytes of a variable
_MAX_LIST = 100 * 1024  # bytes of the list of recipients: execve(2) takes 128 KiB in one variable
_WORDS_BYTES = 4096  # of what is kept of words on standard output and standard error
_MAX_DETAIL = 200  # characters

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_OWN_WORDS = re.compile(r"(?!.21)(([45])[0-9]{2}) (\2\.[0-9]{1,3}\.[0-9]{1,3} [ -~]{1,400})")
_CLASS = {REJECT: "5", DEFER: "4"}


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What an exit status says. `is_changed`: standard output is the message, and not words."""

    is_hit: bool = False
    response: Response | None = None
    is_changed: bool = False
    needs_words: bool = True


# 0 and 1 as clamdscan and grep's relatives have them; 99 and 100 as qmail has them, 75 as sysexits.h. The
# other codes of sysexits.h, 2, 126, 127 and what is above 128 say that a program failed.
_MEANINGS = {
    0: _Meaning(),
    1: _Meaning(is_hit=True),
    10: _Meaning(is_changed=True),
    11: _Meaning(is_hit=True, is_changed=True),
    75: _Meaning(is_hit=True, response=DEFER, needs_words=False),
    98: _Meaning(is_hit=True, response=QUARANTINE),
    99: _Meaning(is_hit=True, response=DISCARD),
    100: _Meaning(is_hit=True, response=REJECT),
}


class Command:
    """One [[command]] table."""

    def __init__(self, settings: CommandSettings, workspace: Workspace) -> None:
        self.settings = settings
        self._workspace = workspace

    def after_fork_in_worker(self) -> None:
        """From now on what a program leaves behind is found."""
        child.adopt_orphans()

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:
        """Run the program."""
        output = Output(self._workspace)
        words, complaints = _Words(), _Words()
        status = child.run(
            self.settings.argv,
            environment_of(envelope),
            _with_unix_line_ends(message.content()),
            output.append if self.settings.changes_message else words.append,
            complaints.append,
            deadline,
            self.settings.memory_limit,
        )
        meaning = self._meaning(status, complaints.last_line())
        if meaning.is_changed:
            return _report(meaning, complaints.last_line(), _changes(message, output))
        if self.settings.changes_message:
            words.append(output.head(_WORDS_BYTES))
        return _report(meaning, words.first_line() or self._excuse(meaning, status, complaints.last_line()))

    def ping(self, _deadline: Deadline) -> str:
        """Is the program there, and ours to run? It is not started."""
        program = self.settings.argv[0]
        if not os.access(program, os.X_OK, effective_ids=True) or not Path(program).is_file():
            raise ScannerFailure(f"{program} is not there, or no program that we may run")
        return f"{program} is there"

    def _meaning(self, status: int, complaint: str) -> _Meaning:
        meaning = _MEANINGS.get(status)
        if meaning is None or (meaning.is_changed and not self.settings.changes_message):
            how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
            raise ScannerFailure(f"{how}: {complaint}" if complaint else how)
        return meaning

    def _excuse(self, meaning: _Meaning, status: int, complaint: str) -> str:
        """What stands for the words of a program that said nothing on its standard output."""
        if meaning.is_hit and meaning.needs_words:
            silence = f"exit status {status} without a word of what was found"
            raise ScannerFailure(f"{silence}: {complaint}" if complaint else silence)
        return complaint


def environment_of(envelope: Envelope) -> dict[str, bytes]:
    """All that a program's environment holds."""
    client = envelope.client
    recipients = [recipient.address for recipient in envelope.recipients]
    return {
        "PATH": _PATH,
        "LANG": b"C.UTF-8",
        "BQFILTER_SENDER": _value(envelope.sender.address),
        "BQFILTER_RECIPIENTS": _list([_value(address) for address in recipients]),
        "BQFILTER_RECIPIENT_COUNT": b"%d" % len(recipients),
        "BQFILTER_CLIENT_ADDRESS": _value(client.address),
        "BQFILTER_CLIENT_NAME": _value(client.name),
        "BQFILTER_CLIENT_HELO": _value(client.helo),
        "BQFILTER_CLIENT_SOURCE": _value(client.fact(b"SOURCE") or b"").upper(),
        "BQFILTER_SESSION": _value(envelope.session_id.encode()),
        "BQFILTER_LISTENER": _value(str(envelope.listener or "").encode()),
    }


def _value(value: bytes) -> bytes:
    """Without NUL, which ends it, and line ends, which stand between two in a list."""
    return _CONTROL.sub(b"?", value[:_MAX_VALUE])


def _list(values: list[bytes]) -> bytes:
    """One a line, and as many as fit."""
    lines = b"\n".join(values)
    return lines if len(lines) <= _MAX_LIST else lines[: lines.rfind(b"\n", 0, _MAX_LIST)]


def _with_unix_line_ends(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """LF for CRLF, however the pieces are cut; there is no other CR in a message."""
    return (piece for piece in (piece.replace(b"\r", b"") for piece in pieces) if piece)


class _Words:
    """A little of what a program says: the beginning, and the end."""

    __slots__ = ("_head", "_tail")

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""

    def append(self, data: bytes) -> None:
        self._head += data[: _WORDS_BYTES - len(self._head)]
        self._tail = (self._tail + data)[-_WORDS_BYTES:]

    def first_line(self) -> str:
        return next(iter(_lines(self._head)), "")

    def last_line(self) -> str:
        return next(reversed(_lines(self._tail)), "")


def _lines(text: bytes) -> list[str]:
    """The lines that say something, cleaned."""
    clean = ("".join(c if c.isprintable() else " " for c in line) for line in _decoded(text).split("\n"))
    return [line.strip()[:_MAX_DETAIL] for line in clean if line.strip()]


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _report(meaning: _Meaning, words: str, changes: Changes = NO_CHANGES) -> Report:
    if not meaning.is_hit:
        return Report(Finding.CLEAN, changes=changes) if changes else CLEAN
    reply = _own_words(words, meaning.response)
    return Report(Finding.HIT, words, response=meaning.response, reply=reply, changes=changes)


def _own_words(words: str, response: Response | None) -> Reply | None:
    """The reply that a program gives word for word, of the class that fits what it asks for."""
    match = _OWN_WORDS.fullmatch(words)
    if match is None or response is None or match[2] != _CLASS.get(response):
        return None
    return Reply(int(match[1]), (match[3].encode("ascii"),))


def _changes(message: Message, output: Output) -> Changes:
    """What has to be changed to make the message that was given back of the one that came."""
    after = Message(lambda: _with_whole_lines(without_strays(output.pieces())))
    if not output.size or after.header_is_too_large or (message.header.fields and not after.header.fields):
        raise ScannerFailure("what it gave back does not begin with the header of a message")
    return Changes(edits_between(message.header, after.header), _body(message, after))


def _with_whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """With an end of the last line."""
    tail = b"\r\n"
    for piece in pieces:
        yield piece
        tail = (tail + piece)[-2:]
    if tail != b"\r\n":
        yield b"\r\n"


def _body(before: Message, after: Message) -> Body | None:
    """The new body, None where it is the old one."""
    return None if _same(before.body(), after.body()) else after.body


def _same(one: Iterator[bytes], other: Iterator[bytes]) -> bool:
    """Are these the same bytes, however they are cut?"""
    return all(a == b for a, b in zip_longest(_blocks(one), _blocks(other)))


def _blocks(pieces: Iterator[bytes], size: int = 65536) -> Iterator[bytes]:
    """The same bytes in pieces of one size, the last one shorter."""
    held = b""
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held
