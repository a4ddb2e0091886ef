"""One value per command, and the function that makes it from a line.

A merely wrong command is a value too: `Malformed` carries the reply that it earns and walks the same road as
all others. MAIL and RCPT keep their line byte for byte, because that line is what the after-filter server is
given; what is parsed out of it serves policy and log alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from bqfilter.smtp import grammar, replies
from bqfilter.smtp.replies import Reply

_SIZE = re.compile(rb"(?i)\ASIZE=[0-9]+\Z")


@dataclass(frozen=True, slots=True)
class Ehlo:
    verb: ClassVar[str] = "EHLO"
    name: bytes


@dataclass(frozen=True, slots=True)
class Helo:
    verb: ClassVar[str] = "HELO"
    name: bytes


@dataclass(frozen=True, slots=True)
class XForward:
    """Facts about the remote client: attribute name in upper case, value as it stood on the wire (xtext).

    Unknown names are left out here: Postfix ignores what it does not know, and so do we.
    """

    verb: ClassVar[str] = "XFORWARD"
    attributes: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Mail:
    verb: ClassVar[str] = "MAIL"
    line: bytes
    address: bytes
    parameters: bytes


@dataclass(frozen=True, slots=True)
class Rcpt:
    verb: ClassVar[str] = "RCPT"
    line: bytes
    address: bytes
    parameters: bytes


@dataclass(frozen=True, slots=True)
class Data:
    verb: ClassVar[str] = "DATA"


@dataclass(frozen=True, slots=True)
class EndOfData:
    """Not a line of its own making: CRLF.CRLF has been seen."""

    verb: ClassVar[str] = "END-OF-MESSAGE"


@dataclass(frozen=True, slots=True)
class Rset:
    verb: ClassVar[str] = "RSET"


@dataclass(frozen=True, slots=True)
class Noop:
    verb: ClassVar[str] = "NOOP"


@dataclass(frozen=True, slots=True)
class Vrfy:
    verb: ClassVar[str] = "VRFY"


@dataclass(frozen=True, slots=True)
class Help:
    verb: ClassVar[str] = "HELP"


@dataclass(frozen=True, slots=True)
class Quit:
    verb: ClassVar[str] = "QUIT"


@dataclass(frozen=True, slots=True)
class Malformed:
    verb: ClassVar[str] = "UNKNOWN"
    reply: Reply


Command = (
    Ehlo | Helo | XForward | Mail | Rcpt | Data | EndOfData | Rset | Noop | Vrfy | Help | Quit | Malformed
)


def parse_command(line: bytes) -> Command:
    """Read one command line, given without its line end; letter case and surrounding blanks do not matter."""
    if b"\r" in line or b"\0" in line:
        # Forwarded as it is, such a line could read differently on the other side.
        return Malformed(replies.STRAY_CONTROL)
    words = line.split(None, 1)
    if not words:
        return Malformed(replies.UNKNOWN_COMMAND)
    parse = _PARSERS.get(words[0].upper())
    if parse is None:
        return Malformed(replies.UNKNOWN_COMMAND)
    return parse(line, words[1] if len(words) == 2 else b"")


def honest_mail(mail: Mail, size: int, *, is_8bit: bool) -> bytes:
    """The client's MAIL line for content that is not the client's any more.

    A size that it declared is the new one (RFC 1870 section 6.1), and eight-bit bytes are declared
    (RFC 6152); every other parameter stays.
    """
    stripped = mail.line.rstrip()
    head = stripped.removesuffix(mail.parameters).rstrip()
    words = [_SIZE.sub(b"SIZE=%d" % size, word) for word in mail.parameters.split()]
    if is_8bit:
        words = [word for word in words if not word.upper().startswith(b"BODY=")] + [b"BODY=8BITMIME"]
    return b" ".join([head, *words])


def rcpt_line(address: bytes, parameters: bytes = b"") -> bytes:
    """A RCPT line of our own."""
    return b"RCPT TO:<%b>" % address + (b" " + parameters if parameters else b"")


def over_long(head: bytes) -> Command:
    """The command for a line beyond the limit, of which only the `head` was kept.

    XFORWARD is never refused: Postfix would answer 451 to every message of that client.
    """
    if head.lstrip()[:9].upper() == b"XFORWARD ":
        return XForward(())
    return Malformed(replies.LINE_TOO_LONG)


def _parse_ehlo(_line: bytes, argument: bytes) -> Command:
    return Ehlo(argument.strip()) if argument.strip() else Malformed(replies.HELO_SYNTAX)


def _parse_helo(_line: bytes, argument: bytes) -> Command:
    return Helo(argument.strip()) if argument.strip() else Malformed(replies.HELO_SYNTAX)


def _parse_xforward(_line: bytes, argument: bytes) -> Command:
    known = []
    for word in argument.split():
        name, _, value = word.partition(b"=")
        name = name.upper()
        if name in grammar.XFORWARD_VALUES:
            known.append((name, value))
    return XForward(tuple(known))


def _parse_mail(line: bytes, argument: bytes) -> Command:
    match = grammar.FROM.match(argument)
    if match is None:
        return Malformed(replies.MAIL_SYNTAX)
    return Mail(line, *grammar.parse_path(argument[match.end() :]))


def _parse_rcpt(line: bytes, argument: bytes) -> Command:
    match = grammar.TO.match(argument)
    if match is None:
        return Malformed(replies.RCPT_SYNTAX)
    return Rcpt(line, *grammar.parse_path(argument[match.end() :]))


def _parse_data(_line: bytes, argument: bytes) -> Command:
    # Postfix forwards the client's own line: "data " with a blank behind it is seen in the wild.
    return Malformed(replies.DATA_SYNTAX) if argument.strip() else _DATA


_DATA, _RSET, _NOOP, _VRFY, _HELP, _QUIT = Data(), Rset(), Noop(), Vrfy(), Help(), Quit()

_PARSERS: dict[bytes, Callable[[bytes, bytes], Command]] = {
    b"EHLO": _parse_ehlo,
    b"HELO": _parse_helo,
    b"XFORWARD": _parse_xforward,
    b"MAIL": _parse_mail,
    b"RCPT": _parse_rcpt,
    b"DATA": _parse_data,
    b"RSET": lambda _line, _argument: _RSET,
    b"NOOP": lambda _line, _argument: _NOOP,
    b"VRFY": lambda _line, _argument: _VRFY,
    b"HELP": lambda _line, _argument: _HELP,
    b"QUIT": lambda _line, _argument: _QUIT,
}
