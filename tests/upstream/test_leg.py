"""The leg to the after-filter servers: which one, over which connection, and what may be said again."""

from dataclasses import dataclass

import pytest

from bqfilter.breaker import State
from bqfilter.errors import NoSocket, OutcomeUnknown, PeerUnreachable, UpstreamFailure
from bqfilter.ledger import Ledger
from bqfilter.log import Log
from bqfilter.mail.envelope import Client
from bqfilter.mail.outgoing import Original
from bqfilter.mail.spool import Spool
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.net.stream import Stream
from bqfilter.scoreboard import Slot, Word
from bqfilter.smtp.client import NO_CAPABILITIES
from bqfilter.smtp.replies import Reply
from bqfilter.upstream import Upstream
from tests.doubles.clock import FakeClock
from tests.doubles.recorder import RecordingSink
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.upstream import HANGUP, SILENCE, XFORWARD, FakeUpstream

MAIL, RCPT, RCPT2 = b"MAIL FROM:<a>", b"RCPT TO:<b>", b"RCPT TO:<c>"
FIRST, SECOND = (SocketAddress(2, ("127.0.0.1", port)) for port in (10026, 10027))
WIRE = b"text\r\n.\r\n"


@dataclass
class Bench:
    """An Upstream over fake servers, with what its caller would bring along."""

    server: FakeUpstream
    upstream: Upstream
    ledger: Ledger
    clock: FakeClock
    sink: RecordingSink
    slot: Slot

    @property
    def limit(self) -> Deadline:
        return Deadline.after(self.clock, 95)

    def begin(self) -> Reply:
        return self.upstream.begin(Client(), MAIL, self.limit, self.ledger)

    def recipient(self, line: bytes = RCPT) -> Reply:
        return self.upstream.recipient(line, self.limit, self.ledger)

    def hand_over(self, *, more: bool = False) -> Reply:
        spool = Spool("/tmp", 10**6, 0)
        spool.append(WIRE)
        spool.is_clean = True
        message = Original(spool)
        return self.upstream.hand_over(message, lambda: None, self.limit, self.limit, self.ledger, more=more)

    def pass_one(self) -> Reply:
        """A whole message."""
        self.begin()
        self.recipient()
        reply = self.hand_over()
        self.upstream.finish()
        return reply


def bench(clock: FakeClock, server: FakeUpstream, *lines: str, addresses: int = 1) -> Bench:
    sink, slot = RecordingSink(), Slot.unseen()
    upstream = Upstream(
        settings(*lines), (FIRST, SECOND)[:addresses], HOSTNAME, clock, server.connect, Log(sink, False), slot
    )
    return Bench(server, upstream, Ledger(clock, lambda *_: None), clock, sink, slot)


KEEP = "upstream.max_messages_per_connection = 3"
FORWARDING = (b"PIPELINING", XFORWARD)


@pytest.fixture
def kept(clock: FakeClock) -> Bench:
    """A leg that keeps its connection and has carried one message over it."""
    one = bench(clock, FakeUpstream(clock, FORWARDING), KEEP)
    assert one.pass_one().code == 250
    assert len(one.server.connections) == 1
    return one


def test_a_message_passes(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock))

    assert one.pass_one() == Reply(250, (b"2.0.0 Ok: queued as 4Q1",))
    assert one.server.messages == [WIRE]
    assert one.server.connections[0].is_closed
    assert one.upstream.peer == ""


def test_a_kept_connection_carries_as_many_messages_as_it_may(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock), KEEP)
    for _ in range(4):
        one.pass_one()

    assert len(one.server.messages) == 4
    assert len(one.server.connections) == 2
    assert [stream.is_closed for stream in one.server.connections] == [True, False]


def test_connecting_ahead_does_not_wait(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock))
    before = clock()
    one.upstream.prepare()
    one.upstream.prepare()

    assert clock() == before
    assert len(one.server.connections) == 1
    assert one.server.commands == [b"EHLO filter.example"]
    assert one.begin().code == 250
    assert len(one.server.connections) == 1


def test_nothing_is_prepared_inside_a_transaction(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock))
    one.begin()
    one.server.connections[0].has_left = True
    one.upstream.prepare()

    assert len(one.server.connections) == 1


def test_a_prepared_connection_is_given_up_when_no_message_came(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock))
    one.upstream.prepare()
    one.upstream.end_session()

    assert one.server.connections[0].is_closed


def test_capabilities_are_asked_for_once(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, [b"SIZE 10"]))
    for _ in range(3):
        assert one.upstream.capabilities(one.limit, one.ledger).keywords == {b"SIZE": b"10"}

    assert len(one.server.connections) == 1


def test_without_a_server_there_is_nothing_to_announce_yet(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, connect=[HANGUP]))

    assert one.upstream.capabilities(one.limit, one.ledger) is NO_CAPABILITIES
    assert one.upstream.capabilities(one.limit, one.ledger).pipelining


def refusing(clock: FakeClock, server: FakeUpstream, refused: SocketAddress) -> Bench:
    """Two servers, one of which refuses connections."""
    one = bench(clock, server, addresses=2)
    connect = server.connect

    def connect_or_not(address: SocketAddress, now: Clock) -> Stream:
        if address == refused:
            raise PeerUnreachable("Connection refused")
        return connect(address, now)

    one.upstream._connect = connect_or_not
    return one


def test_a_worker_without_descriptors_says_nothing_of_the_servers(clock: FakeClock) -> None:
    """What it says the whole pool believes, and load balancers."""
    one = bench(clock, FakeUpstream(clock, FORWARDING), addresses=2)
    connect = one.upstream._connect

    def out_of_descriptors(*_arguments: object) -> Stream:
        raise NoSocket("Too many open files")

    one.upstream._connect = out_of_descriptors
    with pytest.raises(UpstreamFailure, match="Too many open files"):
        one.begin()
    one.upstream.finish()
    one.upstream._connect = connect

    assert one.begin().code == 250
    assert one.upstream.peer == str(FIRST)
    assert {breaker.state for breaker in one.upstream._servers._breakers} == {State.CLOSED}


NOT_REACHED = "warning: after-filter server not reached, trying the next"


def test_the_next_server_is_tried_when_one_refuses(clock: FakeClock) -> None:
    one = refusing(clock, FakeUpstream(clock, FORWARDING), FIRST)

    assert one.begin().code == 250
    assert one.upstream.peer == str(SECOND)
    assert one.sink.alarms == [f'{NOT_REACHED} upstream={FIRST} cause="Connection refused"']


def test_one_that_refused_is_left_alone_until_its_time_has_come(clock: FakeClock) -> None:
    one = refusing(clock, FakeUpstream(clock, FORWARDING), FIRST)
    for _ in range(10):
        one.pass_one()
        clock.advance(0.09)
    assert len(one.sink.alarms) == 1

    clock.advance(0.1)
    one.pass_one()
    assert len(one.sink.alarms) == 2
    assert [stream.peer for stream in one.server.connections] == [str(SECOND)] * 11


def test_one_that_refuses_while_the_client_is_still_talking_costs_the_message_nothing(
    clock: FakeClock,
) -> None:
    one = refusing(clock, FakeUpstream(clock, FORWARDING), FIRST)
    one.upstream.prepare()
    assert one.server.connections == []

    assert one.begin().code == 250
    assert one.upstream.peer == str(SECOND)
    assert len(one.sink.alarms) == 1


def test_one_whose_time_has_come_gets_a_few_seconds_where_there_are_others(clock: FakeClock) -> None:
    one = refusing(clock, FakeUpstream(clock, FORWARDING), FIRST)
    one.pass_one()
    clock.advance(1)
    one.upstream._connect = one.server.connect
    one.server.tell(b"CONNECT", SILENCE)
    before = clock()

    assert one.begin().code == 250
    assert clock() - before == 5
    assert one.upstream.peer == str(SECOND)


def test_when_none_is_well_all_are_tried_all_the_same(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, FORWARDING, connect=[b"421 no\r\n"] * 2), addresses=2)
    with pytest.raises(UpstreamFailure):
        one.begin()

    assert one.begin().code == 250
    assert [stream.peer for stream in one.server.connections] == [str(FIRST), str(SECOND), str(FIRST)]


@pytest.mark.parametrize("farewell", [b"421 too many\r\n", HANGUP], ids=["421", "hung up"])
def test_a_message_that_a_server_has_no_time_for_goes_to_the_next(clock: FakeClock, farewell: bytes) -> None:
    one = bench(clock, FakeUpstream(clock, FORWARDING, mail=[farewell]), addresses=2)
    one.upstream.prepare()
    one.upstream.capabilities(one.limit, one.ledger)

    clock.advance(0.1)
    assert one.pass_one().code == 250
    assert [stream.peer for stream in one.server.connections] == [str(FIRST), str(SECOND)]
    assert len(one.server.messages) == 1


def test_both_have_no_time_for_it_and_the_client_hears_that(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, FORWARDING, mail=[b"421 busy\r\n"] * 3), addresses=2)
    one.upstream.capabilities(one.limit, one.ledger)
    clock.advance(0.1)

    assert one.begin() == Reply(421, (b"busy",))
    assert [stream.peer for stream in one.server.connections] == [str(FIRST), str(SECOND)]


def test_messages_are_spread_over_all_that_are_well(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, FORWARDING), "upstream.balance = 'spread'", addresses=2)
    for _ in range(10):
        one.pass_one()

    peers = [stream.peer for stream in one.server.connections]
    assert peers.count(str(FIRST)) == peers.count(str(SECOND)) == 5


def test_a_kept_connection_is_used_up_before_another_server_is_chosen(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, FORWARDING), KEEP, "upstream.balance = 'spread'", addresses=2)
    for _ in range(6):
        one.pass_one()

    assert {stream.peer for stream in one.server.connections} == {str(FIRST), str(SECOND)}
    assert len(one.server.connections) == 2


def test_what_is_announced_is_what_all_servers_can_do_that_have_answered(clock: FakeClock) -> None:
    server = FakeUpstream(clock, [b"SIZE 100", b"8BITMIME", b"SMTPUTF8", XFORWARD])
    one = bench(clock, server, "upstream.balance = 'spread'", addresses=2)
    assert b"SMTPUTF8" in one.upstream.capabilities(one.limit, one.ledger).keywords
    one.pass_one()
    server.keywords = (b"after.example", b"SIZE 50", b"8BITMIME", XFORWARD)
    one.pass_one()

    assert one.upstream.capabilities(one.limit, one.ledger).keywords.keys() == {
        b"SIZE", b"8BITMIME", b"XFORWARD",
    }  # fmt: skip
    assert one.upstream.capabilities(one.limit, one.ledger).keywords[b"SIZE"] == b"50"


def test_a_server_that_can_do_less_than_was_announced_says_so_itself(clock: FakeClock) -> None:
    """Its refusal reaches the client; the lines of the client are never changed for it."""
    server = FakeUpstream(clock, [b"SMTPUTF8", XFORWARD])
    one = bench(clock, server)
    assert b"SMTPUTF8" in one.upstream.capabilities(one.limit, one.ledger).keywords
    one.upstream.close()
    server.keywords = (b"after.example", XFORWARD)
    server.tell(b"MAIL", b"555 5.5.4 Unsupported option: SMTPUTF8\r\n")

    assert one.begin().code == 555
    assert one.server.commands[-1] == MAIL


def test_with_no_server_left_the_failure_names_all(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, connect=[b"554 no\r\n", HANGUP]), addresses=2)

    with pytest.raises(UpstreamFailure) as failure:
        one.begin()
    assert str(FIRST) in failure.value.cause
    assert str(SECOND) in failure.value.cause
    assert "; " in failure.value.cause
    assert all(stream.is_closed for stream in one.server.connections)


def test_one_that_is_silent_leaves_the_others_their_share_of_the_time(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, connect=[SILENCE]), "timeouts.greeting = '3600s'", addresses=2)
    before = clock()

    assert one.begin().code == 250
    assert clock() - before == 95 / 2


def test_when_the_time_is_over_no_further_server_is_tried(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, connect=[SILENCE, SILENCE]), addresses=2)
    limit = Deadline.after(clock, 0)

    with pytest.raises(UpstreamFailure):
        one.upstream.begin(Client(), MAIL, limit, one.ledger)
    assert len(one.server.connections) == 1


def test_a_refusal_is_a_reply_and_no_failure(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, mail=[b"550 no\r\n"], rcpt=[b"550 nobody\r\n"]))

    assert one.begin() == Reply(550, (b"no",))
    one.upstream.finish()
    assert one.begin().code == 250
    assert one.recipient() == Reply(550, (b"nobody",))


@pytest.mark.parametrize("farewell", [b"421 too many\r\n", HANGUP], ids=["421", "hung up"])
def test_a_kept_connection_that_ended_is_replaced(kept: Bench, farewell: bytes) -> None:
    kept.server.tell(b"MAIL", farewell)

    assert kept.pass_one().code == 250
    assert len(kept.server.connections) == 2
    assert len(kept.server.messages) == 2
    assert kept.sink.alarms == []


def test_a_fresh_connection_is_not_tried_twice(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, mail=[HANGUP]))

    with pytest.raises(UpstreamFailure, match=r"127\.0\.0\.1:10026"):
        one.begin()
    assert len(one.server.connections) == 1


def test_a_kept_connection_that_is_silent_is_not_tried_again(kept: Bench) -> None:
    kept.server.tell(b"MAIL", SILENCE)
    before = kept.clock()

    with pytest.raises(UpstreamFailure, match="nothing received"):
        kept.begin()
    assert len(kept.server.connections) == 1
    assert kept.clock() - before == 60


def test_a_transaction_is_said_again_where_the_server_was_lost(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, FORWARDING))
    one.begin()
    one.recipient(RCPT)
    one.server.tell(b"RCPT", b"450 busy\r\n")
    one.recipient(RCPT2)
    one.server.tell(b"DATA", HANGUP)
    said = len(one.server.commands)

    assert one.hand_over().code == 250
    again = [line for line in one.server.commands[said:] if not line.startswith(b"XFORWARD")]
    assert again == [b"DATA", b"EHLO filter.example", MAIL, RCPT, b"DATA", b"QUIT"]
    assert one.server.messages == [WIRE]


def test_a_further_transaction_of_one_message_uses_the_same_connection(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, FORWARDING))
    one.begin()
    one.recipient()
    assert one.hand_over(more=True).code == 250
    assert one.server.commands[-1] == b"DATA"

    one.begin()
    one.recipient(RCPT2)
    assert one.hand_over().code == 250

    assert len(one.server.connections) == 1
    assert one.server.messages == [WIRE, WIRE]
    assert one.server.commands.count(b"QUIT") == 1


def test_a_transaction_is_said_again_only_once(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, rcpt=[HANGUP, HANGUP]))
    one.begin()

    with pytest.raises(UpstreamFailure):
        one.recipient()
    assert len(one.server.connections) == 2


def test_what_was_accepted_and_is_refused_again_fails_the_message(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, FORWARDING))
    one.begin()
    one.recipient()
    one.server.tell(b"RCPT", b"550 nobody\r\n")
    one.server.tell(b"DATA", HANGUP)

    with pytest.raises(UpstreamFailure, match="accepted before was answered 550"):
        one.hand_over()
    assert one.server.messages == []


def test_after_the_dot_there_is_no_second_try(kept: Bench) -> None:
    kept.begin()
    kept.recipient()
    kept.server.tell(b".", HANGUP)

    with pytest.raises(OutcomeUnknown):
        kept.hand_over()
    assert len(kept.server.connections) == 1
    assert len(kept.server.messages) == 2


def test_a_refused_data_is_passed_on_and_the_connection_kept_behind_a_reset(kept: Bench) -> None:
    kept.begin()
    kept.recipient()
    kept.server.tell(b"DATA", b"451 later\r\n")

    assert kept.hand_over() == Reply(451, (b"later",))
    kept.upstream.finish()
    assert kept.server.commands[-1] == b"RSET"
    said = len(kept.server.commands)
    assert kept.pass_one().code == 250
    assert b"RSET" not in kept.server.commands[said:]


def test_a_message_that_is_not_handed_over_leaves_nothing_open_on_a_kept_connection(kept: Bench) -> None:
    kept.begin()
    kept.recipient()
    kept.upstream.finish()

    assert kept.server.commands[-1] == b"RSET"
    assert kept.pass_one().code == 250
    assert kept.server.commands.count(b"RSET") == 1


@pytest.mark.parametrize("reply", [b"502 what?\r\n", b"421 bye\r\n"])
def test_a_connection_on_which_a_reset_fails_is_given_up(kept: Bench, reply: bytes) -> None:
    kept.begin()
    kept.recipient()
    kept.server.tell(b"RSET", reply)
    kept.upstream.finish()

    assert kept.upstream.peer == ""
    assert kept.pass_one().code == 250


def test_data_answered_with_250_is_a_failure(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock, data=[b"250 fine\r\n"]))
    one.begin()
    one.recipient()

    with pytest.raises(UpstreamFailure, match="answered DATA with 250"):
        one.hand_over()
    assert one.server.messages == []


@pytest.mark.parametrize(
    ("phase", "reply"),
    [
        (b"MAIL", SILENCE), (b"RCPT", b"nonsense\r\n"), (b"DATA", SILENCE), (b"DATA", b"250 odd\r\n"),
        (b".", HANGUP), (b".", SILENCE), (b".", b"354 odd\r\n"),
    ],
)  # fmt: skip
def test_a_server_that_is_lost_in_a_message_is_counted_once(
    clock: FakeClock, phase: bytes, reply: bytes
) -> None:
    one = bench(clock, FakeUpstream(clock))
    one.server.tell(phase, reply, reply)
    with pytest.raises((UpstreamFailure, OutcomeUnknown)):
        one.pass_one()

    assert (one.slot[Word.UPSTREAM_LOST], one.slot[Word.UNREACHED]) == (1, 0)


def test_a_server_that_is_disowned_is_counted_and_left(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock))
    one.begin()
    one.upstream.disown()

    assert one.slot[Word.UPSTREAM_LOST] == 1
    assert one.server.connections[0].is_closed


def test_a_connection_left_in_the_middle_of_content_is_never_used_again(kept: Bench) -> None:
    kept.begin()
    kept.recipient()
    kept.server.connections[0].is_stuck = False
    stream = kept.server.connections[0]
    kept.server.tell(b"DATA", b"354 go\r\n452 full\r\n")
    original = stream.write

    def stuck_in_content(data: bytes, deadline: Deadline) -> None:
        stream.is_stuck = data.endswith(b".\r\n")
        original(data, deadline)

    stream.write = stuck_in_content  # type: ignore[method-assign]
    assert kept.hand_over().code == 452
    kept.upstream.finish()

    assert stream.is_closed
    assert kept.pass_one().code == 250
    assert len(kept.server.connections) == 2


def test_an_abandoned_transaction_is_hung_up_on(kept: Bench) -> None:
    kept.begin()
    kept.upstream.abandon()

    assert kept.server.connections[0].is_closed
    assert kept.server.commands[-1] != b"QUIT"


def test_an_idle_connection_is_given_back_when_it_is_stale(kept: Bench) -> None:
    closed = []
    for _ in range(2):
        kept.upstream.close_if_idle()
        closed.append(kept.server.connections[0].is_closed)
        kept.clock.advance(61)

    assert closed == [False, True]
    assert kept.server.commands[-1] == b"QUIT"


def test_a_stale_connection_is_replaced_ahead_of_the_next_message(kept: Bench) -> None:
    kept.server.connections[0].inbox += b"421 timeout\r\n"
    kept.upstream.prepare()

    assert [stream.is_closed for stream in kept.server.connections] == [True, False]


def test_the_lack_of_xforward_is_logged_when_it_begins(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock))
    for _ in range(3):
        one.pass_one()
    assert len(one.sink.alarms) == 1
    assert "smtpd_authorized_xforward_hosts" in one.sink.alarms[0]


def test_a_step_without_a_transaction_is_a_failure(clock: FakeClock) -> None:
    one = bench(clock, FakeUpstream(clock))

    with pytest.raises(UpstreamFailure, match="no transaction is open"):
        one.recipient()


def test_refused_transactions_count_towards_what_a_connection_may_carry(clock: FakeClock) -> None:
    server = FakeUpstream(clock, FORWARDING)
    server.tell(b"RCPT", *[b"550 5.1.1 no\r\n"] * 7)
    one = bench(clock, server, KEEP)
    for _ in range(7):
        one.begin()
        assert one.recipient().code == 550
        one.upstream.finish()

    assert len(server.connections) == 3
    assert [sum(line == MAIL for line in each) for each in _commands_of_each(server)] == [3, 3, 1]


def _commands_of_each(server: FakeUpstream) -> list[list[bytes]]:
    """The commands by connection: each begins with EHLO."""
    found: list[list[bytes]] = []
    for command in server.commands:
        if command.startswith(b"EHLO"):
            found.append([])
        found[-1].append(command)
    return found
