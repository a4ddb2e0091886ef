"""What the operator writes: the configuration, tables of rules, and what these do to messages."""

import re

from bqfilter.config.content import RulesSettings
from bqfilter.config.content_kinds import ReplyTemplate
from bqfilter.config.loader import parse, render
from bqfilter.errors import ConfigError
from bqfilter.mail.fields import Header, Remove
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.line_edits import EditedBody
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.report import Report
from bqfilter.scanning.rule_action import Action
from bqfilter.scanning.rule_edits import BodyEditor
from bqfilter.scanning.rule_judgement import Judgement, Place
from bqfilter.scanning.rule_pattern import AnyOf, Subject, Written
from bqfilter.scanning.rule_table import Table, parse_table
from bqfilter.scanning.rules import _EDITS, _OF_LINES, Rules
from bqfilter.smtp.body import without_strays
from bqfilter.smtp.replies import MAX_LINE_BYTES
from tests.doubles.messages import envelope
from tests.fuzz.cuts import pieces

_NAME = "fuzz.toml"
_WORKSPACE = Workspace("/nonexistent", 1 << 30)
_ENVELOPE = envelope()
_MARK = b"QzMarkerQz"
_LINE = re.compile(r"line (\d+): ")
_REPLY = ReplyTemplate.parse("550 5.7.1 Refused: {detail}")
_EVERYTHING = AnyOf([Written(b"", is_negated=True)], True)


def config(data: bytes) -> None:
    """TOML text gives settings, which rendered read as themselves, or a ConfigError, a line for each fault.

    Each of its lines begins with the name of the file, and none has a character that a terminal would obey.
    """
    text = data.decode("utf-8", "replace")
    try:
        settings = parse(text, _NAME)
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert line.startswith(f"{_NAME}: ")
            assert line.isprintable(), line
        return
    assert parse(render(settings), _NAME) == settings


def rules(data: bytes) -> None:
    """A table is read, or refused with the number of a line; a text has one rule that applies, or none.

    It is the same one without the shortcut of searching for all patterns at once; what it leads to is one
    reply line, whole header fields and addresses, whatever the text had that its groups took over.
    """
    lines, _, text = data.partition(b"\n\n")
    try:
        table = parse_table("table", lines, _anything_goes, decodes=True)
    except ValueError as error:
        match = _LINE.match(str(error))
        assert match
        assert 1 <= int(match[1]) <= lines.count(b"\n") + 1
        return
    slow = Table("table", table._rules, _EVERYTHING)
    for subject in (
        Subject(text),
        Subject(text, text.decode("utf-8", "replace").encode()),
        Subject(None, b"x"),
    ):
        applied, again = table.find(subject), slow.find(subject)
        assert applied == again
        if applied is not None:
            editor = BodyEditor(Message.in_memory(b""), _WORKSPACE, "")
            judgement = Judgement(_REPLY, "rules", "4B1", editor)
            judgement.apply(applied, Place(text))
            _check(judgement.report())


def rule_edits(data: bytes) -> None:
    """Rules edit what they were found in and nothing else, the same however the message came.

    Lines that go in are the only difference between the body before and after; lines that go are that alone;
    and what leaves has one end of data. The first byte chooses the table; the message follows.
    """
    name = list(_EDITING)[data[0] % len(_EDITING)] if data else "insert"
    content = b"".join(without_strays([data[1:], b"\r\n"]))
    report = _report(name, Message.in_memory(content))
    again = _report(name, Message(lambda: iter(pieces(content))))
    assert (again.detail, again.changes.edits) == (report.detail, report.changes.edits)
    body, other = report.changes.body, again.changes.body
    if body is None:
        assert other is None
        return
    assert isinstance(body, EditedBody)
    assert other is not None
    new = b"".join(body())
    assert new == b"".join(body()) == b"".join(other())
    for old, text in body.changed_text():
        assert name != "insert" or (old == b"" and text.rstrip(b"\r\n") in (_MARK, b"X-Mark: 1"))
        assert name != "remove" or text == b""
    if name == "insert" and not body.splices[0].parts:
        assert re.sub(rb"(?:%b|X-Mark: 1)\r?\n" % _MARK, b"", new) == b"".join(
            Message.in_memory(content).body()
        )
    wire = b"".join(Edited(Message.in_memory(content), (), body, is_small=False).pieces())
    assert (b"\r\n" + wire + b".\r\n").find(b"\r\n.\r\n") == len(wire)


def _report(name: str, message: Message) -> Report:
    return _EDITING[name].scan(message, _ENVELOPE, Deadline.after(lambda: 0.0, 1.0))


def _rules(body_checks: bytes, mime_header_checks: bytes) -> Rules:
    """Tables that stand in no file."""
    rules = Rules.__new__(Rules)
    tables = {"body_checks": body_checks, "mime_header_checks": mime_header_checks}
    rules._settings = RulesSettings(name="rules", body_limit=1000)
    rules._workspace = _WORKSPACE
    rules._changes_signed = True
    rules._tables = {key: (_table(key, tables[key]),) if key in tables else () for key in _EDITS}
    return rules


def _table(key: str, rules: bytes) -> Table:
    return parse_table(key, rules, _anything_goes, True, is_last=True, of_lines=key in _OF_LINES)


def _anything_goes(_action: Action) -> None:
    """Every action may be had everywhere."""


def _check(report: Report) -> None:
    assert len(report.detail) < 1000
    if report.reply is not None:
        (line,) = report.reply.lines
        assert re.fullmatch(rb"[ -~]*", line)
        assert len(line) + 6 <= MAX_LINE_BYTES
        assert report.reply.code in (550, 451)
    for edit in report.changes.edits:
        if not isinstance(edit, Remove):
            assert len(Header(edit.text).fields) == 1
            assert Header(edit.text).raw == edit.text
    for address in (*report.changes.copies, *(report.changes.recipients or ())):
        assert re.fullmatch(rb"[!-~]+@[!-~]+", address)


_EDITING = {
    "insert": _rules(b"/e/ PREPEND %b\n" % _MARK, b"/^content/ PREPEND X-Mark: 1\n"),
    "remove": _rules(b"/ee/ STRIP\n/e/ IGNORE\n", b"/^x/ STRIP\n"),
    "replace": _rules(
        "/(.*)e(.*)/ REPLACE .$2\u20ac$1\u00e9\n/x/ REPLACE .\n".encode(), b"/^x(.*)/ REPLACE Y: $1\n"
    ),
}
