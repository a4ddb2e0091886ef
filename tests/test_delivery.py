"""What becomes of a message that has been judged: who gets what, what is kept, and the one answer there is.

Each case is a whole transaction: real judge, real quarantine on a real disk, and a server that a test tells
what to say.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bqfilter.budget import Budget
from bqfilter.config.actions import Response
from bqfilter.config.content import PolicySettings
from bqfilter.config.content_kinds import AddressPattern
from bqfilter.config.schema import Settings
from bqfilter.errors import ScannerFailure
from bqfilter.ledger import Ledger, Stage
from bqfilter.log import Log
from bqfilter.mail.body_edits import Splice
from bqfilter.mail.envelope import Client
from bqfilter.mail.message import Message
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.outcome import Outcome, Result
from bqfilter.quarantine import Quarantine, State
from bqfilter.quarantine.claim import Claim
from bqfilter.quarantine.letter import read
from bqfilter.quarantine.store import Kept
from bqfilter.scanning.line_edits import EditedBody, Splices
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.report import CLEAN, Changes, Report
from bqfilter.smtp import replies
from bqfilter.smtp.body import DOT
from bqfilter.smtp.commands import parse_command
from bqfilter.transaction import Transaction
from bqfilter.upstream import Upstream
from tests.doubles.clock import FakeClock
from tests.doubles.faults import Gone, failing
from tests.doubles.means import means
from tests.doubles.recorder import RecordingSink
from tests.doubles.scanners import FakeScanner, hit, scanner, with_scanners
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.upstream import HANGUP, SILENCE, XFORWARD, FakeUpstream

CONTENT = b"Subject: x\r\nTo: all\r\n\r\ntext\r\n"
WIRE = CONTENT + b".\r\n"
KEYWORDS = [b"PIPELINING", b"DSN", b"SIZE 10240000", b"8BITMIME", XFORWARD]


@dataclass
class Bench:
    """One transaction; `left_at` is at which question the client turns out to have left."""

    server: FakeUpstream
    transaction: Transaction
    clock: FakeClock
    sink: RecordingSink
    quarantine: Quarantine
    left_at: int = 1000
    questions: list[float] = field(default_factory=list)
    stages: list[tuple[Stage, float]] = field(default_factory=list)  # with the instant by which each ends

    def client_has_left(self) -> bool:
        self.questions.append(self.clock())
        return len(self.questions) >= self.left_at

    def run(
        self, *recipients: bytes, mail: bytes = b"MAIL FROM:<a@x> SIZE=100", wire: bytes = WIRE
    ) -> Outcome:
        """From MAIL to the answer to the final dot."""
        limit = Deadline.after(self.clock, 95)
        assert self.transaction.mail(parse_command(mail), limit).code == 250
        for one in recipients or (b"b@y",):
            assert (
                self.transaction.rcpt(parse_command(b"RCPT TO:<%b> NOTIFY=FAILURE" % one), limit).code == 250
            )
        self.transaction.spool.append(wire)
        self.transaction.spool.is_clean = True
        outcome = self.transaction.end_of_data(self.clock(), self.client_has_left)
        self.transaction.finish()
        return outcome

    @property
    def kept(self) -> list[tuple[str, str, str]]:
        """What is in the quarantine: state, action and policy."""
        entries = self.quarantine.entries(states=list(State))
        return [
            (str(one.name.state), one.stored.record.action, one.stored.record.policy)
            for one in entries
            if one.stored
        ]

    @property
    def identifiers(self) -> dict[str, State]:
        """What is in the quarantine, drafts included."""
        return {one.id: one.state for one in self.quarantine.names()}

    def sent_to(self, number: int) -> list[bytes]:
        """The RCPT lines of one of the transactions."""
        groups: list[list[bytes]] = []
        for command in self.server.commands:
            if command.upper().startswith(b"MAIL"):
                groups.append([])
            elif command.upper().startswith(b"RCPT"):
                groups[-1].append(command)
        return groups[number]


Make = Callable[..., Bench]


@pytest.fixture
def make(clock: FakeClock, tmp_path: Path) -> Iterator[Make]:
    made: list[Bench] = []

    def one(
        *scanners: FakeScanner, policies: tuple[PolicySettings, ...] = (), lines: tuple[str, ...] = ()
    ) -> Bench:
        server, sink = FakeUpstream(clock, KEYWORDS), RecordingSink()
        log = Log(sink, is_json=False)
        configured: Settings = with_scanners(settings(*lines), scanners, *policies)
        address = SocketAddress(2, ("127.0.0.1", 10026))
        upstream = Upstream(configured, [address], HOSTNAME, clock, server.connect, log)
        directory = tmp_path / "quarantine"
        given_means = means(configured, upstream, clock, log, scanners, directory)
        stages: list[tuple[Stage, float]] = []
        ledger = Ledger(clock, lambda stage, _now, until: stages.append((stage, until)))
        budget = Budget(configured.budget, clock, clock())
        transaction = Transaction(given_means, Client(), budget, ledger, log, "5E55")
        made.append(Bench(server, transaction, clock, sink, Quarantine(directory), stages=stages))
        return made[-1]

    yield one
    for bench in made:
        bench.transaction.spool.close()


def policy(name: str, *recipients: str, action: str = "accept", **more: object) -> PolicySettings:
    patterns = tuple(AddressPattern.parse(one) for one in recipients)
    return PolicySettings(name=name, recipients=patterns, action=Response.parse(action), **more)  # type: ignore[arg-type]


def test_a_clean_message_is_delivered_in_the_transaction_that_is_open(make: Make) -> None:
    bench = make(scanner("one"), scanner("two"))

    outcome = bench.run(b"b@y", b"c@y")

    assert (outcome.result, outcome.queue_id) == (Result.ACCEPTED, "4Q1")
    assert outcome.verdict == "accept"
    assert bench.server.messages == [WIRE]
    assert [word.split()[0] for word in bench.server.commands] == [
        b"EHLO", b"XFORWARD", b"MAIL", b"RCPT", b"RCPT", b"DATA", b"QUIT",
    ]  # fmt: skip
    assert bench.kept == []


@pytest.mark.parametrize(
    ("response", "result", "reply"),
    [
        pytest.param("reject", Result.REJECTED, b"550 5.7.1 Message refused: found it\r\n", id="reject"),
        pytest.param("discard", Result.DISCARDED, replies.OK.wire, id="discard"),
        pytest.param("defer", Result.TEMPFAILED, replies.DEFERRED.wire, id="defer"),
        pytest.param("quarantine", Result.QUARANTINED, replies.OK.wire, id="quarantine"),
    ],
)
def test_what_is_not_delivered_never_reaches_the_server(
    make: Make, response: str, result: Result, reply: bytes
) -> None:
    bench = make(scanner("one", hit(response=response)))

    outcome = bench.run()

    assert (outcome.result, outcome.reply.wire) == (result, reply)
    assert (outcome.reason, outcome.verdict) == ("one: found it", response)
    assert b"DATA" not in bench.server.commands
    assert bench.server.messages == []


@pytest.mark.parametrize(
    "response", ["quarantine", "tag+quarantine", "reject+quarantine", "discard+quarantine"]
)
def test_what_is_to_be_kept_is_kept_as_it_came(make: Make, response: str) -> None:
    bench = make(scanner("one", hit(response=response)))

    outcome = bench.run(b"b@y", b"c@y")

    (identifier,) = outcome.kept_as
    assert bench.kept == [("held", response, "default")]
    with bench.quarantine.open(identifier) as kept:
        assert b"".join(kept.content()) == CONTENT
        record = kept.stored.record
    assert record.sender.line == b"MAIL FROM:<a@x> SIZE=100"
    assert [one.address for one in record.recipients] == [b"b@y", b"c@y"]
    assert (record.reason, record.session_id, record.subject) == ("one: found it", "5E55", "x")
    assert [(one.scanner, one.finding, one.detail) for one in record.reports] == [("one", "hit", "found it")]


def test_a_tagged_message_is_delivered_with_its_marks(make: Make) -> None:
    bench = make(scanner("one", hit("SPAMMY", "tag", score=7.5), subject_prefix="[SPAM] "))

    assert bench.run().result is Result.ACCEPTED
    (message,) = bench.server.messages
    assert message == (
        b"X-Bqfilter-Report: filter.example;\r\n\taction=tag;\r\n\tone=hit (score=7.5 SPAMMY)\r\n"
        b"Subject: [SPAM] x\r\nTo: all\r\n\r\ntext\r\n.\r\n"
    )


def test_a_redirected_message_reaches_its_new_recipient_alone(make: Make) -> None:
    changes = Changes(recipients=(b"spam@y",))
    bench = make(scanner("one", hit(response="accept", changes=changes)))

    assert bench.run(b"b@y", b"c@y").result is Result.ACCEPTED
    assert len(bench.server.messages) == 1
    assert bench.sent_to(1) == [b"RCPT TO:<spam@y>"]
    assert bench.server.commands.count(b"RSET") == 1
    assert bench.server.commands[-1] == b"QUIT"


def test_a_copy_goes_out_with_the_message_and_is_no_business_of_the_sender_s(make: Make) -> None:
    bench = make(policies=(policy("all", copy_to=("archive@y",)),))

    assert bench.run(b"b@y").result is Result.ACCEPTED
    assert bench.sent_to(1) == [b"RCPT TO:<b@y> NOTIFY=FAILURE", b"RCPT TO:<archive@y> NOTIFY=NEVER"]
    assert bench.server.messages == [WIRE]


def test_whom_the_message_is_for_gets_no_copy_besides(make: Make) -> None:
    bench = make(policies=(policy("all", copy_to=("Archive@y", "other@y")),))

    assert bench.run(b"archive@Y", b"b@y").result is Result.ACCEPTED
    assert [line.split()[1] for line in bench.sent_to(1)] == [b"TO:<archive@Y>", b"TO:<b@y>", b"TO:<other@y>"]


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        pytest.param(b"550 no such user\r\n", Result.TEMPFAILED, id="refused"),
        pytest.param(b"452 later\r\n", Result.TEMPFAILED, id="deferred"),
        pytest.param(HANGUP, Result.TEMPFAILED, id="hung up"),
    ],
)
def test_a_recipient_of_ours_that_the_server_refuses_is_our_own_trouble(
    make: Make, reply: bytes, result: Result
) -> None:
    bench = make(policies=(policy("all", copy_to=("archive@y",)),))
    bench.server.tell(b"RCPT", b"250 ok\r\n", b"250 ok\r\n", reply, reply)

    outcome = bench.run(b"b@y")

    assert (outcome.result, outcome.reply) == (result, replies.UPSTREAM_LOST)
    assert bench.server.messages == []


def test_another_body_is_declared_as_what_it_is(make: Make) -> None:
    changes = Changes(body=lambda: iter((b"gr\xc3\xbc\xc3\x9fe\n.\n",)))
    bench = make(scanner("one", Report(CLEAN.finding, changes=changes)))

    assert bench.run(mail=b"MAIL FROM:<a@x> SIZE=100 RET=HDRS").result is Result.ACCEPTED
    (message,) = bench.server.messages
    assert message == b"Subject: x\r\nTo: all\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n..\r\n.\r\n"
    mails = [line for line in bench.server.commands if line.startswith(b"MAIL")]
    assert mails[1] == b"MAIL FROM:<a@x> SIZE=%d RET=HDRS BODY=8BITMIME" % (len(message) - 3)


def test_a_body_that_the_server_cannot_take_is_not_sent(make: Make) -> None:
    changes = Changes(body=lambda: iter((b"gr\xfc\xdfe\n",)))
    bench = make(scanner("one", Report(CLEAN.finding, changes=changes)))
    bench.server.keywords = (b"after.example", b"PIPELINING")

    outcome = bench.run()

    assert (outcome.result, bench.server.messages) == (Result.TEMPFAILED, [])
    assert "8BITMIME" in outcome.cause


def edits_text(text: bytes) -> Changes:
    """The body is one line, which is replaced."""
    kept = Splices(Workspace("/nowhere", 1000))
    kept.add(Splice(0, 4, text))
    kept.settle()
    return Changes(body=EditedBody(Message.in_memory(CONTENT), (kept,)))


def test_an_edited_body_is_declared_as_what_it_is(make: Make) -> None:
    bench = make(scanner("one", Report(CLEAN.finding, changes=edits_text(".ä".encode()))))

    assert bench.run(mail=b"MAIL FROM:<a@x> SIZE=100 BODY=7BIT").result is Result.ACCEPTED
    (message,) = bench.server.messages
    assert message == b"Subject: x\r\nTo: all\r\n\r\n..\xc3\xa4\r\n.\r\n"
    mails = [line for line in bench.server.commands if line.startswith(b"MAIL")]
    assert mails[1] == b"MAIL FROM:<a@x> SIZE=%d BODY=8BITMIME" % (len(message) - 3)


def test_recipients_whose_bodies_are_edited_alike_share_a_transaction(make: Make) -> None:
    policies = policy("first", "b@"), policy("second", "c@"), policy("third", "d@", scanners=("other",))
    one = scanner("one", Report(CLEAN.finding, changes=edits_text(b"1")))
    other = scanner("other", Report(CLEAN.finding, changes=edits_text(b"2")))
    bench = make(one, other, policies=policies)

    assert bench.run(b"b@y", b"c@y", b"d@y").result is Result.ACCEPTED
    assert [message.partition(b"\r\n\r\n")[2] for message in bench.server.messages] == [b"2\r\n.\r\n"] * 2
    assert len(bench.sent_to(1)) == 2


def test_recipients_whose_copies_are_alike_share_a_transaction(make: Make) -> None:
    policies = policy("first", "b@"), policy("second", "c@")
    bench = make(policies=policies)

    assert bench.run(b"b@y", b"c@y").result is Result.ACCEPTED
    assert bench.server.messages == [WIRE]
    assert len([line for line in bench.server.commands if line.startswith(b"MAIL")]) == 1


def split(make: Make, *more: FakeScanner) -> Bench:
    """A message that b@y gets as it is and c@y gets tagged."""
    hits = (("one", Response.parse("accept")),)
    tagging = scanner("one", hit(response="tag"), subject_prefix="[!] ")
    return make(tagging, *more, policies=(policy("plain", "b@", hits=hits),), lines=("headers.report = ''",))


def test_copies_that_differ_go_out_in_transactions_of_their_own(make: Make) -> None:
    bench = split(make)

    outcome = bench.run(b"b@y", b"c@y")

    assert (outcome.result, outcome.verdict) == (Result.ACCEPTED, "accept,tag")
    assert bench.server.messages == [WIRE, WIRE.replace(b"Subject: ", b"Subject: [!] ")]
    assert bench.sent_to(1) == [b"RCPT TO:<b@y> NOTIFY=FAILURE"]
    assert bench.sent_to(2) == [b"RCPT TO:<c@y> NOTIFY=FAILURE"]
    assert len(bench.server.connections) == 1
    assert bench.kept == []


def test_a_worker_that_ends_between_two_copies_is_seen_to_end_during_a_hand_over(make: Make) -> None:
    bench = split(make)

    bench.run(b"b@y", b"c@y")

    assert len(bench.server.messages) == 2
    stages = [stage for stage, _ in bench.stages]
    assert stages[stages.index(Stage.HANDOVER) :] == [Stage.HANDOVER]


@pytest.mark.parametrize(
    "reply", [b"550 no\r\n", b"451 later\r\n", HANGUP], ids=["refused", "deferred", "nothing known"]
)
def test_where_the_first_copy_fails_nothing_is_delivered_or_kept(make: Make, reply: bytes) -> None:
    bench = split(make)
    bench.server.tell(b".", reply)

    outcome = bench.run(b"b@y", b"c@y")

    assert not outcome.result.is_success
    assert len(bench.server.messages) == 1
    assert bench.kept == []


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        pytest.param(b"550 no\r\n", "held", id="refused"),
        pytest.param(b"451 later\r\n", "held", id="deferred"),
        pytest.param(HANGUP, "unknown", id="nothing known"),
    ],
)
def test_a_later_copy_that_fails_is_kept_and_the_answer_stays(make: Make, reply: bytes, state: str) -> None:
    bench = split(make)
    bench.server.tell(b".", b"250 queued as 4Q1\r\n", reply)

    outcome = bench.run(b"b@y", b"c@y")

    assert (outcome.result, outcome.queue_id) == (Result.ACCEPTED, "4Q1")
    assert bench.kept == [(state, "tag", "default")]
    (line,) = [line for line in bench.sink.lines if "not delivered but in quarantine" in line]
    assert "kept_as=" in line


def test_all_recipients_of_a_later_copy_that_fails_are_in_what_is_kept(make: Make) -> None:
    accepted, tagged = ((("one", Response.parse(action)),) for action in ("accept", "tag"))
    policies = policy("plain", "b@", hits=accepted), policy("second", "c@", hits=tagged)
    bench = make(
        scanner("one", hit(), subject_prefix="[!] "), policies=(*policies, policy("third", "d@", hits=tagged))
    )
    bench.server.tell(b".", b"250 queued as 4Q1\r\n", b"451 later\r\n")

    assert bench.run(b"b@y", b"c@y", b"d@y").result is Result.ACCEPTED
    assert len(bench.server.messages) == 2  # those of the second and third policy are alike
    kept = [one.stored.record for one in bench.quarantine.entries() if one.stored]
    assert [(one.policy, [rcpt.address for rcpt in one.recipients]) for one in kept] == [
        ("second", [b"c@y"]),
        ("third", [b"d@y"]),
    ]


def test_a_client_that_leaves_between_two_copies_gets_the_second_with_its_next_attempt(make: Make) -> None:
    bench = split(make)
    bench.run(b"b@y", b"c@y")
    asked = len(bench.questions)

    again = split(make)
    again.left_at = asked  # the last question is the one before the last dot
    outcome = again.run(b"b@y", b"c@y")
    assert outcome.result is Result.OUTCOME_UNKNOWN  # for a client that closed its side and still listens
    assert outcome.reply.code == 451
    assert "possible duplicate" in outcome.cause
    assert len(again.server.messages) == 1
    assert again.kept == []


def test_what_some_would_reject_is_kept_where_others_want_the_message(make: Make) -> None:
    hits = (("one", Response.parse("accept")),)
    bench = make(scanner("one", hit(response="reject")), policies=(policy("lax", "b@", hits=hits),))

    outcome = bench.run(b"b@y", b"c@y")

    assert (outcome.result, outcome.verdict) == (Result.ACCEPTED, "accept,reject")
    assert bench.sent_to(1) == [b"RCPT TO:<b@y> NOTIFY=FAILURE"]
    assert len(bench.server.messages) == 1
    assert bench.kept == [("held", "reject", "default")]


def test_one_that_defers_defers_all(make: Make) -> None:
    bench = make(policies=(policy("later", "c@", action="defer"),))

    outcome = bench.run(b"b@y", b"c@y")

    assert (outcome.result, bench.server.messages) == (Result.TEMPFAILED, [])


def test_a_quarantine_that_cannot_keep_is_told_and_nothing_is_delivered(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    bench = make(scanner("one", hit(response="tag+quarantine")))
    monkeypatch.setattr(os, "fsync", full)

    outcome = bench.run()

    assert (outcome.result, outcome.reply) == (Result.TEMPFAILED, replies.QUARANTINE_FAILED)
    assert "No space left" in outcome.cause
    assert bench.server.messages == []
    assert bench.kept == []


def test_where_one_of_several_cannot_be_kept_none_is(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = policy("first", "b@", action="quarantine"), policy("second", "c@", action="quarantine")
    bench = make(policies=policies)
    keep = Quarantine.keep

    def full_by_the_second(self: Quarantine, *given: Any) -> Kept:
        if bench.kept:
            raise OSError(errno.ENOSPC, "No space left on device")
        return keep(self, *given)

    monkeypatch.setattr(Quarantine, "keep", full_by_the_second)

    assert bench.run(b"b@y", b"c@y").reply == replies.QUARANTINE_FAILED
    assert bench.kept == []


@pytest.mark.parametrize("reply", [b"550 no\r\n", b"451 later\r\n", HANGUP, SILENCE])
def test_a_copy_of_what_was_not_delivered_is_withdrawn(make: Make, reply: bytes) -> None:
    bench = make(scanner("one", hit(response="tag+quarantine")))
    bench.server.tell(b".", reply)

    assert not bench.run().result.is_success
    assert bench.kept == []


def test_nothing_is_kept_or_sent_for_a_client_that_has_left(make: Make) -> None:
    bench = make(scanner("one", hit(response="quarantine")))
    bench.left_at = 1

    assert bench.run().result is Result.CLIENT_ABORT
    assert bench.kept == []


def test_what_is_kept_goes_to_a_mailbox_where_there_is_one(make: Make) -> None:
    mailbox = ("quarantine.quarantine_to = 'quarantine@y'",)
    bench = make(scanner("one", hit(response="quarantine")), lines=mailbox)
    forged = b"X-Bqfilter-Envelope-From: <king@x>\r\n"

    outcome = bench.run(b"b@y", b"c@y", wire=forged + WIRE)

    assert (outcome.result, outcome.reply) == (Result.QUARANTINED, replies.OK)
    assert bench.kept == []
    assert bench.sent_to(1) == [b"RCPT TO:<quarantine@y>"]
    assert [line for line in bench.server.commands if line.startswith(b"MAIL")][1] == b"MAIL FROM:<>"
    (sent,) = bench.server.messages
    assert sent.startswith(
        b"X-Bqfilter-Quarantined: one: found it\r\nX-Bqfilter-Envelope-From: <a@x>\r\n"
        b"X-Bqfilter-Envelope-To: <b@y>,\r\n <c@y>\r\nX-Bqfilter-Record: "
    )
    assert sent.endswith(WIRE)
    letter = read(Message.in_memory(sent.removesuffix(DOT)))
    assert [rcpt.line for rcpt in letter.record.recipients] == [
        line for line in bench.server.commands if line.startswith(b"RCPT TO:<")
    ][:2]
    assert b"".join(letter.content()) == (forged + WIRE).removesuffix(DOT)


@pytest.mark.parametrize("reply", [b"550 no\r\n", HANGUP])
def test_a_mailbox_that_does_not_take_it_is_our_own_trouble(make: Make, reply: bytes) -> None:
    mailbox = ("quarantine.quarantine_to = 'quarantine@y'",)
    bench = make(scanner("one", hit(response="reject+quarantine")), lines=mailbox)
    bench.server.tell(b"RCPT", b"250 ok\r\n", reply, reply)

    assert bench.run().reply == replies.UPSTREAM_LOST
    assert bench.server.messages == []


@pytest.mark.parametrize("reply", [b"552 mailbox full\r\n", b"452 later\r\n"])
@pytest.mark.parametrize("response", ["quarantine", "reject+quarantine"])
def test_a_mailbox_that_refuses_the_content_does_not_refuse_the_client(
    make: Make, response: str, reply: bytes
) -> None:
    mailbox = ("quarantine.quarantine_to = 'quarantine@y'",)
    bench = make(scanner("one", hit(response=response)), lines=mailbox)
    bench.server.tell(b".", reply)

    outcome = bench.run()

    assert (outcome.result, outcome.reply) == (Result.TEMPFAILED, replies.QUARANTINE_FAILED)
    assert reply.strip().decode() in outcome.cause


@pytest.mark.parametrize("response", ["quarantine", "reject+quarantine", "discard+quarantine"])
def test_what_took_so_long_to_keep_that_the_client_left_is_not_kept(make: Make, response: str) -> None:
    bench = make(scanner("one", hit(response=response)))
    bench.left_at = 2  # there before it is kept, and gone behind that

    assert bench.run().result is Result.CLIENT_ABORT
    assert bench.kept == []


@pytest.mark.parametrize("response", ["quarantine", "reject+quarantine", "discard+quarantine"])
def test_what_took_so_long_to_confirm_that_the_client_left_is_taken_back(make: Make, response: str) -> None:
    bench = make(scanner("one", hit(response=response)))
    bench.left_at = 3  # there when it has been kept, and gone when that has been confirmed

    assert bench.run().result is Result.CLIENT_ABORT
    assert bench.kept == []


def test_what_took_so_long_to_confirm_that_the_client_is_about_to_leave_is_taken_back(
    make: Make, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(scanner("one", hit(response="quarantine")))
    turn = Claim.turn

    def slowly(self: Claim, state: State) -> None:
        clock.advance(99)
        turn(self, state)

    monkeypatch.setattr(Claim, "turn", slowly)

    outcome = bench.run()

    assert (outcome.result, outcome.reply) == (Result.TEMPFAILED, replies.OUT_OF_TIME)
    assert bench.kept == []


def test_a_worker_may_keep_a_message_as_long_as_it_may_hand_one_over(make: Make) -> None:
    bench = make(scanner("one", hit(response="quarantine")))
    began = bench.clock()

    bench.run()

    untils = [until - began for stage, until in bench.stages if stage is Stage.FILTER]
    assert untils == pytest.approx([0.9 * 85, 85])  # while it is scanned, and from then on


def test_what_took_longer_to_keep_than_there_is_time_is_not_kept(
    make: Make, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(scanner("one", hit(response="quarantine")))
    delays = iter([90.0])  # the time for a hand-over is up, and the client would still hear us
    monkeypatch.setattr(os, "fsync", lambda _fd: clock.advance(next(delays, 0.0)))

    outcome = bench.run()

    assert (outcome.result, outcome.reply) == (Result.TEMPFAILED, replies.OUT_OF_TIME)
    assert bench.kept == []


def test_a_mistake_of_ours_behind_the_first_copy_does_not_make_the_client_come_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = split(make)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Quarantine, "withdraw", broken)

    outcome = bench.run(b"b@y", b"c@y")

    assert (outcome.result, outcome.queue_id) == (Result.ACCEPTED, "4Q1")
    assert bench.kept == [("pending", "tag", "default")]
    assert any("ZeroDivisionError" in line for line in bench.sink.lines)


@pytest.mark.parametrize(
    ("on_error", "result"), [("defer", Result.TEMPFAILED), ("pass", Result.ACCEPTED)], ids=["defer", "pass"]
)
def test_a_scanner_that_fails_does_as_it_is_told_and_never_finds_anything(
    make: Make, on_error: str, result: Result
) -> None:
    bench = make(scanner("one", ScannerFailure("broken"), on_error=on_error))

    outcome = bench.run()

    assert outcome.result is result
    assert outcome.scans.startswith("one:error:")
    assert len(bench.server.messages) == (result is Result.ACCEPTED)
    assert any("not scanned" in line and "cause=broken" in line for line in bench.sink.lines)


def test_a_header_that_nobody_can_hold_is_refused(make: Make) -> None:
    bench = make(scanner("one"), lines=("headers.size_limit = '16KiB'",))

    assert bench.run(wire=b"X: y\r\n" * 5000 + WIRE).reply == replies.HEADER_TOO_BIG


def test_scanners_leave_time_to_hand_over(make: Make, clock: FakeClock) -> None:
    slow = scanner("slow", clock=clock, takes=75.0, timeout=100.0)
    bench = make(slow)

    assert bench.run().result is Result.ACCEPTED
    (call,) = slow.calls
    assert call.deadline.at == pytest.approx(clock() - 75.0 + 0.9 * 85.0)


def test_a_scanner_that_uses_up_everything_costs_a_451(make: Make, clock: FakeClock) -> None:
    bench = make(scanner("slow", clock=clock, takes=90.0, timeout=100.0))

    outcome = bench.run()

    assert (outcome.reply, bench.server.messages) == (replies.OUT_OF_TIME, [])


_ACTIONS = st.sampled_from(["accept", "tag", "defer", "quarantine", "discard", "reject", "tag+quarantine"])
_ANSWERS = st.lists(
    st.sampled_from([b"250 queued as 4Q1\r\n", b"550 no\r\n", b"451 later\r\n", HANGUP]), max_size=3
)


@given(st.lists(_ACTIONS, min_size=1, max_size=4), _ANSWERS, st.integers(1, 12))
@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300
)
def test_no_message_is_lost_and_no_client_told_a_lie(
    make: Make, actions: list[str], answers: list[bytes], left_at: int
) -> None:
    """Whatever is decided for whom, whatever the server answers, and whenever the client leaves.

    A 250 to a client that is still there means for each recipient that the message is delivered, kept, or
    dropped because a policy says so. Any other answer means that nobody has it or will get it from us, but
    for an outcome that nobody can know.
    """
    policies = tuple(
        policy(f"p{number}", f"r{number}@", hits=(("one", Response.parse(action)),))
        for number, action in enumerate(actions)
    )
    bench = make(scanner("one", hit(), subject_prefix="[!] "), policies=policies)
    before = len(bench.kept)
    bench.left_at = left_at
    bench.server.tell(b".", *answers)

    outcome = bench.run(*(b"r%d@y" % number for number in range(len(actions))))

    kept = bench.kept[before:]
    has_left = len(bench.questions) >= left_at
    delivered = {
        line.split(b"<r")[1].split(b"@")[0]
        for lines, reply in bench.server.takers
        for line in lines
        if reply.startswith(b"2")
    }
    if outcome.result.is_success and not has_left:
        in_hand = {policy_name.removeprefix("p") for _, _, policy_name in kept}
        dropped = {str(number) for number, action in enumerate(actions) if action == "discard"}
        assert {str(number) for number in range(len(actions))} == {
            *(one.decode() for one in delivered), *in_hand, *dropped
        }  # fmt: skip
    elif outcome.result is Result.OUTCOME_UNKNOWN and outcome.reply is replies.CLIENT_LEFT:
        assert has_left
    elif not outcome.result.is_success:
        assert delivered == set()
        assert kept == []
        assert outcome.result is Result.OUTCOME_UNKNOWN or b"" not in [
            reply for _, reply in bench.server.takers
        ]
    assert all(state in ("held", "unknown") for state, _, _ in kept)


@pytest.mark.parametrize("response", ["quarantine", "tag+quarantine", "reject+quarantine"])
@pytest.mark.parametrize("reply", [b"250 queued as 4Q1\r\n", b"451 later\r\n"], ids=["taken", "deferred"])
def test_wherever_a_worker_ends_nothing_can_be_released_that_its_client_was_not_told_of(
    make: Make, response: str, reply: bytes
) -> None:
    """What is left is what nobody delivers without being asked twice, or what was all but answered."""
    for at in range(1, 200):
        accepted = (("one", Response.parse("accept")),)
        tagging = scanner("one", hit(response=response), subject_prefix="[!] ")
        bench = make(
            tagging, policies=(policy("plain", "b@", hits=accepted),), lines=("headers.report = ''",)
        )
        bench.server.tell(b".", reply, reply)
        before = set(bench.identifiers)
        with contextlib.suppress(Gone), failing(at) as faults:
            bench.run(b"b@y", b"c@y")
        left = {
            identifier: state for identifier, state in bench.identifiers.items() if identifier not in before
        }
        was_taken = any(answer.startswith(b"2") for _, answer in bench.server.takers)
        if not was_taken and bench.server.takers:
            assert set(left.values()) <= {State.NEW, State.PENDING}
        if not bench.server.takers and response == "tag+quarantine":
            assert set(left.values()) <= {State.NEW, State.PENDING}
        if not faults.is_over:
            return
    raise AssertionError("it does not end")
