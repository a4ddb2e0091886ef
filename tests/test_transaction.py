"""One message: what it becomes, in every way in which it can go well or wrong."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from bqfilter.budget import Budget
from bqfilter.ledger import Ledger
from bqfilter.log import Log
from bqfilter.mail.envelope import Client
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.outcome import Outcome, Result
from bqfilter.smtp import replies
from bqfilter.smtp.commands import Mail, Rcpt
from bqfilter.smtp.replies import Reply
from bqfilter.transaction import Transaction
from bqfilter.upstream import Upstream
from tests.doubles.clock import FakeClock
from tests.doubles.means import means
from tests.doubles.recorder import RecordingSink
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.upstream import HANGUP, SILENCE, XFORWARD, FakeUpstream

MAIL = Mail(b"MAIL FROM:<a@x>", b"a@x", b"")
RCPT = Rcpt(b"RCPT TO:<b@y>", b"b@y", b"")
WIRE = b"Subject: x\r\n\r\ntext\r\n.\r\n"


@dataclass
class Bench:
    """A transaction over a fake server; `left_at` is at which question the client turns out to have left."""

    server: FakeUpstream
    transaction: Transaction
    clock: FakeClock
    sink: RecordingSink
    questions: list[float] = field(default_factory=list)
    left_at: int = 1000

    @property
    def limit(self) -> Deadline:
        return Deadline.after(self.clock, 95)

    def client_has_left(self) -> bool:
        self.questions.append(self.clock())
        return len(self.questions) >= self.left_at

    def envelope(self) -> None:
        assert self.transaction.mail(MAIL, self.limit).code == 250
        assert self.transaction.rcpt(RCPT, self.limit).code == 250
        assert self.transaction.data() == replies.START_MAIL_INPUT

    def end(self, wire: bytes = WIRE) -> Outcome:
        self.transaction.spool.append(wire)
        self.transaction.spool.is_clean = True
        return self.transaction.end_of_data(self.clock(), self.client_has_left)

    def whole(self) -> Outcome:
        self.envelope()
        outcome = self.end()
        self.transaction.finish()
        return outcome


def make(clock: FakeClock, server: FakeUpstream, *lines: str) -> Bench:
    sink = RecordingSink()
    log = Log(sink, is_json=False)
    given = settings(*lines)
    address = SocketAddress(2, ("127.0.0.1", 10026))
    upstream = Upstream(given, [address], HOSTNAME, clock, server.connect, log)
    budget = Budget(given.budget, clock, clock())
    ledger = Ledger(clock, lambda *_: None)
    transaction = Transaction(means(given, upstream, clock, log), Client(), budget, ledger, log)
    return Bench(server, transaction, clock, sink)


@pytest.fixture
def bench(clock: FakeClock) -> Iterator[Bench]:
    one = make(clock, FakeUpstream(clock, [XFORWARD]))
    yield one
    one.transaction.spool.close()


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        pytest.param(
            b"250 2.0.0 Ok: queued as 4Q1\r\n",
            Outcome(Result.ACCEPTED, Reply(250, (b"2.0.0 Ok: queued as 4Q1",)), queue_id="4Q1"),
            id="accepted",
        ),
        pytest.param(
            b"250 fine\r\n", Outcome(Result.ACCEPTED, Reply(250, (b"fine",))), id="without queue id"
        ),
        pytest.param(b"550 no\r\n", Outcome(Result.REJECTED, Reply(550, (b"no",))), id="rejected"),
        pytest.param(b"452 full\r\n", Outcome(Result.TEMPFAILED, Reply(452, (b"full",))), id="deferred"),
        pytest.param(b"421 bye\r\n", Outcome(Result.TEMPFAILED, Reply(451, (b"bye",))), id="421 becomes 451"),
        pytest.param(b"521 bye\r\n", Outcome(Result.REJECTED, Reply(554, (b"bye",))), id="521 becomes 554"),
    ],
)
def test_the_server_s_answer_to_the_dot_is_the_outcome(bench: Bench, reply: bytes, outcome: Outcome) -> None:
    bench.server.tell(b".", reply)

    assert bench.whole() == outcome
    assert bench.server.messages == [WIRE]


def test_the_envelope_has_what_was_accepted(bench: Bench) -> None:
    bench.transaction.mail(MAIL, bench.limit)
    bench.server.tell(b"RCPT", b"550 no\r\n")
    bench.transaction.rcpt(RCPT, bench.limit)
    bench.transaction.rcpt(RCPT, bench.limit)

    envelope = bench.transaction.envelope
    assert envelope is not None
    assert (envelope.sender, envelope.recipients, envelope.refused_count) == (MAIL, [RCPT], 1)


def test_the_server_hears_of_data_at_the_end_of_the_message(bench: Bench) -> None:
    bench.envelope()
    bench.transaction.spool.append(b"half a message")

    assert b"DATA" not in bench.server.commands


def test_a_client_that_left_gets_no_delivery(bench: Bench) -> None:
    bench.left_at = 1
    outcome = bench.whole()

    assert outcome.result is Result.CLIENT_ABORT
    assert bench.server.messages == []
    assert b"DATA" not in bench.server.commands


def test_a_client_that_leaves_during_the_hand_over_gets_no_delivery(bench: Bench) -> None:
    bench.left_at = 2
    outcome = bench.whole()

    assert outcome.result is Result.CLIENT_ABORT
    assert outcome.reply.code == 451
    assert bench.server.commands[-1] == b"DATA"
    assert bench.server.messages == []
    assert bench.server.connections[0].is_closed


def test_the_client_is_looked_for_right_before_the_dot(clock: FakeClock) -> None:
    one = make(clock, FakeUpstream(clock), "spool.memory = '0B'", "spool.directory = '/tmp'")
    one.envelope()
    stream = one.server.connections[0]
    seen: list[bytes] = []

    def look() -> bool:
        seen.append(bytes(stream.written))
        return False

    one.transaction.spool.append(WIRE)
    one.transaction.spool.is_clean = True
    one.transaction.end_of_data(one.clock(), look)

    assert seen[-1].endswith(b"text\r\n")
    assert one.server.messages == [WIRE]


def test_without_time_the_dot_is_not_sent(bench: Bench) -> None:
    bench.envelope()
    bench.transaction.spool.append(WIRE)
    arrived = bench.clock()
    bench.clock.advance(85)
    outcome = bench.transaction.end_of_data(arrived, bench.client_has_left)

    assert outcome.result is Result.TEMPFAILED
    assert outcome.reply == replies.OUT_OF_TIME
    assert outcome.cause == "reply budget spent before the final dot"
    assert bench.server.messages == []


def test_time_that_runs_out_during_the_hand_over_stops_the_dot(bench: Bench) -> None:
    bench.envelope()

    def slow() -> bool:
        bench.clock.advance(45)  # asked twice
        return False

    bench.transaction.spool.append(WIRE)
    outcome = bench.transaction.end_of_data(bench.clock(), slow)

    assert outcome.reply == replies.OUT_OF_TIME
    assert bench.server.messages == []
    assert bench.server.connections[0].is_closed


@pytest.mark.parametrize("told", [HANGUP, SILENCE, b"250 fine\r\n", b"nonsense\r\n"])
def test_what_fails_before_the_dot_is_certainly_not_delivered(bench: Bench, told: bytes) -> None:
    bench.envelope()
    bench.server.tell(b"DATA", told, told)
    outcome = bench.end()

    assert (outcome.result, outcome.reply) == (Result.TEMPFAILED, replies.UPSTREAM_LOST)
    assert outcome.cause
    assert bench.server.messages == []
    assert bench.server.connections[-1].is_closed


@pytest.mark.parametrize("told", [HANGUP, SILENCE, b"354 odd\r\n", b"nonsense\r\n"])
def test_what_fails_behind_the_dot_is_nobody_s_knowledge(bench: Bench, told: bytes) -> None:
    bench.envelope()
    bench.server.tell(b".", told)
    outcome = bench.end()

    assert (outcome.result, outcome.reply) == (Result.OUTCOME_UNKNOWN, replies.UPSTREAM_LOST)
    assert "possible duplicate" in outcome.cause
    assert len(bench.server.connections) == 1, "there is no second try"


def test_a_reply_to_the_dot_is_waited_for_beyond_the_limit_of_other_replies(bench: Bench) -> None:
    bench.envelope()
    bench.server.tell(b".", SILENCE)
    arrived = bench.clock()
    bench.end()

    assert bench.clock() - arrived == 99


@pytest.mark.parametrize(
    ("told", "reply"),
    [
        pytest.param(HANGUP, replies.UPSTREAM_UNAVAILABLE, id="hung up"),
        pytest.param(SILENCE, replies.UPSTREAM_UNAVAILABLE, id="silent"),
        pytest.param(b"354 odd\r\n", replies.UPSTREAM_GARBLED, id="out of turn"),
    ],
)
def test_a_server_that_fails_in_the_envelope_fails_all_further_steps(
    bench: Bench, told: bytes, reply: Reply
) -> None:
    bench.transaction.mail(MAIL, bench.limit)
    bench.transaction.rcpt(RCPT, bench.limit)
    bench.server.tell(b"RCPT", told, told)

    assert bench.transaction.rcpt(RCPT, bench.limit) == reply
    heard = len(bench.server.commands)
    assert bench.transaction.rcpt(RCPT, bench.limit) == reply
    assert bench.transaction.data() == reply
    assert len(bench.server.commands) == heard
    assert len(bench.sink.alarms) == 1
    bench.transaction.finish()
    assert bench.server.connections[-1].is_closed


def test_a_refusal_is_logged_with_the_client(bench: Bench) -> None:
    bench.server.tell(b"MAIL", b"554 5.7.1 not you\r\n")
    bench.transaction.mail(MAIL, bench.limit)

    assert bench.sink.lines == ['reject command=MAIL client=unknown[unknown] reply="554 5.7.1 not you"']


def test_a_message_too_big_is_rejected_without_a_word_to_the_server(clock: FakeClock) -> None:
    one = make(clock, FakeUpstream(clock), "limits.message_size = '10B'")

    assert one.whole() == Outcome(Result.REJECTED, replies.MESSAGE_TOO_BIG)
    assert b"DATA" not in one.server.commands
    assert one.server.commands[-1] == b"QUIT"


def test_a_spool_that_failed_is_a_temporary_matter(clock: FakeClock) -> None:
    one = make(clock, FakeUpstream(clock), "spool.memory = '0B'", "spool.directory = '/proc/nonexistent'")
    outcome = one.whole()

    assert (outcome.result, outcome.reply) == (Result.TEMPFAILED, replies.SPOOL_FAILED)
    assert "No such file" in outcome.cause
    assert b"DATA" not in one.server.commands


def test_aborting_leaves_the_server_without_a_message(bench: Bench) -> None:
    bench.envelope()
    bench.transaction.spool.append(b"half")
    bench.transaction.abort()

    assert bench.server.connections[0].is_closed
    assert bench.server.messages == []
    assert bench.server.commands[-1] != b"QUIT"


@pytest.mark.parametrize("is_clean", [True, False], ids=["sent as it is", "made clean on the way"])
def test_a_spool_that_cannot_be_read_back_delivers_nothing(clock: FakeClock, is_clean: bool) -> None:
    one = make(clock, FakeUpstream(clock), "spool.memory = '0B'", "spool.directory = '/tmp'")
    one.envelope()
    spool = one.transaction.spool
    spool.append(WIRE)
    spool.is_clean = is_clean
    os.close(spool.fileno())  # behind its back: reading fails
    outcome = one.transaction.end_of_data(one.clock(), one.client_has_left)

    assert (outcome.result, outcome.reply) == (Result.TEMPFAILED, replies.SPOOL_FAILED)
    assert outcome.cause.startswith("spool: ")
    assert one.server.messages == []
    assert one.server.connections[0].is_closed
