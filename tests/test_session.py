"""A session as a whole: laws that hold whatever either peer sends, and what is left when it is over."""

import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.ledger import Ledger, Stage
from bqfilter.log import Log
from bqfilter.mail.spool import Spool
from bqfilter.net.address import SocketAddress
from bqfilter.outcome import Outcome, Result
from bqfilter.session import Session, Surroundings, new_session_id
from bqfilter.smtp.phases import Phase
from bqfilter.upstream import Upstream
from tests.doubles.clock import FakeClock
from tests.doubles.means import means
from tests.doubles.recorder import RecordingSink
from tests.doubles.scanners import FakeScanner, hit, scanner, with_scanners
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.streams import CLOSE, RESET, Event, ScriptedStream
from tests.doubles.upstream import HANGUP, SILENCE, XFORWARD, FakeUpstream

OPENING = b"EHLO mx.example\r\n"
ENVELOPE = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"
MESSAGE = b"Message-ID: <1@x>\r\n\r\ntext\r\n.\r\n"
STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n")

pieces = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b".",
        b"a",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r\n.\r\r\n",
        b"MAIL FROM:<z>\r\n",
        b"QUIT\r\n",
    ]
)
contents = st.one_of(st.lists(pieces, max_size=25).map(b"".join), st.binary(max_size=100))
cuts = st.lists(st.integers(0, 200), max_size=8)


@dataclass
class Held:
    """What there is to see when a session is over."""

    session: Session
    client: ScriptedStream
    server: FakeUpstream
    sink: RecordingSink
    results: list[Result]
    stages: list[Stage]

    @property
    def replies(self) -> list[str]:
        return self.client.written.decode("latin-1").splitlines()


def hold(
    server: FakeUpstream,
    events: Sequence[Event],
    *lines: str,
    drains: bool = False,
    stumbles: bool = False,
    may_send: bool = True,
    age: float = 0.0,
    buffer: int = 65536,
    scanners: Sequence[FakeScanner] = (),
) -> Held:
    """Hold a session with a scripted client over these servers; only one that `stumbles` may meet a bug."""
    clock, sink, results, stages = server.clock, RecordingSink(), list[Result](), list[Stage]()
    given, log = with_scanners(settings(*lines), scanners), Log(sink, is_json=False)
    upstream = Upstream(given, [SocketAddress(2, ("127.0.0.1", 10026))], HOSTNAME, clock, server.connect, log)

    def count(outcome: Outcome) -> None:
        results.append(outcome.result)

    given_all = means(given, upstream, clock, log, scanners)
    around = Surroundings(given_all, HOSTNAME, clock, bytearray(buffer), count)
    client = ScriptedStream(clock, events)
    ledger = Ledger(clock, lambda stage, _now, _until: stages.append(stage))
    session = Session(client, around, ledger, log, may_send=may_send, accepted_at=clock() - age)
    if drains:
        session.drain()
    session.run()
    assert stumbles == any("internal error" in line for line in sink.alarms), sink.alarms
    return Held(session, client, server, sink, results, stages)


def servers(**told: list[bytes]) -> FakeUpstream:
    return FakeUpstream(FakeClock(), [b"PIPELINING", XFORWARD], **told)


def in_pieces(data: bytes, at: list[int]) -> list[Event]:
    ends = sorted(min(end, len(data)) for end in at)
    return [
        piece for start, end in zip([0, *ends], [*ends, len(data)], strict=True) if (piece := data[start:end])
    ]


def test_a_message_passes_and_is_counted() -> None:
    held = hold(servers(), [OPENING, ENVELOPE, MESSAGE, b"QUIT\r\n"])

    assert held.server.messages == [MESSAGE]
    assert held.results == [Result.ACCEPTED]
    assert held.replies[-2:] == ["250 2.0.0 Ok: queued as 4Q1", "221 2.0.0 Bye"]
    assert held.session.message_count == 1
    assert held.session.phase is Phase.CLOSED
    assert held.client.is_closed
    assert held.sink.alarms == []
    assert all(stream.is_closed for stream in held.server.connections)


def test_the_greeting_comes_before_anything_slow() -> None:
    held = hold(servers(connect=[SILENCE] * 9), [CLOSE])

    assert held.replies == ["220 filter.example ESMTP bqfilterd"]
    assert held.server.connections == []


HELO = b"HELO localhost\r\n"
MAIL = b"MAIL FROM:<a@x>\r\n"


@pytest.mark.parametrize(
    ("events", "was_probe"),
    [
        pytest.param([HELO, b"QUIT\r\n"], True, id="a health check"),
        pytest.param([OPENING, b"QUIT\r\n"], True, id="one by EHLO"),
        pytest.param([CLOSE], True, id="connects and leaves"),
        pytest.param([OPENING, RESET], True, id="leaves in a hurry"),
        pytest.param([OPENING, MAIL, b"RSET\r\n", b"QUIT\r\n"], False, id="begins a message"),
        pytest.param([MAIL + b"QUIT\r\n"], False, id="begins one without EHLO"),
        pytest.param([OPENING, MAIL, CLOSE], False, id="leaves in the middle of one"),
        pytest.param([OPENING, 301.0], False, id="holds a worker until it is sent away"),
    ],
)
def test_a_client_that_came_and_left_without_a_word_of_mail_was_a_probe(
    events: list[Event], was_probe: bool
) -> None:
    assert hold(servers(), events).session.was_probe is was_probe


def test_a_health_check_by_helo_does_not_call_the_after_filter_server() -> None:
    held = hold(servers(), [HELO, b"QUIT\r\n"])

    assert held.server.connections == []
    assert held.replies == ["220 filter.example ESMTP bqfilterd", "250 filter.example", "221 2.0.0 Bye"]
    assert held.sink.lines == []


class TestALoadBalancerThatSpeaksForItself:
    """It may know that we are there, and no more."""

    def test_is_answered_while_the_after_filter_server_is_silent(self) -> None:
        held = hold(servers(connect=[SILENCE] * 9), [OPENING, b"QUIT\r\n"], may_send=False)

        assert held.server.connections == []
        assert held.replies[-1] == "221 2.0.0 Bye"
        assert held.server.clock() == FakeClock()()

    def test_sends_no_mail(self) -> None:
        held = hold(servers(), [OPENING, MAIL, b"RCPT TO:<b@y>\r\n", b"QUIT\r\n"], may_send=False)

        assert held.replies[-3:] == [
            "554 5.7.1 Error: access denied",
            "503 5.5.1 Error: need MAIL command",
            "221 2.0.0 Bye",
        ]
        assert (held.server.connections, held.results) == ([], [])
        assert held.sink.lines == ["warning: load balancer may not send for itself peer=192.0.2.1:1"]

    def test_that_hangs_up_is_not_worth_a_line(self) -> None:
        assert hold(servers(), [HELO, CLOSE], may_send=False).sink.lines == []


def test_time_is_told_by_stages_in_order() -> None:
    held = hold(servers(), [OPENING, ENVELOPE, MESSAGE, b"QUIT\r\n"])

    expected = [
        Stage.GREETING, Stage.UPSTREAM_CONNECT, Stage.GREETING, Stage.UPSTREAM_WAIT, Stage.UPSTREAM_WAIT,
        Stage.DATA, Stage.UPSTREAM_WAIT, Stage.HANDOVER, Stage.GREETING,
    ]  # fmt: skip
    assert held.stages == expected


def test_a_pipelined_group_is_answered_in_one_write() -> None:
    server = servers()
    clock = server.clock
    writes: list[bytes] = []

    class Client(ScriptedStream):
        def on_write(self, data: bytes) -> None:
            writes.append(data)

    given, log = settings(), Log(RecordingSink(), is_json=False)
    upstream = Upstream(given, [SocketAddress(2, ("127.0.0.1", 1))], HOSTNAME, clock, server.connect, log)
    around = Surroundings(
        means(given, upstream, clock, log), HOSTNAME, clock, bytearray(4096), lambda _outcome: None
    )
    client = Client(clock, [OPENING, ENVELOPE, MESSAGE + b"QUIT\r\n"])
    Session(client, around, Ledger(clock, lambda *_: None), log).run()

    assert [data.count(b"\r\n") for data in writes] == [1, 3, 3, 1, 1]


@pytest.mark.parametrize("ending", [CLOSE, RESET])
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([OPENING], id="after EHLO"),
        pytest.param([OPENING, b"MAIL FROM:<a@x>\r\n"], id="after MAIL"),
        pytest.param([OPENING, ENVELOPE], id="after DATA"),
        pytest.param([OPENING, ENVELOPE, MESSAGE[:-1]], id="one byte before the end"),
        pytest.param([OPENING, ENVELOPE, MESSAGE[:-3] + b"QUIT\r\n"], id="QUIT within the content"),
        pytest.param([OPENING, ENVELOPE, MESSAGE], id="right behind the end"),
    ],
)
def test_a_client_that_is_lost_leaves_nothing_behind(sent: list[Event], ending: str) -> None:
    held = hold(servers(), [*sent, ending])

    assert held.server.messages == []
    assert all(stream.is_closed for stream in held.server.connections)
    assert held.client.is_closed
    assert Result.ACCEPTED not in held.results


@pytest.mark.parametrize(
    ("sent", "event"),
    [
        pytest.param([], "lost connection after CONNECT", id="at once"),
        pytest.param([b"EHLO x\r\n"], "lost connection after EHLO", id="after EHLO"),
        pytest.param([b"XFORWARD NAME=a\r\n"], "lost connection after XFORWARD", id="after XFORWARD"),
        pytest.param([b"junk\r\n"], "lost connection after UNKNOWN", id="after an unknown command"),
        pytest.param([b"MAIL FROM:<a>\r\n"], "lost connection after MAIL", id="after MAIL"),
        pytest.param([ENVELOPE], "lost connection after DATA", id="after DATA"),
        pytest.param([ENVELOPE, b"x", 301], "timeout after DATA", id="silent within the content"),
        pytest.param([301], "timeout after CONNECT", id="silent from the beginning"),
    ],
)
def test_the_log_says_in_postfix_s_words_after_what_a_client_was_lost(sent: list[Event], event: str) -> None:
    held = hold(servers(), sent)

    assert [line for line in held.sink.lines if line.startswith(event)] == held.sink.lines[-1:]


def test_the_log_says_why_a_message_was_dropped() -> None:
    held = hold(
        servers(), [OPENING, ENVELOPE, MESSAGE, b"QUIT\r\n"],
        scanners=[scanner("one", hit("found it", response="discard"))],
    )  # fmt: skip

    assert held.server.messages == []
    assert held.results == [Result.DISCARDED]
    (line,) = [line for line in held.sink.lines if line.startswith("message ")]
    assert 'reply="250 2.0.0 Ok" policy=default verdict=discard why="one: found it"' in line


@pytest.mark.parametrize(
    "last", [b"RSET\r\n", b"QUIT\r\n", ENVELOPE + MESSAGE], ids=["RSET", "QUIT", "message"]
)
def test_leaving_between_messages_is_nothing_to_log(last: bytes) -> None:
    held = hold(servers(), [OPENING, *in_pieces(last, [len(ENVELOPE)])])

    assert [line for line in held.sink.lines if not line.startswith("message ")] == []


def test_a_client_cannot_buy_time_for_a_command_with_single_bytes() -> None:
    events: list[Event] = [OPENING]
    for _ in range(400):
        events += [b"N", 1]
    held = hold(servers(), events)

    assert held.sink.lines[-1].startswith("timeout after EHLO")
    assert held.server.clock() - 1000 <= 301


def slow_disk(monkeypatch: pytest.MonkeyPatch, clock: FakeClock, seconds: float) -> None:
    """Each piece of content takes so long to be written."""
    append = Spool.append

    def slowly(self: Spool, data: bytes | memoryview) -> None:
        clock.advance(seconds)
        append(self, data)

    monkeypatch.setattr(Spool, "append", slowly)


def test_a_client_that_had_sent_all_while_the_disk_was_slow_has_waited_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = servers()
    slow_disk(monkeypatch, server.clock, 30)
    held = hold(server, [OPENING, ENVELOPE, b"one\r\n", b"two\r\n", b"three\r\n", b"four\r\n.\r\n"])

    assert held.replies[-1] == "451 4.3.0 Error: too little time left to deliver the message"
    assert server.messages == []


def test_a_client_that_is_slower_than_the_disk_has_its_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    server = servers()
    slow_disk(monkeypatch, server.clock, 30)
    script: list[Event] = [OPENING, ENVELOPE]
    for line in (b"one\r\n", b"two\r\n", b"three\r\n", b"four\r\n", b".\r\n"):
        script += [31, line]
    held = hold(server, script)

    assert held.replies[-1].startswith("250 ")
    assert len(server.messages) == 1


def test_within_content_single_bytes_buy_time_until_the_session_limit() -> None:
    """Without one a client may be as slow as Postfix lets it be: a byte within each `client_idle`."""
    events: list[Event] = [OPENING, ENVELOPE]
    for _ in range(20):
        events += [b"N", 200]
    whole = hold(servers(), [*events, b"\r\n.\r\n"])
    cut_off = hold(servers(), [*events, b"\r\n.\r\n"], "budget.session = '700s'")

    assert whole.results == [Result.ACCEPTED]
    assert cut_off.results == [Result.CLIENT_ABORT]
    assert cut_off.sink.lines[-1].startswith("timeout after DATA")
    assert cut_off.server.clock() - 1000 <= 800
    assert cut_off.server.messages == []


def test_what_a_load_balancer_took_for_its_header_is_part_of_the_session() -> None:
    script: list[Event] = [OPENING, ENVELOPE, 90, MESSAGE]
    limit = "budget.session = '100s'"

    assert hold(servers(), script, limit).replies[-1].startswith("451 ")  # within commit_reserve
    assert hold(servers(), [OPENING, ENVELOPE, 80, MESSAGE], limit).results == [Result.ACCEPTED]
    assert hold(servers(), [OPENING, ENVELOPE, 80, MESSAGE], limit, age=15).replies[-1].startswith("451 ")


def test_a_session_that_is_told_to_finish_ends_soon() -> None:
    held = hold(servers(), [OPENING, 6, ENVELOPE], drains=True)

    assert held.sink.lines[-1].startswith("timeout after EHLO")
    assert held.server.messages == []


def test_a_session_that_is_told_to_finish_hears_its_message_out() -> None:
    held = hold(servers(), [OPENING, 4, ENVELOPE, 200, MESSAGE, 1, ENVELOPE], drains=True)

    assert held.results == [Result.ACCEPTED]
    assert held.server.messages == [MESSAGE]


def test_a_mistake_of_ours_is_a_451_and_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("bqfilter.transaction.Transaction.end_of_data", stumble)
    held = hold(servers(), [OPENING, ENVELOPE, MESSAGE, b"QUIT\r\n"], stumbles=True)

    assert held.replies[-1] == "451 4.3.0 Error: filter failure"
    assert held.server.messages == []
    assert "ZeroDivisionError: a bug" in held.sink.alarms[-1]
    assert held.client.is_closed
    assert all(stream.is_closed for stream in held.server.connections)


def test_memory_that_ends_is_a_451_and_what_filled_it_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large(list[int]):
        pass

    filled: list[weakref.ref[Large]] = []

    def fill(*_arguments: object) -> None:
        large = Large()
        filled.append(weakref.ref(large))
        raise MemoryError

    monkeypatch.setattr("bqfilter.transaction.Transaction.end_of_data", fill)
    held = hold(servers(), [OPENING, ENVELOPE, MESSAGE, b"QUIT\r\n"])

    assert held.replies[-1] == "451 4.3.0 Error: filter failure"
    assert held.server.messages == []
    assert held.sink.alarms[-1].endswith("error: out of memory after=DATA")
    assert held.client.is_closed
    assert filled[0]() is None


@pytest.mark.parametrize("failure", [MemoryError, ZeroDivisionError])
@pytest.mark.parametrize(
    "place", ["bqfilter.upstream.connection.Connection.final_reply", "bqfilter.handover._outcome_of"]
)
def test_what_goes_wrong_behind_the_dot_is_a_possible_duplicate_and_counted_as_one(
    monkeypatch: pytest.MonkeyPatch, place: str, failure: type[Exception]
) -> None:
    def stumble(*_arguments: object) -> None:
        raise failure

    monkeypatch.setattr(place, stumble)
    is_bug = failure is ZeroDivisionError
    held = hold(servers(), [OPENING, ENVELOPE, MESSAGE], stumbles=is_bug)

    assert held.replies[-1] == "451 4.3.0 Error: filter failure"
    assert held.server.messages == [MESSAGE]
    assert held.results == [Result.OUTCOME_UNKNOWN]
    assert any("warning: failed during a hand-over: possible duplicate" in line for line in held.sink.alarms)


@pytest.mark.parametrize(
    "place", ["bqfilter.upstream.connection.Connection.data", "bqfilter.mail.outgoing.Original.wire"]
)
def test_what_goes_wrong_before_the_dot_is_counted_as_deferred(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def stumble(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(place, stumble)
    held = hold(servers(), [OPENING, ENVELOPE, MESSAGE])

    assert held.server.messages == []
    assert held.results == [Result.TEMPFAILED]
    assert not any("duplicate" in line for line in held.sink.alarms)


def test_a_mistake_of_ours_before_the_message_is_answered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("bqfilter.upstream.Upstream.begin", stumble)
    held = hold(servers(), [OPENING, ENVELOPE], stumbles=True)

    assert "451 4.3.0 Error: filter failure" in held.replies


@given(contents, cuts)
def test_one_message_in_is_at_most_one_message_out(content: bytes, at: list[int]) -> None:
    # What is behind an end of data in the content are commands, and may bring further ends of data.
    ends = content.count(b".\r\n")
    patient = hold(servers(), [OPENING, ENVELOPE, *in_pieces(content, at)], "spool.memory = '50B'", buffer=37)
    hasty = hold(servers(), [OPENING, ENVELOPE, *in_pieces(content, at), CLOSE], "spool.memory = '50B'")

    assert len(patient.server.messages) <= ends
    assert patient.results.count(Result.ACCEPTED) == len(patient.server.messages)
    assert hasty.server.messages == [], "the client was gone, and was seen to be"


@given(contents, cuts)
def test_whatever_the_content_one_message_leaves_and_it_is_clean(content: bytes, at: list[int]) -> None:
    # The content ends where the book says, and behind it the client waits for its reply.
    end = (b"\r\n" + content + b"\r\n.\r\n").find(b"\r\n.\r\n") + 3
    whole = (content + b"\r\n.\r\n")[:end]
    held = hold(
        servers(), [OPENING, ENVELOPE, *in_pieces(whole, at), b"QUIT\r\n"], "spool.memory = '50B'", buffer=37
    )

    assert len(held.server.messages) == 1
    assert held.results == [Result.ACCEPTED]
    leaving = b"\r\n" + held.server.messages[0]
    assert not STRAY.search(leaving)
    assert leaving.count(b"\r\n.\r\n") == 1
    assert leaving.endswith(b"\r\n.\r\n")
    if not STRAY.search(whole):
        assert held.server.messages[0] == whole, "a clean message leaves byte-identical"
    assert held.server.commands.count(b"MAIL FROM:<a@x>") == 1
    assert not [line for line in held.server.commands if line.startswith(b"MAIL") and b"a@x" not in line]


@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([OPENING, ENVELOPE, MESSAGE])), max_size=6))
def test_whatever_a_client_sends_is_answered_in_whole_replies(chunks: list[bytes]) -> None:
    held = hold(servers(), [chunk for chunk in chunks if chunk])

    assert held.client.written.endswith(b"\r\n")
    for line in held.client.written.split(b"\r\n")[:-1]:
        assert re.fullmatch(rb"[2345][0-9]{2}[ -][ -~]*", line)
        assert not line.startswith((b"421", b"521"))
    assert held.client.is_closed


garbage = st.sampled_from(
    [
        b"250 ok\r\n",
        b"250-ok\r\n",
        b"250 a\r\n250 b\r\n",
        b"354 go\r\n",
        b"354 go\r\n250 early\r\n",
        b"550 no\r\n",
        b"421 bye\r\n",
        b"220 hello\r\n",
        b"25",
        b"\r\n",
        b"nonsense\r\n",
        b"\xff\x00\n",
        b"150 x\r\n",
        HANGUP,
        SILENCE,
    ]
)


class Babbler(FakeUpstream):
    """Answers with what it was given, whatever the question; `after_dot` is what it said behind a dot."""

    def __init__(self, answers: list[bytes]) -> None:
        super().__init__(FakeClock(), [b"PIPELINING"])
        self._answers = answers
        self.after_dot = b""

    def reply_to(self, _verb: bytes) -> bytes:
        answer = self._answers.pop(0) if self._answers else HANGUP
        if self.messages:
            self.after_dot += answer
        return answer


@given(st.lists(st.one_of(garbage, garbage, st.binary(max_size=20)), max_size=14), st.booleans())
def test_whatever_a_server_says_only_a_2xx_behind_the_dot_is_an_acceptance(
    answers: list[bytes], is_kept: bool
) -> None:
    # The first answers let most conversations get past EHLO.
    server = Babbler([b"220 after.example\r\n", b"250 PIPELINING\r\n", *answers])
    keep = (
        "upstream.max_messages_per_connection = 2" if is_kept else "upstream.max_messages_per_connection = 1"
    )
    held = hold(server, [OPENING, ENVELOPE, MESSAGE, b"QUIT\r\n"], keep)

    if Result.ACCEPTED in held.results:
        assert re.search(rb"(?:\A|\n)2", server.after_dot)
    if any("queued" in line or line.startswith("250 early") for line in held.replies):
        assert server.messages


def test_session_identifiers_differ_by_time_and_by_slot() -> None:
    assert new_session_id(1) != new_session_id(2)
    assert re.fullmatch(r"[0-9A-F]+", new_session_id(4095))


def test_after_an_internal_error_the_upstream_leg_is_given_up_whatever_state_it_is_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stumble(*_: object) -> None:
        raise RuntimeError("our own fault")

    monkeypatch.setattr("bqfilter.upstream.connection.Connection.content", stumble)
    server = servers()

    held = hold(
        server,
        [OPENING, ENVELOPE, MESSAGE],
        "upstream.max_messages_per_connection = 10",
        stumbles=True,
    )

    assert held.replies[-1] == "451 4.3.0 Error: filter failure"
    assert all(connection.is_closed for connection in server.connections)
    assert server.messages == []
