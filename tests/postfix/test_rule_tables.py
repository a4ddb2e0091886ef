"""Tables of rules beside Postfix's own reading of them: the same file, the same lines, the same answers.

`postmap -q` is asked, which reads a table as cleanup(8) does and needs no running Postfix. Tables of both its
types are compared: regexp, and pcre for the flags that only that has. Edits of bodies are compared with what
a running Postfix makes of the same message.
"""

import base64
import quopri
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bqfilter.mail.fields import Header
from bqfilter.mail.media import media_of
from bqfilter.mail.mime import PartBegin, PartData
from bqfilter.scanning.rule_action import Action
from bqfilter.scanning.rule_pattern import Subject
from bqfilter.scanning.rule_subjects import PartLines, field_subject
from bqfilter.scanning.rule_table import Applied, parse_table
from tests.doubles.components import missing, require
from tests.doubles.programs import short_directory

from .conftest import Filters
from .postfix_instance import PostfixInstance, fresh_address
from .smtp_client import SENDER, submit

SAMPLES = Path(__file__).resolve().parents[2] / "etc" / "rules"


class Postmap:
    """Asks Postfix, with a configuration of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "main.cf").write_text(
            "compatibility_level = 3.6\nmeta_directory = /etc/postfix\nsmtputf8_enable = no\n",
            encoding="utf-8",
        )

    def ask(self, kind: str, table: bytes, lines: bytes, *options: str) -> bytes:
        """What it prints where it has nothing to complain of."""
        said, complaint = self.run(kind, table, lines, *options)
        assert complaint == b""
        return said

    def run(self, kind: str, table: bytes, lines: bytes, *options: str) -> tuple[bytes, bytes]:
        """What it prints, and what it complains of."""
        path = self._directory / "table"
        path.write_bytes(table)
        command = ["postmap", "-c", str(self._directory), *options, "-q", "-", f"{kind}:{path}"]
        run = subprocess.run(command, input=lines, capture_output=True, check=False)
        return run.stdout, run.stderr

    def answers(self, kind: str, table: bytes, lines: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those lines for which there is one."""
        said = self.ask(kind, table, b"".join(line + b"\n" for line in lines))
        pairs = (line.partition(b"\t") for line in said.splitlines())
        return {line: answer for line, _, answer in pairs}


def why_not() -> str | None:
    if reason := missing("postmap", "postfix"):
        return reason
    kinds = subprocess.run(["postconf", "-m"], capture_output=True, text=True, check=False).stdout.split()
    return None if "pcre" in kinds else "postfix-pcre is not installed"


@pytest.fixture(scope="module")
def postmap() -> Iterator[Postmap]:
    require(why_not())
    with short_directory("bqpm-") as directory:
        yield Postmap(directory)


def any_action(_action: Action) -> None:
    """All can be had."""


def as_postfix_says_it(applied: Applied) -> bytes:
    words = (str(applied.action.verb).encode(), applied.action.status, applied.text)
    return b" ".join(word for word in words if word)


def our_answers(table: bytes, lines: Sequence[bytes]) -> dict[bytes, bytes]:
    ours = parse_table("t", table, any_action, True)
    found = {line: ours.find(Subject(line)) for line in lines}
    return {line: as_postfix_says_it(applied) for line, applied in found.items() if applied is not None}


LINES = (
    b"Subject: make money fast",
    b"Subject: MAKE MONEY FAST",
    b"subject:make  money",
    b"From: a@example.com",
    b"From: Some Body <b@example.org>",
    b"X-Spam: yes",
    b"X-Spam: no",
    b"foo",
    b"FOO",
    b"foobar",
    b"a.b",
    b"axb",
    b"a b",
    b"ab",
    b"aab",
    b"a/b",
    b"a$b",
    b"$1",
    b"(x)",
    b"a|b",
    b"{1}",
    b"x\xe4y",
    "xäy".encode(),
    b"\xff\xfe",
    b"1234567890" * 20,
    b"<>",
    b" leading",
    b"# no comment",
)

# Tables that mean the same to either type.
COMMON = [
    pytest.param(b"/foo/ WARN 1\n/^foo$/ WARN 2\n", id="the first one decides"),
    pytest.param(b"/^foo$/ DUNNO\n/foo/ WARN x\n", id="DUNNO"),
    pytest.param(b"!/o/ WARN none\n/foo/ WARN some\n", id="negation"),
    pytest.param(b"! ! /foo/ WARN twice\n", id="double negation"),
    pytest.param(b"/FOO/i WARN 1\n/foo/i WARN 2\n/FOO/ii WARN 3\n", id="letter case"),
    pytest.param(b"if /^[a-z]/i\n/foo/ WARN in\nendif\n/foo/ WARN out\n", id="if"),
    pytest.param(b"if !/foo/\nif /a/\n/b/ WARN a b\nendif\n!/a/ WARN no a\nendif\n", id="nested if"),
    pytest.param(b"IF /foo/\nENDIF\n/foo/ WARN x\n", id="empty if"),
    pytest.param(b"if/foo/\n/bar/ WARN x\nendif\nif!/foo/\n/./ WARN y\nendif\n", id="no blank behind if"),
    pytest.param(b"/^(.)(.*)$/ WARN $2$1\n", id="groups"),
    pytest.param(b"/^(a)?(.)/ WARN [${1}][$(2)]$$[$1]\n", id="groups without a part, braces, dollar"),
    pytest.param(b"/a\\$b/ WARN $$1\n/\\$1/ WARN $$$$\n", id="dollar signs"),
    pytest.param(b"/^From:.*<(.*)@(.*)>/ REDIRECT $1@$2\n", id="redirect"),
    pytest.param(b"/foo/ REJECT 5.7.1 no\n/a/ REJECT no\n/x/ REJECT\n", id="reject"),
    pytest.param(
        b"# c\n\n/foo/ WARN a\n  b\n# d\n\tc\n\n d\n  # e\n/a/ WARN x\n", id="continuation, comments"
    ),
    pytest.param(b"/foo/\n  WARN x\n/a/\n# y\n  WARN z\n", id="action on the next line"),
    pytest.param(b"/foo/ WARN x  \t \n", id="blanks at the end"),
    pytest.param(b"/foo/ WARN x # y\n", id="no comment behind an action"),
    pytest.param(b"~a/b~ WARN 1\n|a b| WARN 2\n=ab= WARN 3\n@foo@i WARN 4\n", id="other delimiters"),
    pytest.param(b"/a\\/b/ WARN 1\n~a\\~b~ WARN 2\n|a\\|b| WARN 3\n", id="escaped delimiters"),
    pytest.param(b"/^[[:upper:]]+$/i WARN 1\n/^[^[:alnum:]]/ WARN 2\n", id="POSIX classes"),
    pytest.param(b"/^.{2,3}$/ WARN 1\n/^[0-9]{100}/ WARN 2\n", id="repetition"),
    pytest.param(b"/^x..y$/ WARN two\n/^x.y$/ WARN one\n", id="a byte is a character"),
    pytest.param(b"/x\xe4y/ WARN latin\n/x\xc3\xa4y/ WARN utf\n", id="beyond ASCII"),
    pytest.param(b"/a|b/ WARN 1\n/(fo|foo)(bar)?$/ WARN 2\n", id="alternatives"),
    pytest.param(b"/\\bfoo\\b/ WARN 1\n/^\\w+ \\w+$/ WARN 2\n/\\s/ WARN 3\n", id="borders and classes"),
    pytest.param(b"/^\\(x\\)/ WARN 1\n/\\{1\\}/ WARN 2\n/^a\\.b/ WARN 3\n", id="escapes"),
    pytest.param(b"/^/ WARN all\n", id="everything"),
]

# Tables with flags and escapes that pcre tables alone have.
PERL = [
    pytest.param(b"/a b/x WARN 1\n/a[ ]b/x WARN 2\n/foo\\ /x WARN 3\n", id="x"),
    pytest.param(b"/oo/A WARN 1\n/foo|oo/A WARN 2\n/b|ab/A WARN 3\n", id="A"),
    pytest.param(b"/^(a+)(.*)$/U WARN $1-$2\n", id="U"),
    pytest.param(b"/^foo$/E WARN 1\n/b$/E WARN 2\n", id="E"),
    pytest.param(b"/a.b/s WARN 1\n/^f.o/m WARN 2\n", id="s and m"),
    pytest.param(b"/^(a+?)(.*)/ WARN $1-$2\n/^(.*?)o/ WARN $1\n", id="lazy quantifiers"),
    pytest.param(b"/^\\d+$/ WARN 1\n/\\x24/ WARN 2\n/\\Qa.b\\E/ WARN 3\n", id="Perl escapes"),
    pytest.param(b"/(?i:FOO)/i WARN 1\n/(?-i)foobar/ WARN 2\n", id="flags in the pattern"),
    pytest.param(b"/^(?:fo|foo)(bar)?/ WARN [$1]\n", id="groups that count for nothing"),
    pytest.param(b"/^(fo|foo)(.*)/ WARN $1-$2\n", id="the first alternative counts"),
]


@pytest.mark.parametrize("kind", ["regexp", "pcre"])
@pytest.mark.parametrize("table", COMMON)
def test_a_table_gives_the_answers_that_postfix_gives(postmap: Postmap, kind: str, table: bytes) -> None:
    answers = postmap.answers(kind, table, LINES)

    assert answers
    assert our_answers(table, LINES) == answers


@pytest.mark.parametrize("table", PERL)
def test_a_pcre_table_gives_the_answers_that_postfix_gives(postmap: Postmap, table: bytes) -> None:
    answers = postmap.answers("pcre", table, LINES)

    assert answers
    assert our_answers(table, LINES) == answers


# Where the manual says that we differ: what regexp tables say, and what we say.
DIFFERENT = [
    pytest.param(b"/(fo|foobar)/ WARN $1\n", b"foobar", b"WARN foobar", b"WARN fo", id="the longest match"),
    pytest.param(b"/^[\\.]b$/ WARN x\n", b"\\b", b"WARN x", None, id="backslash in brackets"),
    pytest.param(b"/\\bfoo/!/bar/ WARN x\n", b"foo", b"WARN x", ValueError, id="second pattern"),
    pytest.param(b"/\\<foo/ WARN x\n", b"foo", b"WARN x", ValueError, id="word border"),
    pytest.param(b"/^\\(f\\)oo/x WARN x\n", b"foo", b"WARN x", None, id="old syntax"),
]


@pytest.mark.parametrize(("table", "line", "theirs", "ours"), DIFFERENT)
def test_a_regexp_table_differs_where_the_manual_says_so(
    postmap: Postmap, table: bytes, line: bytes, theirs: bytes, ours: bytes | type[Exception] | None
) -> None:
    assert postmap.answers("regexp", table, [line]) == {line: theirs}
    if isinstance(ours, type):
        with pytest.raises(ours):
            our_answers(table, [line])
    else:
        assert our_answers(table, [line]) == ({} if ours is None else {line: ours})


def test_what_postfix_warns_of_and_skips_is_a_mistake(postmap: Postmap) -> None:
    table = b"/(/ WARN 1\n/foo/ WARN 2\n"

    said, complaint = postmap.run("pcre", table, b"foo\n")

    assert (said, b"warning" in complaint) == (b"foo\tWARN 2\n", True)
    with pytest.raises(ValueError, match="line 1: bad pattern"):
        our_answers(table, [b"foo"])


SIMPLE = ["/a/", "!/a/", "/^b/", "/c$/", "/^(.)(.)/", "/a.b/", "!/^$/", "/A/i", "~b|c~", "/[^a]/", "/x/"]


@st.composite
def tables(draw: st.DrawFn, depth: int = 0) -> bytes:
    """Rules and conditions about a few letters."""
    lines = b""
    for number in range(draw(st.integers(0, 4))):
        pattern = draw(st.sampled_from(SIMPLE))
        if depth < 3 and draw(st.integers(0, 3)) == 0:
            lines += f"if {pattern}\n".encode() + draw(tables(depth + 1)) + b"endif\n"
        else:
            text = "$2-$1" if "(" in pattern else f"{depth}.{number}"
            lines += f"{pattern} WARN {text}\n".encode()
    return lines


@given(
    table=tables(),
    lines=st.lists(st.text(alphabet="abcxA", min_size=1, max_size=5), min_size=1, max_size=20, unique=True),
    kind=st.sampled_from(["regexp", "pcre"]),
)
@hypothesis_settings(max_examples=60)
def test_any_table_of_simple_rules_gives_the_answers_that_postfix_gives(
    postmap: Postmap, table: bytes, lines: list[str], kind: str
) -> None:
    encoded = [line.encode() for line in lines]

    assert our_answers(table, encoded) == postmap.answers(kind, table, encoded)


MESSAGE = (
    b"Received: from a\n\tby b;\n  now\nSubject : with blanks\nX-Empty:\nX-Blank: \nX-8bit: \xe4\n"
    b"Content-Type: text/plain\n\nfirst line\n\n  second\t\nX-Not: a field\n.\nlast"
)


def test_the_fields_that_are_looked_up_are_those_that_postfix_looks_up(postmap: Postmap) -> None:
    ends = postmap.ask("pcre", b"/./ |\n", MESSAGE, "-h").split(b"\t|\n")
    header, _, _ = MESSAGE.replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    ours = [field_subject(field, False).raw for field in Header(header + b"\r\n").fields]

    assert [*ours, b""] == ends


def test_the_lines_that_are_looked_up_are_those_that_postfix_looks_up(postmap: Postmap) -> None:
    ends = postmap.ask("pcre", b"/./ |\n", MESSAGE, "-b").split(b"\t|\n")
    _, _, body = MESSAGE.replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    part = PartLines(PartBegin(0, Header(b""), media_of(Header(b""))), 0, False)
    ours = [line.subject.raw for line in [*part.more(PartData(body)), *part.last()]]

    assert [*ours, b""] == ends


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.regexp")), ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", ["regexp", "pcre"])
def test_postfix_reads_the_sample_tables_too(postmap: Postmap, path: Path, kind: str) -> None:
    lines = [*LINES, b"Subject: You have WON a prize", b"X-Mailer: mutt", b"x@a.spam.example", b"aGVs" * 18]

    assert our_answers(path.read_bytes(), lines) == postmap.answers(kind, path.read_bytes(), lines)


TEXT = (
    "Dear Bert,\n\nSecret: gr\u00fcn\nAdvertisement of something\nthis stays, with a \u20ac = 100 ct\n"
    "Unsubscribe: http://example.com/\nlast\n"
)
EDITED_TEXT = "From outside:\nDear Bert,\n\n[Secret] ...\nthis stays, with a \u20ac = 100 ct\nlast\n"


def part(encoding: str, text: str) -> bytes:
    """A part with this text, lines ending in LF."""
    raw = text.encode()
    if encoding == "quoted-printable":
        raw = quopri.encodestring(raw)
    elif encoding == "base64":
        raw = base64.encodebytes(raw.replace(b"\n", b"\r\n"))
    fields = f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n"
    return fields.encode() + raw


def mixed(*parts: bytes) -> bytes:
    """A message made of parts, lines ending in LF."""
    head = b"Subject: parts\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=cut\n\n"
    return head + b"".join(b"--cut\n" + part for part in parts) + b"--cut--\n"


def delivered(postfix: PostfixInstance, service: str, content: bytes) -> bytes:
    """The body with which it arrives, lines ending in LF, when it is handed to this service."""
    recipient = fresh_address()
    reply = submit(postfix.at(service), SENDER, [recipient], content.replace(b"\n", b"\r\n"))
    assert reply.startswith(b"250 2.0.0 "), reply
    postfix.inbox.wait_for(recipient)
    postfix.settle()
    (message,) = postfix.inbox.messages(recipient)
    return message.partition(b"\n\n")[2]


def edits(postfix: PostfixInstance, **keys: object) -> dict[str, object]:
    """A [[rules]] table with the tables that the Postfix itself has."""
    directory = postfix.directory / "c"
    return {
        "body_checks": [str(directory / "body_edits")],
        "mime_header_checks": [str(directory / "part_edits")],
        **keys,
    }


def test_lines_are_replaced_and_stripped_in_plain_and_in_encoded_parts(
    postfix: PostfixInstance, filters: Filters
) -> None:
    running = filters.start(rules=[edits(postfix)])
    encodings = ("8bit", "quoted-printable", "base64")
    attachment = (
        b"Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\nU2VjcmV0OiB4Cg==\n"
    )
    sent = mixed(*(part(one, TEXT) for one in encodings), attachment)

    assert (
        delivered(postfix, "before", sent)
        == (mixed(*(part(one, EDITED_TEXT) for one in encodings), attachment).partition(b"\n\n")[2])
    )
    assert running.trouble() == []


TO_BE_EDITED = (
    mixed(
        b"\nDear Bert,\nSecret: 1\nkept\nUnsubscribe here\n",
        b"X-Above: 1\nContent-Disposition: inline;\n filename=a\nX-Drop: 1\n folded\nX-B: x\n\nall alone\n",
        b"Content-Type: message/rfc822\nX-Tell: 1\n\nSubject: inner\nX-Drop: 2\n\nAdvertisement\nSecret: 2\n",
        b"X-Drop: 3\n\n\nAdvertisement\n",
    )
    + b"Unsubscribe\n.\nSecret: epilogue\n"
)


def test_a_message_is_edited_as_postfix_itself_would(postfix: PostfixInstance, filters: Filters) -> None:
    filters.start(rules=[edits(postfix, decode=False)])
    theirs = delivered(postfix, "after-editing", TO_BE_EDITED)

    assert delivered(postfix, "before", TO_BE_EDITED) == theirs
    assert theirs != TO_BE_EDITED.partition(b"\n\n")[2]
    for gone in (b"Secret:", b"Advertisement", b"Unsubscribe", b"X-Drop", b"X-Tell", b"inline"):
        assert gone not in theirs
