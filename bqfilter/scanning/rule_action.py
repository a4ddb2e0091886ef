"""Actions of rules: what header_checks(5) lets one do about a line, as values.

All that can be wrong with an action is found when it is read, except what depends on text that is filled in
later. Nothing is carried out here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bqfilter.config.content_kinds import ADDRESS
from bqfilter.scanning.rule_pattern import Groups


class Verb(StrEnum):
    """The actions, by the names that Postfix has for them where it has one."""

    REJECT = "REJECT"
    DEFER = "DEFER"
    DISCARD = "DISCARD"
    HOLD = "HOLD"
    PASS = "PASS"  # noqa: S105  (not a password)
    REDIRECT = "REDIRECT"
    BCC = "BCC"
    PREPEND = "PREPEND"
    REPLACE = "REPLACE"
    STRIP = "STRIP"
    IGNORE = "IGNORE"
    WARN = "WARN"
    INFO = "INFO"
    DUNNO = "DUNNO"

    @property
    def is_terminal(self) -> bool:
        """Nothing of the message is looked at behind it."""
        return self in (Verb.REJECT, Verb.DEFER, Verb.DISCARD, Verb.PASS)

    @property
    def is_edit(self) -> bool:
        """It changes the text that the pattern was found in."""
        return self in (Verb.PREPEND, Verb.REPLACE, Verb.STRIP, Verb.IGNORE)


_OTHER_NAMES = {"OK": Verb.DUNNO, "QUARANTINE": Verb.HOLD}
_NEED_TEXT = {
    Verb.PREPEND: "text",
    Verb.REPLACE: "text",
    Verb.REDIRECT: "an address",
    Verb.BCC: "an address",
}
_ELSEWHERE = {
    "FILTER": "bqfilterd has no transports, all mail goes on to the same place; a policy can choose "
    "scanners, and REDIRECT a recipient",
}
_STATUS = re.compile(rb"([245])\.\d{1,3}\.\d{1,3}(?=\s|\Z)")
_STATUS_CLASS = {Verb.REJECT: b"45", Verb.DEFER: b"4"}
_MACRO = re.compile(rb"\$(?:(\$)|\{(\d+)\}|\((\d+)\)|(\w+)|[^\s]{0,20})")


@dataclass(frozen=True, slots=True)
class Template:
    """Text in which numbers stand for groups of the pattern."""

    pieces: tuple[bytes | int, ...] = ()

    @classmethod
    def parse(cls, text: bytes) -> Template:
        """From "a $1 b ${2} c $(3) d $$". Raises ValueError."""
        pieces: list[bytes | int] = []
        at = 0
        for macro in _MACRO.finditer(text):
            pieces += [text[at : macro.start()], _reference(macro)]
            at = macro.end()
        return cls(tuple(piece for piece in [*pieces, text[at:]] if piece != b""))

    @property
    def highest(self) -> int:
        """The largest number of a group in it, 0 where it has none."""
        return max((piece for piece in self.pieces if isinstance(piece, int)), default=0)

    @property
    def literal(self) -> bytes | None:
        """What it says whatever is found; None where that depends."""
        return None if self.highest else self.render(())

    def render(self, groups: Groups, written: Callable[[bytes], bytes] = bytes) -> bytes:
        """With what was found, and its own text `written` in some way."""
        return b"".join(groups[piece] if isinstance(piece, int) else written(piece) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Action:
    """One action; `status` is the enhanced status code that a refusal begins with, if it has one."""

    verb: Verb
    text: Template = Template()
    status: bytes = b""

    @classmethod
    def parse(cls, words: bytes) -> Action:
        """From "REJECT 5.7.1 No $1 here". Raises ValueError."""
        name, _, rest = words.replace(b"\t", b" ").partition(b" ")
        verb = _verb(name.decode("latin-1"))
        text = words[len(name) :].strip()
        if not rest.strip() and verb in _NEED_TEXT:
            raise ValueError(f"{verb} needs {_NEED_TEXT[verb]}")
        status, text = _status(verb, text)
        template = Template.parse(text)
        _check(verb, template)
        return cls(_milder(verb, status), template, status)


def check_field(action: Action) -> None:
    """Raises ValueError where an edit of a header is known to write no field, whatever is filled in."""
    literal = action.text.literal
    if action.verb in (Verb.PREPEND, Verb.REPLACE) and literal is not None and not FIELD.fullmatch(literal):
        raise ValueError(f'{action.verb} takes a header field, "Name: value"')


def is_address(text: bytes) -> bool:
    """A message can be sent there: with a local part and a domain, and nothing else."""
    try:
        ADDRESS.read(text.decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        return False
    return True


FIELD = re.compile(rb"([!-9;-~]{1,76})[ \t]*:[ \t]*(.*)", re.DOTALL)
"""A header field, as text for PREPEND and REPLACE has to be one."""


def _verb(name: str) -> Verb:
    word = name.upper()
    if word in _ELSEWHERE:
        raise ValueError(f"{word} is not available: {_ELSEWHERE[word]}")
    if word in _OTHER_NAMES:
        return _OTHER_NAMES[word]
    if word not in set(Verb):
        known = ", ".join([*Verb, *_OTHER_NAMES])
        wrong = f'no such action "{name[:40]}"' if name else "no action"
        raise ValueError(f"{wrong}; there are {known}")
    return Verb(word)


def _status(verb: Verb, text: bytes) -> tuple[bytes, bytes]:
    """The enhanced status code of a refusal, and the text behind it."""
    match = _STATUS.match(text) if verb in _STATUS_CLASS else None
    if match is None:
        return b"", text
    if match[1] not in _STATUS_CLASS[verb]:
        wanted = " or ".join(f"{digit:c}.x.x" for digit in _STATUS_CLASS[verb])
        raise ValueError(f"{verb} takes an enhanced status code {wanted}, not {match[0].decode()}")
    return match[0], text[match.end() :].strip()


def _milder(verb: Verb, status: bytes) -> Verb:
    """REJECT with a code 4.x.x is a temporary refusal (cleanup_message.c)."""
    return Verb.DEFER if verb is Verb.REJECT and status.startswith(b"4") else verb


def _check(verb: Verb, text: Template) -> None:
    """What can be known of the text before anything is filled in."""
    literal = text.literal
    if literal is None:
        return
    if verb in (Verb.REDIRECT, Verb.BCC) and not is_address(literal):
        raise ValueError(f"{verb} takes {ADDRESS.allowed}")


def _reference(macro: re.Match[bytes]) -> bytes | int:
    if macro[1]:
        return b"$"
    number = macro[2] or macro[3] or macro[4] or b""
    if not number.isdigit() or not 1 <= int(number[:9]) <= 999:
        raise ValueError(f'"{macro[0].decode("latin-1")}" is no group of a pattern; "$$" is a dollar sign')
    return int(number)
