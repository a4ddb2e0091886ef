"""Decision: which report decides, in whose words, and who gets the message."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import DEFER, Action, Response
from bqfilter.config.content import PolicySettings, RulesSettings, ScannerSettings
from bqfilter.config.content_kinds import ReplyTemplate
from bqfilter.mail.body_edits import Splice
from bqfilter.mail.message import Message
from bqfilter.scanning.decision import Verdict, decide, response_to
from bqfilter.scanning.line_edits import EditedBody, Splices
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.policy import Policy
from bqfilter.scanning.report import CLEAN, Changes, Finding, Report
from bqfilter.smtp import replies
from bqfilter.smtp.replies import MAX_LINE_BYTES, Reply
from tests.doubles.scanners import hit, scanner

ERROR = Report(Finding.ERROR, "gone")
UNSCANNED = Report(Finding.UNSCANNED, "too large")
RESPONSES = [str(action) for action in Action] + ["accept+quarantine", "reject+quarantine"]


def table(name: str, **keys: Any) -> ScannerSettings:
    return scanner(name, **keys).settings


def verdict(
    *reports: Report, scanners: Sequence[ScannerSettings] = (), session: str = "1A", **policy: Any
) -> Verdict:
    """The verdict on reports of scanners a, b, c; `scanners` are the tables of those that are not plain."""
    named = [replace(report, scanner=name) for report, name in zip(reports, "abc", strict=False)]
    tables = {name: table(name) for name in "abc"} | {one.name: one for one in scanners}
    settings = PolicySettings(name="p", **policy)
    return decide(named, Policy(settings, tuple("abc")), tables, session)


def hits(**responses: str) -> tuple[tuple[str, Response], ...]:
    return tuple((name, Response.parse(text)) for name, text in responses.items())


@pytest.mark.parametrize(
    ("reports", "on_hit", "overruling", "action"),
    [
        pytest.param([CLEAN], "reject", {}, "accept", id="clean"),
        pytest.param([hit()], "reject", {}, "reject", id="a hit asks for what its settings say"),
        pytest.param([hit(response="tag")], "reject", {}, "tag", id="or for what the scanner says"),
        pytest.param([hit(response="tag")], "reject", {"a": "defer"}, "defer", id="or the policy, above all"),
        pytest.param([CLEAN], "reject", {"a": "reject"}, "accept", id="but that only for a hit"),
        pytest.param([replace(CLEAN, response=DEFER)], "reject", {}, "defer", id="clean, and yet it asks"),
        pytest.param([ERROR], "reject", {"a": "reject"}, "accept", id="an error is no hit"),
        pytest.param([replace(ERROR, response=DEFER)], "reject", {}, "defer", id="an error that defers"),
        pytest.param([UNSCANNED], "reject", {"a": "reject"}, "accept", id="not asked is no hit"),
        pytest.param(
            [hit(response="tag"), hit(response="discard")], "reject", {}, "discard", id="weightiest"
        ),
        pytest.param(
            [replace(ERROR, response=DEFER), hit(response="quarantine")],
            "reject",
            {},
            "quarantine",
            id="what is kept need not come again",
        ),
    ],
)
def test_the_weightiest_of_all_that_is_asked_for_is_done(
    reports: list[Report], on_hit: str, overruling: dict[str, str], action: str
) -> None:
    scanners = [table(name, on_hit=Response.parse(on_hit)) for name in "ab"]

    assert str(verdict(*reports, scanners=scanners, hits=hits(**overruling)).action) == action


def test_a_kind_without_a_response_of_its_own_accepts_what_it_says_no_more_about() -> None:
    assert verdict(hit(), scanners=[RulesSettings(name="a")]).action is Action.ACCEPT


def test_the_first_of_equal_ones_decides_and_the_policy_is_before_all() -> None:
    both = verdict(hit("one"), hit("two"))
    policy = verdict(hit("one"), action=Response(Action.REJECT))

    assert both.reason == "a: one"
    assert (policy.decisive, policy.reason) == (None, "")
    assert policy.reply == replies.reply(550, "5.7.1 Message refused")


def test_one_that_wants_a_copy_is_enough() -> None:
    assert verdict(hit(response="accept+quarantine"), hit(response="tag")).keeps_copy
    assert not verdict(hit(response="accept"), hit(response="tag")).keeps_copy
    assert not verdict(hit(response="tag+quarantine"), hit(response="quarantine")).keeps_copy  # it is kept


def test_only_those_that_ask_for_a_mark_leave_theirs() -> None:
    given_verdict = verdict(hit("x", "tag"), hit("y", "accept"), CLEAN)

    assert [report.scanner for report in given_verdict.marking] == ["a"]


WORDS = ReplyTemplate.parse("554 5.7.1 {scanner} says {detail}, {score}, {id}")


@pytest.mark.parametrize(
    ("report", "keys", "reply"),
    [
        pytest.param(
            hit("EICAR", score=5.5), {"reply": WORDS}, "554 5.7.1 a says EICAR, 5.5, 1A", id="table"
        ),
        pytest.param(hit(reply=Reply(550, (b"own",))), {"reply": WORDS}, "550 own", id="the scanner's own"),
        pytest.param(
            hit(reply=Reply(450, (b"later",))),
            {"reply": WORDS},
            "554 5.7.1 a says found it, , 1A",
            id="wrong class",
        ),
        pytest.param(hit(response="defer"), {"reply": WORDS}, str(replies.DEFERRED), id="no words for 4xx"),
        pytest.param(
            hit(response="defer", reply=Reply(450, (b"later",))),
            {"reply": WORDS},
            "450 later",
            id="own words for 4xx",
        ),
        pytest.param(
            hit(),
            {"reply": ReplyTemplate.parse("450 4.7.1 later")},
            str(replies.REFUSED),
            id="no words for 5xx",
        ),
        pytest.param(hit(reply=Reply(521, (b"go away",))), {}, "554 go away", id="521 would hang up"),
        pytest.param(
            hit(response="defer", reply=Reply(421, (b"go away",))), {}, "451 go away", id="421 would hang up"
        ),
        pytest.param(hit(reply=Reply(550, (b"a\r\n250 b",))), {}, "550 a??250 b", id="line ends"),
        pytest.param(
            hit(reply=Reply(550, ())), {"reply": WORDS}, "554 5.7.1 a says found it, , 1A", id="no line"
        ),
        pytest.param(
            replace(ERROR, response=DEFER), {"reply": WORDS}, str(replies.SCANNER_UNAVAILABLE), id="an error"
        ),
        pytest.param(
            replace(UNSCANNED, response=DEFER), {}, str(replies.SCANNER_UNAVAILABLE), id="not asked"
        ),
    ],
)
def test_a_refusal_is_in_the_best_words_of_its_class(report: Report, keys: Any, reply: str) -> None:
    assert str(verdict(report, scanners=[table("a", **keys)]).reply) == reply


@pytest.mark.parametrize(
    ("reports", "policy", "recipients"),
    [
        pytest.param([CLEAN], {}, None, id="those whom it is for"),
        pytest.param([hit(response="redirect")], {}, (b"a@trap",), id="the address of the table"),
        pytest.param(
            [hit(response="redirect", changes=Changes(recipients=(b"own@x",)))],
            {},
            (b"own@x",),
            id="the scanner's own",
        ),
        pytest.param(
            [hit(response="redirect"), replace(CLEAN, changes=Changes(recipients=(b"own@x",)))],
            {},
            (b"a@trap",),
            id="nobody takes a message out of its redirection",
        ),
        pytest.param(
            [hit(response="tag"), replace(CLEAN, changes=Changes(recipients=(b"x@x", b"y@x")))],
            {},
            (b"x@x", b"y@x"),
            id="recipients without a redirection",
        ),
        pytest.param(
            [hit(response="redirect", changes=Changes(recipients=(b"own@x",)))],
            {"hits": hits(a="tag")},
            None,
            id="a policy that says tag instead",
        ),
        pytest.param(
            [hit(changes=Changes(recipients=(b"own@x",)))],
            {"hits": hits(a="redirect"), "redirect_to": "p@trap"},
            (b"p@trap",),
            id="a policy that redirects instead",
        ),
        pytest.param(
            [hit()],
            {"hits": hits(a="redirect")},
            (b"a@trap",),
            id="a policy that redirects to the table's address",
        ),
        pytest.param(
            [hit(response="redirect", changes=Changes(recipients=(b"own@x",)))],
            {"action": Response(Action.REDIRECT), "redirect_to": "p@trap"},
            (b"p@trap",),
            id="a policy of redirection",
        ),
    ],
)
def test_a_message_goes_where_whoever_decides_says(
    reports: list[Report], policy: Any, recipients: tuple[bytes, ...] | None
) -> None:
    assert verdict(*reports, scanners=[table("a", redirect_to="a@trap")], **policy).recipients == recipients


@pytest.mark.parametrize(
    ("report", "policy"),
    [
        pytest.param(hit(response="redirect"), {}, id="a redirection to nobody"),
        pytest.param(hit(), {"hits": hits(a="redirect")}, id="a policy's redirection to nobody"),
        pytest.param(replace(CLEAN, changes=Changes(recipients=())), {}, id="all recipients taken away"),
    ],
)
def test_a_message_with_nobody_to_go_to_is_kept(report: Report, policy: Any) -> None:
    given_verdict = verdict(report, **policy)

    assert (given_verdict.action, given_verdict.recipients) == (Action.QUARANTINE, None)


def test_copies_go_to_the_policys_addresses_and_the_scanners_each_once() -> None:
    report = replace(CLEAN, changes=Changes(copies=(b"b@x", b"archive@x")))

    assert verdict(report, report, copy_to=("archive@x",)).copies == (b"archive@x", b"b@x")
    assert verdict(report, hit(), copy_to=("archive@x",)).copies == ()


def test_the_last_body_is_the_one() -> None:
    bodies = [lambda: iter((b"one",)), lambda: iter((b"two",))]
    reports = [replace(CLEAN, changes=Changes(body=body)) for body in bodies]

    assert verdict(*reports, CLEAN).body is bodies[1]
    assert verdict(CLEAN).body is None


def edited(message: Message, *splices: Splice) -> Report:
    kept = Splices(Workspace("/nowhere", 1000))
    for splice in splices:
        kept.add(splice)
    kept.settle()
    return replace(CLEAN, changes=Changes(body=EditedBody(message, (kept,))))


def test_the_edits_of_all_rules_are_of_one_body() -> None:
    message = Message.in_memory(b"A: b\r\n\r\none\r\ntwo\r\n")
    first = edited(message, Splice(0, 3, b"1"), Splice(5, 0, b"x\r\n"))
    second = edited(message, Splice(0, 3, b"eins"), Splice(5, 3, b"", takes_end=True))

    assert joined(verdict(first, CLEAN, second)) == b"eins\r\nx\r\n"
    assert joined(verdict(second, first)) == b"1\r\nx\r\n"
    assert verdict(first, second).body == verdict(first, second).body


def test_edits_are_left_out_where_another_body_takes_the_place() -> None:
    message = Message.in_memory(b"A: b\r\n\r\none\r\n")
    rule = edited(message, Splice(0, 3, b"1"))
    other = replace(CLEAN, changes=Changes(body=lambda: iter((b"new\r\n",))))

    for reports in ((rule, other), (other, rule), (rule, other, rule)):
        assert joined(verdict(*reports)) == b"new\r\n"


def joined(found: Verdict) -> bytes:
    assert found.body is not None
    return b"".join(found.body())


hostile = st.text(st.sampled_from("a \r\n\0\x85\u2028{}%;=é\ud800\U0001f600"), max_size=30) | st.text(
    max_size=400
)
own_replies = st.none() | st.builds(
    Reply,
    st.sampled_from([250, 421, 450, 521, 550, 599]),
    st.lists(st.binary(max_size=600), max_size=6).map(tuple),
)
addresses = st.lists(st.sampled_from([b"a@x", b"b@x"]), max_size=2).map(tuple)
reports = st.builds(
    Report,
    finding=st.sampled_from(Finding),
    detail=hostile,
    score=st.none() | st.floats(),
    response=st.none() | st.sampled_from(RESPONSES).map(Response.parse),
    reply=own_replies,
    changes=st.builds(Changes, recipients=st.none() | addresses, copies=addresses),
)
policies = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from([Response(action) for action in Action]),
        "hits": st.dictionaries(st.sampled_from("abc"), st.sampled_from(RESPONSES).map(Response.parse)).map(
            lambda found: tuple(found.items())
        ),
        "redirect_to": st.sampled_from(["", "p@trap"]),
    },
)
some_reports = st.lists(reports, max_size=3)


@given(some_reports, policies)
def test_a_refusal_always_has_a_reply_of_its_class_that_can_travel(
    given_reports: list[Report], policy: Any
) -> None:
    found = verdict(*given_reports, **policy)

    classes = {Action.REJECT: 5, Action.DEFER: 4}
    assert (found.reply is None) == (found.action not in classes)
    if found.reply is not None:
        assert found.reply.code // 100 == classes[found.action]
        assert found.reply.code not in (421, 521)
        lines = found.reply.wire.split(b"\r\n")
        assert lines.pop() == b""
        assert len(lines) == max(len(found.reply.lines), 1)
        for line in lines:
            assert len(line) + 2 <= MAX_LINE_BYTES
            assert line.startswith(b"%d" % found.reply.code)
            assert not any(byte < 32 or byte == 127 for byte in line)


@given(some_reports, policies)
def test_what_is_not_passed_on_has_no_recipients_and_what_is_has_some(
    given_reports: list[Report], policy: Any
) -> None:
    found = verdict(*given_reports, **policy)

    if found.action.delivers:
        assert found.recipients != () or found.copies
    else:
        assert (found.recipients, found.copies) == (None, ())
    if found.action is Action.REDIRECT:
        assert found.recipients is not None


@given(some_reports, policies)
def test_no_report_makes_a_verdict_milder(given_reports: list[Report], policy: Any) -> None:
    # Addresses for all: to give one to a message that had nobody to go to is the exception.
    given_reports = [replace(report, changes=Changes()) for report in given_reports]
    scanners = [table(name, redirect_to="a@trap") for name in "abc"]
    weights = [
        verdict(
            *given_reports[:count], scanners=scanners, **(policy | {"redirect_to": "p@trap"})
        ).action.weight
        for count in range(len(given_reports) + 1)
    ]

    assert weights == sorted(weights)


@given(reports, policies)
def test_what_a_report_is_said_to_ask_for_is_what_it_decides_by(report: Report, policy: Any) -> None:
    settings = PolicySettings(name="p", **(policy | {"action": Response(Action.ACCEPT)}))
    named = replace(report, scanner="a", changes=Changes())
    asked = response_to(named, Policy(settings, ("a",)), table("a", redirect_to="a@trap"))
    found = decide([named], Policy(settings, ("a",)), {"a": table("a", redirect_to="a@trap")}, "1A")

    assert found.action is asked.action
