"""Judge: policies and scanners put to a message, each scanner once, no more of them than it takes."""

from ipaddress import IPv4Network
from typing import Any

import pytest

from bqfilter.config.actions import DEFER, DISCARD, QUARANTINE, REJECT, TAG, Action
from bqfilter.config.content import PolicySettings
from bqfilter.config.content_kinds import AddressPattern
from bqfilter.errors import PeerLost
from bqfilter.log import Log
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.fields import edited
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.judge import Judge, is_needed
from bqfilter.scanning.plan import Judged
from bqfilter.scanning.report import Changes
from bqfilter.smtp.commands import Mail, Rcpt
from tests.doubles.clock import FakeClock
from tests.doubles.recorder import RecordingSink
from tests.doubles.scanners import FakeScanner, hit, scanner, with_scanners
from tests.doubles.settings import settings

MESSAGE = Message.in_memory(b"Subject: x\r\n\r\ntext\r\n")
LOG = Log(RecordingSink(), is_json=False)


def judge(scanners: list[FakeScanner], *policies: PolicySettings, clock: FakeClock | None = None) -> Judge:
    given = with_scanners(settings(), scanners, *policies)
    return Judge(given, scanners, "filter.example", clock or FakeClock(), LOG)


def envelope(*recipients: bytes) -> Envelope:
    client = Client({b"ADDR": b"192.0.2.1"})
    rcpts = [Rcpt(b"RCPT TO:<%b>" % one, one, b"") for one in recipients]
    return Envelope(client, Mail(b"MAIL FROM:<a@x>", b"a@x", b""), rcpts, session_id="1A")


def judged(one: Judge, *recipients: bytes) -> list[Judged]:
    return one.judge(MESSAGE, envelope(*recipients), Deadline.after(FakeClock(), 80), LOG)


def policy(name: str, *recipients: str, **keys: Any) -> PolicySettings:
    return PolicySettings(name=name, recipients=tuple(map(AddressPattern.parse, recipients)), **keys)


@pytest.mark.parametrize(
    ("scanners", "policies", "has_opinions"),
    [
        ([], [], False),
        ([scanner("a")], [], True),
        ([], [PolicySettings(name="block", clients=(IPv4Network("192.0.2.0/24"),), action=REJECT)], True),
    ],
    ids=["nothing", "a scanner", "a policy without scanners"],
)
def test_who_has_no_scanners_and_no_policies_has_no_opinions(
    scanners: list[FakeScanner], policies: list[PolicySettings], has_opinions: bool
) -> None:
    assert is_needed(with_scanners(settings(), scanners, *policies)) is has_opinions


def test_recipients_of_different_policies_have_verdicts_of_their_own() -> None:
    one = judge([scanner("a", hit(), on_hit=TAG)], policy("strict", "@x", hits=(("a", REJECT),)))
    first, second = judged(one, b"r@x", b"r@y")

    assert (first.group.policy.name, first.verdict.action) == ("strict", Action.REJECT)
    assert (second.group.policy.name, second.verdict.action) == ("default", Action.TAG)


def test_each_scanner_is_asked_once_whatever_the_policies() -> None:
    fakes = [scanner("a"), scanner("b", hit(), on_hit=TAG)]
    one = judge(
        fakes, policy("p", "@x"), policy("q", "@y", scanners=("b",)), policy("none", "@z", scanners=())
    )
    found = judged(one, b"r@x", b"r@y", b"r@z", b"r@w")

    assert [len(fake.calls) for fake in fakes] == [1, 1]
    assert [len(each.verdict.reports) for each in found] == [2, 1, 0, 2]


@pytest.mark.parametrize(
    ("response", "asked"),
    [(REJECT, 0), (DISCARD, 0), (TAG, 1), (DEFER, 1)],
    ids=lambda value: str(value),
)
def test_nobody_else_is_asked_once_the_message_is_neither_passed_on_nor_kept(
    response: Any, asked: int
) -> None:
    later = scanner("later")
    judged(judge([scanner("first", hit(), on_hit=response), later]), b"r@x")

    assert len(later.calls) == asked


def test_a_policy_that_rejects_anyway_asks_nobody() -> None:
    fake = scanner("a")
    (found,) = judged(judge([fake], policy("block", action=REJECT)), b"r@x")

    assert (found.verdict.action, fake.calls) == (Action.REJECT, [])


def test_one_policys_final_word_leaves_scanners_for_the_next_policy() -> None:
    fakes = [scanner("a", hit(), on_hit=TAG), scanner("b")]
    one = judge(fakes, policy("strict", "@x", hits=(("a", REJECT),)))
    first, second = judged(one, b"r@x", b"r@y")

    assert [report.scanner for report in first.verdict.reports] == ["a"]
    assert [report.scanner for report in second.verdict.reports] == ["a", "b"]


def test_a_scanner_that_fails_defers_its_policy_alone() -> None:
    one = judge([scanner("a", PeerLost("gone"))], policy("without", "@x", scanners=()))
    first, second = judged(one, b"r@x", b"r@y")

    assert (first.verdict.action, second.verdict.action) == (Action.ACCEPT, Action.DEFER)
    assert second.verdict.reason == "a: gone"


def test_a_scanners_recipients_bring_nobody_what_another_policy_keeps_from_him() -> None:
    """Rspamd has one recipient taken away: its list of those that are left is for all policies together."""
    report = hit(changes=Changes(recipients=(b"kept@x", b"left@y", b"new@z")))
    one = judge([scanner("a", report, on_hit=TAG)], policy("strict", "@x", hits=(("a", QUARANTINE),)))
    first, second = judged(one, b"kept@x", b"left@y", b"gone@y")

    assert (first.verdict.action, first.verdict.recipients) == (Action.QUARANTINE, None)
    assert (second.verdict.action, second.verdict.recipients) == (Action.TAG, (b"left@y", b"new@z"))


def test_a_thousand_recipients_are_as_many_verdicts_as_policies() -> None:
    fake = scanner("a")
    policies = [policy(f"p{number}", f"@d{number}.example", scanners=("a",)) for number in range(10)]
    found = judged(judge([fake], *policies), *(b"r%d@d%d.example" % (n, n % 10) for n in range(1000)))

    assert [len(each.group.recipients) for each in found] == [100] * 10
    assert len(fake.calls) == 1


def test_a_message_that_is_passed_on_is_marked_with_what_was_found() -> None:
    one = judge([scanner("a", hit("spam"), on_hit=TAG, subject_prefix="[SPAM] ")])
    (found,) = judged(one, b"r@x")

    assert edited(MESSAGE.header, one.edits(found, MESSAGE, envelope(b"r@x"))) == (
        b"X-Bqfilter-Report: filter.example;\r\n\taction=tag;\r\n\ta=hit (spam)\r\nSubject: [SPAM] x\r\n"
    )


def test_scanners_get_ready_in_the_worker() -> None:
    fakes = [scanner("a"), scanner("b")]
    judge(fakes).after_fork_in_worker()

    assert [fake.fork_count for fake in fakes] == [1, 1]
