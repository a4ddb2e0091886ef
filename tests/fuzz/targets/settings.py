"""What the operator writes: the configuration, and tables of rules."""

import re

from bqfilter.config.content_kinds import ReplyTemplate
from bqfilter.config.loader import parse, render
from bqfilter.errors import ConfigError
from bqfilter.mail.fields import Header, Remove
from bqfilter.scanning.report import Report
from bqfilter.scanning.rule_action import Action
from bqfilter.scanning.rule_judgement import Judgement, Place
from bqfilter.scanning.rule_pattern import AnyOf, Subject
from bqfilter.scanning.rule_table import Table, parse_table
from bqfilter.smtp.replies import MAX_LINE_BYTES

_NAME = "fuzz.toml"
_LINE = re.compile(r"line (\d+): ")
_REPLY = ReplyTemplate.parse("550 5.7.1 Refused: {detail}")
_EVERYTHING = AnyOf([], True)


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
            judgement = Judgement(_REPLY, "rules", "4B1")
            judgement.apply(applied, Place(text))
            _check(judgement.report())


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
