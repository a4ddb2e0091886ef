"""What a filter in Python sees: the message, its envelope, and the verdicts it can give.

    from bqfilter.api import Envelope, Message, Verdict, accept, reject

    def no_shouting(message: Message, envelope: Envelope) -> Verdict | None:
        subject = message.header("Subject", "")
        if subject.isupper() and len(subject) > 10:
            return reject("Please do not shout")
        return None

Names and meanings on this page stay as they are; nothing else of bqfilter is for filters. The manual is
docs/python-filters.md.

All of them are values. A verdict is checked when it is made: what would not fit into a header, a reply or an
envelope raises ValueError there, in the filter's own line, or is cleaned where it was put together from a
message. Header edits mean the header as the message came, also where several are asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from bqfilter.config.actions import DEFER, DISCARD, QUARANTINE, REJECT, TAG, Action, Response
from bqfilter.config.content_kinds import ADDRESS
from bqfilter.mail.encoded_words import decoded_text
from bqfilter.mail.envelope import Envelope as MailEnvelope
from bqfilter.mail.fields import make_field
from bqfilter.mail.message import Message as MailMessage
from bqfilter.smtp.body import without_strays
from bqfilter.smtp.replies import Reply

if TYPE_CHECKING:  # all of the package, for the filters alone that ask for it
    from email.message import EmailMessage

__all__ = [
    "EditKind",
    "Envelope",
    "Filter",
    "HeaderEdit",
    "Message",
    "Verdict",
    "accept",
    "defer",
    "discard",
    "found",
    "quarantine",
    "reject",
    "tag",
]

_MIB = 1024 * 1024
_MAX_TEXT = 400  # characters of a reply: with codes and line end far below the 512 bytes of RFC 5321
_MAX_DETAIL = 200
_ENHANCED = re.compile(r"([45])\.[0-9]{1,3}\.[0-9]{1,3}")
_HANGING_UP = frozenset({421, 521})  # Postfix would hang up on the remote client


class Message:
    """The message as it came, for reading only. Lines end in CRLF."""

    __slots__ = ("_message",)

    def __init__(self, message: MailMessage) -> None:
        self._message = message

    @classmethod
    def from_bytes(cls, content: bytes) -> Message:
        """A message with any line ends, for tests of a filter."""
        return cls(MailMessage.in_memory(b"".join(without_strays((content,)))))

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return self._message.size

    def header(self, name: str, default: str = "") -> str:
        """The decoded value of the first field of this name, `default` where there is none."""
        values = self.raw_headers(name)
        return decoded_text(values[0]) if values else default

    def headers(self, name: str) -> tuple[str, ...]:
        """The decoded values of all fields of this name, from the top."""
        return tuple(decoded_text(value) for value in self.raw_headers(name))

    def raw_headers(self, name: str) -> tuple[bytes, ...]:
        """The same as they came, only unfolded."""
        fields = self._message.header.all(name.encode("ascii", "replace"))
        return tuple(field.value for field in fields)

    def fields(self) -> tuple[tuple[str, str], ...]:
        """Names and decoded values of all fields, from the top."""
        fields = self._message.header.fields
        return tuple((field.name.decode("ascii"), decoded_text(field.value)) for field in fields)

    def content(self) -> Iterator[bytes]:
        """All of it, header included, in pieces of some 64 KiB; each call begins anew."""
        return self._message.content()

    def body(self) -> Iterator[bytes]:
        """What is behind the header and its empty line, in pieces."""
        return self._message.body()

    def as_bytes(self, limit: int = 10 * _MIB) -> bytes:
        """All of it in memory. Raises ValueError where it is larger than `limit`."""
        if self.size > limit:
            raise ValueError(f"the message has {self.size} bytes, more than {limit}")
        return b"".join(self.content())

    def as_email(self, limit: int = 10 * _MIB) -> EmailMessage:
        """Parsed by the standard library, which takes several times its size in memory.

        Raises ValueError where it is larger than `limit`. It is a copy: changes to it change nothing.
        """
        from email.parser import BytesParser
        from email.policy import default

        return BytesParser(policy=default).parsebytes(self.as_bytes(limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Whom the message is from and for, and who brought it.

    Addresses are without brackets, the null sender is empty. Bytes that are not UTF-8 are kept as surrogate
    escapes; `sender_bytes` and `recipient_bytes` give them back. What Postfix does not know is "unknown" in
    address and name, and empty in the others.
    """

    sender: str = ""
    recipients: tuple[str, ...] = ()
    client_address: str = "unknown"  # of the remote client, an IPv6 address without "IPv6:"
    client_name: str = "unknown"  # verified by Postfix
    client_helo: str = ""  # what it calls itself
    client_source: str = ""  # LOCAL or REMOTE
    session_id: str = ""  # what the log calls the session
    listener: str = ""  # the endpoint of the [[listen]] table

    @property
    def sender_bytes(self) -> bytes:
        return self.sender.encode("utf-8", "surrogateescape")

    @property
    def recipient_bytes(self) -> tuple[bytes, ...]:
        return tuple(address.encode("utf-8", "surrogateescape") for address in self.recipients)

    @property
    def sender_domain(self) -> str:
        """In lower case, empty where there is none."""
        return domain_of(self.sender)

    @property
    def recipient_domains(self) -> frozenset[str]:
        """In lower case."""
        return frozenset(domain_of(address) for address in self.recipients)

    @classmethod
    def of(cls, envelope: MailEnvelope) -> Envelope:
        """From bqfilter's own."""
        client = envelope.client
        return cls(
            sender=_text(envelope.sender.address),
            recipients=tuple(_text(recipient.address) for recipient in envelope.recipients),
            client_address=_text(client.address),
            client_name=_text(client.name),
            client_helo=_text(client.helo),
            client_source=_text(client.fact(b"SOURCE") or b"").upper(),
            session_id=envelope.session_id,
            listener=str(envelope.listener or ""),
        )


def domain_of(address: str) -> str:
    """The domain of an address, in lower case, empty where there is none."""
    return address.rpartition("@")[2].lower() if "@" in address else ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


class EditKind(StrEnum):
    ADD = "add"
    PREPEND = "prepend"
    REPLACE = "replace"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """One edit of the header; `field` is the whole new field, `occurrence` 1 the topmost, -1 the last."""

    kind: EditKind
    name: bytes
    field: bytes = b""
    occurrence: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says, made by the functions below. Each of its methods gives a new one.

    It is a value: a test compares it with the one it expects. `response` is None where the filter has no
    wish, and the settings decide.
    """

    is_hit: bool = False
    detail: str = ""
    response: Response | None = None
    reply: Reply | None = None
    score: float | None = None
    edits: tuple[HeaderEdit, ...] = ()
    body: bytes | Iterable[bytes] | None = None
    recipients: tuple[str, ...] | None = None
    copies: tuple[str, ...] = ()

    def add_header(self, name: str, value: str) -> Verdict:
        """One more field, behind all others."""
        return self._with_edit(EditKind.ADD, name, make_field(name, value))

    def prepend_header(self, name: str, value: str) -> Verdict:
        """One more field, in front of all others."""
        return self._with_edit(EditKind.PREPEND, name, make_field(name, value))

    def replace_header(self, name: str, value: str, occurrence: int = 1) -> Verdict:
        """A new value for the topmost field of this name, or another; where that is missing it is added."""
        return self._with_edit(EditKind.REPLACE, name, make_field(name, value), occurrence)

    def remove_header(self, name: str, occurrence: int | None = None) -> Verdict:
        """Without all fields of this name, or one of them. None there is no mistake."""
        make_field(name, "")  # is it a name?
        return self._with_edit(EditKind.REMOVE, name, b"", occurrence)

    def replace_body(self, body: bytes | str | Iterable[bytes]) -> Verdict:
        """Another body, with any line ends. Pieces are read once, when the filter has returned."""
        if isinstance(body, bytearray | memoryview):
            body = bytes(body)
        if not isinstance(body, bytes | Iterable):
            raise ValueError("a body is bytes, text, or pieces of bytes")
        return replace(self, body=body.encode("utf-8") if isinstance(body, str) else body)

    def redirect(self, *addresses: str) -> Verdict:
        """To these instead of its recipients."""
        if not addresses:
            raise ValueError("a message needs a recipient")
        return replace(self, recipients=_addresses(addresses))

    def add_recipients(self, *addresses: str) -> Verdict:
        """To these besides."""
        return replace(self, copies=(*self.copies, *_addresses(addresses)))

    def with_score(self, score: float) -> Verdict:
        """How bad it is, for log, header and policy."""
        if not math.isfinite(score):
            raise ValueError("a score is a finite number")
        return replace(self, score=float(score))

    def keep_copy(self) -> Verdict:
        """With a copy in the quarantine besides."""
        if self.response is None or self.response.action is Action.QUARANTINE:
            raise ValueError("a copy goes beside tag(), reject(), defer() and discard()")
        return replace(self, response=Response(self.response.action, keeps_copy=True))

    def _with_edit(self, kind: EditKind, name: str, field: bytes, occurrence: int | None = None) -> Verdict:
        if occurrence == 0:
            raise ValueError("occurrences are counted from 1, or from the end with -1")
        edit = HeaderEdit(kind, name.encode("ascii"), field, occurrence)
        return replace(self, edits=(*self.edits, edit))


Filter = Callable[..., Verdict | None]
"""Called with a Message, an Envelope and the `options` of its table; None is accept()."""


def accept() -> Verdict:
    """Nothing to say against it. Other scanners may have; what is asked for besides is done."""
    return Verdict()


def found(detail: str) -> Verdict:
    """There is something; `on_hit` of the settings says what is done about it."""
    return Verdict(is_hit=True, detail=_one_line(detail))


def tag(detail: str) -> Verdict:
    """Passed on, marked in its header."""
    return replace(found(detail), response=TAG)


def quarantine(reason: str) -> Verdict:
    """Kept instead of passed on; the remote client hears 250."""
    return replace(found(reason), response=QUARANTINE)


def discard(reason: str) -> Verdict:
    """Dropped; the remote client hears 250."""
    return replace(found(reason), response=DISCARD)


def reject(text: str, code: int = 550, enhanced: str = "5.7.1") -> Verdict:
    """Refused for good, in these words; characters that cannot travel become "?"."""
    return replace(found(text), response=REJECT, reply=_reply(5, code, enhanced, text))


def defer(text: str, code: int = 451, enhanced: str = "4.7.1") -> Verdict:
    """Refused for now: the remote client tries again."""
    return replace(found(text), response=DEFER, reply=_reply(4, code, enhanced, text))


def _reply(kind: int, code: Any, enhanced: str, text: str) -> Reply:
    if not isinstance(code, int) or code // 100 != kind or code in _HANGING_UP:
        raise ValueError(f"{code} is not possible here: {kind}00 to {kind}99 is, but not {kind}21")
    match = _ENHANCED.fullmatch(enhanced)
    if match is None or match[1] != str(kind):
        raise ValueError(f'"{enhanced}" is no enhanced code of the class {kind}')
    words = " ".join(re.sub(r"[^ -~\s]", "?", text).split())[:_MAX_TEXT]
    if not words:
        raise ValueError("a refusal needs words")
    return Reply(code, (f"{enhanced} {words}".encode("ascii"),))


def _addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(_address(address) for address in addresses)


def _address(address: str) -> str:
    try:
        return ADDRESS.read(address)
    except ValueError:
        raise ValueError(f"{str(address)[:100]!r} is not an address like user@example.com") from None


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text[:4096]).split())[
        :_MAX_DETAIL
    ]
