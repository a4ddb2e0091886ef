"""The kinds of values a setting can have: how each is read from TOML, checked, and written as TOML again.

`kind.read(value)` takes what the TOML parser found and answers the Python value, or raises ValueError with a
sentence of what is wrong; `kind.toml(value)` is TOML text that reads back to the same value. `kind.allowed`
says in a few words what may be written: messages and documentation quote it. A kind knows no names of keys
and no defaults.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

from bqfilter.config.units import format_duration, format_size, parse_duration, parse_size
from bqfilter.net.address import Endpoint, Network, parse_network

# A path or name longer than this is a mistake (PATH_MAX).
_MAX_TEXT = 4096


class Kind(Protocol):
    """What a setting's metadata holds; the values are typed by the dataclass field they belong to."""

    @property
    def name(self) -> str:
        """One or two words for the documentation: "duration"."""

    @property
    def allowed(self) -> str:
        """What may be written, range included: "a duration from 1s to 1h"."""

    def read(self, value: object) -> Any:
        """The Python value of a TOML value, or ValueError."""

    def toml(self, value: Any) -> str:
        """The value as TOML text."""


def quote(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a string is wanted")
    if len(value) > _MAX_TEXT:
        raise ValueError("the string is too long")
    return value


def _check_range(value: float, minimum: float, maximum: float) -> None:
    if not minimum <= value <= maximum:
        raise ValueError("out of range")


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number without a unit."""

    minimum: int
    maximum: int
    name: str = "count"

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"

    def read(self, value: object) -> int:
        # TOML's true is Python's True, and that is an int.
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("a whole number is wanted")
        _check_range(value, self.minimum, self.maximum)
        return value

    def toml(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds, written with a unit; only 0 may stand alone, because it means the same in every unit."""

    minimum: float
    maximum: float
    name: str = "duration"

    @property
    def allowed(self) -> str:
        return f"a duration from {format_duration(self.minimum)} to {format_duration(self.maximum)}"

    def read(self, value: object) -> float:
        seconds = 0.0 if _is_bare_zero(value) else parse_duration(_with_unit(value, "30s"))
        _check_range(seconds, self.minimum, self.maximum)
        return seconds

    def toml(self, value: float) -> str:
        return quote(format_duration(value))


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes, written with a unit; only 0 may stand alone."""

    minimum: int
    maximum: int
    name: str = "size"

    @property
    def allowed(self) -> str:
        return f"a size from {format_size(self.minimum)} to {format_size(self.maximum)}"

    def read(self, value: object) -> int:
        size = 0 if _is_bare_zero(value) else parse_size(_with_unit(value, "25MiB"))
        _check_range(size, self.minimum, self.maximum)
        return size

    def toml(self, value: int) -> str:
        return quote(format_size(value))


def _is_bare_zero(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == 0


def _with_unit(value: object, example: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"write a unit, for example {quote(example)}")
    return _text(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]
    name: str = "word"

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(quote(word) for word in self.words)

    def read(self, value: object) -> str:
        if _text(value) not in self.words:
            raise ValueError("no such choice")
        return _text(value)

    def toml(self, value: str) -> str:
        return quote(value)


@dataclass(frozen=True, slots=True)
class Text:
    """A string of a given shape; `allowed` puts the pattern into words."""

    name: str
    pattern: str
    allowed: str

    def read(self, value: object) -> str:
        text = _text(value)
        if not re.fullmatch(self.pattern, text):
            raise ValueError("not of the right form")
        return text

    def toml(self, value: str) -> str:
        return quote(value)


# Control characters would reach the log and other programs' command lines.
_PATH = r"/[^\x00-\x1f\x7f]*"
_ACCOUNT = r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?"
# It is put into replies as it stands: letters, digits, hyphens and dots, so no CR, LF or blank can get there.
_HOST_NAME = (
    r"(?=.{1,255}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)

DIRECTORY = Text("path", _PATH, "an absolute path")
USER = Text("user", _ACCOUNT, "the name of a user")
GROUP = Text("group", f"(?:{_ACCOUNT})?", 'the name of a group, or "" for none')
# RFC 3164 has 32 characters for it, and an end where anything else comes; Postfix's own names have a slash.
LOG_IDENT = Text("log name", "[A-Za-z0-9][A-Za-z0-9_./-]{0,31}", "up to 32 letters, digits or . _ - /")
HOST_NAME = Text("host name", f"(?:{_HOST_NAME})?", 'a host name, or "" for the machine\'s own')


@dataclass(frozen=True, slots=True)
class FileMode:
    """Permission bits, written in octal as chmod(1) takes them; a TOML number would be read as decimal."""

    name: str = "file mode"
    allowed: str = 'an octal mode in quotes from "0000" to "0777"'

    def read(self, value: object) -> int:
        if not isinstance(value, str) or not re.fullmatch("0?[0-7]{3}", value):
            raise ValueError('write it in octal and in quotes, for example "0660"')
        return int(value, 8)

    def toml(self, value: int) -> str:
        return quote(f"{value:04o}")


@dataclass(frozen=True, slots=True)
class EndpointKind:
    """Where to listen or to connect; only a listener may leave the choice of a port to the kernel."""

    any_port: bool = False
    name: str = "endpoint"
    allowed: str = '"inet:HOST:PORT" or "unix:/PATH"'

    def read(self, value: object) -> Endpoint:
        endpoint = Endpoint.parse(_text(value))
        if endpoint.scheme == "inet" and endpoint.port == 0 and not self.any_port:
            raise ValueError("nobody can be called on port 0")
        return endpoint

    def toml(self, value: Endpoint) -> str:
        return quote(str(value))


@dataclass(frozen=True, slots=True)
class OptionalEndpoint:
    """Where to listen, if anywhere; "" is None."""

    name: str = "endpoint"
    allowed: str = '"inet:HOST:PORT", "unix:/PATH", or "" for none'

    def read(self, value: object) -> Endpoint | None:
        return Endpoint.parse(_text(value)) if value != "" else None

    def toml(self, value: Endpoint | None) -> str:
        return quote(str(value or ""))


@dataclass(frozen=True, slots=True)
class NetworkKind:
    """A network, or one address."""

    name: str = "network"
    allowed: str = '"ADDRESS/PREFIX" or "ADDRESS", IPv4 or IPv6'

    def read(self, value: object) -> Network:
        return parse_network(_text(value))

    def toml(self, value: Network) -> str:
        single = value.prefixlen == value.max_prefixlen
        return quote(str(value.network_address if single else value))


@dataclass(frozen=True, slots=True)
class Decimal:
    """A number that may have a fraction and has no unit: a score."""

    minimum: float
    maximum: float
    name: str = "number"

    @property
    def allowed(self) -> str:
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def read(self, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError("a number is wanted")
        _check_range(value, self.minimum, self.maximum)
        return float(value)

    def toml(self, value: float) -> str:
        return repr(value)


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array of values of one kind, each of them once if `unique`."""

    item: Kind
    minimum: int = 0
    unique: bool = True

    @property
    def name(self) -> str:
        return f"list of {self.item.name}s"

    @property
    def allowed(self) -> str:
        at_least = f" with at least {self.minimum} element" if self.minimum else ""
        return f"an array{at_least}, each {self.item.allowed}"

    def read(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError("an array is wanted")
        items = tuple(self._read_item(number, item) for number, item in enumerate(value, start=1))
        if len(items) < self.minimum:
            raise ValueError("the array is too short")
        if self.unique and len(set(items)) < len(items):
            raise ValueError("an element stands twice")
        return items

    def _read_item(self, number: int, item: object) -> Any:
        try:
            return self.item.read(item)
        except ValueError as error:
            raise ValueError(f"element {number}: {error}") from error

    def toml(self, value: tuple[Any, ...]) -> str:
        return "[" + ", ".join(self.item.toml(item) for item in value) + "]"


@dataclass(frozen=True, slots=True)
class Single:
    """A list of exactly one element, written without the brackets."""

    item: Kind

    @property
    def name(self) -> str:
        return self.item.name

    @property
    def allowed(self) -> str:
        return self.item.allowed

    def read(self, value: object) -> tuple[Any, ...]:
        return (self.item.read(value),)

    def toml(self, value: tuple[Any, ...]) -> str:
        (only,) = value
        return self.item.toml(only)
