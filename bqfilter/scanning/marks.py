"""Marks: the edits that a message's header gets when it is passed on, and those that it certainly does not.

Three things come together: what scanners want changed, what we say about the message ourselves, and what it
said about itself in our name. The last goes, always: fields that carry names of ours, and
Authentication-Results that claim to be from here (RFC 8601 section 5), could be believed by whatever stands
behind us. Such a field that names nobody whom we could read goes as well: others may read it otherwise.

Fields that a signature covers (DKIM, or ARC, which signs in the same way) are left alone unless the site has
said otherwise: a change of one, or one more of its name, makes the signature fail (RFC 6376 section 5.4.2).
What is added on top under a name that no signature covers harms none. Only those fields are spared that
signatures are meant for, `_SPARED`: otherwise anybody could keep a field of ours off his message, or one of
his own on it, by naming it in a signature that need not even be valid.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bqfilter.config.content import HeaderSettings, ScannerSettings
from bqfilter.mail.fields import TOP, Edit, Field, Header, Insert, Remove, Replace, make_field, touched
from bqfilter.scanning.decision import Verdict
from bqfilter.scanning.report import Finding, Report

_SUBJECT = b"Subject"
_AUTHENTICATION_RESULTS = b"Authentication-Results"
_SIGNATURES = (b"DKIM-Signature", b"ARC-Message-Signature")
_SIGNED_NAMES = re.compile(rb"(?:\A|;)[ \t]*h[ \t]*=([^;]*)")  # tag h= of RFC 6376 section 3.5

# RFC 6376 section 5.4.1, and what else a mail program shows or goes by; lower case.
_SPARED = frozenset(
    b"""from reply-to subject date to cc sender message-id in-reply-to references
    resent-date resent-from resent-sender resent-to resent-cc resent-message-id
    list-id list-help list-unsubscribe list-unsubscribe-post list-subscribe list-post list-owner list-archive
    mime-version content-type content-transfer-encoding content-disposition content-id content-description
    content-language autocrypt openpgp feedback-id""".split()
)

# The beginning of Authentication-Results is [CFWS] authserv-id (RFC 8601 section 2.2), and that a token or a
# quoted string (RFC 2045 section 5.1). Comments nest (RFC 5322 section 3.2.2), so they are counted.
_IN_COMMENT = re.compile(rb"[()]|\\.|[^()\\]++|\\", re.DOTALL)
_OUTSIDE = re.compile(rb'[()]|[ \t\r\n]++|("(?:[^"\\]|\\.)*+"|[!#$%&\'*+.0-9A-Z^_`a-z{|}~-]++)|.', re.DOTALL)
_NESTING = {b"(": 1, b")": -1}
_QUOTING = re.compile(rb'"|\\(.)', re.DOTALL)
_MAX_ID_BYTES = 8192  # who begins with longer comments than that does not want to be read

_UNSAFE = re.compile(r"[^A-Za-z0-9_.,:/@+*<>!#%&' -]")
_SHOWN_CHARS = 120  # of a detail, in the report field
_MAX_LINE_BYTES = 998  # RFC 5322 section 2.1.1, without CRLF


@dataclass(frozen=True, slots=True)
class Marker:
    """Says what is edited; `hostname` is ours, and `scanners` are the settings of all scanners by name."""

    settings: HeaderSettings
    scanners: Mapping[str, ScannerSettings]
    hostname: str
    _own_names: frozenset[bytes] = field(init=False)
    _own_ids: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        ids = self.settings.authserv_ids or (self.hostname,)
        object.__setattr__(self, "_own_names", _own_names(self.settings, self.scanners.values()))
        object.__setattr__(self, "_own_ids", frozenset(name.lower().rstrip(".") for name in ids))

    def edits(self, verdict: Verdict, header: Header, session_id: str) -> tuple[Edit, ...]:
        """All edits for a message that is passed on under `verdict`."""
        wanted: Iterable[Edit] = [edit for report in verdict.reports for edit in report.changes.edits]
        if verdict.marking:
            wanted = self._marked(list(wanted), verdict.marking, header, session_id)
        if not self.settings.change_signed:
            wanted = _without_damage(wanted, header)
        return (*self._forged(header), *self._report(verdict), *wanted)

    def _forged(self, header: Header) -> Iterator[Edit]:
        """Fields in our name, or that something behind us trusts, go."""
        for name in self._own_names:
            for one in header.all(name):
                yield Remove(one.index)
        for one in header.all(_AUTHENTICATION_RESULTS):
            authserv_id = _authserv_id(one)
            if authserv_id is None or authserv_id in self._own_ids:
                yield Remove(one.index)

    def _marked(
        self, wanted: Sequence[Edit], marking: Sequence[Report], header: Header, session_id: str
    ) -> Iterator[Edit]:
        """What is wanted, with the fields and the prefix that scanners have for a message of this kind."""
        prefixes = dict.fromkeys(self.scanners[report.scanner].subject_prefix for report in marking)
        yield from _with_prefix(wanted, header, "".join(prefixes))
        for report in marking:
            for one in self.scanners[report.scanner].add_headers:
                value = one.render(
                    detail=report.detail, scanner=report.scanner, score=report.score_text, id=session_id
                )
                yield Insert(TOP, make_field(one.field_name, value))

    def _report(self, verdict: Verdict) -> Iterator[Edit]:
        is_wanted = self.settings.report_on == "all" or any(
            report.finding is not Finding.CLEAN for report in verdict.reports
        )
        if self.settings.report and is_wanted:
            parts = [self.hostname, f"action={verdict.action}"]
            parts += [_summary(report) for report in verdict.reports]
            yield Insert(TOP, make_field(self.settings.report, ";\r\n\t".join(parts)))


def is_signed(header: Header) -> bool:
    """Somebody says to have signed the body, DKIM or ARC."""
    return any(header.all(name) for name in _SIGNATURES)


def signed_names(header: Header) -> Counter[bytes]:
    """How often each name that is spared, in lower case, is covered by the signature that does so most often.

    Of other names a hostile header can hold so many that to keep count of them would take minutes.
    """
    found: Counter[bytes] = Counter()
    for name in _SIGNATURES:
        for one in header.all(name):
            match = _SIGNED_NAMES.search(one.value)
            if match:
                words = (word.strip().lower() for word in match[1].split(b":"))
                found |= Counter(word for word in words if word in _SPARED)
    return found


def _own_names(settings: HeaderSettings, scanners: Iterable[ScannerSettings]) -> frozenset[bytes]:
    """The names of fields that no message comes with, in lower case."""
    added = {one.field_name.lower().encode("ascii") for scanner in scanners for one in scanner.add_headers}
    named = {name.lower().encode("ascii") for name in (*settings.remove, settings.report) if name}
    return frozenset(named | (added - _SPARED))


def _without_damage(edits: Iterable[Edit], header: Header) -> Iterator[Edit]:
    """The edits that no signature suffers from."""
    signed = signed_names(header)
    for edit in edits:
        covered = [name for name in _names_of(edit, header) if signed[name]]
        if not covered or (isinstance(edit, Insert) and _is_on_top(edit, covered[0], signed, header)):
            yield edit


def _names_of(edit: Edit, header: Header) -> Iterator[bytes]:
    """The names of the field that is edited, in lower case: what it is, and what it becomes."""
    if not isinstance(edit, Remove):
        yield edit.text.partition(b":")[0].strip().lower()
    if not isinstance(edit, Insert) and edit.at < len(header.fields):
        yield header.fields[edit.at].name.lower()


def _is_on_top(edit: Insert, name: bytes, signed: Counter[bytes], header: Header) -> bool:
    """One more field above all that are covered, where as many as are covered are there (no oversigning)."""
    there = header.all(name)
    return signed[name] <= len(there) and all(edit.at <= one.index for one in there)


def _with_prefix(wanted: Sequence[Edit], header: Header, prefix: str) -> Iterator[Edit]:
    """The edits with a prefix for the subject, its other bytes as they are; a message without one gets one.

    A subject that a scanner has put in the place of the old one gets it like any other.
    """
    if not prefix:
        yield from wanted
        return
    done, is_there = touched(wanted), False
    for edit in wanted:
        if isinstance(edit, Remove) or not _is_subject(edit.text):
            yield edit
            continue
        is_there = True
        yield replace(edit, text=_prefixed(edit.text, prefix))
    for one in header.all(_SUBJECT):
        if one.index not in done:
            is_there = True
            yield Replace(one.index, _prefixed(one.raw, prefix))
    if not is_there:
        yield Insert(len(header.fields), _prefixed(_SUBJECT + b":\r\n", prefix))


def _is_subject(text: bytes) -> bool:
    return text.partition(b":")[0].strip().lower() == _SUBJECT.lower()


def _prefixed(text: bytes, prefix: str) -> bytes:
    """A subject field that begins with the prefix, once."""
    name, _, value = text.partition(b":")
    value = value.lstrip(b" \t")
    mark = make_field("X", prefix.strip())[len("X: ") : -len("\r\n")]
    if value.strip().startswith(mark):
        return text
    # An encoded word is one only between blanks (RFC 2047 section 5).
    needs_blank = prefix.endswith(" ") or not prefix.isascii() or value.startswith(b"=?")
    if len(name) + len(mark) + len(value.partition(b"\r\n")[0]) > _MAX_LINE_BYTES - len(": \t"):
        mark += b"\r\n"  # a fold
        needs_blank = True
    return name.rstrip() + b": " + (mark + b" " * needs_blank + value).rstrip() + b"\r\n"


def _authserv_id(one: Field) -> str | None:
    """The identifier that an Authentication-Results field begins with, in lower case; None without one."""
    value, at, depth = one.value[:_MAX_ID_BYTES], 0, 0
    while match := (_IN_COMMENT if depth else _OUTSIDE).match(value, at):
        at = match.end()
        if depth or match[0] == b"(":
            depth += _NESTING.get(match[0], 0)
        elif not match[0].isspace():
            return _plain(match[1])
    return None


def _plain(word: bytes | None) -> str | None:
    """A token or a quoted string as what it stands for."""
    if word is None:
        return None
    text = _QUOTING.sub(rb"\1", word) if word.startswith(b'"') else word
    return text.decode("latin-1").lower().rstrip(".")


def _summary(report: Report) -> str:
    """One report in a few words that cannot be mistaken for the field's own: no "=" or ";", ASCII alone.

    Text beyond that would make one encoded word of the line (RFC 2047), which no rule behind us can read.
    What was found is told; why somebody could not look is for the log: recipients read this.
    """
    is_told = report.detail.startswith(f"{report.score_text}/")  # spamd's detail begins with it
    words = [f"score={report.score_text}"] if report.score_text and not is_told else []
    is_found = report.finding is Finding.HIT and report.detail
    words += [_UNSAFE.sub("_", report.detail)[:_SHOWN_CHARS]] if is_found else []
    shown = f" ({' '.join(words)})" if words else ""
    return f"{report.scanner}={report.finding}{shown}"
