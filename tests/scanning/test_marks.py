"""Marks: what a message's header gets and loses, and that signatures, seen by dkimpy, live through it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import TAG
from bqfilter.config.content import HeaderSettings, PolicySettings, ScannerSettings
from bqfilter.config.content_kinds import HeaderTemplate, ReplyTemplate
from bqfilter.mail.fields import TOP, Edit, Header, Insert, Remove, Replace, edited, make_field
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited
from bqfilter.scanning.decision import Verdict, decide
from bqfilter.scanning.marks import Marker, signed_names
from bqfilter.scanning.policy import Policy
from bqfilter.scanning.report import CLEAN, Changes, Finding, Report
from bqfilter.smtp.body import unstuff
from tests.doubles.scanners import hit, scanner
from tests.doubles.signatures import RECOMMENDED, signed, verifies

HOSTNAME = "mx.example"
FLAG = HeaderTemplate.parse("X-Spam-Flag: YES")
SIGNED_SUBJECT = b"DKIM-Signature: v=1; h=from:subject; b=x\r\n"


def table(name: str = "spamd", **keys: Any) -> ScannerSettings:
    return scanner(name, on_hit=TAG, **keys).settings


def verdict(*reports: Report, tables: Sequence[ScannerSettings] = ()) -> Verdict:
    """The verdict on a report of each of these scanners, the first of which is spamd."""
    scanners = tables or [table("spamd"), table("clamd"), table("rules")][: len(reports)]
    named = [replace(report, scanner=one.name) for report, one in zip(reports, scanners, strict=True)]
    policy = Policy(PolicySettings(name="p"), tuple(one.name for one in scanners))
    return decide(named, policy, {one.name: one for one in scanners}, "1A")


def edits(
    header: bytes, *reports: Report, tables: Sequence[ScannerSettings] = (), **keys: Any
) -> tuple[Edit, ...]:
    """The edits of a header by the reports of scanners, without a report field unless `report` names it."""
    scanners = tables or [table("spamd"), table("clamd"), table("rules")][: len(reports)]
    headers = HeaderSettings(**({"report": ""} | keys))
    marker = Marker(headers, {one.name: one for one in scanners}, HOSTNAME)
    return marker.edits(verdict(*reports, tables=scanners), Header(header), "1A")


def after(header: bytes, *reports: Report, tables: Sequence[ScannerSettings] = (), **keys: Any) -> bytes:
    """The header with these edits."""
    return edited(Header(header), edits(header, *reports, tables=tables, **keys))


def wanting(*wanted: Edit) -> Report:
    return replace(CLEAN, changes=Changes(edits=wanted))


@pytest.mark.parametrize(
    "field",
    [
        b"X-Bqfilter-Report: all fine\r\n",
        b"x-bQFILTER-rEPORT: all fine\r\n",
        b"X-Bqfilter-Report : all fine\r\n",
        b"X-Bqfilter-Report:\r\n\tall\r\n\tfine\r\n",
        b"X-Spam-Flag: NO\r\n",
        b"x-trusted: yes\r\n",
    ],
    ids=[
        "the report",
        "in odd case",
        "a blank before the colon",
        "folded",
        "a scanner's field",
        "by setting",
    ],
)
def test_fields_in_our_name_go_whatever_the_verdict(field: bytes) -> None:
    header = b"A: 1\r\n" + field + b"B: 2\r\n" + field
    keys: dict[str, Any] = {"report": "X-Bqfilter-Report", "remove": ("X-Trusted",)}

    assert after(header, CLEAN, tables=[table(add_headers=(FLAG,))], **keys) == b"A: 1\r\nB: 2\r\n"


def test_fields_that_any_message_may_have_are_not_forged_because_a_scanner_adds_one() -> None:
    spam = table(add_headers=(HeaderTemplate.parse("Reply-To: abuse@x"),))

    assert after(b"Reply-To: a@x\r\n", CLEAN, tables=[spam]) == b"Reply-To: a@x\r\n"
    assert after(b"Reply-To: a@x\r\n", CLEAN, remove=("Reply-To",)) == b""


@pytest.mark.parametrize(
    "value",
    [
        b"mx.example; spf=pass",
        b"mx.example;",
        b"mx.example",
        b"MX.Example; none",
        b"mx.example 1; spf=pass",
        b"mx.example(version)1; spf=pass",
        b"mx.example/1; spf=pass",
        b"mx.example. ; spf=pass",
        b"\r\n mx.example;\r\n spf=pass",
        b"(a comment) mx.example; spf=pass",
        b"(a (nested) one) mx.example; spf=pass",
        b"(one)(two)\r\n\t(three) mx.example; spf=pass",
        b"(with \\) quoted) mx.example; spf=pass",
        b'(with " quote) mx.example; spf=pass; x="y"',
        b"()mx.example; spf=pass",
        b'"mx.example"; spf=pass',
        b'"mx.\\example" 1; spf=pass',
        b"mx.example\x00; spf=pass",
        b"\tmx.example\t; spf=pass",
        b"backup.example; spf=pass",
    ],
)
def test_authentication_results_that_claim_to_be_ours_go(value: bytes) -> None:
    ids = ("mx.example", "Backup.Example")

    assert after(b"authentication-RESULTS: " + value + b"\r\n", CLEAN, authserv_ids=ids) == b""


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"; spf=pass",
        b"(never closed mx.example; spf=pass",
        b"(" * 9000 + b")" * 9000 + b" mx.example; spf=pass",
        b") mx.example; spf=pass",
        b'"mx.example; spf=pass',
        b"\xff mx.example; spf=pass",
    ],
    ids=["empty", "no name", "open comment", "endless comment", "closed comment", "open quotes", "8 bits"],
)
def test_authentication_results_of_nobody_that_we_could_read_go(value: bytes) -> None:
    assert after(b"Authentication-Results: " + value + b"\r\n", CLEAN) == b""


@pytest.mark.parametrize(
    "value",
    [
        b"other.example; spf=pass",
        b"sub.mx.example; spf=pass",
        b"mx.example.org; spf=pass",
        b"(mx.example) other.example; spf=pass",
        b'"other mx.example"; spf=pass',
        b"spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=mx.example",
    ],
)
def test_authentication_results_of_others_stay(value: bytes) -> None:
    field = b"Authentication-Results: " + value + b"\r\n"

    assert after(field, CLEAN) == field
    assert after(b"ARC-" + field, CLEAN) == b"ARC-" + field


@pytest.mark.parametrize(
    ("reports", "report_on", "lines"),
    [
        pytest.param([CLEAN], "findings", [], id="nothing to tell"),
        pytest.param([CLEAN], "all", ["action=accept", "spamd=clean"], id="told anyway"),
        pytest.param(
            [hit("spam", score=7.25), CLEAN],
            "findings",
            ["action=tag", "spamd=hit (score=7.25 spam)", "clamd=clean"],
            id="a hit",
        ),
        pytest.param(
            [Report(Finding.UNSCANNED, "too large")],
            "findings",
            ["action=accept", "spamd=unscanned"],
            id="what nobody looked at",
        ),
        pytest.param(
            [hit("x); clamd=clean\r\nBcc: y")],
            "findings",
            ["action=tag", "spamd=hit (x__ clamd_clean__Bcc: y)"],
            id="a detail like the field itself",
        ),
        pytest.param([hit("Grüße")], "findings", ["action=tag", "spamd=hit (Gr__e)"], id="beyond ASCII"),
        pytest.param(
            [hit("=?utf-8?q?clean?=")],
            "findings",
            ["action=tag", "spamd=hit (__utf-8_q_clean__)"],
            id="an encoded word",
        ),
        pytest.param([hit("a" * 500)], "findings", ["action=tag", f"spamd=hit ({'a' * 120})"], id="long"),
        pytest.param(
            [hit("", score=float("nan"))], "findings", ["action=tag", "spamd=hit (score=nan)"], id="no number"
        ),
    ],
)
def test_the_report_field_tells_who_looked_and_what_was_found(
    reports: list[Report], report_on: str, lines: list[str]
) -> None:
    field = after(b"", *reports, report="X-R", report_on=report_on).decode("ascii")

    assert field == (f"X-R: {HOSTNAME};\r\n\t" + ";\r\n\t".join(lines) + "\r\n" if lines else "")


hostile = st.text(st.sampled_from("a \t\r\n\0\x0b\x85\u2028:;(){}=?é\ud800"), max_size=30) | st.text(
    max_size=300
)


@given(st.lists(hostile, min_size=1, max_size=3), st.none() | st.floats())
def test_no_words_of_a_scanner_end_a_field_or_stand_for_another_scanners(
    details: list[str], score: float | None
) -> None:
    words = HeaderTemplate.parse("X-Words: {detail} {scanner} {score}")
    names = ["spamd", "clamd", "rules"][: len(details)]
    tables = [table(name, add_headers=(words,)) for name in names]
    raw = after(b"", *(hit(detail, score=score) for detail in details), tables=tables, report="X-R")
    header = Header(raw)

    assert header.raw == b"".join(field.raw for field in header.fields)
    assert [field.name for field in header.fields] == [b"X-R"] + [b"X-Words"] * len(details)
    assert raw.isascii()
    report = header.fields[0].raw.decode("ascii").split("\r\n")
    assert len(report) == 3 + len(details)
    assert [line.split("=")[0] for line in report[1:-1]] == ["\taction", *(f"\t{name}" for name in names)]


@given(hostile, st.none() | st.floats())
def test_no_words_of_a_scanner_end_a_line_of_the_reply(detail: str, score: float | None) -> None:
    reply = ReplyTemplate.parse("550 5.7.1 {detail} {score}").render(detail=detail, score=f"{score}")

    assert reply.wire.count(b"\r\n") == 1
    assert reply.wire.endswith(b"\r\n")
    assert len(reply.wire) <= 512


@pytest.mark.parametrize(
    ("prefix", "before", "expected"),
    [
        pytest.param("[SPAM] ", b"Subject: x\r\n", b"Subject: [SPAM] x\r\n", id="plain"),
        pytest.param("[SPAM] ", b"sUBJECT :x\r\n", b"sUBJECT: [SPAM] x\r\n", id="odd"),
        pytest.param("[SPAM]", b"Subject: x\r\n", b"Subject: [SPAM]x\r\n", id="no blank wanted"),
        pytest.param(
            "[SPAM]",
            b"Subject: =?utf-8?q?x?=\r\n",
            b"Subject: [SPAM] =?utf-8?q?x?=\r\n",
            id="an encoded word needs a blank",
        ),
        pytest.param(
            "[Süß] ",
            b"Subject: x\r\n",
            b"Subject: =?utf-8?b?W1PDvMOfXQ==?= x\r\n",
            id="a prefix beyond ASCII",
        ),
        pytest.param("[SPAM] ", b"Subject: \xe4 x\r\n", b"Subject: [SPAM] \xe4 x\r\n", id="8 bits"),
        pytest.param("[SPAM] ", b"Subject: [SPAM] x\r\n", b"Subject: [SPAM] x\r\n", id="there already"),
        pytest.param(
            "[SPAM] ", b"Subject:\r\n [SPAM] x\r\n", b"Subject:\r\n [SPAM] x\r\n", id="there, folded"
        ),
        pytest.param(
            "[SPAM] ", b"Subject:\r\n\tx\r\n y\r\n", b"Subject: [SPAM] \r\n\tx\r\n y\r\n", id="folded"
        ),
        pytest.param("[SPAM] ", b"Subject:\r\n", b"Subject: [SPAM]\r\n", id="empty"),
        pytest.param("[SPAM] ", b"A: 1\r\n", b"A: 1\r\nSubject: [SPAM]\r\n", id="none"),
        pytest.param(
            "[SPAM] ",
            b"Subject: x\r\nA: 1\r\nSubject: y\r\n",
            b"Subject: [SPAM] x\r\nA: 1\r\nSubject: [SPAM] y\r\n",
            id="two",
        ),
        pytest.param(
            "[SPAM] ",
            b"Subject: " + b"x" * 985 + b"\r\n",
            b"Subject: [SPAM]\r\n " + b"x" * 985 + b"\r\n",
            id="no line becomes too long",
        ),
    ],
)
def test_a_subject_gets_its_prefix_once_and_keeps_its_bytes(
    prefix: str, before: bytes, expected: bytes
) -> None:
    assert after(before, hit(), tables=[table(subject_prefix=prefix)]) == expected


@given(st.binary(max_size=40), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20))
def test_a_prefix_never_adds_a_field_or_ends_one(value: bytes, prefix: str) -> None:
    value = value.replace(b"\r", b"").replace(b"\n", b"\r\n ")
    before = Header(b"A: 1\r\nSubject:" + value + b"\r\nB: 2\r\n")
    given_edits = edits(before.raw, hit(), tables=[table(subject_prefix=prefix + " ")])
    result = Header(edited(before, given_edits))

    assert [field.name for field in result.fields] == [b"A", b"Subject", b"B"]
    assert result.raw == b"".join(field.raw for field in result.fields)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param((Replace(0, b"Subject: new\r\n"),), b"Subject: [SPAM] new\r\n", id="replaced"),
        pytest.param(
            (Remove(0), Insert(TOP, b"Subject: new\r\n")), b"Subject: [SPAM] new\r\n", id="removed and put in"
        ),
        pytest.param((Remove(0),), b"Subject: [SPAM]\r\n", id="removed"),
        pytest.param((Insert(TOP, b"A: 1\r\n"),), b"A: 1\r\nSubject: [SPAM] old\r\n", id="left alone"),
    ],
)
def test_the_prefix_goes_in_front_of_the_subject_that_a_scanner_has_put_in(
    wanted: tuple[Edit, ...], expected: bytes
) -> None:
    report = hit(changes=Changes(edits=wanted))

    assert after(b"Subject: old\r\n", report, tables=[table(subject_prefix="[SPAM] ")]) == expected


def test_marks_are_those_of_the_scanners_that_ask_for_them() -> None:
    tables = [
        table("spamd", subject_prefix="[SPAM] ", add_headers=(FLAG,)),
        table("clamd", subject_prefix="[VIRUS] ", add_headers=(HeaderTemplate.parse("X-Virus: {detail}"),)),
        table("rules", subject_prefix="[SPAM] "),
    ]

    assert after(b"Subject: x\r\n", hit(), CLEAN, hit(), tables=tables) == (
        b"X-Spam-Flag: YES\r\nSubject: [SPAM] x\r\n"
    )
    assert after(b"Subject: x\r\n", CLEAN, hit("EICAR"), CLEAN, tables=tables) == (
        b"X-Virus: EICAR\r\nSubject: [VIRUS] x\r\n"
    )


def test_what_scanners_want_is_done_whatever_they_found() -> None:
    wanted = (Insert(TOP, b"X-Score: 1\r\n"), Remove(0), Insert(1, b"C: 3\r\n"))

    assert after(b"A: 1\r\nB: 2\r\n", wanting(*wanted)) == b"X-Score: 1\r\nC: 3\r\nB: 2\r\n"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", {}),
        (SIGNED_SUBJECT, {b"from": 1, b"subject": 1}),
        (b"dkim-signature: h = From :\r\n\tTo : from;\r\n b=x\r\n", {b"from": 2, b"to": 1}),
        (b"DKIM-Signature: bh=from:to; v=1\r\n", {}),
        (b"DKIM-Signature: v=1; bh=x; h=from\r\n", {b"from": 1}),
        (b"DKIM-Signature: h=to\r\nDKIM-Signature: h=to:to:cc\r\n", {b"to": 2, b"cc": 1}),
        (b"ARC-Message-Signature: i=1; h=subject\r\n", {b"subject": 1}),
    ],
    ids=["none", "one", "folded", "the body's hash", "last", "two", "ARC"],
)
def test_the_names_that_signatures_cover_are_read_from_them(
    header: bytes, expected: dict[bytes, int]
) -> None:
    assert dict(signed_names(Header(header))) == expected


@pytest.mark.parametrize(
    ("header", "edit", "is_made"),
    [
        pytest.param(b"Subject: x\r\n", Replace(1, b"Subject: y\r\n"), False, id="replace"),
        pytest.param(b"Subject: x\r\n", Remove(1), False, id="remove"),
        pytest.param(b"Subject: x\r\n", Insert(TOP, b"Subject: y\r\n"), True, id="one more on top"),
        pytest.param(b"Subject: x\r\n", Insert(2, b"sUBJECT : y\r\n"), False, id="one more behind it"),
        pytest.param(
            b"To: x\r\n", Insert(TOP, b"Subject: y\r\n"), False, id="one that is signed as not there"
        ),
        pytest.param(b"To: x\r\n", Replace(1, b"Subject: y\r\n"), False, id="one that becomes a signed one"),
        pytest.param(b"To: x\r\n", Replace(1, b"To: y\r\n"), True, id="one that is not signed"),
        pytest.param(b"To: x\r\n", Insert(2, b"X-Any: y\r\n"), True, id="one of another name"),
        pytest.param(b"To: x\r\n", Remove(0), True, id="the signature itself"),
    ],
)
def test_a_signed_field_is_left_alone_unless_the_site_says_otherwise(
    header: bytes, edit: Edit, is_made: bool
) -> None:
    header = SIGNED_SUBJECT + header

    assert (edit in edits(header, wanting(edit))) is is_made
    assert edit in edits(header, wanting(edit), change_signed=True)


def test_no_signature_keeps_a_field_of_ours_off_or_a_forged_one_on() -> None:
    """Whoever sends spam may sign what he likes; nobody need even be able to verify it."""
    header = b"DKIM-Signature: h=x-spam-flag:x-spam-flag:x-r:x-spam-status:x-spam-status\r\n"
    header += b"X-R: fine\r\nX-Spam-Flag: NO\r\nX-Spam-Status: No\r\n"
    report = hit(changes=Changes(edits=(Remove(3), Insert(TOP, b"X-Spam-Status: Yes\r\n"))))
    result = Header(after(header, report, tables=[table(add_headers=(FLAG,))], report="X-R"))

    assert [field.name for field in result.fields] == [
        b"X-R", b"X-Spam-Status", b"X-Spam-Flag", b"DKIM-Signature",
    ]  # fmt: skip
    assert result.first(b"X-Spam-Status") == b"Yes"
    assert result.first(b"X-Spam-Flag") == b"YES"


SPARED = ["Subject", "From", "List-Id", "Content-Type"]
field_names = st.sampled_from([*SPARED, "X-R", "X-Spam-Flag", "X-Other"])
header_fields = st.lists(field_names.map(lambda name: make_field(name, "x")), max_size=6)
any_edit = st.one_of(
    st.builds(Insert, st.integers(0, 8), field_names.map(lambda name: make_field(name, "new"))),
    st.builds(Replace, st.integers(1, 6), field_names.map(lambda name: make_field(name, "new"))),
    st.builds(Remove, st.integers(1, 6)),
)


def covered(header: Header, names: Sequence[bytes]) -> list[bytes]:
    """What a signature over these names covers: of each, the fields from the bottom up (RFC 6376, 5.4.2)."""
    left = {name.lower(): [field.raw for field in header.all(name)] for name in names}
    return [left[name.lower()].pop() if left[name.lower()] else b"" for name in names]


@given(header_fields, st.lists(field_names, max_size=6), st.lists(any_edit, max_size=5))
def test_edits_leave_what_is_signed_as_it_was_and_forged_fields_always_go(
    given_fields: list[bytes], names: list[str], wanted: list[Edit]
) -> None:
    signature = make_field("DKIM-Signature", "v=1; h=" + ":".join(names))
    header = Header(signature + b"".join(given_fields))
    wanted = [edit for edit in wanted if edit.at < len(header.fields) + isinstance(edit, Insert)]
    report = hit(changes=Changes(edits=tuple(wanted)))
    spam = [table(subject_prefix="[SPAM] ", add_headers=(FLAG,))]
    result = Header(after(header.raw, report, tables=spam, report="X-R"))
    signed_and_spared = [name.encode() for name in names if name in SPARED]

    assert covered(result, signed_and_spared) == covered(header, signed_and_spared)
    assert make_field("X-R", "x") not in [field.raw for field in result.fields]
    assert make_field("X-Spam-Flag", "x") not in [field.raw for field in result.fields]
    assert make_field("X-Spam-Flag", "YES") in [field.raw for field in result.fields]


CONTENT = b"""\
From: Ann <ann@sender.example>
To: bob@recipient.example
Subject: an offer,
  folded  oddly
Date: Thu, 1 Jan 2026 00:00:00 +0000
Message-ID: <1@sender.example>
MIME-Version: 1.0
Content-Type: text/plain
X-Mailer: none

A line.
.A line with a dot.

""".replace(b"\n", b"\r\n")
FORGED = b"X-Bqfilter-Report: fine\r\nX-Spam-Flag: NO\r\nAuthentication-Results: mx.example; dkim=pass\r\n"
UNSIGNED_SUBJECT = tuple(name for name in RECOMMENDED if name != b"subject")


def sent_on(content: bytes, *, change_signed: bool) -> bytes:
    """A message as it leaves when a scanner has it tagged and wants something changed besides."""
    message = Message.in_memory(content)
    tables = [table(subject_prefix="[SPAM] ", add_headers=(FLAG,))]
    wanted = (Insert(TOP, b"X-Spam-Status: Yes\r\n"), Insert(5, b"X-Middle: 1\r\n"))
    report = hit("spam", changes=Changes(edits=wanted))
    marker = Marker(HeaderSettings(change_signed=change_signed), {tables[0].name: tables[0]}, HOSTNAME)
    given_edits = marker.edits(verdict(report, tables=tables), message.header, "1A")
    return b"".join(unstuff(Edited(message, given_edits, None, is_small=False).pieces()))


@pytest.mark.parametrize("canonical", ["relaxed/simple", "relaxed/relaxed", "simple/simple"])
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(RECOMMENDED, id="signed"),
        pytest.param((*RECOMMENDED, *RECOMMENDED, b"cc", b"reply-to"), id="oversigned"),
        pytest.param(UNSIGNED_SUBJECT, id="all but the subject"),
        pytest.param((*UNSIGNED_SUBJECT, *UNSIGNED_SUBJECT), id="all but the subject, oversigned"),
    ],
)
def test_a_signature_still_verifies_when_a_message_has_been_tagged(
    canonical: str, names: tuple[bytes, ...]
) -> None:
    original = FORGED + signed(CONTENT, canonical, names)
    assert verifies(original)

    result = sent_on(original, change_signed=False)

    assert verifies(result)
    header = Message.in_memory(result).header
    assert header.first(b"X-Spam-Flag") == b"YES"
    assert header.first(b"X-Bqfilter-Report") != b"fine"
    assert header.all(b"X-Spam-Status")
    assert not header.all(b"Authentication-Results")
    assert (b"[SPAM]" in (header.first(b"Subject") or b"")) is (b"subject" not in names)


@pytest.mark.parametrize("canonical", ["relaxed/simple", "relaxed/relaxed", "simple/simple"])
@pytest.mark.parametrize(
    ("names", "does_verify"),
    [
        pytest.param(RECOMMENDED, False, id="signed"),
        pytest.param((*RECOMMENDED, *RECOMMENDED), False, id="oversigned"),
        pytest.param(UNSIGNED_SUBJECT, True, id="all but the subject"),
    ],
)
def test_a_signature_over_the_subject_fails_where_the_site_has_it_changed(
    canonical: str, names: tuple[bytes, ...], does_verify: bool
) -> None:
    result = sent_on(FORGED + signed(CONTENT, canonical, names), change_signed=True)

    assert b"[SPAM]" in (Message.in_memory(result).header.first(b"Subject") or b"")
    assert verifies(result) is does_verify


def test_names_that_are_not_spared_are_not_counted_however_many_a_signature_has() -> None:
    fields = b"".join(b"DKIM-Signature: h=x-%d:from\r\n" % number for number in range(100))

    assert dict(signed_names(Header(fields))) == {b"from": 1}
