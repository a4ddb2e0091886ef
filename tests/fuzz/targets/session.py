"""A whole session: a client that sends anything, an after-filter server that answers anything."""

import re

from bqfilter.ledger import Ledger
from bqfilter.log import Log
from bqfilter.net.address import SocketAddress
from bqfilter.outcome import Outcome, Result
from bqfilter.session import Session, Surroundings
from bqfilter.smtp.replies import MAX_LINE_BYTES, MAX_REPLY_BYTES
from bqfilter.upstream import Upstream
from tests.doubles.clock import FakeClock
from tests.doubles.means import means
from tests.doubles.recorder import RecordingSink
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.streams import ScriptedStream
from tests.doubles.upstream import HANGUP, SILENCE, XFORWARD, FakeUpstream
from tests.fuzz.cuts import choices, pieces

_SETTINGS = (
    settings("spool.memory = '50B'", "limits.message_size = '1KiB'"),
    settings("upstream.max_messages_per_connection = 3"),
)
_ADDRESS = SocketAddress(2, ("127.0.0.1", 10026))
_ANSWERS = (
    b"250 ok\r\n", b"250-a\r\n250 b\r\n", b"354 go\r\n", b"550 5.1.1 no\r\n", b"450 later\r\n",
    b"421 bye\r\n", b"521 no\r\n",
    b"220 hi\r\n", b"25", b"nonsense\r\n", b"250 a\r\n550 b\r\n", b"\r\n", HANGUP, SILENCE,
)  # fmt: skip
_REPLY = re.compile(rb"[2345]\d\d[ -][ -~]*")
_STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def session(data: bytes) -> None:
    """Every reply is whole and short and makes nobody hang up, and no input is a mistake of ours.

    As many messages were accepted as the server took; each ended where the client ended one, in their order,
    without a stray CR or LF, and with the client's own bytes if it had none.
    """
    client, server, results, sink = _held(data)
    assert not [line for line in sink.alarms if "internal error" in line], sink.alarms
    assert client.is_closed
    written = bytes(client.written)
    assert written.endswith(b"\r\n")
    for line in written.split(b"\r\n")[:-1]:
        assert _REPLY.fullmatch(line), line
        assert not line.startswith((b"421", b"521"))
        assert len(line) + 2 <= MAX_LINE_BYTES
    assert max(map(len, re.split(rb"(?<=\r\n)(?=\d{3} )", written))) <= MAX_REPLY_BYTES
    taken = [reply for _, reply in server.takers if reply.startswith(b"2")]
    assert results.count(Result.ACCEPTED) <= len(taken)
    assert len(server.messages) <= data.count(b".\r\n")
    at = 0
    for message in server.messages:
        assert not _STRAY.search(message)
        assert (b"\r\n" + message).find(b"\r\n.\r\n") == len(message) - 3
        if not _STRAY.search(data):
            at = data.find(message, at) + len(message)
            assert at >= len(message)


def _held(data: bytes) -> tuple[ScriptedStream, FakeUpstream, list[Result], RecordingSink]:
    clock, sink, results, choose = FakeClock(), RecordingSink(), list[Result](), choices(data, 9)
    server = _Server(clock, data)
    given, log = _SETTINGS[next(choose) % 2], Log(sink, is_json=False)
    upstream = Upstream(given, [_ADDRESS], HOSTNAME, clock, server.connect, log)

    def count(outcome: Outcome) -> None:
        results.append(outcome.result)

    around = Surroundings(means(given, upstream, clock, log), HOSTNAME, clock, bytearray(100), count)
    client = ScriptedStream(clock, pieces(data))
    Session(client, around, Ledger(clock, lambda *_: None), log).run()
    return client, server, results, sink


class _Server(FakeUpstream):
    """Answers well, as a rule; the input chooses when it does not.

    Once silent it stays so for the rest of the connection: a reply that comes is that to the first command
    that has none, for nobody can tell it otherwise.
    """

    def __init__(self, clock: FakeClock, data: bytes) -> None:
        super().__init__(clock, [b"PIPELINING", XFORWARD])
        self._choose = choices(data, 11)
        self._is_well = next(self._choose) % 3 > 0
        self._is_mute = False

    def reply_to(self, verb: bytes) -> bytes:
        self._is_mute = self._is_mute and verb != b"CONNECT"
        if self._is_mute:
            return SILENCE
        if self._is_well or next(self._choose) % 4:
            return super().reply_to(verb)
        answer = _ANSWERS[next(self._choose) % len(_ANSWERS)]
        self._is_mute = answer == SILENCE
        return answer
