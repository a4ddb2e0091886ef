"""The tables about content: scanners of each kind, policies, result headers and the quarantine.

Each kind of scanner is an array of tables of its own, so that a table has the keys of its kind and no others.
What they have in common stands in `ScannerSettings`. The order of declaration of the kinds is the order in
which scanners run where a policy names none: what is cheap and local first, what asks another process last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bqfilter.config.actions import ACCEPT, DEFER, QUARANTINE, REJECT, TAG, Action, Response
from bqfilter.config.content_kinds import (
    ADDRESS,
    HEADER_NAME,
    OPTIONAL_ADDRESS,
    OPTIONAL_HEADER,
    OPTIONAL_TEXT,
    SCANNER_NAME,
    AddressPattern,
    AddressPatternKind,
    Flag,
    HeaderKind,
    HeaderTemplate,
    MapOf,
    ReplyKind,
    ReplyTemplate,
    ResponseKind,
)
from bqfilter.config.kinds import (
    DIRECTORY,
    Choice,
    Count,
    Decimal,
    Duration,
    EndpointKind,
    ListOf,
    NetworkKind,
    Single,
    Size,
    Text,
)
from bqfilter.config.table import DAY, GIB, HOUR, KIB, MIB, SHORTEST, Problem, Table, about
from bqfilter.net.address import Endpoint, Network

_FILE = Text("path", r"/[^\x00-\x1f\x7f]*", "an absolute path")
_WORD = Text("text", r"[^\x00-\x1f\x7f]{0,4000}", "text without control characters")
_PATTERN = Text("pattern", r"[^\x00-\x1f\x7f/]{1,200}", 'a file name, "*" and "?" stand for anything')
_EXTENSION = Text("extension", r"[A-Za-z0-9_+-]{1,20}", "a file name extension without its dot")
_SIGNATURE = Text("signature", r"[!-~]{1,200}", 'the name of a signature, "*" and "?" stand for anything')
_TYPE = Text(
    "media type", r"[A-Za-z0-9.+-]{1,60}/(?:\*|[A-Za-z0-9.+_-]{1,100})", '"type/subtype" or "type/*"'
)
_USER = Text("user", r"(?:[A-Za-z0-9._@+-]{1,100}|\{recipient\})?", 'a user, "{recipient}", or "" for none')
_PASSWORD = Text("password", r"[!-~]{0,200}", 'printable ASCII without blanks, or "" for none')
_OBJECT = Text(
    "filter", r"[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.]*)?", '"module:object", or the name of an entry point'
)

ALL = "*"

_ON_HIT = (
    "What to do when it finds something. A copy for the quarantine goes beside any action with "
    '"+quarantine" behind it. A policy may say otherwise in `hits`.'
)
_REPLIES = "The words of a refusal: {detail} is what was found."


def _endpoints(example: Endpoint, doc: str) -> Any:
    return field(
        metadata=about(
            ListOf(EndpointKind(), minimum=1),
            doc + " Several are written as endpoints = [...]: they are tried in that order.",
            singular=("endpoint", Single(EndpointKind())),
            example=(example,),
        )
    )


def _timeout(default: float, doc: str = "") -> Any:
    return field(
        default=default,
        metadata=about(
            Duration(SHORTEST, HOUR),
            "How long it may take over one message"
            + doc
            + ". All scanners of a message together have what the budget leaves them.",
        ),
    )


def _size_limit(default: int, doc: str = "") -> Any:
    return field(
        default=default,
        metadata=about(
            Size(0, GIB),
            "A message larger than this is not given to the scanner; see `on_oversize`. 0 means no limit."
            + doc,
        ),
    )


def _on_hit(default: Response) -> Any:
    return field(default=default, metadata=about(ResponseKind(), _ON_HIT))


def _reply(default: str) -> Any:
    return field(default=ReplyTemplate.parse(default), metadata=about(ReplyKind(), _REPLIES))


def _failures(default: int) -> Any:
    return field(
        default=default,
        metadata=about(
            Count(0, 1000),
            "After so many failures in a row, counted over the whole pool, it is not asked any more until "
            "`retry` has passed; each message is treated as `on_error` says, at once. 0 means it is always "
            "asked.",
        ),
    )


def _name(default: str) -> Any:
    return field(
        default=default,
        metadata=about(
            SCANNER_NAME, "What policies, log and metrics call it. Two of one kind need different names."
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerSettings(Table):
    """What every kind of scanner has; `kind` is the name of its table."""

    kind: ClassVar[str] = ""

    name: str = _name("scanner")
    timeout: float = _timeout(30.0)
    on_error: str = field(
        default="defer",
        metadata=about(
            Choice(("defer", "pass")),
            "What to do when it fails: is not there, takes too long, answers nonsense. `defer` makes the "
            "client try again later (451); `pass` goes on as if it had found nothing, which is logged and "
            "counted as unscanned. An error is never taken for a finding.",
        ),
    )
    size_limit: int = _size_limit(0)
    on_oversize: str = field(
        default="pass",
        metadata=about(
            Choice(("pass", "defer")),
            "What to do with a message that is too large for it: go on without it, which is logged and "
            "counted as unscanned, or 451.",
        ),
    )
    skip_after_hit: bool = field(
        default=False,
        metadata=about(Flag(), "Whether to leave it out where a scanner before it has found something."),
    )
    failures: int = _failures(3)
    retry: float = field(
        default=10.0,
        metadata=about(
            Duration(SHORTEST, HOUR),
            "How long a scanner that failed too often is left alone before one message tries it again.",
        ),
    )
    subject_prefix: str = field(
        default="",
        metadata=about(
            OPTIONAL_TEXT,
            'What is put in front of the subject where the action is "tag", "[SPAM] " for example.',
        ),
    )
    add_headers: tuple[HeaderTemplate, ...] = field(
        default=(),
        metadata=about(
            ListOf(HeaderKind()), 'Header fields that are added where the action is "tag" or "redirect".'
        ),
    )
    redirect_to: str = field(
        default="",
        metadata=about(OPTIONAL_ADDRESS, 'Where the message goes instead where the action is "redirect".'),
    )
    reply: ReplyTemplate = _reply("550 5.7.1 Message refused: {detail}")

    def responses(self) -> Iterator[tuple[str, Response]]:
        """Every key that holds an action, with its value."""
        for key in self.__dataclass_fields__:
            value = getattr(self, key)
            if isinstance(value, Response):
                yield key, value

    def problems(self) -> Iterator[Problem]:
        for key, response in self.responses():
            if response.action is Action.REDIRECT and not self.redirect_to:
                yield Problem(key, '"redirect" needs `redirect_to`')


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesSettings(ScannerSettings):
    kind: ClassVar[str] = "rules"

    name: str = _name("rules")
    failures: int = _failures(0)
    timeout: float = _timeout(5.0)
    header_checks: tuple[str, ...] = field(
        default=(),
        metadata=about(
            ListOf(_FILE),
            "Tables of rules for each field of the message's header, in the syntax of header_checks(5). At "
            "least one table has to be named, here or below.",
        ),
    )
    mime_header_checks: tuple[str, ...] = field(
        default=(),
        metadata=about(
            ListOf(_FILE),
            "Tables for each field of the headers of MIME parts and of messages within the message, and for "
            "the MIME fields of its own header.",
        ),
    )
    body_checks: tuple[str, ...] = field(
        default=(),
        metadata=about(ListOf(_FILE), "Tables for each line of the body."),
    )
    sender_checks: tuple[str, ...] = field(
        default=(),
        metadata=about(
            ListOf(_FILE),
            "Tables for the envelope sender, without its brackets; the null sender is looked up as <>.",
        ),
    )
    recipient_checks: tuple[str, ...] = field(
        default=(), metadata=about(ListOf(_FILE), "Tables for each envelope recipient, without its brackets.")
    )
    client_checks: tuple[str, ...] = field(
        default=(), metadata=about(ListOf(_FILE), "Tables for the remote client, written name[address].")
    )
    body_limit: int = field(
        default=50 * KIB,
        metadata=about(
            Size(0, GIB),
            "How much of each part of the body is looked at, as Postfix's body_checks_size_limit, counted "
            "before decoding. 0 means all of it.",
        ),
    )
    decode: bool = field(
        default=True,
        metadata=about(
            Flag(),
            "Whether encoded words in headers, unfolded, and text in bodies, in UTF-8, are matched decoded "
            "as well as they stand.",
        ),
    )


_EXECUTABLE = (
    "ade adp app appx bas bat chm cmd com cpl dll exe hta iso img jar js jse lnk msc msi msix msp mst pif "
    "ps1 reg scr sct vb vbe vbs vhd vhdx wsc wsf wsh xll"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentSettings(ScannerSettings):
    kind: ClassVar[str] = "attachments"

    name: str = _name("attachments")
    failures: int = _failures(0)
    timeout: float = _timeout(5.0)
    banned_extensions: tuple[str, ...] = field(
        default=tuple(_EXECUTABLE.split()),
        metadata=about(
            ListOf(_EXTENSION),
            "Extensions that no attachment may have, whatever letter case and blanks hide them.",
        ),
    )
    banned_names: tuple[str, ...] = field(
        default=(), metadata=about(ListOf(_PATTERN), "Names that no attachment may have.")
    )
    banned_types: tuple[str, ...] = field(
        default=("application/x-msdownload", "application/x-dosexec", "application/x-ms-installer"),
        metadata=about(
            ListOf(_TYPE),
            "Types that no attachment may have, by what it declares or by what its first bytes say.",
        ),
    )
    double_extensions: bool = field(
        default=True,
        metadata=about(
            Flag(),
            'Whether a name such as "invoice.pdf.exe" is refused: a harmless extension in front of one '
            "that runs, "
            "even where that one is not banned alone.",
        ),
    )
    archives: bool = field(
        default=True, metadata=about(Flag(), "Whether the names inside zip archives are looked at as well.")
    )
    encrypted_archives: Response = field(
        default=ACCEPT,
        metadata=about(ResponseKind(), "What to do with a zip archive whose content is encrypted."),
    )
    on_excess: Response = field(
        default=DEFER,
        metadata=about(
            ResponseKind(),
            "What to do with a message that goes beyond a limit below, so that it could not be looked at "
            "whole.",
        ),
    )
    max_depth: int = field(
        default=20,
        metadata=about(Count(1, 100), "How deep parts, attached messages and archives may be nested."),
    )
    max_parts: int = field(
        default=1000, metadata=about(Count(1, 100000), "How many parts a message may have.")
    )
    max_archive_entries: int = field(
        default=10000,
        metadata=about(Count(1, 1000000), "How many names the archives of a message may hold together."),
    )
    max_unpacked: int = field(
        default=64 * MIB,
        metadata=about(
            Size(0, 4 * GIB),
            "How much may be unpacked from archives within archives, and decoded from attached messages "
            "that are encoded as a whole, all together.",
        ),
    )
    on_hit: Response = _on_hit(REJECT)
    reply: ReplyTemplate = _reply("554 5.7.1 Attachment refused: {detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonSettings(ScannerSettings):
    kind: ClassVar[str] = "python"

    filter: str = field(
        metadata=about(
            _OBJECT,
            "The filter: a function or a class of an installed module, or an entry point of the group "
            "bqfilter.filters.",
            example="example_filters:no_shouting",
        )
    )
    name: str = _name("python")
    failures: int = _failures(0)
    timeout: float = _timeout(10.0, "; it is interrupted then")
    options: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata=about(
            MapOf(Text("name", r"[A-Za-z_]\w{0,60}", "a name"), _WORD),
            "What the filter is told besides, as keyword arguments: a class when it is made, a function with "
            "each message.",
        ),
    )
    on_hit: Response = field(
        default=REJECT,
        metadata=about(ResponseKind(), "What to do when it says there is something, and no more."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings(ScannerSettings):
    kind: ClassVar[str] = "command"

    argv: tuple[str, ...] = field(
        metadata=about(
            ListOf(_WORD, minimum=1, unique=False),
            "The program, by its absolute path, with its arguments; no shell is involved. It gets the "
            "message on its standard input and the envelope in its environment, and answers by its exit "
            "status.",
            example=("/usr/local/bin/check-mail",),
        )
    )
    name: str = _name("command")
    failures: int = _failures(0)
    timeout: float = _timeout(30.0, "; it is killed then, with all that it started")
    size_limit: int = _size_limit(25 * MIB)
    changes_message: bool = field(
        default=False,
        metadata=about(
            Flag(),
            "Whether what it writes to its standard output replaces the message where its exit status, 10 or "
            "11, says so.",
        ),
    )
    memory_limit: int = field(
        default=0,
        metadata=about(Size(0, 1024 * GIB), "How much address space the program may use. 0 means no limit."),
    )
    on_hit: Response = _on_hit(REJECT)

    def problems(self) -> Iterator[Problem]:
        yield from ScannerSettings.problems(self)  # super() alone does not work in a class with slots
        if not self.argv[0].startswith("/"):
            yield Problem("argv", "the program is named by its absolute path")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClamdSettings(ScannerSettings):
    kind: ClassVar[str] = "clamd"

    endpoints: tuple[Endpoint, ...] = _endpoints(
        Endpoint("unix", path="/run/clamav/clamd.ctl"), "Where clamd listens: its LocalSocket or TCPSocket."
    )
    name: str = _name("clamd")
    timeout: float = _timeout(30.0)
    size_limit: int = _size_limit(25 * MIB, " clamd's own StreamMaxLength must not be smaller.")
    on_excess: Response = field(
        default=DEFER,
        metadata=about(
            ResponseKind(),
            "What to do with a message that goes beyond a limit of clamd's own, MaxScanSize for example, so "
            "that it was not scanned whole. clamd tells so only with AlertExceedsMax in its configuration; "
            "without that, what lies beyond counts as clean.",
        ),
    )
    signatures: tuple[tuple[str, Response], ...] = field(
        default=(),
        metadata=about(
            MapOf(_SIGNATURE, ResponseKind()),
            "What to do about some signatures instead of `on_hit`, the first that fits: "
            '{ "Heuristics.Phishing.*" = "tag", "Sanesecurity.*" = "quarantine" }. "*" and "?" stand for '
            "anything.",
        ),
    )
    on_hit: Response = _on_hit(REJECT)
    reply: ReplyTemplate = _reply("554 5.7.1 Malware found: {detail}")

    def responses(self) -> Iterator[tuple[str, Response]]:
        yield from ScannerSettings.responses(self)  # super() alone does not work in a class with slots
        yield from (("signatures", response) for _, response in self.signatures)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpamdSettings(ScannerSettings):
    kind: ClassVar[str] = "spamd"

    endpoints: tuple[Endpoint, ...] = _endpoints(
        Endpoint("inet", "127.0.0.1", 783), "Where spamd of SpamAssassin listens."
    )
    name: str = _name("spamd")
    timeout: float = _timeout(30.0)
    size_limit: int = _size_limit(500 * KIB)
    user: str = field(
        default="",
        metadata=about(
            _USER,
            'Whose preferences spamd uses; "{recipient}" is the recipient, in lower case, where a message '
            'has only one. "" leaves it to spamd.',
        ),
    )
    spam_headers: bool = field(
        default=False,
        metadata=about(
            Flag(),
            "Whether the X-Spam-* fields that spamd would add are added to every message. Those that a "
            "message came with are removed then. By the tests in X-Spam-Status bqfilterd sees that spamd "
            "broke a check off, so that field should stay as SpamAssassin makes it.",
        ),
    )
    quarantine_score: float = field(
        default=0.0,
        metadata=about(
            Decimal(0, 10000),
            "From this score on the action is quarantine, whatever `on_hit` and spamd's own threshold say. 0 "
            "means never.",
        ),
    )
    reject_score: float = field(
        default=0.0,
        metadata=about(
            Decimal(0, 10000),
            "From this score on the action is reject, whatever `on_hit` and spamd's own threshold say. 0 "
            "means never.",
        ),
    )
    on_hit: Response = _on_hit(TAG)
    reply: ReplyTemplate = _reply("550 5.7.1 Message refused as spam, score {score}")

    def responses(self) -> Iterator[tuple[str, Response]]:
        yield from ScannerSettings.responses(self)  # super() alone does not work in a class with slots
        for key, response in (("quarantine_score", QUARANTINE), ("reject_score", REJECT)):
            if getattr(self, key):
                yield key, response

    def problems(self) -> Iterator[Problem]:
        yield from ScannerSettings.problems(self)  # super() alone does not work in a class with slots
        if 0 < self.reject_score <= self.quarantine_score:
            yield Problem("quarantine_score", "is never reached, because `reject_score` is not above it")


@dataclass(frozen=True, slots=True, kw_only=True)
class RspamdSettings(ScannerSettings):
    kind: ClassVar[str] = "rspamd"

    endpoints: tuple[Endpoint, ...] = _endpoints(
        Endpoint("inet", "127.0.0.1", 11333), "Where a normal worker, or proxy, of Rspamd listens."
    )
    name: str = _name("rspamd")
    timeout: float = _timeout(20.0)
    size_limit: int = _size_limit(25 * MIB)
    password: str = field(
        default="",
        metadata=about(_PASSWORD, "The password, where the endpoint wants one, as its controller does."),
    )
    milter_headers: bool = field(
        default=True,
        metadata=about(
            Flag(),
            "Whether a message that is passed on is changed as Rspamd wants it, as by a milter: header "
            "fields added and removed, its subject put in, DKIM signatures added, recipients added and "
            "removed. A new sender or body is never taken from it.",
        ),
    )
    on_reject: Response = field(
        default=REJECT, metadata=about(ResponseKind(), "What to do where Rspamd's action is reject.")
    )
    on_add_header: Response = field(
        default=TAG, metadata=about(ResponseKind(), "What to do where Rspamd's action is add header.")
    )
    on_rewrite_subject: Response = field(
        default=TAG, metadata=about(ResponseKind(), "What to do where Rspamd's action is rewrite subject.")
    )
    on_greylist: Response = field(
        default=ACCEPT,
        metadata=about(
            ResponseKind(),
            "What to do where Rspamd's action is greylist. Its greylist module says soft reject to clients "
            "that have to come back; greylist itself is said where that module is off, and then every time, "
            "so that `defer` would end in a bounce.",
        ),
    )
    on_soft_reject: Response = field(
        default=DEFER, metadata=about(ResponseKind(), "What to do where Rspamd's action is soft reject.")
    )
    on_quarantine: Response = field(
        default=QUARANTINE, metadata=about(ResponseKind(), "What to do where Rspamd's action is quarantine.")
    )
    on_discard: Response = field(
        default=Response(Action.DISCARD),
        metadata=about(ResponseKind(), "What to do where Rspamd's action is discard."),
    )
    on_other: Response = field(
        default=TAG,
        metadata=about(ResponseKind(), "What to do where Rspamd's action is one of its operator's own."),
    )
    reply: ReplyTemplate = _reply("550 5.7.1 Message refused as spam, score {score}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings(Table):
    name: str = field(
        metadata=about(SCANNER_NAME, "What log and metrics call it.", example="inbound"),
    )
    listeners: tuple[Endpoint, ...] = field(
        default=(),
        metadata=about(
            ListOf(EndpointKind(any_port=True)), "Messages that came in by one of these [[listen]] endpoints."
        ),
    )
    clients: tuple[Network, ...] = field(
        default=(),
        metadata=about(
            ListOf(NetworkKind()), "Messages from remote clients in one of these networks, by XFORWARD ADDR."
        ),
    )
    source: str = field(
        default="any",
        metadata=about(
            Choice(("any", "local", "remote")),
            "Messages that the before-filter Postfix counts as local or remote, by XFORWARD SOURCE.",
        ),
    )
    helo: tuple[str, ...] = field(
        default=(),
        metadata=about(
            ListOf(
                Text(
                    "name",
                    r"\.?[A-Za-z0-9._\[\]:-]{1,255}",
                    '"host.example.com", or ".example.com" for all below',
                )
            ),
            "Messages whose remote client calls itself one of these names.",
        ),
    )
    senders: tuple[AddressPattern, ...] = field(
        default=(),
        metadata=about(ListOf(AddressPatternKind()), "Messages from one of these envelope senders."),
    )
    recipients: tuple[AddressPattern, ...] = field(
        default=(),
        metadata=about(
            ListOf(AddressPatternKind()),
            "Messages for these recipients. Recipients of one message may so come under different policies.",
        ),
    )
    larger_than: int = field(
        default=0,
        metadata=about(Size(0, 1024 * GIB), "Messages larger than this. 0 means of any size."),
    )
    scanners: tuple[str, ...] = field(
        default=(ALL,),
        metadata=about(
            ListOf(
                Text("name", rf"\*|{SCANNER_NAME.pattern}", 'the name of a scanner, or "*" for all others')
            ),
            'The scanners that are asked, in this order; [] is none. Those that "*" stands for are asked '
            "in the "
            "order rules, attachments, python, command, clamd, spamd, rspamd.",
        ),
    )
    action: Response = field(
        default=ACCEPT,
        metadata=about(
            ResponseKind(tuple(action for action in Action if action is not Action.TAG)),
            "What to do where no scanner asks for more: reject makes a block list of the policy.",
        ),
    )
    reply: ReplyTemplate = field(
        default=ReplyTemplate.parse("550 5.7.1 Message refused"),
        metadata=about(ReplyKind(), "The words of a refusal where `action` is reject or defer."),
    )
    hits: tuple[tuple[str, Response], ...] = field(
        default=(),
        metadata=about(
            MapOf(SCANNER_NAME, ResponseKind()),
            'What to do with findings of a scanner instead of what it says itself: { clamd = "quarantine" }.',
        ),
    )
    redirect_to: str = field(
        default="",
        metadata=about(
            OPTIONAL_ADDRESS,
            'Where messages go instead where `action` is "redirect", or `hits` says so of a scanner.',
        ),
    )
    copy_to: tuple[str, ...] = field(
        default=(),
        metadata=about(
            ListOf(ADDRESS),
            "Recipients that are added to every message that is passed on, an archive for example.",
        ),
    )

    def problems(self) -> Iterator[Problem]:
        if self.action.action is Action.REDIRECT and not self.redirect_to:
            yield Problem("action", '"redirect" needs `redirect_to`')
        for name, _ in self.hits:
            if not {name, ALL} & set(self.scanners):
                yield Problem("hits", f'"{name}" is not among the scanners of this policy')


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderSettings(Table):
    report: str = field(
        default="X-Bqfilter-Report",
        metadata=about(
            OPTIONAL_HEADER, "The field that says which scanners looked at a message and what they found."
        ),
    )
    report_on: str = field(
        default="findings",
        metadata=about(
            Choice(("findings", "all")),
            "Which messages get that field: those with a finding, or that some scanner could not look at; "
            "or all.",
        ),
    )
    remove: tuple[str, ...] = field(
        default=(),
        metadata=about(
            ListOf(HEADER_NAME),
            "Further fields that no message may come with, because something behind us trusts them. Fields "
            "with the names that we add ourselves are always removed, unless any message may have such a "
            "field, as it may have a Reply-To.",
        ),
    )
    authserv_ids: tuple[str, ...] = field(
        default=(),
        metadata=about(
            ListOf(Text("name", r"[A-Za-z0-9._-]{1,255}", "a host name")),
            "Authentication-Results fields that claim to be ours, by one of these identifiers, are forged "
            "and removed (RFC 8601 section 5), and so are those that begin with none. Empty means "
            "`runtime.hostname`. In an after-queue filter, milters of this host may have added such fields "
            "before: name an identifier here that they do not use.",
        ),
    )
    change_signed: bool = field(
        default=False,
        metadata=about(
            Flag(),
            "Whether fields that a DKIM or ARC signature covers may be changed, the subject for example, "
            "which makes the signature fail. It is about the fields that mail programs show and use: "
            "X-Spam-Flag and the like are added and removed whatever a sender has signed. And whether rules "
            "may edit the body of a signed message, and parts that are signed or encrypted by themselves.",
        ),
    )
    size_limit: int = field(
        default=MIB,
        metadata=about(
            Size(16 * KIB, 64 * MIB),
            "A message with a larger header is refused with 552 where it has to be looked at. Legitimate "
            "ones have a twentieth of the default. A header of nothing but very short fields takes some "
            "ten times its size in memory while it is looked at.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineSettings(Table):
    directory: str = field(
        default="/var/spool/bqfilter/quarantine",
        metadata=about(
            DIRECTORY, "Where messages are kept. It belongs to `runtime.user`, and nobody else may read it."
        ),
    )
    quarantine_to: str = field(
        default="",
        metadata=about(
            OPTIONAL_ADDRESS,
            "Send what is to be kept to this mailbox, through the after-filter server, instead of the "
            "directory: so several hosts share one quarantine. `bqfilterd quarantine release --from-file` "
            "takes it from there.",
        ),
    )
    max_age: float = field(
        default=30 * DAY,
        metadata=about(
            Duration(0, 3650 * DAY),
            "What is older is deleted by `bqfilterd quarantine expire`. 0 means never.",
        ),
    )
    max_size: int = field(
        default=0,
        metadata=about(
            Size(0, 1024 * GIB),
            "The oldest are deleted by `bqfilterd quarantine expire` until all together is no larger. 0 "
            "means no limit.",
        ),
    )


# In the order in which they run where no policy says otherwise.
SCANNER_KINDS: tuple[type[ScannerSettings], ...] = (
    RulesSettings,
    AttachmentSettings,
    PythonSettings,
    CommandSettings,
    ClamdSettings,
    SpamdSettings,
    RspamdSettings,
)
