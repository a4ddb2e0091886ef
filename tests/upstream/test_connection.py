"""One connection to an after-filter server: the order of things, and what is certain when it fails."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bqfilter.errors import ClientGone, ConversationLost, OutcomeUnknown, PeerTimeout, ProtocolViolation
from bqfilter.mail.envelope import Client
from bqfilter.mail.outgoing import Original
from bqfilter.mail.spool import Spool
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.smtp.replies import Reply
from bqfilter.upstream.connection import Connection
from tests.doubles.clock import FakeClock
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.streams import Event, ScriptedStream
from tests.doubles.upstream import HANGUP, SILENCE, XFORWARD, FakeUpstream

ADDRESS = SocketAddress(2, ("127.0.0.1", 10026))
MAIL = b"MAIL FROM:<a>"
RCPT = b"RCPT TO:<b>"


def go() -> None:
    """Nothing speaks against the dot."""


def limit(clock: FakeClock, seconds: float = 95.0) -> Deadline:
    return Deadline.after(clock, seconds)


def connect(server: FakeUpstream, *lines: str) -> Connection:
    stream = server.connect(ADDRESS, server.clock)
    return Connection(stream, settings(*lines).timeouts, HOSTNAME, server.clock)


def ready(server: FakeUpstream, *lines: str) -> Connection:
    connection = connect(server, *lines)
    connection.open(limit(server.clock))
    return connection


def in_content(server: FakeUpstream) -> Connection:
    """Everything said up to the 354."""
    connection = ready(server)
    connection.begin(Client(), MAIL, limit(server.clock))
    connection.recipient(RCPT, limit(server.clock))
    assert connection.data(limit(server.clock)).code == 354
    return connection


@contextlib.contextmanager
def spooled(wire: bytes, memory: int = 10**6, *, is_clean: bool = True) -> Iterator[Spool]:
    spool = Spool("/tmp", memory, 0)
    spool.append(wire)
    spool.is_clean = is_clean
    with contextlib.closing(spool):
        yield spool


def test_nothing_is_sent_before_the_greeting(clock: FakeClock) -> None:
    server = FakeUpstream(clock, connect=[SILENCE])
    connection = connect(server)
    connection.progress()

    assert server.connections[0].written == b""
    with pytest.raises(PeerTimeout):
        connection.open(limit(clock))
    assert server.connections[0].written == b""


def test_a_greeting_that_is_there_is_answered_without_waiting(clock: FakeClock) -> None:
    server = FakeUpstream(clock)
    connection = connect(server)
    connection.progress()

    assert server.commands == [b"EHLO filter.example"]
    connection.open(limit(clock))
    assert connection.is_ready
    assert server.commands == [b"EHLO filter.example"]


def test_half_a_greeting_is_waited_for_in_time(clock: FakeClock) -> None:
    server = FakeUpstream(clock, connect=[b"220 after."])
    connection = connect(server)
    before = clock()
    connection.progress()
    assert clock() - before < 0.1

    server.connections[0].inbox += b"example\r\n"
    connection.open(limit(clock))
    assert connection.is_ready


def test_a_server_that_knows_no_ehlo_gets_helo(clock: FakeClock) -> None:
    server = FakeUpstream(clock, ehlo=[b"500 what\r\n"])
    connection = ready(server)

    assert server.commands == [b"EHLO filter.example", b"HELO filter.example"]
    assert connection.capabilities.keywords == {}


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"connect": [b"554 no\r\n"]}, id="greeting refused"),
        pytest.param({"connect": [HANGUP]}, id="no greeting"),
        pytest.param({"ehlo": [b"421 busy\r\n"]}, id="EHLO answered 421"),
        pytest.param({"ehlo": [b"354 go\r\n"]}, id="EHLO answered 354"),
        pytest.param({"ehlo": [b"500 no\r\n"], "helo": [b"500 no\r\n"]}, id="HELO refused too"),
        pytest.param({"ehlo": [b"nonsense\r\n"]}, id="garbled"),
        pytest.param({"ehlo": [HANGUP]}, id="hung up"),
        pytest.param({"ehlo": [SILENCE]}, id="silent"),
    ],
)
def test_a_server_that_cannot_be_used_is_a_lost_conversation(
    clock: FakeClock, told: dict[str, list[bytes]]
) -> None:
    with pytest.raises(ConversationLost):
        ready(FakeUpstream(clock, **told))


def test_each_step_has_its_own_limit_inside_the_callers(clock: FakeClock) -> None:
    connection = ready(FakeUpstream(clock, mail=[SILENCE, SILENCE]), "timeouts.mail = '7s'")
    before = clock()
    with pytest.raises(PeerTimeout):
        connection.begin(Client(), MAIL, limit(clock))
    assert clock() - before == 7

    connection = ready(FakeUpstream(clock, rcpt=[SILENCE]), "timeouts.rcpt = '7s'")
    before = clock()
    with pytest.raises(PeerTimeout):
        connection.recipient(RCPT, limit(clock, 3))
    assert clock() - before == 3


def test_a_server_cannot_buy_time_with_single_bytes(clock: FakeClock) -> None:
    trickle: list[Event] = [b"2", 1]
    stream = ScriptedStream(clock, trickle * 400)
    connection = Connection(stream, settings("timeouts.greeting = '30s'").timeouts, HOSTNAME, clock)  # type: ignore[arg-type]
    before = clock()

    with pytest.raises(PeerTimeout):
        connection.open(limit(clock))
    assert clock() - before == 30


def test_commands_go_in_one_group_where_the_server_takes_them(clock: FakeClock) -> None:
    server = FakeUpstream(clock, keywords=[b"PIPELINING", XFORWARD])
    connection = ready(server)
    start = len(server.connections[0].written)

    assert connection.begin(Client(), MAIL, limit(clock)).code == 250
    group = bytes(server.connections[0].written[start:])
    assert group.startswith(b"XFORWARD ")
    assert group.endswith(b"\r\n" + MAIL + b"\r\n")


def test_a_refused_rset_ends_the_connection(clock: FakeClock) -> None:
    connection = ready(FakeUpstream(clock, rset=[b"500 no\r\n"]))
    connection.begin(Client(), MAIL, limit(clock))

    with pytest.raises(ProtocolViolation, match="RSET refused"):
        connection.begin(Client(), MAIL, limit(clock))


@pytest.mark.parametrize("memory", [0, 10**6], ids=["file", "memory"])
@pytest.mark.parametrize("last", [True, False], ids=["last", "more to come"])
def test_clean_content_leaves_as_it_is(clock: FakeClock, memory: int, last: bool) -> None:
    server = FakeUpstream(clock)
    connection = in_content(server)
    wire = b"Subject: \xff\x00\r\n.unstuffed\r\n..\r\n.\r\n"
    with spooled(wire, memory) as spool:
        connection.content(Original(spool), go, limit(clock), last=last)

    assert server.messages == [wire]
    assert connection.final_reply(limit(clock)).text == b"2.0.0 Ok: queued as 4Q1"
    assert (b"QUIT" in server.commands) is last


@pytest.mark.parametrize("memory", [0, 10**6], ids=["file", "memory"])
def test_content_with_strays_leaves_clean(clock: FakeClock, memory: int) -> None:
    server = FakeUpstream(clock)
    connection = in_content(server)
    with spooled(b"a\n.\nb\r\n.\r\n", memory, is_clean=False) as spool:
        connection.content(Original(spool), go, limit(clock), last=True)

    assert server.messages == [b"a\r\n..\r\nb\r\n.\r\n"]


@pytest.mark.parametrize("memory", [0, 10**6], ids=["file", "memory"])
@pytest.mark.parametrize("is_clean", [True, False], ids=["clean", "strays"])
def test_without_leave_the_dot_stays_here(clock: FakeClock, memory: int, is_clean: bool) -> None:
    server = FakeUpstream(clock)
    connection = in_content(server)

    def stop() -> None:
        raise ClientGone

    with spooled(b"a\r\n.\r\n", memory, is_clean=is_clean) as spool, pytest.raises(ClientGone):
        connection.content(Original(spool), stop, limit(clock), last=True)
    connection.close()
    assert server.messages == []
    assert b"QUIT" not in server.connections[0].written, "a QUIT would be content here"


def write_that_loses(taken: int) -> Callable[[bytes, Deadline], None]:
    def write(_data: bytes, _deadline: Deadline) -> None:
        raise ConversationLost("gone", written=taken)

    return write


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        pytest.param(0, ConversationLost, id="nothing was taken"),
        pytest.param(5, ConversationLost, id="all but the last byte of the dot's line"),
        pytest.param(6, OutcomeUnknown, id="the dot, without the QUIT"),
        pytest.param(9, OutcomeUnknown, id="a part of the QUIT"),
    ],
)
def test_whether_the_dot_was_among_what_was_taken_decides(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, taken: int, expected: type[Exception]
) -> None:
    server = FakeUpstream(clock)
    connection = in_content(server)
    monkeypatch.setattr(server.connections[0], "write", write_that_loses(taken))

    with spooled(b"a\r\n.\r\n") as spool, pytest.raises(Exception, match="gone") as failure:
        connection.content(Original(spool), go, limit(clock), last=True)
    assert failure.type is expected


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(HANGUP, id="hung up"),
        pytest.param(SILENCE, id="silent"),
        pytest.param(b"354 odd\r\n", id="354"),
        pytest.param(b"nonsense\r\n", id="garbled"),
        pytest.param(b"250-ok\r\n550 no\r\n", id="of two minds"),
    ],
)
def test_without_a_clear_reply_to_the_dot_the_outcome_is_unknown(clock: FakeClock, reply: bytes) -> None:
    server = FakeUpstream(clock)
    server.tell(b".", reply)
    connection = in_content(server)
    with spooled(b"a\r\n.\r\n") as spool:
        connection.content(Original(spool), go, limit(clock), last=False)

    with pytest.raises(OutcomeUnknown):
        connection.final_reply(limit(clock))


def test_a_reply_that_came_while_nobody_could_look_is_heard_after_the_last_moment(clock: FakeClock) -> None:
    connection = in_content(FakeUpstream(clock))
    last_moment = limit(clock)
    with spooled(b"x\r\n.\r\n") as spool:
        connection.content(Original(spool), go, limit(clock), last=True)
    clock.advance(200)

    assert connection.final_reply(last_moment) == Reply(250, (b"2.0.0 Ok: queued as 4Q1",))


@pytest.mark.parametrize("part", [b"", b"250-2.0.0 Ok\r\n", b"250 2.0.0 O", b"nonsense\r\n"])
def test_what_is_no_whole_reply_by_then_is_none(clock: FakeClock, part: bytes) -> None:
    server = FakeUpstream(clock, **{".": [part or SILENCE]})
    connection = in_content(server)
    last_moment = limit(clock)
    with spooled(b"x\r\n.\r\n") as spool:
        connection.content(Original(spool), go, limit(clock), last=False)
    clock.advance(200)

    with pytest.raises(OutcomeUnknown):
        connection.final_reply(last_moment)


def test_the_reply_to_quit_is_no_reply_to_the_dot(clock: FakeClock) -> None:
    server = FakeUpstream(clock)
    server.tell(b".", SILENCE)
    connection = in_content(server)
    with spooled(b"a\r\n.\r\n") as spool:
        connection.content(Original(spool), go, limit(clock), last=True)

    with pytest.raises(OutcomeUnknown):
        connection.final_reply(limit(clock))


def test_what_was_said_before_the_dot_is_no_reply_to_it(clock: FakeClock) -> None:
    server = FakeUpstream(clock, data=[b"354 go\r\n250 2.0.0 Ok: queued as FALSE\r\n"])
    server.tell(b".", SILENCE)
    connection = in_content(server)

    with spooled(b"a\r\n.\r\n") as spool, pytest.raises(ProtocolViolation, match="before the final dot"):
        connection.content(Original(spool), go, limit(clock), last=True)
    assert server.messages == []


def test_a_refusal_in_the_middle_of_the_content_is_heard(clock: FakeClock) -> None:
    server = FakeUpstream(clock)
    connection = in_content(server)
    server.connections[0].inbox += b"552 too big\r\n"

    assert connection.early_reply() == Reply(552, (b"too big",))


@pytest.mark.parametrize("early", [b"", b"250 fine\r\n", b"nonsense\r\n"], ids=["nothing", "250", "garbled"])
def test_anything_else_in_the_middle_of_the_content_is_no_answer(clock: FakeClock, early: bytes) -> None:
    server = FakeUpstream(clock)
    connection = in_content(server)
    server.connections[0].inbox += early

    assert connection.early_reply() is None


def test_parting_is_polite_once(clock: FakeClock) -> None:
    server = FakeUpstream(clock)
    connection = ready(server)
    connection.close()

    assert server.commands[-1] == b"QUIT"
    assert server.connections[0].is_closed


def test_parting_from_a_server_that_is_gone_is_silent(clock: FakeClock) -> None:
    server = FakeUpstream(clock)
    connection = ready(server)
    server.connections[0].has_left = server.connections[0].is_reset = True
    connection.close()

    assert server.connections[0].is_closed


def test_hanging_up_says_nothing(clock: FakeClock) -> None:
    server = FakeUpstream(clock)
    connection = in_content(server)
    connection.abort()

    assert server.commands[-1] == b"DATA"
    assert server.connections[0].is_closed


def test_a_connection_goes_stale_by_time_or_by_a_word_of_the_server(clock: FakeClock) -> None:
    server = FakeUpstream(clock)
    connection = ready(server)
    assert not connection.has_gone_stale(60.0)

    clock.advance(61)
    assert connection.has_gone_stale(60.0)
    assert not connection.has_gone_stale(600.0)

    server.connections[0].inbox += b"421 timeout\r\n"
    assert connection.has_gone_stale(600.0)


def test_a_word_behind_the_final_reply_makes_a_connection_stale_too(clock: FakeClock) -> None:
    server = FakeUpstream(clock)
    server.tell(b".", b"250 2.0.0 Ok\r\n421 4.3.2 bye\r\n")
    connection = in_content(server)
    with spooled(b"a\r\n.\r\n") as spool:
        connection.content(Original(spool), go, limit(clock), last=False)
    connection.final_reply(limit(clock))

    assert connection.has_gone_stale(60.0)


def test_a_large_message_goes_out_from_its_file(clock: FakeClock, tmp_path: Path) -> None:
    server = FakeUpstream(clock)
    connection = in_content(server)
    spool = Spool(str(tmp_path), 1000, 0)
    for _ in range(100):
        spool.append(b"x" * 998 + b"\r\n")
    spool.append(b".\r\n")
    spool.is_clean = True
    connection.content(Original(spool), go, limit(clock), last=True)
    spool.close()

    assert server.messages == [(b"x" * 998 + b"\r\n") * 100 + b".\r\n"]


def test_whether_to_go_is_asked_behind_the_content_and_before_the_dot(clock: FakeClock) -> None:
    """As soon as the content is more than the kernel takes at once: sending it may have taken its time."""
    server = FakeUpstream(clock)
    connection = in_content(server)
    seen: list[int] = []

    def stop() -> None:
        seen.append(len(server.connections[0].content_so_far))
        raise ClientGone

    content = b"x" * 998 + b"\r\n"
    with spooled(content * 20 + b".\r\n") as spool, pytest.raises(ClientGone):
        connection.content(Original(spool), stop, limit(clock), last=True)

    assert seen == [20 * len(content)]
    assert server.messages == []


def test_a_greeting_that_was_read_in_a_glance_is_not_waited_for_again(clock: FakeClock) -> None:
    """On a busy machine the moment can be over between the greeting and our EHLO."""
    server = FakeUpstream(clock)
    connection = connect(server)
    stream = server.connections[0]
    stream.is_stuck = True
    connection.progress()
    assert server.commands == []

    stream.is_stuck = False
    connection.open(limit(clock, 5))

    assert connection.is_ready
