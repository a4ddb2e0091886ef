"""Marks: the edits that a message's header gets when it is passed on, and those that it certainly does not.

Three things come together: what scanners want changed, what we say about the message ourselves, and what it
said about itself in our name. The last goes, always: fields that carry names of ours, and
Authentication-Results that claim to be from here (RFC 8601 section 5), could be believed by whatever stands
behind us.

Fields that a DKIM signature covers are left alone unless the site has said otherwise: a change of one, or one
more of its name, makes the signature fail (RFC 6376 section 5.4.2). What is added on top under a name that no
signature covers harms none.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bqfilter.config.content import HeaderSettings, ScannerSettings
from bqfilter.mail.fields import TOP, Edit, Field, Header, Insert, Remove, Replace, make_field
from bqfilter.scanning.decision import Verdict
from bqfilter.scanning.report import Finding, Report

_SUBJECT = b"Subject"
_AUTHENTICATION_RESULTS = b"Authentication-Results"
_SIGNED_NAMES = re.compile(rb"(?:\A|;)[ \t]*h[ \t]*=([^;]*)")  # tag h= of RFC 6376 section 3.5
_COMMENT = re.compile(rb"\([^()]*\)")
_UNSAFE = re.compile(r"[^\w.,:/@+*=<>!#%&' -]")
_SHOWN_CHARS = 120  # of a detail, in the report field


@dataclass(frozen=True, slots=True)
class Marker:
    """Says what is edited; `hostname` is ours, and `scanners` are the settings of all scanners by name."""

    settings: HeaderSettings
    scanners: Mapping[str, ScannerSettings]
    hostname: str

    def edits(self, verdict: Verdict, header: Header, session_id: str) -> tuple[Edit, ...]:
        """All edits for a message that is passed on under `verdict`."""
        wanted = [edit for report in verdict.reports for edit in report.changes.edits]
        wanted += self._marks(verdict.marking, header, session_id)
        if not self.settings.change_signed:
            wanted = list(_without_damage(wanted, header))
        return (*self._forged(header), *self._report(verdict), *wanted)

    def _forged(self, header: Header) -> Iterable[Edit]:
        """Fields in our name, or that something behind us trusts, go."""
        for name in self._own_names:
            for field in header.all(name):
                yield Remove(field.index)
        ids = {name.lower() for name in self.settings.authserv_ids or (self.hostname,)}
        for field in header.all(_AUTHENTICATION_RESULTS):
            if _authserv_id(field) in ids:
                yield Remove(field.index)

    @property
    def _own_names(self) -> set[bytes]:
        added = {one.field_name for scanner in self.scanners.values() for one in scanner.add_headers}
        named = {*added, *self.settings.remove, self.settings.report} - {""}
        return {name.lower().encode("ascii") for name in named}

    def _marks(self, marking: Sequence[Report], header: Header, session_id: str) -> Iterable[Edit]:
        prefixes = []
        for report in marking:
            settings = self.scanners[report.scanner]
            score = "" if report.score is None else f"{report.score:g}"
            for one in settings.add_headers:
                value = one.render(detail=report.detail, scanner=report.scanner, score=score, id=session_id)
                yield Insert(TOP, make_field(one.field_name, value))
            prefixes.append(settings.subject_prefix)
        yield from _with_prefix(header, "".join(dict.fromkeys(prefixes)))

    def _report(self, verdict: Verdict) -> Iterable[Edit]:
        is_wanted = self.settings.report_on == "all" or any(
            report.finding is not Finding.CLEAN for report in verdict.reports
        )
        if self.settings.report and is_wanted:
            parts = [self.hostname, f"action={verdict.action}"]
            parts += [_summary(report) for report in verdict.reports]
            yield Insert(TOP, make_field(self.settings.report, ";\r\n\t".join(parts)))


def signed_names(header: Header) -> Counter[bytes]:
    """How often each name, in lower case, is covered by the signature that covers it most often."""
    found: Counter[bytes] = Counter()
    for field in header.all(b"DKIM-Signature"):
        match = _SIGNED_NAMES.search(field.value)
        if match:
            found |= Counter(name.strip().lower() for name in match[1].split(b":"))
    return found


def _without_damage(edits: Iterable[Edit], header: Header) -> Iterable[Edit]:
    """The edits that no signature suffers from."""
    signed = signed_names(header)
    for edit in edits:
        name = _name_of(edit, header)
        if not signed[name] or (isinstance(edit, Insert) and _is_on_top(edit, name, signed, header)):
            yield edit


def _name_of(edit: Edit, header: Header) -> bytes:
    """The name of the field that is edited, in lower case."""
    if isinstance(edit, Insert):
        return edit.text.partition(b":")[0].strip().lower()
    return header.fields[edit.at].name.lower() if edit.at < len(header.fields) else b""


def _is_on_top(edit: Insert, name: bytes, signed: Counter[bytes], header: Header) -> bool:
    """One more field above all that are covered, where as many as are covered are there (no oversigning)."""
    there = header.all(name)
    return signed[name] <= len(there) and all(edit.at <= field.index for field in there)


def _with_prefix(header: Header, prefix: str) -> Iterable[Edit]:
    """The subject with a prefix, its other bytes as they are; a message without one gets one."""
    if not prefix:
        return
    mark = make_field("X", prefix.strip())[len("X: ") : -len("\r\n")] + b" " * prefix.endswith(" ")
    if not prefix.isascii():
        mark = mark.rstrip(b" ") + b" "  # an encoded word ends at a blank
    for field in header.all(_SUBJECT):
        value = field.raw.partition(b":")[2]
        if not value.lstrip(b" \t").startswith(mark.rstrip(b" ")):
            yield Replace(field.index, field.name + b": " + mark + value.lstrip(b" \t"))
    if not header.all(_SUBJECT):
        yield Insert(len(header.fields), _SUBJECT + b": " + mark.rstrip(b" ") + b"\r\n")


def _authserv_id(field: Field) -> str:
    """The identifier that an Authentication-Results field begins with, behind comments, in lower case."""
    words = _COMMENT.sub(b" ", field.value).replace(b";", b" ; ").split()
    return words[0].strip(b'"').decode("ascii", "replace").lower() if words else ""


def _summary(report: Report) -> str:
    """One report in a few words that cannot be mistaken for the field's own.

    What was found is told; why somebody could not look, or had nothing to say, is for the log alone:
    recipients read this.
    """
    is_told = report.score is None or report.detail.startswith(f"{report.score:g}/")
    words = [] if is_told else [f"score={report.score:g}"]
    is_found = report.finding is Finding.HIT and report.detail
    words += [_UNSAFE.sub("_", report.detail)[:_SHOWN_CHARS]] if is_found else []
    shown = f" ({' '.join(words)})" if words else ""
    return f"{report.scanner}={report.finding}{shown}"
