"""What clamd is sent, what its replies mean, and that nothing else means anything."""

import struct
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import Response
from bqfilter.config.content import ClamdSettings
from bqfilter.errors import PeerLost, PeerTimeout, PeerUnreachable, ScannerFailure
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.message import Message
from bqfilter.net.address import Endpoint, SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.clamd import Clamd, instream, parse_reply
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.report import CLEAN, Finding, Report
from bqfilter.scanning.scanner import Scanner
from bqfilter.smtp.commands import Mail
from tests.doubles.clock import FakeClock
from tests.doubles.scanning_daemon import Step, flood, hang, hear, hear_some, reset, say, trickle
from tests.doubles.streams import ScriptedStream, dialler_to
from tests.scanning.conftest import Listen

LONG = 60.0  # seconds that nothing here comes near to
SHORT = 0.3  # seconds that are waited for
CLOCK = time.monotonic
CONTENT = b"Subject: hello\r\n\r\nworld\r\n"
MUCH = b"0123456789abcde\n" * (1 << 19)  # 8 MiB, more than the buffers here take
END = b"\0\0\0\0"
ENVELOPE = Envelope(Client(), Mail(b"MAIL FROM:<>", b"", b""))
ENDPOINT = Endpoint("unix", path="/run/clamav/clamd.ctl")


def clamd(*addresses: SocketAddress, on_excess: str = "defer") -> Clamd:
    settings = ClamdSettings(endpoints=(ENDPOINT,), on_excess=Response.parse(on_excess))
    return Clamd(settings, Dialler(addresses, CLOCK))


def in_pieces(content: bytes, size: int = 65536) -> Message:
    return Message(lambda: (content[at : at + size] for at in range(0, len(content), size)))


def scan(scanner: Scanner, content: bytes = CONTENT, seconds: float = LONG) -> Report:
    return scanner.scan(in_pieces(content), ENVELOPE, Deadline.after(CLOCK, seconds))


def chunks(request: bytes) -> Iterator[bytes]:
    """What clamd would read, up to the chunk of length zero; and nothing stands behind that."""
    command, _, rest = request.partition(b"\0")
    assert command == b"zINSTREAM"
    while length := struct.unpack_from("!I", rest)[0]:
        assert len(rest) >= length + 8
        yield rest[4 : 4 + length]
        rest = rest[4 + length :]
    assert rest == END


@given(st.lists(st.binary(max_size=50)))
def test_clamd_is_sent_every_byte_and_one_end(pieces: list[bytes]) -> None:
    assert b"".join(chunks(b"".join(instream(pieces)))) == b"".join(pieces)


def test_a_small_message_is_sent_in_one_write() -> None:
    assert list(instream([CONTENT])) == [b"zINSTREAM\0\0\0\0\x19" + CONTENT + END]


class Swallowing(ScriptedStream):
    """A peer that keeps nothing of what it takes."""

    def write(self, data: bytes, deadline: Deadline) -> None:
        assert not deadline.has_passed
        assert len(data) < 3 * 65536


def test_a_message_of_any_size_takes_the_memory_of_a_few_pieces(clock: FakeClock) -> None:
    stream = Swallowing(clock, [b"stream: OK\0"])
    settings = ClamdSettings(endpoints=(ENDPOINT,))
    scanner = Clamd(settings, dialler_to(stream))
    message = Message(lambda: (bytes(65536) for _ in range(1000)))
    tracemalloc.start()
    try:
        assert scanner.scan(message, ENVELOPE, Deadline.after(clock, 1)) == CLEAN
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 16 * 65536


@pytest.mark.parametrize(
    ("reply", "signature"),
    [
        pytest.param(b"stream: OK", None, id="nothing"),
        pytest.param(b"stream: Local.Eicar.UNOFFICIAL FOUND", "Local.Eicar.UNOFFICIAL", id="something"),
        pytest.param(b"stream: Eicar(44d8:68) FOUND", "Eicar(44d8:68)", id="ExtendedDetectionInfo"),
        pytest.param(b"stream: A FOUND FOUND", "A FOUND", id="an odd name"),
        pytest.param(b"stream: OK FOUND", "OK", id="a name that means something else"),
        pytest.param(b"stream: \x1b[2J\r\n\xff FOUND", "?[2J???", id="a hostile name"),
        pytest.param(b"stream: \t FOUND", "a signature without a name", id="a name of nothing"),
        pytest.param(b"stream: " + b"x" * 1000 + b" FOUND", "x" * 197 + "...", id="a long name"),
    ],
)
def test_a_reply_is_a_finding_or_none(reply: bytes, signature: str | None) -> None:
    assert parse_reply(reply) == signature


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        pytest.param(b"INSTREAM size limit exceeded. ERROR", "StreamMaxLength", id="too long"),
        pytest.param(b"stream: Can't allocate memory ERROR", 'answered "stream: Can', id="an error"),
        pytest.param(b"UNKNOWN COMMAND", "UNKNOWN COMMAND", id="no clamd of ours"),
        pytest.param(b"COMMAND READ TIMED OUT", "COMMAND READ TIMED OUT", id="we were too slow"),
        pytest.param(b"", 'answered ""', id="nothing at all"),
        pytest.param(b"OK", 'answered "OK"', id="half of OK"),
        pytest.param(b"stream: OK ERROR", "OK ERROR", id="not quite OK"),
        pytest.param(b"stream: ok", "ok", id="another letter case"),
        pytest.param(b"1: stream: OK", "1: stream", id="of a session"),
        pytest.param(b"stream:  FOUND", "FOUND", id="found what?"),
        pytest.param(b"stream: FOUND", "FOUND", id="found nothing"),
        pytest.param(b"stream: Local.Eicar FOUND ERROR", "ERROR", id="an error behind"),
        pytest.param(b"220 mx.example ESMTP", "220 mx", id="another service"),
        pytest.param(b"\x1b[2J", r"\?\[2J", id="control characters"),
    ],
)
def test_every_other_reply_is_a_failure(reply: bytes, cause: str) -> None:
    with pytest.raises(ScannerFailure, match=cause):
        parse_reply(reply)


@given(st.one_of(st.binary(), st.binary().map(lambda name: b"stream: " + name + b" FOUND")))
def test_no_reply_but_ok_is_clean_and_every_name_is_one_line(reply: bytes) -> None:
    text = outcome(reply)

    assert text or reply == b"stream: OK"
    assert text.isprintable()
    assert text.isascii()


def outcome(reply: bytes) -> str:
    """The signature or the cause, "" for clean."""
    try:
        return parse_reply(reply) or ""
    except ScannerFailure as failure:
        return failure.cause


def test_a_clean_message_is_clean(listen: Listen) -> None:
    daemon = listen(hear(END), say(b"stream: OK\0"))

    assert scan(clamd(daemon.address)) == CLEAN
    assert list(chunks(daemon.heard)) == [CONTENT]


def test_an_infected_message_is_a_hit_named_after_its_signature(listen: Listen) -> None:
    daemon = listen(hear(END), say(*(bytes([byte]) for byte in b"stream: Local.Eicar FOUND\0")))

    assert scan(clamd(daemon.address)) == Report(Finding.HIT, "Local.Eicar")


@pytest.mark.parametrize(
    ("signature", "response"),
    [
        ("Heuristics.Phishing.Email.SpoofedDomain", "tag"),
        ("Heuristics.Encrypted.Zip", "quarantine"),
        ("heuristics.encrypted.zip", "None"),
        ("Win.Trojan.Agent-1", "None"),
    ],
)
def test_a_signature_may_have_a_response_of_its_own(listen: Listen, signature: str, response: str) -> None:
    daemon = listen(hear(END), say(f"stream: {signature} FOUND\0".encode()))
    rules = (("*.Phishing.*", "tag"), ("Heuristics.*", "quarantine"), ("*.SpoofedDomain", "reject"))
    signatures = tuple((pattern, Response.parse(word)) for pattern, word in rules)
    settings = ClamdSettings(endpoints=(ENDPOINT,), signatures=signatures)
    scanner = Clamd(settings, Dialler([daemon.address], CLOCK))

    assert str(scan(scanner).response) == response


def test_a_signature_that_redirects_needs_to_know_where_to() -> None:
    signatures = (("PUA.*", Response.parse("redirect")),)
    lost = ClamdSettings(endpoints=(ENDPOINT,), signatures=signatures)
    found = ClamdSettings(endpoints=(ENDPOINT,), signatures=signatures, redirect_to="a@b.example")

    assert [problem.key for problem in lost.problems()] == ["signatures"]
    assert list(found.problems()) == []


def test_a_large_message_arrives_whole(listen: Listen) -> None:
    daemon = listen(hear(END), say(b"stream: OK\0"))

    assert scan(clamd(daemon.address), MUCH) == CLEAN
    assert b"".join(chunks(daemon.heard)) == MUCH


@pytest.mark.parametrize(
    ("on_excess", "reply"),
    [
        ("defer", "451 4.7.1 Message cannot be scanned as a whole: Heuristics.Limits.Exceeded.MaxFileSize"),
        ("reject", "554 5.7.1 Message cannot be scanned as a whole: Heuristics.Limits.Exceeded.MaxFileSize"),
        ("accept+quarantine", "None"),
    ],
)
def test_a_limit_of_clamds_own_is_answered_as_the_settings_say(
    listen: Listen, on_excess: str, reply: str
) -> None:
    daemon = listen(hear(END), say(b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0"))
    report = scan(clamd(daemon.address, on_excess=on_excess))

    assert report.finding is Finding.HIT
    assert report.detail == "not scanned as a whole: Heuristics.Limits.Exceeded.MaxFileSize"
    assert str(report.response) == on_excess
    assert str(report.reply) == reply


def test_the_reason_is_read_although_the_message_could_not_be_sent(listen: Listen) -> None:
    daemon = listen(hear_some, say(b"INSTREAM size limit exceeded. ERROR\0"))

    with pytest.raises(ScannerFailure, match=r"StreamMaxLength") as failure:
        scan(clamd(daemon.address), MUCH)
    assert failure.value.cause.startswith(f"{daemon.address}: ")


@pytest.mark.parametrize("words", [b"stream: OK\0", b"stream: Local.Eicar FOUND\0"])
def test_a_verdict_about_half_a_message_is_none(listen: Listen, words: bytes) -> None:
    daemon = listen(hear_some, say(words))

    with pytest.raises(PeerLost):
        scan(clamd(daemon.address), MUCH)


@pytest.mark.parametrize(
    ("steps", "seconds", "failure"),
    [
        pytest.param([hear(END), hang], SHORT, PeerTimeout, id="silence"),
        pytest.param([hang], SHORT, PeerTimeout, id="a message that is not read"),
        pytest.param([hear(END), trickle(b"x")], SHORT, PeerTimeout, id="a byte now and then"),
        pytest.param([hear(END), flood(b"x" * 1000)], LONG, ScannerFailure, id="bytes without end"),
        pytest.param([hear(END)], LONG, PeerLost, id="a close instead of a reply"),
        pytest.param([hear(END), reset], LONG, PeerLost, id="a reset instead of a reply"),
        pytest.param([], LONG, PeerLost, id="a close at once"),
        pytest.param([hear(END), say(b"stream: OK")], LONG, PeerLost, id="a reply without its end"),
        pytest.param([hear(END), say(b"stream: Local.Eicar")], LONG, PeerLost, id="half a name"),
        pytest.param([hear(END), say(b"\0stream: OK\0")], LONG, ScannerFailure, id="an empty reply"),
        pytest.param(
            [say(b"COMMAND READ TIMED OUT\n"), hear(END)], LONG, ScannerFailure, id="an early error"
        ),
    ],
)
def test_whatever_else_happens_is_a_failure(
    listen: Listen, steps: list[Step], seconds: float, failure: type[Exception]
) -> None:
    daemon = listen(*steps)

    with pytest.raises(failure):
        scan(clamd(daemon.address), MUCH, seconds)


def test_a_message_that_cannot_be_read_back_is_no_answer_of_clamds(listen: Listen) -> None:
    daemon = listen(hear(END), say(b"stream: OK\0"))

    def pieces() -> Iterator[bytes]:
        yield CONTENT
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        clamd(daemon.address).scan(Message(pieces), ENVELOPE, Deadline.after(CLOCK, LONG))


def test_the_next_clamd_is_asked_where_one_is_not_there(listen: Listen) -> None:
    daemon = listen(hear(END), say(b"stream: OK\0"))
    nowhere = SocketAddress(1, "/nowhere/clamd.sock")

    assert scan(clamd(nowhere, daemon.address)) == CLEAN
    with pytest.raises(PeerUnreachable, match=r"^unix:/nowhere/clamd\.sock: No such file"):
        scan(clamd(nowhere))


def test_a_ping_tells_the_version(listen: Listen) -> None:
    daemon = listen(hear(b"zVERSION\0"), say(b"ClamAV 1.4.6/27000/Mon\0"))

    line = clamd(daemon.address).ping(Deadline.after(CLOCK, LONG))
    assert line == f"{daemon.address}: ClamAV 1.4.6/27000/Mon"


def test_a_clamd_that_keeps_its_version_to_itself_is_there(listen: Listen) -> None:
    daemon = listen(hear(b"zVERSION\0"), say(b"COMMAND UNAVAILABLE\0"))

    assert "does not tell" in clamd(daemon.address).ping(Deadline.after(CLOCK, LONG))


def test_what_is_no_clamd_does_not_answer_a_ping(listen: Listen) -> None:
    daemon = listen(say(b"220 mx.example ESMTP\r\n"), hear(b"\0"))

    with pytest.raises(PeerUnreachable, match=r"220 mx\.example"):
        clamd(daemon.address).ping(Deadline.after(CLOCK, LONG))


def test_clamd_is_a_scanner_that_needs_no_preparation() -> None:
    scanner: Scanner = clamd(SocketAddress(1, "/nowhere"))
    scanner.after_fork_in_worker()

    assert scanner.settings.name == "clamd"
