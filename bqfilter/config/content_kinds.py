"""The kinds of values that only the tables about content have: actions, addresses, replies, header lines.

As in `kinds`, each is read from TOML, checked, and written as TOML again. Whatever ends up in a reply or a
header is checked here to the last character, so that no setting can put a CR or LF on the wire.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import Any

from bqfilter.config.actions import Action, Response
from bqfilter.config.kinds import Kind, Text, quote
from bqfilter.smtp.replies import MAX_LINE_BYTES, Reply

_QUOTING = re.compile(rb'"|\\(.)|\\$', re.DOTALL)  # of a local part (RFC 5321 section 4.1.2)
_MAX_LIST_TEXT = 998  # RFC 5322 section 2.1.1: no header line is longer
_FIELDS = frozenset({"detail", "scanner", "score", "id"})

SCANNER_NAME = Text("name", r"[a-z][a-z0-9_-]{0,30}", "lower-case letters, digits, - and _, at most 31")
OPTIONAL_HEADER = Text(
    "header name", r"(?:[A-Za-z][A-Za-z0-9-]{0,60})?", 'a header field name, or "" for none'
)
HEADER_NAME = Text("header name", r"[!-9;-~]{1,76}", "a header field name")
OPTIONAL_TEXT = Text(
    "text", r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,200}", 'text without control characters, or ""'
)
_ADDRESS = r"[!-~]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,253}|[!-~]{1,64}@\[[0-9A-Fa-f:.]{2,45}\]"
ADDRESS = Text("address", rf"(?!.*[<>()\s\",\\])(?:{_ADDRESS})", 'an address "user@example.com"')
OPTIONAL_ADDRESS = Text(
    "address", rf"(?:(?!.*[<>()\s\",\\])(?:{_ADDRESS}))?", 'an address "user@example.com", or "" for none'
)


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    name: str = "flag"
    allowed: str = "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError("true or false is wanted, without quotes")
        return value

    def toml(self, value: bool) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class ResponseKind:
    """An action, with or without a copy in the quarantine; `actions` are those that make sense here."""

    actions: tuple[Action, ...] = tuple(Action)
    name: str = "action"

    @property
    def allowed(self) -> str:
        words = ", ".join(quote(str(action)) for action in self.actions)
        return f'one of {words}; with "+quarantine" behind it a copy is kept besides'

    def read(self, value: object) -> Response:
        if not isinstance(value, str):
            raise ValueError("a string is wanted")
        response = Response.parse(value)
        if response.action not in self.actions:
            raise ValueError("not possible here")
        return response

    def toml(self, value: Response) -> str:
        return quote(str(value))


@dataclass(frozen=True, slots=True)
class AddressPattern:
    """Which addresses are meant: `local` and `domain` empty for any; `below` means all subdomains instead.

    Domains are compared without regard to letter case, and so are local parts, as Postfix compares them.
    Quotes in a local part, and a dot behind a domain, make no other address of it: Postfix takes them away.
    """

    local: bytes = b""
    domain: bytes = b""
    below: bool = False
    is_null: bool = False

    @classmethod
    def parse(cls, text: str) -> AddressPattern:
        """From "user@example.com", "user@", "@example.com", "@.example.com" or "<>". Raises ValueError."""
        if text == "<>":
            return cls(is_null=True)
        local, at, domain = text.lower().rpartition("@")
        if not at or not (local or domain) or not re.fullmatch(r"[^\s<>\x00-\x1f\x7f]*", text):
            raise ValueError("not an address pattern")
        below = domain.startswith(".")
        return cls(_QUOTING.sub(rb"\1", local.encode()), domain.removeprefix(".").encode(), below)

    def matches(self, address: bytes) -> bool:
        """Is this address, without its brackets, meant?"""
        if self.is_null or not address:
            return self.is_null and not address
        local, domain = _halves(address.lower())
        if self.local and local != self.local:
            return False
        if self.below:
            return domain.endswith(b"." + self.domain)
        return not self.domain or domain == self.domain

    def __str__(self) -> str:
        if self.is_null:
            return "<>"
        return f"{self.local.decode()}@{'.' if self.below else ''}{self.domain.decode()}"


def _halves(address: bytes) -> tuple[bytes, bytes]:
    """Local part and domain of an address, each in its plainest form; one without a domain is local."""
    local, at, domain = address.rpartition(b"@")
    if not at:
        local, domain = domain, b""
    if b'"' in local or b"\\" in local:
        local = _QUOTING.sub(rb"\1", local)
    return local, domain.removesuffix(b".")


@dataclass(frozen=True, slots=True)
class AddressPatternKind:
    """Addresses, domains, or the null sender."""

    name: str = "address pattern"
    allowed: str = '"user@example.com", "user@", "@example.com", "@.example.com" for all subdomains, or "<>"'

    def read(self, value: object) -> AddressPattern:
        if not isinstance(value, str) or len(value) > _MAX_LIST_TEXT:
            raise ValueError("a string is wanted")
        return AddressPattern.parse(value)

    def toml(self, value: AddressPattern) -> str:
        return quote(str(value))


@dataclass(frozen=True, slots=True)
class ReplyTemplate:
    """A refusal in the operator's words; {detail}, {scanner}, {score} and {id} are filled in."""

    code: int
    text: str

    @classmethod
    def parse(cls, line: str) -> ReplyTemplate:
        """From "554 5.7.1 Refused: {detail}". Raises ValueError."""
        match = re.fullmatch(r"([45][0-9]{2}) (([45])\.[0-9]{1,3}\.[0-9]{1,3} [ -~]{1,400})", line)
        if match is None or match[1][0] != match[3]:
            raise ValueError("a reply is a code, an enhanced code of the same class, and ASCII text")
        if match[1] in ("421", "521"):
            raise ValueError("with 421 and 521 Postfix would hang up on the remote client")
        _check_fields(match[2])
        return cls(int(match[1]), match[2])

    def render(self, **fields: str) -> Reply:
        """The reply; what is filled in is cleaned of all that cannot travel, and cut to one line."""
        clean = {name: _one_line(fields.get(name, "")) for name in _FIELDS}
        text = self.text.format_map(clean)
        return Reply(self.code, (text.encode("ascii", "replace")[: MAX_LINE_BYTES - len(b"554 \r\n")],))

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


@dataclass(frozen=True, slots=True)
class ReplyKind:
    """A template of a reply."""

    name: str = "reply"
    allowed: str = (
        'a reply like "554 5.7.1 Refused: {detail}" in ASCII, 4xx or 5xx but not 421 or 521; {detail}, '
        "{scanner}, {score} and {id} are filled in"
    )

    def read(self, value: object) -> ReplyTemplate:
        if not isinstance(value, str):
            raise ValueError("a string is wanted")
        return ReplyTemplate.parse(value)

    def toml(self, value: ReplyTemplate) -> str:
        return quote(str(value))


@dataclass(frozen=True, slots=True)
class HeaderTemplate:
    """A header field to add, "Name: value", with the same fields to fill in as a reply."""

    field_name: str
    text: str

    @classmethod
    def parse(cls, line: str) -> HeaderTemplate:
        """Raises ValueError."""
        match = re.fullmatch(
            r"([A-Za-z][A-Za-z0-9-]{0,60}):[ ]*([^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,800})", line
        )
        if match is None:
            raise ValueError('a header field is written "Name: value", on one line')
        _check_fields(match[2])
        return cls(match[1], match[2])

    def render(self, **fields: str) -> str:
        """The value; what is filled in is cleaned of control characters."""
        return self.text.format_map({name: _one_line(fields.get(name, "")) for name in _FIELDS})

    def __str__(self) -> str:
        return f"{self.field_name}: {self.text}"


@dataclass(frozen=True, slots=True)
class HeaderKind:
    """A header field to add."""

    name: str = "header field"
    allowed: str = '"Name: value"; {detail}, {scanner}, {score} and {id} are filled in'

    def read(self, value: object) -> HeaderTemplate:
        if not isinstance(value, str):
            raise ValueError("a string is wanted")
        return HeaderTemplate.parse(value)

    def toml(self, value: HeaderTemplate) -> str:
        return quote(str(value))


@dataclass(frozen=True, slots=True)
class MapOf:
    """An inline table from names to values of one kind; kept as pairs, in the order of the file."""

    keys: Kind
    item: Kind

    @property
    def name(self) -> str:
        return f"map of {self.item.name}s"

    @property
    def allowed(self) -> str:
        return f"{{ NAME = VALUE, ... }}, NAME {self.keys.allowed}, VALUE {self.item.allowed}"

    def read(self, value: object) -> tuple[tuple[Any, Any], ...]:
        if not isinstance(value, dict):
            raise ValueError("an inline table { NAME = VALUE } is wanted")
        return tuple((self.keys.read(name), self._read_item(name, one)) for name, one in value.items())

    def _read_item(self, name: str, value: object) -> Any:
        try:
            return self.item.read(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def toml(self, value: tuple[tuple[Any, Any], ...]) -> str:
        pairs = [f"{self.keys.toml(name)} = {self.item.toml(one)}" for name, one in value]
        return "{ " + ", ".join(pairs) + " }" if pairs else "{}"


def _check_fields(text: str) -> None:
    """Only names that are known stand in braces. Raises ValueError."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"braces: {error}") from error
    for _, name, spec, conversion in parts:
        if name is not None and (name not in _FIELDS or spec or conversion):
            raise ValueError(
                f"{{{name}}} is not known; {', '.join(f'{{{one}}}' for one in sorted(_FIELDS))} are"
            )


def _one_line(text: str) -> str:
    """What a scanner said, fit for a reply or header: control characters and line ends become blanks."""
    return "".join(char if char.isprintable() else " " for char in text)[:200].strip()
