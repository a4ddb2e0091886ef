"""Patterns of rules, "/pattern/flags" as pcre_table(5) has them, matched by RE2 in linear time.

A pattern looks at a text in two forms: as it stands, byte by byte, as Postfix does, and decoded, as
characters. It matches when it finds itself in either; negated, when it finds itself in neither.

What needs backtracking (lookaround, backreferences, possessive quantifiers) cannot be done in linear time
and is an error that says so. `\\<` and `\\>` are errors as well: to a regexp table they are the borders of a
word, to a pcre table plain characters, and one of the two readings would fail without a sound.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import re2  # type: ignore[import-untyped]  # it has no types; all that is used of it is in this module

from bqfilter.scanning.rule_lines import BLANKS

# What RE2 may use for a pattern and for the states that matching leads to; beyond it states are forgotten
# and matching goes on, slower but in linear time. Hostile mail can fill it, in every worker and for every
# pattern, so it is small. A pattern that cannot be compiled within it, a list of thousands of words perhaps,
# and all patterns of a table in one get the larger one.
_PATTERN_BYTES = 1 << 20
_LARGE_PATTERN_BYTES = 1 << 24

_ALL_FLAGS = frozenset("imsxAEUX")  # of pcre_table(5)
_USUAL_FLAGS = frozenset("is")  # letter case does not matter, and "." matches a line end as well
_RE2_FLAGS = "imsU"
_BEHIND = re.compile(rb"([^\s]*)\s*(.*)", re.DOTALL)
# What is true of a whole text and not of each of its lines: its ends, and the flag m switched off. All else
# that RE2 has (no lookaround, and no \Z) says the same of a line by itself as of one between line ends.
_OF_WHOLE_TEXT = re.compile(rb"\\[Az]|\(\?[A-Za-z]*-[A-Za-z]*m")
_TOKEN = re.compile(rb"\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|.", re.DOTALL)

_NO_LOOKAROUND = (
    "lookaround and atomic groups are not supported, because matching takes linear time: "
    'use "if !/.../", or a rule with DUNNO in front of this one'
)
_NO_BACKREFERENCES = "backreferences are not supported, because matching takes linear time"
_NO_POSSESSIVE = 'possessive quantifiers are not supported, and not needed: leave out the second "+"'

# What RE2 says, and what the author of a rule can do about it.
_HINTS = (
    (r"invalid perl operator: \(\?(?:[=!>|]|<[=!])", _NO_LOOKAROUND),
    (r"invalid escape sequence: \\[1-9gk]", _NO_BACKREFERENCES),
    (r"bad repetition operator: .*\+$", _NO_POSSESSIVE),
    (r"invalid escape sequence: \\Z", r"write \z or $"),
    (r"invalid repetition size", "at most 1000 repetitions, those inside each other multiplied"),
    (r"pattern too large", "make several rules of it"),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is matched against patterns: text as it stands, and decoded to UTF-8; None where there is none."""

    raw: bytes | None
    decoded: bytes | None = None


Groups = tuple[bytes, ...]
"""What a pattern has found, and each of its groups behind that; empty where a group had no part in it."""


@dataclass(frozen=True, slots=True)
class Written:
    """A pattern as its author wrote it, and the flags that are on."""

    source: bytes
    flags: frozenset[str] = _USUAL_FLAGS
    is_negated: bool = False

    @classmethod
    def split_off(cls, line: bytes) -> tuple[Written, bytes]:
        """The pattern at the beginning of a line, and what stands behind it. Raises ValueError."""
        rest = line.lstrip(b"!" + BLANKS)
        is_negated = line[: len(line) - len(rest)].count(b"!") % 2 == 1
        if not rest or rest[:1].isalnum() or rest[:1] == b"\\":
            raise ValueError("a pattern is wanted, between two delimiters: /pattern/")
        end = _closing_delimiter(rest)
        behind = _BEHIND.match(rest, end + 1)
        assert behind is not None  # noqa: S101  (it matches everything)
        return cls(rest[1:end], _flags(behind[1]), is_negated), behind[2]

    @property
    def inline(self) -> bytes:
        """The whole of it as one group, flags included."""
        return self._group(self.flags)

    @property
    def of_lines(self) -> bytes | None:
        """The same for many lines at once, with LF between them: found where it is found in one of them.

        It may be found elsewhere too, in several lines together, though "." stays within one: there is no LF
        in a line. None where there is no such thing.
        """
        if self.is_negated or "A" in self.flags or _OF_WHOLE_TEXT.search(self._body):
            return None
        return self._group((self.flags | {"m"}) - {"s"})

    @property
    def _body(self) -> bytes:
        return _without_blanks(self.source) if "x" in self.flags else self.source

    def _group(self, flags: frozenset[str]) -> bytes:
        body = rb"\A(?:%b)" % self._body if "A" in flags else self._body
        on = "".join(flag for flag in _RE2_FLAGS if flag in flags)
        off = "".join(flag for flag in _RE2_FLAGS if flag not in flags)
        return b"(?%b%b:%b)" % (on.encode(), b"-" + off.encode() if off else b"", body)


class Pattern:
    """One pattern, compiled; with `decodes` for decoded text as well. Raises ValueError."""

    __slots__ = ("_found", "group_count", "is_negated")

    def __init__(self, written: Written, decodes: bool) -> None:
        _check(written.source)
        self._found = _Search(written.inline, _PATTERN_BYTES, decodes)
        self.group_count = self._found.group_count
        self.is_negated = written.is_negated

    def applies(self, subject: Subject) -> bool:
        """It is found, or negated and not found."""
        return (self._found.match(subject) is None) is self.is_negated

    def find(self, subject: Subject) -> Groups | None:
        """None where the pattern does not apply; no groups where it applies because it is not found."""
        found = self._found.match(subject)
        if self.is_negated:
            return () if found is None else None
        return None if found is None else (found.group(), *found.groups(b""))

    def finds_raw(self, subject: Subject) -> bool:
        """It is found in the text as it stands, which comes first."""
        return subject.raw is not None and self._found.match(Subject(subject.raw)) is not None


class AnyOf:
    """All of some patterns in one, to tell in one search that none of them is to be found.

    With `of_lines` all texts are lines, which have no LF. Then many of them may be asked about at once, with
    LF between them, where `is_for_lines` says so afterwards: not all patterns can be looked for in that way.
    """

    __slots__ = ("_searches", "is_for_lines")

    def __init__(self, written: Sequence[Written], decodes: bool, *, of_lines: bool = False) -> None:
        sources = [line for one in written if (line := one.of_lines) is not None] if of_lines else []
        self.is_for_lines = of_lines and len(sources) == len(written)
        if not self.is_for_lines:
            sources = [one.inline for one in written]
        self._searches: list[_Search] | None = None
        if not any(one.is_negated for one in written):
            self._searches = _joined(sources, decodes)

    def may_be_found(self, subject: Subject) -> bool:
        """False only where no pattern is found."""
        if self._searches is None:
            return True
        return any(search.match(subject) is not None for search in self._searches)


def _joined(sources: Sequence[bytes], decodes: bool) -> list[_Search] | None:
    """Few searches that find something where one of many would; None where they are too large in one.

    Text and what is none are kept apart: beside bytes that are no text all would be looked for as bytes.
    """
    text = [one for one in sources if _is_utf8(one)]
    other = [one for one in sources if not _is_utf8(one)]
    memory = _PATTERN_BYTES if len(sources) == 1 else _LARGE_PATTERN_BYTES
    try:
        return [_Search(b"|".join(ones), memory, decodes, captures=False) for ones in (text, other) if ones]
    except ValueError:
        return None


class _Search:
    """A pattern for bytes and, where it is text itself, for characters."""

    __slots__ = ("_bytes", "_characters")

    def __init__(self, source: bytes, memory: int, decodes: bool, captures: bool = True) -> None:
        self._bytes = _compile(source, re2.Options.Encoding.LATIN1, memory, captures)
        self._characters = self._bytes
        if decodes and _is_utf8(source):
            self._characters = _compile(source, re2.Options.Encoding.UTF8, memory, captures)

    @property
    def group_count(self) -> int:
        count: int = self._bytes.groups
        return count

    def match(self, subject: Subject) -> Any:
        """A match object of RE2, or None."""
        found = None
        if subject.raw is not None:
            found = self._bytes.search(subject.raw)
        if found is None and subject.decoded is not None:
            found = self._characters.search(subject.decoded)
        return found


def _compile(source: bytes, encoding: Any, memory: int, captures: bool) -> Any:
    options = re2.Options()
    options.encoding = encoding
    options.max_mem = memory
    options.never_capture = not captures
    options.log_errors = False
    try:
        return re2.compile(source, options)
    except re2.error as error:
        said = _sentence(error)
    if "too large" in said and memory < _LARGE_PATTERN_BYTES:
        return _compile(source, encoding, _LARGE_PATTERN_BYTES, captures)
    raise ValueError(_explained(said))


def _sentence(error: Exception) -> str:
    said = error.args[0] if error.args else "cannot be compiled"
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _explained(said: str) -> str:
    hints = [f" ({hint})" for pattern, hint in _HINTS if re.match(pattern, said)]
    return f"bad pattern: {said}{''.join(hints)}"


def _check(source: bytes) -> None:
    """By itself, before it stands in a group of ours, which would make "a)(b" look well."""
    _compile(source, re2.Options.Encoding.LATIN1, _PATTERN_BYTES, captures=True)
    for token in _TOKEN.findall(source):
        if token in (rb"\<", rb"\>"):
            raise ValueError(
                f"bad pattern: {token.decode()} means the border of a word to a regexp table and a plain "
                rf'"{token[1:].decode()}" to a pcre table: write \b, or the character alone'
            )


def _closing_delimiter(text: bytes) -> int:
    """Where the delimiter that `text` begins with stands next without a backslash in front."""
    at = 1
    while at < len(text) and text[at] != text[0]:
        at += 2 if text[at] == ord("\\") else 1
    if at >= len(text):
        raise ValueError(f"the pattern has no closing {text[:1].decode('latin-1')}")
    return at


def _flags(letters: bytes) -> frozenset[str]:
    """Each flag that is written turns what is usual round, and twice turns it back (as in Postfix)."""
    on = set(_USUAL_FLAGS)
    for flag in letters.decode("latin-1"):
        if flag == "!":
            raise ValueError('for a second pattern put the rule between "if !/.../" and "endif"')
        if flag not in _ALL_FLAGS:
            raise ValueError(f'no such flag "{flag}"; a blank is wanted between the pattern and the action')
        on ^= {flag}
    return frozenset(on)


def _without_blanks(source: bytes) -> bytes:
    """What flag x means: blanks outside of [...] and without a backslash in front stand for nothing."""
    tokens: list[bytes] = _TOKEN.findall(source)
    if b"#" in tokens:
        raise ValueError(r"bad pattern: with flag x, # would begin a comment up to its end: write \#")
    return b"".join(token for token in tokens if token.strip(b" \t\n\r\v\f"))


def _is_utf8(source: bytes) -> bool:
    try:
        source.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
