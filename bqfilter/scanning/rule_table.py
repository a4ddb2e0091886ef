"""A table of rules in the syntax of header_checks(5): a file, and what it says about a piece of text.

Rules are tried in the order of the file, and the first one that applies decides. What Postfix warns of and
passes over, a rule that cannot be understood for example, is an error here that names the line: tables are
read before a worker starts, so nobody finds out too late.

Which text is looked up, and what becomes of the action, is not the table's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bqfilter.errors import ConfigError
from bqfilter.scanning.rule_action import Action, Verb
from bqfilter.scanning.rule_lines import LogicalLine, logical_lines
from bqfilter.scanning.rule_pattern import AnyOf, Groups, Pattern, Subject, Written

_KEYWORD = re.compile(rb"(if|endif)(?![A-Za-z0-9])\s*(.*)", re.IGNORECASE | re.DOTALL)

Vet = Callable[[Action], None]
"""Raises ValueError where an action cannot be had in this place."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A rule that applies, and what its pattern has found, if its text asks for that."""

    place: str  # "header_checks:12"
    action: Action
    groups: Groups = ()
    is_decoded: bool = False  # it was found in the decoded form alone, so its groups are UTF-8

    @property
    def text(self) -> bytes:
        """The text of the action, filled in."""
        return self.action.text.render(self.groups)

    def text_in(self, written: Callable[[bytes], bytes]) -> bytes:
        """The same, with all that is UTF-8 `written` otherwise: what was found as it stands is not."""
        groups = tuple(map(written, self.groups)) if self.is_decoded else self.groups
        return self.action.text.render(groups, written)


@dataclass(frozen=True, slots=True)
class _Rule:
    """`action` None is an "if"; where its pattern does not apply, the search goes on at `otherwise`."""

    line: int
    pattern: Pattern
    action: Action | None
    otherwise: int


class Table:
    """One table; `name` is what findings call it."""

    def __init__(self, name: str, rules: Sequence[_Rule], any_of: AnyOf) -> None:
        self._name = name
        self._rules = tuple(rules)
        self._any_of = any_of

    @property
    def rule_count(self) -> int:
        """Without its conditions."""
        return sum(rule.action is not None for rule in self._rules)

    def may_apply_to_lines(self, lines: Subject) -> bool:
        """False only where no rule would be found for any of these lines, which have LF between them."""
        return not self._any_of.is_for_lines or self._any_of.may_be_found(lines)

    def find(self, subject: Subject) -> Applied | None:
        """The first rule that applies; None or a DUNNO, if that is all, in a last table."""
        if not self._any_of.may_be_found(subject):
            return None
        at = 0
        while at < len(self._rules):
            rule = self._rules[at]
            applies = rule.pattern.applies(subject)
            if applies and rule.action is not None:
                return self._applied(rule.line, rule.pattern, rule.action, subject)
            at = at + 1 if applies else rule.otherwise
        return None

    def _applied(self, line: int, pattern: Pattern, action: Action, subject: Subject) -> Applied:
        place = f"{self._name}:{line}"
        if not action.text.highest:
            return Applied(place, action)
        is_decoded = subject.decoded is not None and not pattern.finds_raw(subject)
        return Applied(place, action, pattern.find(subject) or (), is_decoded)


def read_table(path: str, vet: Vet, decodes: bool, *, is_last: bool = False, of_lines: bool = False) -> Table:
    """The table in a file. Raises ConfigError, which names file and line.

    With `of_lines` it is asked about single lines alone, so that many can be looked at together. With
    `is_last` no other is asked behind it, so that a rule with DUNNO does no more than to keep those below it
    from being tried.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return parse_table(Path(path).name, content, vet, decodes, is_last=is_last, of_lines=of_lines)
    except ValueError as error:
        raise ConfigError(f"{path}, {error}") from error


def parse_table(
    name: str, content: bytes, vet: Vet, decodes: bool, *, is_last: bool = False, of_lines: bool = False
) -> Table:
    """The table that `content` holds. Raises ValueError, which names the line."""
    builder = _Builder(vet, decodes, is_last)
    for line in logical_lines(content):
        try:
            builder.add(line)
        except ValueError as error:
            raise ValueError(f"line {line.number}: {error}") from error
    return Table(name, builder.finished(), AnyOf(builder.outermost, decodes, of_lines=of_lines))


class _Builder:
    """The rules of a table so far, and the conditions that are open."""

    def __init__(self, vet: Vet, decodes: bool, is_last: bool) -> None:
        self._vet = vet
        self._decodes = decodes
        self._is_last = is_last
        self._rules: list[_Rule] = []
        self._open: list[tuple[int, LogicalLine, Pattern]] = []
        self.outermost: list[Written] = []  # one of these is found where any rule does something

    def add(self, line: LogicalLine) -> None:
        """Raises ValueError."""
        keyword = _KEYWORD.fullmatch(line.text)
        if keyword is None:
            self._add_rule(line)
        elif keyword[1].lower() == b"if":
            self._begin(line, keyword[2])
        else:
            self._end(keyword[2])

    def finished(self) -> list[_Rule]:
        """Raises ValueError where a condition is still open."""
        if self._open:
            raise ValueError(f'line {self._open[-1][1].number}: "if" without "endif"')
        return self._rules

    def _add_rule(self, line: LogicalLine) -> None:
        written, words = Written.split_off(line.text)
        pattern = Pattern(written, self._decodes)
        action = Action.parse(words)
        self._vet(action)
        _check_groups(pattern, action)
        if not (self._is_last and action.verb is Verb.DUNNO):
            self._note(written)
        self._rules.append(_Rule(line.number, pattern, action, len(self._rules) + 1))

    def _begin(self, line: LogicalLine, rest: bytes) -> None:
        written, more = Written.split_off(rest)
        pattern = Pattern(written, self._decodes)
        if more:
            raise ValueError('text behind the pattern of "if"; do the lines below it begin with a blank?')
        self._note(written)
        self._open.append((len(self._rules), line, pattern))
        self._rules.append(_Rule(line.number, pattern, None, 0))

    def _end(self, rest: bytes) -> None:
        if rest:
            raise ValueError('text behind "endif"; does the line below it begin with a blank?')
        if not self._open:
            raise ValueError('"endif" without "if"')
        at, line, pattern = self._open.pop()
        self._rules[at] = _Rule(line.number, pattern, None, len(self._rules))

    def _note(self, written: Written) -> None:
        if not self._open:
            self.outermost.append(written)


def _check_groups(pattern: Pattern, action: Action) -> None:
    highest = action.text.highest
    if highest and pattern.is_negated:
        raise ValueError(f"${highest}: a pattern that is not found has no groups")
    if highest > pattern.group_count:
        raise ValueError(f"${highest}: the pattern has {pattern.group_count} groups in parentheses")
