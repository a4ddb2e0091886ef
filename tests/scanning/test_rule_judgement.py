"""What rules that have applied come to."""

import pytest

from bqfilter.config.actions import DEFER, QUARANTINE, REJECT, Response
from bqfilter.config.actions import Action as Deed
from bqfilter.config.content_kinds import ReplyTemplate
from bqfilter.mail.fields import Insert, Remove, Replace
from bqfilter.mail.message import Message
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.report import CLEAN, Changes, Finding, Report
from bqfilter.scanning.rule_action import Action
from bqfilter.scanning.rule_edits import BodyEditor
from bqfilter.scanning.rule_judgement import Judgement, Place
from bqfilter.scanning.rule_subjects import Spot
from bqfilter.scanning.rule_table import Applied
from bqfilter.smtp.replies import MAX_LINE_BYTES

TEMPLATE = ReplyTemplate.parse("554 5.6.0 Refused by {scanner}: {detail}")


def applied(words: str, *groups: bytes, line: int = 7) -> Applied:
    return Applied(f"t:{line}", Action.parse(words.encode()), (b"", *groups))


def fresh_judgement(template: ReplyTemplate = TEMPLATE) -> Judgement:
    editor = BodyEditor(Message.in_memory(b"A: b\r\n\r\none\r\n"), Workspace("/nowhere", 1000), "")
    return Judgement(template, "rules", "7f3a", editor)


def judged(*rules: Applied, template: ReplyTemplate = TEMPLATE) -> Report:
    judgement = fresh_judgement(template)
    for field, one in enumerate(rules):
        judgement.apply(one, Place(b"Subject: a\n b", field))
    return judgement.report()


def test_no_rule_is_clean() -> None:
    assert judged() == CLEAN


@pytest.mark.parametrize("words", ["DUNNO", "OK"])
def test_dunno_leaves_no_trace(words: str) -> None:
    assert judged(applied(words)) == CLEAN


@pytest.mark.parametrize(
    ("words", "response", "reply"),
    [
        pytest.param("REJECT", REJECT, "554 5.6.0 Refused by rules: message content rejected", id="bare"),
        pytest.param("REJECT no", REJECT, "554 5.6.0 Refused by rules: no", id="with text"),
        pytest.param("REJECT 5.7.1 no", REJECT, "554 5.7.1 no", id="with a code: in its own words"),
        pytest.param(
            "REJECT 5.7.1", REJECT, "554 5.7.1 message content rejected", id="with nothing but a code"
        ),
        pytest.param("REJECT 4.7.1 no", DEFER, "451 4.7.1 no", id="with a temporary code"),
        pytest.param("DEFER", DEFER, "451 4.7.1 try again later", id="defer"),
        pytest.param("DEFER why", DEFER, "451 4.7.1 why", id="defer with text"),
        pytest.param("DEFER 4.2.2 why", DEFER, "451 4.2.2 why", id="defer with a code"),
    ],
)
def test_refusals_have_the_words_of_the_rule(words: str, response: Response, reply: str) -> None:
    report = judged(applied(words))

    assert (report.finding, report.response, str(report.reply)) == (Finding.HIT, response, reply)


def test_a_reply_can_name_the_session() -> None:
    template = ReplyTemplate.parse("550 5.7.1 {id}: {detail}")

    assert str(judged(applied("REJECT x"), template=template).reply) == "550 5.7.1 7f3a: x"


def test_a_template_for_later_is_for_deferred_messages() -> None:
    template = ReplyTemplate.parse("450 4.7.0 Not now: {detail}")

    assert str(judged(applied("DEFER x"), template=template).reply) == "450 4.7.0 Not now: x"
    assert str(judged(applied("DEFER 4.1.1 x"), template=template).reply) == "450 4.1.1 x"
    assert str(judged(applied("REJECT x"), template=template).reply) == "550 5.7.1 x"


@pytest.mark.parametrize("words", ["REJECT $1", "REJECT 5.7.1 $1", "DEFER $1"])
def test_what_a_sender_wrote_cannot_end_a_reply(words: str) -> None:
    reply = judged(applied(words, b"a\r\n250 ok\0\xe4 {id} " + b"x" * 3000)).reply

    assert reply is not None
    assert reply.wire.count(b"\r\n") == 1
    assert len(reply.wire) <= MAX_LINE_BYTES
    assert b"a 250 ok" in reply.wire
    assert b"{id}" in reply.wire


@pytest.mark.parametrize(
    ("words", "response"),
    [("DISCARD x", Response(Deed.DISCARD)), ("HOLD x", QUARANTINE), ("QUARANTINE x", QUARANTINE)],
)
def test_what_is_kept_or_dropped_is_a_hit(words: str, response: Response) -> None:
    report = judged(applied(words))

    assert (report.finding, report.response, report.reply) == (Finding.HIT, response, None)
    assert report.detail in (f"t:7 {words}", "t:7 HOLD x")


def test_a_redirected_message_goes_to_the_last_address_alone() -> None:
    report = judged(applied("REDIRECT a@example.com"), applied("REDIRECT $1", b"b@example.com"))

    assert (report.finding, report.response) == (Finding.HIT, Response(Deed.REDIRECT))
    assert report.changes == Changes(recipients=(b"b@example.com",))


def test_a_held_message_keeps_what_it_is_redirected_to() -> None:
    report = judged(applied("HOLD"), applied("REDIRECT a@example.com"))

    assert report.response == QUARANTINE
    assert report.changes.recipients == (b"a@example.com",)
    assert report.detail == "t:7 HOLD Subject: a b; t:7 REDIRECT a@example.com"


def test_copies_go_to_each_address_once() -> None:
    report = judged(*[applied(f"BCC {name}@example.com") for name in "aba"])

    assert report.finding is Finding.CLEAN
    assert report.changes == Changes(copies=(b"a@example.com", b"b@example.com"))


@pytest.mark.parametrize("words", ["REDIRECT $1", "BCC $1"])
@pytest.mark.parametrize("address", [b"", b"root", b"a@b\r\nRCPT TO:<c@d>", b"a@b>, <c@d"])
def test_nothing_is_sent_to_what_is_no_address(words: str, address: bytes) -> None:
    report = judged(applied(words, address))

    assert (report.finding, report.response, report.changes) == (Finding.CLEAN, None, Changes())
    assert report.detail.endswith("(not done: no address)")


def test_edits_of_fields_add_up() -> None:
    report = judged(
        applied("PREPEND X-A: $1", b"1"), applied("REPLACE X-B: b"), applied("STRIP why"), applied("IGNORE")
    )

    assert report.finding is Finding.CLEAN
    assert report.changes.edits == (
        Insert(0, b"X-A: 1\r\n"),
        Replace(1, b"X-B: b\r\n"),
        Remove(2),
        Remove(3),
    )
    assert report.detail == "t:7 PREPEND X-A: 1; t:7 REPLACE X-B: b; t:7 STRIP why"


@pytest.mark.parametrize("value", [b"a\r\nX-Evil: b", b"a\nX-Evil: b", b"a\r\n\r\nbody", b"\0"])
def test_what_a_sender_wrote_cannot_end_a_field(value: bytes) -> None:
    (edit,) = judged(applied("PREPEND X-A: $1", value)).changes.edits

    assert isinstance(edit, Insert)
    assert edit.text.startswith(b"X-A: ")
    assert b"\r\nX" not in edit.text
    assert edit.text.count(b"\n") == 1 + edit.text.count(b"\r\n ")


def test_a_field_is_no_longer_than_a_field_should_be() -> None:
    (edit,) = judged(applied("REPLACE X-A: $1", b"a" * 5_000_000)).changes.edits

    assert isinstance(edit, Replace)
    assert 10_000 <= edit.text.count(b"a") <= len(edit.text) < 10_100


def test_text_that_is_no_field_is_not_put_in() -> None:
    report = judged(applied("PREPEND X-$1", b"a b"))

    assert (report.changes, report.detail) == (Changes(), "t:7 PREPEND X-a b (not done: no header field)")


@pytest.mark.parametrize("words", ["WARN why", "INFO why"])
def test_a_remark_is_no_hit_and_reaches_the_log(words: str) -> None:
    assert judged(applied(words)) == Report(Finding.CLEAN, f"t:7 {words}")


def test_a_remark_without_text_quotes_what_it_is_about() -> None:
    assert judged(applied("WARN")).detail == "t:7 WARN Subject: a b"


def test_of_thousands_of_remarks_the_first_are_told() -> None:
    detail = judged(*[applied("WARN x", line=line) for line in range(1000)]).detail

    assert detail.startswith("t:0 WARN x; t:1 WARN x; ")
    assert detail.endswith("t:9 WARN x; and 990 more")


def test_remarks_stand_behind_what_decides() -> None:
    assert judged(applied("WARN x"), applied("REJECT y")).detail == "t:7 REJECT y; t:7 WARN x"


@pytest.mark.parametrize(
    ("words", "is_final"),
    [(words, True) for words in ("REJECT", "DEFER", "DISCARD", "PASS")]
    + [(words, False) for words in ("HOLD", "WARN", "IGNORE", "DUNNO", "BCC a@b.c", "REDIRECT a@b.c")],
)
def test_some_actions_end_the_search(words: str, is_final: bool) -> None:
    judgement = fresh_judgement()
    judgement.apply(applied(words), Place(b""))

    assert judgement.is_final is is_final


@pytest.mark.parametrize(
    ("words", "body", "detail"),
    [
        pytest.param("REPLACE 1", b"1\r\n", "t:7 REPLACE 1", id="replaced"),
        pytest.param("PREPEND x", b"x\r\none\r\n", "t:7 PREPEND x", id="put in"),
        pytest.param("STRIP", b"", "t:7 STRIP one", id="removed, which is told"),
        pytest.param("IGNORE", b"", "", id="removed without a word"),
    ],
)
def test_what_stands_in_the_body_is_edited_there(words: str, body: bytes, detail: str) -> None:
    judgement = fresh_judgement()
    judgement.apply(applied(words), Place(b"one", spot=Spot(0, 3)))
    report = judgement.report()

    assert (report.finding, report.detail, report.changes.edits) == (Finding.CLEAN, detail, ())
    assert report.changes.body is not None
    assert b"".join(report.changes.body()) == body


def test_what_could_not_be_edited_is_told_even_of_ignore() -> None:
    judgement = fresh_judgement()
    judgement.apply(applied("IGNORE"), Place(b"one", spot=Spot(hindrance="because")))

    assert judgement.report() == Report(Finding.CLEAN, "t:7 IGNORE one (not done: because)")


def test_pass_is_no_hit() -> None:
    assert judged(applied("PASS trusted")) == Report(Finding.CLEAN, "t:7 PASS trusted")
