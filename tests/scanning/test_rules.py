"""The rules scanner: which texts are looked up where, in what order, and what is done about them."""

import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from quopri import encodestring
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import DEFER, QUARANTINE, REJECT
from bqfilter.config.content import RulesSettings
from bqfilter.errors import ConfigError, ScannerFailure
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.fields import Insert, Remove, Replace, edited
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.line_edits import Splices
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.report import CLEAN, Finding, Report
from bqfilter.scanning.rule_pattern import Subject
from bqfilter.scanning.rule_table import Table
from bqfilter.scanning.rules import Rules
from bqfilter.smtp.body import without_strays
from bqfilter.smtp.commands import Mail, Rcpt
from tests.doubles import hostile
from tests.doubles.clock import FakeClock

SAMPLES = Path(__file__).resolve().parents[2] / "etc" / "rules"
CLIENT = Client({b"NAME": b"host.example", b"ADDR": b"192.0.2.1"})

Make = Callable[..., Rules]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A scanner from tables given as text: header_checks="/a/ WARN"; a list where a key has several."""

    def made(**keys: Any) -> Rules:
        tables = {key: keys.pop(key) for key in list(keys) if key.endswith("_checks")}
        paths: dict[str, tuple[str, ...]] = {}
        for key, texts in tables.items():
            files = [
                tmp_path / f"{key}{number or ''}"
                for number, _ in enumerate([texts] if isinstance(texts, str) else texts)
            ]
            for file, text in zip(files, [texts] if isinstance(texts, str) else texts, strict=True):
                file.write_text(text + "\n", encoding="utf-8")
            paths[key] = tuple(map(str, files))
        return rules_of(RulesSettings(**paths, **keys))

    return made


def rules_of(settings: RulesSettings, *, changes_signed: bool = False) -> Rules:
    return Rules(settings, Workspace(tempfile.gettempdir(), 1000), changes_signed=changes_signed)


def envelope(sender: bytes = b"a@example.com", *recipients: bytes) -> Envelope:
    rcpts = [Rcpt(b"", one, b"") for one in recipients or (b"b@example.com",)]
    return Envelope(CLIENT, Mail(b"", sender, b""), rcpts)


def message(text: bytes) -> Message:
    return Message.in_memory(text.replace(b"\n", b"\r\n"))


def scan(rules: Rules, text: bytes, of: Envelope | None = None, clock: FakeClock | None = None) -> Report:
    return rules.scan(message(text), of or envelope(), Deadline.after(clock or FakeClock(), 5))


def details(rules: Rules, text: bytes, of: Envelope | None = None) -> list[str]:
    return [part for part in scan(rules, text, of).detail.split("; ") if part]


def sample_rules(**keys: Any) -> Rules:
    paths = {path.stem: (str(path),) for path in SAMPLES.glob("*.regexp")}
    return rules_of(RulesSettings(**paths, **keys))


def test_a_field_of_the_header_is_refused(make: Make) -> None:
    rules = make(header_checks="/^Subject:.*(free) money/ REJECT 5.7.1 No $1 money here")
    report = scan(rules, b"From: x\nSubject: Free\n money\n\ntext\n")

    assert (report.finding, report.response) == (Finding.HIT, REJECT)
    assert str(report.reply) == "550 5.7.1 No Free money here"
    assert report.detail == "header_checks:1 REJECT No Free money here"


def test_a_message_for_which_there_is_no_rule_is_clean(make: Make) -> None:
    assert scan(make(header_checks="/^X-/ REJECT"), b"Subject: X-\n\nX-A: b\n") == CLEAN


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("client_checks", "host.example[192.0.2.1]"),
        ("sender_checks", "a@example.com"),
        ("recipient_checks", "b@example.com"),
        ("recipient_checks", "c@example.com"),
    ],
)
def test_the_envelope_is_looked_up(make: Make, key: str, found: str) -> None:
    rules = make(**{key: "/" + found.translate({ord(code): "\\" + code for code in "[].@"}) + "$/ WARN"})
    of = envelope(b"a@example.com", b"b@example.com", b"c@example.com")

    assert details(rules, b"\n", of) == [f"{key}:1 WARN {found}"]


def test_the_null_sender_is_looked_up_with_brackets(make: Make) -> None:
    assert details(make(sender_checks="/^<>$/ WARN null"), b"\n", envelope(b"")) == [
        "sender_checks:1 WARN null"
    ]


def test_a_field_for_the_envelope_goes_in_front_of_the_header(make: Make) -> None:
    rules = make(recipient_checks="/^(.*)@/ PREPEND X-For: $1")

    assert scan(rules, b"A: b\n\n").changes.edits == (Insert(0, b"X-For: b\r\n"),)


def test_texts_are_looked_up_in_the_order_of_the_message(make: Make) -> None:
    keys = ("body", "mime_header", "header", "recipient", "sender", "client")
    rules = make(**{f"{key}_checks": "/./ INFO x" for key in keys})
    text = b"A: b\nContent-Type: multipart/mixed; boundary=x\n\n--x\nB: c\n\nline\n--x--\n"

    assert [one.partition(":")[0] for one in details(rules, text)] == [
        "client_checks",
        "sender_checks",
        "recipient_checks",
        *("header_checks", "header_checks", "mime_header_checks"),
        *("mime_header_checks", "body_checks"),
    ]


def test_of_several_tables_the_first_with_a_rule_that_applies_decides(make: Make) -> None:
    rules = make(header_checks=["/^A:/ DUNNO\n/^B:/ INFO 1", "/^[ABC]:/ INFO 2"])

    assert details(rules, b"A: x\nB: x\nC: x\n\n") == ["header_checks:2 INFO 1", "header_checks1:1 INFO 2"]


@pytest.mark.parametrize("action", ["REJECT", "DEFER", "DISCARD", "PASS"])
def test_what_is_final_ends_the_search(make: Make, action: str) -> None:
    rules = make(header_checks=f"/^A:/ {action} x\n/^B:/ REJECT y")

    assert scan(rules, b"A: 1\nB: 2\n\n").detail == f"header_checks:1 {action} x"


def test_hold_does_not_keep_a_later_rule_from_refusing(make: Make) -> None:
    rules = make(header_checks="/^A:/ HOLD", body_checks="/x/ REJECT")

    assert scan(rules, b"A: 1\n\ny\n").response == QUARANTINE
    assert scan(rules, b"A: 1\n\nx\n").response == REJECT


def test_edits_are_of_the_fields_that_they_were_found_in(make: Make) -> None:
    rules = make(header_checks="/^B:/ IGNORE\n/^C: (.*)/ REPLACE D: $1\n/^E:/ PREPEND F: new")
    mail = message(b"A: 1\nB: 2\n b\nC: 3\nE: 4\n\n")
    report = rules.scan(mail, envelope(), Deadline.after(FakeClock(), 1))

    assert report.finding is Finding.CLEAN
    assert report.changes.edits == (Remove(1), Replace(2, b"D: 3\r\n"), Insert(3, b"F: new\r\n"))
    assert edited(mail.header, report.changes.edits) == b"A: 1\r\nD: 3\r\nF: new\r\nE: 4\r\n"


MIXED = b"""Content-Type: multipart/mixed; boundary=x

preamble
--x
Content-Type: application/zip; name="a.zip"

zip
--x
Content-Type: message/rfc822

Subject: inner

inner text
--x--
epilogue
"""


def test_the_headers_of_parts_and_of_messages_within_are_looked_up(make: Make) -> None:
    rules = make(mime_header_checks="/^([^:]*:)/ INFO $1", header_checks="/^Subject: inner/ REJECT")

    assert [one.rpartition(" ")[2] for one in details(rules, MIXED)] == ["Content-Type:"] * 3 + ["Subject:"]


def test_the_mime_fields_of_the_message_are_looked_up_in_both_tables(make: Make) -> None:
    rules = make(mime_header_checks="/./ INFO mime", header_checks="/./ INFO header")
    text = b"Content-Type: text/plain\nMIME-Version: 1.0\nContent-Length: 1\nSubject: x\n\n"

    assert [one.rpartition(" ")[2] for one in details(rules, text)] == ["header", "mime"] * 2 + ["header"] * 2


def test_the_lines_of_all_parts_are_looked_up(make: Make) -> None:
    rules = make(body_checks="/(.*)/ INFO $1")

    assert [one.partition("INFO ")[2] for one in details(rules, MIXED)] == [
        *("preamble", "zip", "inner text", "epilogue"),
    ]


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_encoded_text_is_found(make: Make, encoding: str) -> None:
    rules = make(body_checks="/^schöne Grüße$/ REJECT")
    data = b64encode(b"sch\xf6ne Gr\xfc\xdfe") if encoding == "base64" else b"sch=F6ne Gr=\n=FC=DFe"
    head = (
        b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: %b\n\n" % encoding.encode()
    )

    assert scan(rules, head + data + b"\n").response == REJECT
    assert scan(make(body_checks="/^schöne/ REJECT", decode=False), head + data + b"\n") == CLEAN


def test_encoded_words_are_found(make: Make) -> None:
    text = b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\n\n"

    assert scan(make(header_checks="/^Subject: grüße$/ DEFER"), text).response == DEFER
    assert scan(make(header_checks="/R3LDvMOfZQ==/ DEFER"), text).response == DEFER
    assert scan(make(header_checks="/^Subject: grüße$/ DEFER", decode=False), text) == CLEAN


def test_letter_case_does_not_matter_beyond_ascii_either(make: Make) -> None:
    rules = make(header_checks="/GRÜSSE/ REJECT", body_checks="/GRÜSSE/ REJECT")

    assert scan(rules, "Subject: grüsse\n\n".encode()).response == REJECT
    assert scan(rules, "Content-Type: text/plain; charset=utf-8\n\ngrüsse\n".encode()).response == REJECT


def test_a_broad_rule_behind_a_narrow_one_does_not_hide_it_from_decoded_text(make: Make) -> None:
    rules = make(header_checks="/^Subject: viagra/ REJECT\n/^Subject:/ INFO")

    assert scan(rules, b"Subject: =?utf-8?q?vi=61gra?=\n\n").response == REJECT


def test_of_each_part_no_more_than_the_limit_is_looked_at(make: Make) -> None:
    rules = make(body_checks="/x/ REJECT", body_limit=1000)
    parts = (
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + b"a\n" * 2000 + b"%b\n--b\n\n%b\n--b--\n"
    )

    assert scan(rules, parts % (b"x", b"y")) == CLEAN
    assert scan(rules, parts % (b"y", b"x")).response == REJECT
    assert scan(make(body_checks="/x/ REJECT", body_limit=0), parts % (b"x", b"y")).response == REJECT


def test_what_could_not_be_looked_at_is_told(make: Make) -> None:
    text = b"Content-Type: multipart/mixed; boundary=x\n\n" + b"--x\nA: b\n\nc\n" * 1100

    assert scan(make(body_checks="/zzz/ REJECT"), text) == Report(
        Finding.CLEAN, "not looked at beyond the limit on parts"
    )


def test_a_scanner_without_tables_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"rules\.local: names no table; one of header_checks"):
        rules_of(RulesSettings(name="local"))


@pytest.mark.parametrize(
    ("key", "action"),
    [
        (key, action)
        for key in ("client_checks", "sender_checks", "recipient_checks")
        for action in ("REPLACE A: b", "STRIP", "IGNORE")
    ],
)
def test_edits_that_cannot_be_had_are_a_mistake(make: Make, key: str, action: str) -> None:
    with pytest.raises(ConfigError, match=rf"/{key}, line 1: {action.split()[0]} is not available in {key}"):
        make(**{key: f"/a/ {action}"})


def test_a_mistake_in_any_table_names_its_file(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"/header_checks1, line 2: bad pattern"):
        make(header_checks=["/a/ OK", "/a/ OK\n/(/ OK"])


def test_it_says_what_it_has(make: Make) -> None:
    deadline = Deadline.never(FakeClock())

    assert make(header_checks="/a/ OK\nif /a/\n/b/ OK\nendif", body_checks="/a/ OK").ping(deadline) == (
        "3 rules in 2 tables"
    )
    assert make(header_checks="/a/ OK").ping(deadline) == "1 rule in 1 table"


def test_the_worker_has_nothing_to_do(make: Make) -> None:
    rules = make(header_checks="/a/ REJECT")
    rules.after_fork_in_worker()

    assert scan(rules, b"A: b\n\n").finding is Finding.HIT


def test_a_deadline_that_has_passed_is_a_failure_and_no_finding(make: Make) -> None:
    clock = FakeClock()
    rules = make(header_checks="/a/ REJECT")
    deadline = Deadline.after(clock, 1)
    clock.advance(2)

    with pytest.raises(ScannerFailure, match="take longer than there is time"):
        rules.scan(message(b"A: a\n\n"), envelope(), deadline)


def test_the_clock_is_looked_at_where_there_is_nothing_to_look_up(make: Make) -> None:
    clock = FakeClock()
    rules = make(body_checks="/zzz/ REJECT", body_limit=10)

    def pieces() -> Iterator[bytes]:
        yield b"A: b\r\n\r\n"
        for _ in range(1000):
            clock.advance(0.1)
            yield b"x" * 65535

    with pytest.raises(ScannerFailure):
        rules.scan(Message(pieces), envelope(), Deadline.after(clock, 5))


class Work:
    """Counts what patterns are given to look at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts = 0
        self.bytes = 0
        self.largest = 0
        find = Table.find

        def counted(table: Table, subject: Subject) -> Any:
            sizes = [len(form) for form in (subject.raw, subject.decoded) if form is not None]
            self.texts += 1
            self.bytes += sum(sizes)
            self.largest = max(self.largest, *sizes)
            return find(table, subject)

        monkeypatch.setattr(Table, "find", counted)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def test_patterns_that_never_end_elsewhere_end_here(make: Make, work: Work) -> None:
    rules = make(
        header_checks="/(a+)+$/ REJECT\n/^(a|aa)+$/ REJECT", body_checks="/(a*)*b$/ REJECT", body_limit=0
    )
    line = b"a" * 1000000

    assert scan(rules, b"X: " + line + b"c\n\n" + line + b"\n") == CLEAN
    assert work.bytes <= 2 * len(line) + 10


def test_fifty_thousand_fields_are_as_many_texts(make: Make, work: Work) -> None:
    rules = make(header_checks="/^X-A: never/ REJECT\n/^X-B: never/ REJECT")

    assert scan(rules, b"X-A: =?utf-8?q?a?=\n" * 50000 + b"\n") == CLEAN
    assert work.texts == 50000
    assert work.bytes == 50000 * len(b"X-A: =?utf-8?q?a?=" + b"X-A: a")


def test_a_line_of_fifty_megabytes_is_looked_at_in_pieces(make: Make, work: Work) -> None:
    rules = make(body_checks="/zzz/ REJECT", body_limit=0)
    mail = Message(lambda: iter([b"A: b\r\n\r\n", *[b"x" * 62500] * 800]))

    assert rules.scan(mail, envelope(), Deadline.never(FakeClock())) == CLEAN
    assert work.bytes == 50_000_000
    assert work.largest <= 65536


def test_decoding_adds_no_more_than_there_is(make: Make, work: Work) -> None:
    rules = make(body_checks="/zzz/ REJECT", header_checks="/zzz/ REJECT", body_limit=0)
    data = b64encode(b"line of text\n" * 100000)
    head = b"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"

    assert scan(rules, head + data) == CLEAN
    assert work.bytes <= 2 * len(head + data)


HEADERS = [
    *(b"Content-Type: text/html; charset=utf-16\n", b"Content-Type: multipart/mixed; boundary=x\n"),
    *(b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n"),
    *(
        b"Content-Type: message/rfc822\n",
        b"Subject: =?utf-7?b?+++?=\n",
        b"X: \xff\n",
        b": a\n",
        b"\n",
        b"--x\n",
    ),
    *(b"--x--\n", b"YWJj\n", b"=C3=\n", b"\xe4\x00\xff\n"),
]


@given(st.lists(st.one_of(st.sampled_from(HEADERS), st.binary(max_size=30)), max_size=20))
def test_no_message_makes_it_fail(pieces: list[bytes]) -> None:
    assert scan(sample_rules(), b"".join(pieces)).finding in (Finding.CLEAN, Finding.HIT)


def test_hostile_messages_cost_no_more_than_some_times_their_size(work: Work) -> None:
    rules = sample_rules(body_limit=0)
    for name, content in hostile.messages(150):
        work.bytes = work.largest = 0
        report = rules.scan(Message.in_memory(content), envelope(), Deadline.never(FakeClock()))

        assert report.finding in (Finding.CLEAN, Finding.HIT), name
        assert work.bytes <= 6 * len(content) + 1000, name
        assert work.largest <= 3 * len(content) + 1000, name  # U+FFFD has three bytes


@pytest.mark.parametrize(
    ("text", "of", "finding"),
    [
        pytest.param(b"X-Bqfilter-Test: reject\n\n", None, "header_checks:9 REJECT", id="test field"),
        pytest.param(
            b"Subject: =?utf-8?q?You_have_won!?=\n\n", None, "header_checks:13 REJECT", id="subject"
        ),
        pytest.param(b"X-Originating-IP: 1\n\n", None, "", id="field removed"),
        pytest.param(b"List-Id: <old.lists.example.com>\n\n", None, "header_checks:27 REDIRECT", id="list"),
        pytest.param(
            b'Content-Disposition: attachment;\n filename="a.scr"\n\n',
            None,
            "mime_header_checks:9 REJECT",
            id="name",
        ),
        pytest.param(b"A: b\n\nbqfilter test, please refuse this\n", None, "body_checks:9 REJECT", id="line"),
        pytest.param(b"A: b\n\nIBAN: DE00 1234 5678 90\n", None, "body_checks:18 REPLACE", id="line edited"),
        pytest.param(b"\n", envelope(b"x@a.spam.example"), "sender_checks:8 REJECT", id="sender"),
        pytest.param(b"Subject: hello\n\nworld\n", None, "", id="nothing"),
    ],
)
def test_the_sample_tables_find_what_they_say(text: bytes, of: Envelope | None, finding: str) -> None:
    detail = scan(sample_rules(), text, of).detail.replace(".regexp", "")

    assert detail.startswith(finding)
    assert bool(detail) is bool(finding)


# edits of the body


def body_of(rules: Rules, text: bytes) -> bytes | None:
    """The body that a message gets, with LF at the end of its lines; None where it keeps its own."""
    changes = scan(rules, text).changes
    return None if changes.body is None else b"".join(changes.body()).replace(b"\r\n", b"\n")


EDITS = "/^(secret): (.*)/ REPLACE [$1] $2 ä\n/^advert/ IGNORE\n/^quoted/ STRIP\n/^pre/ PREPEND in front"
LINES = "kept\nsecret: grün\nadvert\nprefix\nquoted\nlast\n"
EDITED = "kept\n[secret] grün ä\nin front\nprefix\nlast\n"


def part(text: str, encoding: str) -> bytes:
    raw = text.encode()
    if encoding == "base64":
        raw = b64encode(raw.replace(b"\n", b"\r\n"))
        raw = b"\n".join(raw[at : at + 76] for at in range(0, len(raw), 76)) + b"\n"
    elif encoding == "quoted-printable":
        raw = encodestring(raw)
    head = f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n"
    return head.encode() + raw


@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
def test_lines_are_edited_in_any_encoding(make: Make, encoding: str) -> None:
    before, after = (part(text, encoding) for text in (LINES, EDITED))
    rules = make(body_checks=EDITS)

    assert body_of(rules, before) == after.partition(b"\n\n")[2]
    around = b"Content-Type: multipart/mixed; boundary=b\n\nadvert-free?\n--b\n%b\n--b\n\nother =\n--b--\n"
    expected = (around % after).partition(b"\n\n")[2].replace(b"advert-free?\n", b"")
    assert body_of(rules, around % before) == expected


@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
def test_a_message_without_such_lines_keeps_its_body(make: Make, encoding: str) -> None:
    assert body_of(make(body_checks=EDITS), part("nothing\n", encoding)) is None


def test_edits_are_told_but_for_ignore_and_are_no_finding(make: Make) -> None:
    report = scan(make(body_checks=EDITS), part(LINES, "base64"))

    assert (report.finding, report.response) == (Finding.CLEAN, None)
    assert report.detail == (
        "body_checks:1 REPLACE [secret] grün ä; body_checks:4 PREPEND in front; body_checks:3 STRIP quoted"
    )


def test_without_decoding_bytes_are_edited_as_they_stand(make: Make) -> None:
    rules = make(body_checks="/^YQ==/ REPLACE YgÄ==\n/^=C3/ IGNORE", decode=False)

    assert body_of(rules, part("a", "base64")) == "YgÄ==\n".encode()
    assert body_of(rules, part("äx\ny", "quoted-printable")) == b"y"


def test_an_encoded_line_is_refused_as_it_stands_and_edited_decoded(make: Make) -> None:
    text = part("some words\n", "base64")

    assert body_of(make(body_checks="/^c29tZ/ IGNORE"), text) is None
    assert scan(make(body_checks="/^c29tZ/ REJECT"), text).response == REJECT
    assert body_of(make(body_checks="/^some words$/ IGNORE"), text) == b"\n"


FIELDS = b"""Content-Type: multipart/mixed; boundary=x

--x
X-Long: folded
 and more
Content-Disposition: inline; filename=a
Content-Type: message/rfc822

Subject: inner
X-Inner: 1

text
--x--
"""


def test_fields_of_parts_are_edited_in_place(make: Make) -> None:
    rules = make(
        mime_header_checks="/^X-Long:/ IGNORE\n/^(Content-D[a-z]+): [a-z]+(.*)/ REPLACE $1: attachment$2\n"
        "/^Subject: (.*)/ PREPEND X-Was: <ä>\n/^X-Inner/ STRIP"
    )
    expected = FIELDS.replace(b"X-Long: folded\n and more\n", b"").replace(b"inline;", b"attachment;")
    expected = expected.replace(b"X-Inner: 1\n", b"")
    expected = expected.replace(b"Subject:", b"X-Was: =?utf-8?b?PMOkPg==?=\nSubject:")

    assert body_of(rules, FIELDS) == expected.partition(b"\n\n")[2]


def test_mime_fields_of_the_message_are_edited_in_its_header(make: Make) -> None:
    rules = make(mime_header_checks="/^Content-Type:/ REPLACE Content-Type: text/plain")
    changes = scan(rules, b"A: b\nContent-Type: text/html\n\nx\n").changes

    assert (changes.edits, changes.body) == ((Replace(1, b"Content-Type: text/plain\r\n"),), None)


@pytest.mark.parametrize("key", ["header_checks", "mime_header_checks"])
def test_what_goes_into_a_header_has_to_be_a_field(make: Make, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"/{key}, line 1: REPLACE takes a header field"):
        make(**{key: "/a/ REPLACE some text"})


SIGNED = b"DKIM-Signature: v=1; d=example.com; h=from; b=x\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SIGNED + b"\nadvert\n", id="DKIM"),
        pytest.param(SIGNED.replace(b"DKIM", b"ARC-Message") + b"\nadvert\n", id="ARC"),
        pytest.param(FIELDS.replace(b"mixed", b"signed").replace(b"text", b"advert"), id="S/MIME"),
        pytest.param(FIELDS.replace(b"mixed", b"encrypted").replace(b"text", b"advert"), id="PGP"),
        pytest.param(b"Content-Type: application/pkcs7-mime\n\nadvert\n", id="opaque"),
    ],
)
def test_what_a_signature_covers_is_left_alone_unless_told(make: Make, text: bytes) -> None:
    rules = make(body_checks=EDITS, mime_header_checks="/^X-Inner/ REPLACE X: y")
    report = scan(rules, text)

    assert report.changes.body is None
    assert "body_checks:2 IGNORE advert (not done: signed or encrypted)" in report.detail
    changed = body_of(rules_of(rules.settings, changes_signed=True), text)
    assert changed is not None
    assert b"advert" not in changed
    assert b"X-Inner" not in changed


def test_what_is_beside_a_signed_part_is_edited(make: Make) -> None:
    signed = b"Content-Type: multipart/signed; boundary=s\n\n--s\n\nadvert\n--s--\n"
    text = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n%b--b\n\nadvert\nend\n--b--\n" % signed

    assert body_of(make(body_checks=EDITS), text) == b"--b\n%b--b\n\nend\n--b--\n" % signed


@pytest.mark.parametrize("action", ["PASS", "HOLD"])
def test_lines_that_were_edited_before_the_search_ended_stay_so(make: Make, action: str) -> None:
    rules = make(body_checks=EDITS + f"\n/^last/ {action}")
    text = part("advert\nlast\n" + "x\n" * 10, "base64")

    assert body_of(rules, text) == part("last\n" + "x\n" * 10, "base64").partition(b"\n\n")[2]


def test_of_a_part_lines_are_edited_up_to_the_limit(make: Make) -> None:
    rules = make(body_checks="/^x/ IGNORE", body_limit=1000)
    text = "x\n" * 100 + "y" * 1000 + "\n" + "x\n" * 3

    for encoding in ("8bit", "quoted-printable"):
        assert (body_of(rules, part(text, encoding)) or b"").endswith(b"y\nx\nx\nx\n")


def test_the_last_line_of_a_part_goes_without_a_trace(make: Make) -> None:
    text = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nkept\nadvert\n--b\n\nadvert\n--b--\n"

    assert body_of(make(body_checks=EDITS), text) == b"--b\n\nkept\n--b\n\n--b--\n"


def test_both_readings_of_a_broken_header_are_edited_once(make: Make) -> None:
    text = b"Content-Type: multipart/mixed; boundary=b\n\n--b\nA: b\nodd\nadvert\nB: c\n\ntext\n--b--\n"
    rules = make(body_checks="/^(advert|B:)/ IGNORE", mime_header_checks="/^C/ PREPEND X: y")

    assert body_of(rules, text) == b"--b\nA: b\nodd\n\ntext\n--b--\n"


def test_edits_of_any_number_of_lines_are_kept_outside_of_memory(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, settle = [0], Splices.settle

    def counted(splices: Splices, *at: int) -> None:
        held.append(len(splices._pending))
        settle(splices, *at)

    monkeypatch.setattr(Splices, "settle", counted)
    rules = make(body_checks="/^x/ REPLACE y", body_limit=0)
    mail = Message(lambda: iter([b"A: b\r\n\r\n", *[b"x\r\n" * 500] * 40]))
    report = rules.scan(mail, envelope(), Deadline.never(FakeClock()))

    assert report.changes.body is not None
    assert sum(piece.count(b"y") for piece in report.changes.body()) == 20_000
    assert max(held) < 7_000  # those of one piece


def test_more_edits_than_a_message_may_have_are_a_failure(make: Make, tmp_path: Path) -> None:
    settings = make(body_checks="/x/ PREPEND " + "y" * 900).settings
    rules = Rules(settings, Workspace(str(tmp_path), 1000, 100_000))

    with pytest.raises(ScannerFailure, match="more than a message may have"):
        scan(rules, b"A: b\n\n" + b"x\n" * 500)


SOME = st.one_of(st.sampled_from([*HEADERS, b"advert\n", b"prefix\n"]), st.binary(max_size=20))


@given(st.lists(SOME, max_size=20))
def test_whatever_is_edited_the_rest_stays(pieces: list[bytes]) -> None:
    text = b"Content-Type: multipart/mixed; boundary=x\n\n" + b"".join(pieces)
    mail = Message.in_memory(b"".join(without_strays(iter([text]))))
    with tempfile.TemporaryDirectory() as directory:
        table = Path(directory, "t")
        table.write_text("/^advert$/ REPLACE ADVERT\n/^prefix/ PREPEND before\n", encoding="utf-8")
        settings = RulesSettings(body_checks=(str(table),), decode=False)
        report = rules_of(settings).scan(mail, envelope(), Deadline.never(FakeClock()))
    old = b"".join(mail.body())
    new = old if report.changes.body is None else b"".join(report.changes.body())

    assert new.replace(b"before\r\n", b"").replace(b"ADVERT", b"advert") == old


def test_hostile_messages_can_be_edited(make: Make) -> None:
    rules = make(
        body_checks="/[aeiou]/ IGNORE\n/./ REPLACE x",
        mime_header_checks="/^(X|Subject)/ IGNORE\n/^C/ PREPEND X-A: b\n/./ REPLACE A: b",
    )
    rules = rules_of(rules.settings, changes_signed=True)
    for name, content in hostile.messages(80, seed=5):
        if len(content) > 50_000:
            continue
        report = rules.scan(Message.in_memory(content), envelope(), Deadline.never(FakeClock()))
        assert report.finding is Finding.CLEAN, name
        if report.changes.body is not None:
            assert sum(map(len, report.changes.body())) <= 4 * len(content) + 1000, name


BODY_TABLES = {
    "dunno first": "/^[a-z]+$/ DUNNO\n/b/ WARN b\n/^a|c$/ STRIP",
    "a condition": "if /a/\n/ab/ REPLACE x\n/b/ DUNNO\nendif\n/c$/ PREPEND y",
    "a refusal": "/^$/ REJECT never\n/ab.c/ REJECT\n/b/ PREPEND z",
    "the whole text": "/\\Aab/ WARN\n/b/ DUNNO",
    "negated": "!/b/ INFO",
    "flag m off": "/( ?-m)^ab$/x INFO\n/(?-m:^c)/ WARN",
}
PIECES = ["a", "b", "ab", "c", " ", "\n", "\n\n", "a\nb", "\xe4", "=", "\r", "--x\n", "--x--\n"]


@pytest.mark.parametrize("name", BODY_TABLES)
@given(
    st.sampled_from(["", "multipart/mixed; boundary=x", "text/plain; charset=utf-8"]),
    st.sampled_from(["8bit", "quoted-printable"]),
    st.lists(st.sampled_from(PIECES), max_size=20),
)
def test_what_rules_find_does_not_depend_on_lines_that_are_passed_over(
    name: str, content_type: str, encoding: str, pieces: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        table = Path(directory, "body")
        table.write_text(BODY_TABLES[name] + "\n")
        rules = rules_of(RulesSettings(body_checks=(str(table),)))
        head = f"Content-Type: {content_type}\nContent-Transfer-Encoding: {encoding}\n\n"
        text = (head + "".join(pieces)).encode()

        report = scan(rules, text)
        patch.setattr(Table, "may_apply_to_lines", lambda _table, _lines: True)
        again = scan(rules, text)

        assert (again.finding, again.detail, again.reply) == (report.finding, report.detail, report.reply)
        assert new_body(again) == new_body(report)


def new_body(report: Report) -> bytes | None:
    return None if report.changes.body is None else b"".join(report.changes.body())
