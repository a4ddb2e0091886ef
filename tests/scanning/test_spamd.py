"""What spamd is asked, what its replies mean, and that half a reply or half a check means nothing."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import QUARANTINE, REJECT, Response
from bqfilter.config.content import SpamdSettings
from bqfilter.errors import ConversationLost, PeerLost, PeerTimeout, PeerUnreachable, ScannerFailure
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.fields import edited
from bqfilter.mail.message import Message
from bqfilter.net.address import Endpoint, SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.report import Finding, Report
from bqfilter.scanning.scanner import Scanner
from bqfilter.scanning.spamd import (
    Answer,
    Spamd,
    added_fields,
    parse_head,
    parse_status,
    parse_symbols,
    status_symbols,
    user_name,
)
from bqfilter.smtp.commands import Mail, Rcpt
from tests.doubles.clock import FakeClock
from tests.doubles.scanning_daemon import Step, flood, hang, hear, hear_all, hear_some, reset, say, trickle
from tests.doubles.streams import ScriptedStream, dialler_to
from tests.scanning.conftest import Listen

LONG = 60.0  # seconds that nothing here comes near to
SHORT = 0.3  # seconds that are waited for
CLOCK = time.monotonic
CONTENT = b"Subject: hello\r\n\r\nworld\r\n"
MUCH = b"Subject: much\r\n\r\n" + b"0123456789abcd\r\n" * (1 << 19)  # 8 MiB, more than the buffers here take
ENDPOINT = Endpoint("inet", "127.0.0.1", 783)
STATUS = b"SPAMD/1.1 0 EX_OK\r\n"


def envelope(*recipients: bytes) -> Envelope:
    found = [Rcpt(b"RCPT TO:<%b>" % address, address, b"") for address in recipients]
    return Envelope(Client(), Mail(b"MAIL FROM:<>", b"", b""), found)


def spamd(*addresses: SocketAddress, **settings: Any) -> Spamd:
    return Spamd(SpamdSettings(endpoints=(ENDPOINT,), **settings), Dialler(addresses, CLOCK))


def in_pieces(content: bytes, size: int = 65536) -> Message:
    return Message(lambda: (content[at : at + size] for at in range(0, len(content), size)))


def scan(
    scanner: Scanner, content: bytes = CONTENT, seconds: float = LONG, to: Sequence[bytes] = ()
) -> Report:
    return scanner.scan(in_pieces(content), envelope(*to), Deadline.after(CLOCK, seconds))


def symbols(spam: bytes, body: bytes, length: int | None = None) -> bytes:
    """A reply to SYMBOLS, or, with a header for its body, to HEADERS."""
    length = len(body) if length is None else length
    return STATUS + b"Content-length: %d\r\nSpam: %b\r\n\r\n" % (length, spam) + body


HAM = symbols(b"False ; 1.3 / 5.0", b"MSGID_SHORT,RCVD_ILLEGAL_IP")
SPAM = symbols(b"True ; 7.5 / 5.0", b"BQ_LOCAL,MSGID_SHORT")
ADDED = (
    b"X-Spam-Checker-Version: SpamAssassin 4.0.1 on mx\r\nX-Spam-Flag: YES\n"
    b"X-Spam-Status: Yes, score=7.5 required=5.0 tests=BQ_LOCAL,\n\tMSGID_SHORT autolearn=disabled\n"
    b"X-Spam-Report: \n\t* 7.5 BQ_LOCAL caf\xc3\xa9\n"
    b"Subject: [SPAM] hello\r\nX-Spam-Prev-Subject: hello\r\n\r\n"
)
MARKED = symbols(b"True ; 7.5 / 5.0", ADDED)


def test_spamd_is_asked_with_the_length_of_the_message(listen: Listen) -> None:
    daemon = listen(hear_all, say(HAM))
    scan(spamd(daemon.address), to=[b"a@b.example"])

    assert daemon.heard == b"SYMBOLS SPAMC/1.5\r\nContent-length: 25\r\n\r\n" + CONTENT


def test_a_large_message_arrives_whole(listen: Listen) -> None:
    daemon = listen(hear_all, say(HAM))
    scan(spamd(daemon.address, spam_headers=False), MUCH)

    assert daemon.heard.partition(b"\r\n\r\n")[2] == MUCH


def test_spamd_is_told_whose_preferences_count(listen: Listen) -> None:
    daemon = listen(hear_all, say(MARKED))
    scan(spamd(daemon.address, user="{recipient}", spam_headers=True), to=[b"Anna@B.Example"])

    assert daemon.heard.startswith(
        b"HEADERS SPAMC/1.5\r\nContent-length: 25\r\nUser: anna@b.example\r\n\r\nSubject:"
    )


@pytest.mark.parametrize(
    ("wanted", "recipients", "user"),
    [
        pytest.param("", [b"a@b.example"], "", id="nobody's"),
        pytest.param("site", [b"a@b.example"], "site", id="always the same"),
        pytest.param("{recipient}", [b"a+x@b.example"], "a+x@b.example", id="the recipient's"),
        pytest.param("{recipient}", [b"Postmaster"], "postmaster", id="a recipient without a domain"),
        pytest.param("{recipient}", [b"a@b.example", b"c@b.example"], "", id="of two recipients"),
        pytest.param("{recipient}", [], "", id="of no recipient"),
        pytest.param("{recipient}", [b"../../etc@b.example"], "", id="up the tree"),
        pytest.param("{recipient}", [b"..@b.example"], "", id="up one"),
        pytest.param("{recipient}", [b"a@.."], "", id="up one by the domain"),
        pytest.param("{recipient}", [b"a\r\nUser: root@b"], "", id="another header line"),
        pytest.param("{recipient}", [b'"a b"@b.example'], "", id="quoted"),
        pytest.param("{recipient}", [b"caf\xc3\xa9@b.example"], "", id="beyond ASCII"),
        pytest.param("{recipient}", [b"%u'@b.example"], "", id="templates and quotes"),
        pytest.param("{recipient}", [b"a" * 65 + b"@b.example"], "", id="over-long"),
    ],
)
def test_only_a_harmless_name_is_handed_on(wanted: str, recipients: list[bytes], user: str) -> None:
    assert user_name(wanted, envelope(*recipients)) == user


def test_ham_is_clean_and_tells_its_score(listen: Listen) -> None:
    daemon = listen(hear_all, say(HAM))

    assert scan(spamd(daemon.address)) == Report(
        Finding.CLEAN, "1.3/5 MSGID_SHORT,RCVD_ILLEGAL_IP", score=1.3
    )


def test_spam_is_a_hit_with_score_and_symbols(listen: Listen) -> None:
    daemon = listen(hear_all, say(*(SPAM[at : at + 7] for at in range(0, len(SPAM), 7))))

    assert scan(spamd(daemon.address)) == Report(Finding.HIT, "7.5/5 BQ_LOCAL,MSGID_SHORT", score=7.5)


@pytest.mark.parametrize(
    ("score", "finding", "response"),
    [
        (b"False ; 1.0 / 5.0", Finding.CLEAN, None),
        (b"False ; 4.0 / 5.0", Finding.HIT, QUARANTINE),
        (b"True ; 7.9 / 5.0", Finding.HIT, QUARANTINE),
        (b"True ; 8.0 / 5.0", Finding.HIT, REJECT),
        (b"True ; 3.0 / 2.0", Finding.HIT, None),
        (b"False ; -20 / 5.0", Finding.CLEAN, None),
    ],
)
def test_from_a_score_on_the_settings_ask_for_more(
    listen: Listen, score: bytes, finding: Finding, response: Response | None
) -> None:
    daemon = listen(hear_all, say(symbols(score, b"")))
    report = scan(spamd(daemon.address, quarantine_score=4.0, reject_score=8.0))

    assert (report.finding, report.response) == (finding, response)


@pytest.mark.parametrize("score", [b"True ; 0.0 / 0.0", b"True ; -3.0 / -5.0", b"True ; 9999.9 / 5"])
def test_a_score_that_is_not_set_asks_for_nothing(listen: Listen, score: bytes) -> None:
    report = scan(spamd(listen(hear_all, say(symbols(score, b""))).address))

    assert (report.finding, report.response) == (Finding.HIT, None)


def test_of_many_symbols_some_are_shown(listen: Listen) -> None:
    body = b",".join(b"RULE_%d" % number for number in range(30))
    daemon = listen(hear_all, say(symbols(b"True ; 30.0 / 5.0", body)))

    assert scan(spamd(daemon.address)).detail == (
        "30/5 RULE_0,RULE_1,RULE_2,RULE_3,RULE_4,RULE_5,RULE_6,RULE_7,RULE_8,RULE_9,RULE_10,RULE_11,..."
    )


@pytest.mark.parametrize("score", [b"False ; 0.1 / 5.0", b"True ; 9.0 / 5.0"])
@pytest.mark.parametrize("spam_headers", [False, True])
def test_a_check_that_was_broken_off_is_no_verdict(listen: Listen, score: bytes, spam_headers: bool) -> None:
    names = b"BQ_LOCAL,TIME_LIMIT_EXCEEDED"
    body = b"X-Spam-Status: No, tests=BQ_LOCAL,\n\tTIME_LIMIT_EXCEEDED\n\n" if spam_headers else names
    daemon = listen(hear_all, say(symbols(score, body)))

    with pytest.raises(ScannerFailure, match=r"no verdict.*TIME_LIMIT_EXCEEDED"):
        scan(spamd(daemon.address, spam_headers=spam_headers))


def test_a_message_cannot_say_that_its_check_was_broken_off(listen: Listen) -> None:
    body = b"X-Spam-Status: No, tests=NONE\nX-Spam-Report: preview\n\ttests=TIME_LIMIT_EXCEEDED\n\n"
    daemon = listen(hear_all, say(symbols(b"False ; 0.1 / 5.0", body)))

    assert scan(spamd(daemon.address, spam_headers=True)).finding is Finding.CLEAN


def test_the_fields_that_spamd_adds_take_the_place_of_those_that_came(listen: Listen) -> None:
    daemon = listen(hear_all, say(MARKED))
    content = (
        b"Received: from a\r\nX-Spam-Flag: NO\r\nx-spam-status : No,\r\n\ttests=FORGED\r\n"
        b"X-Spam-Prev-To: x\r\nX-Spammer: no\r\nSubject: hello\r\n\r\nX-Spam-Flag: NO\r\n"
    )
    report = scan(spamd(daemon.address, spam_headers=True), content)

    assert edited(in_pieces(content).header, report.changes.edits) == (
        b"X-Spam-Checker-Version: SpamAssassin 4.0.1 on mx\r\nX-Spam-Flag: YES\r\n"
        b"X-Spam-Status: Yes, score=7.5 required=5.0 tests=BQ_LOCAL,\r\n\tMSGID_SHORT autolearn=disabled\r\n"
        b"X-Spam-Report: =?utf-8?b?KiA3LjUgQlFfTE9DQUwgY2Fmw6k=?=\r\n"
        b"Received: from a\r\nX-Spammer: no\r\nSubject: hello\r\n"
    )
    assert report.detail == "7.5/5 BQ_LOCAL,MSGID_SHORT"


def test_without_the_setting_no_field_is_touched(listen: Listen) -> None:
    daemon = listen(hear_all, say(SPAM))

    assert not scan(spamd(daemon.address), b"X-Spam-Flag: NO\r\n\r\n").changes


def test_a_long_header_of_the_messages_own_is_read_back(listen: Listen) -> None:
    content = b"X-Long: " + b"x" * 900 + b"\r\n"
    daemon = listen(hear_all, say(symbols(b"False ; 0.0 / 5.0", b"X-Spam-Level:\n" + content * 300 + b"\n")))

    report = scan(spamd(daemon.address, spam_headers=True), content * 300 + b"\r\n")
    assert len(report.changes.edits) == 1


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"SPAMD/1.0 76 Bad header line: (Content-Length mismatch)", id="a protocol error"),
        pytest.param(b"SPAMD/1.0 69 Service Unavailable: no", id="unavailable"),
        pytest.param(b"SPAMD/1.1 00001 EX_OK", id="a strange number"),
        pytest.param(b"SPAMD/1.1 -1 EX_OK", id="a negative number"),
        pytest.param(b"HTTP/1.1 200 OK", id="another service"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"SPAMD/1.1 0", id="half a line"),
    ],
)
def test_a_status_that_is_no_success_is_a_failure(line: bytes) -> None:
    with pytest.raises(ScannerFailure, match=r'^answered "'):
        parse_status(line)


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        pytest.param(
            [b"Content-length: 27", b"Spam: False ; 1.3 / 5.0"], Answer(False, 1.3, 5.0, 27), id="usual"
        ),
        pytest.param(
            [b"spam:True ; -1 / -5", b"CONTENT-LENGTH:0"], Answer(True, -1.0, -5.0, 0), id="letter case"
        ),
        pytest.param(
            [b"Spam: Yes ; 7.50 / 5", b"Content-length: 1", b"DidSet: local"],
            Answer(True, 7.5, 5.0, 1),
            id="as for REPORT_IFSPAM",
        ),
    ],
)
def test_a_head_is_score_and_length(lines: list[bytes], answer: Answer) -> None:
    assert parse_head(lines) == answer


def test_a_negative_nothing_is_nothing(listen: Listen) -> None:
    daemon = listen(hear_all, say(symbols(b"False ; -0.0 / 5.0", b"")))

    assert scan(spamd(daemon.address)).detail == "0/5"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"Spam: True ; 7.5 / 5.0"], id="no length"),
        pytest.param([b"Content-length: 5"], id="no score"),
        pytest.param([b"Content-length: -5", b"Spam: True ; 7.5 / 5.0"], id="a negative length"),
        pytest.param([b"Content-length: " + b"9" * 20, b"Spam: True ; 7.5 / 5.0"], id="a huge length"),
        pytest.param([b"Content-length: 5", b"Spam: Maybe ; 7.5 / 5.0"], id="neither true nor false"),
        pytest.param([b"Content-length: 5", b"Spam: True ; nan / 5.0"], id="no number"),
        pytest.param([b"Content-length: 5", b"Spam: True ; 1e9 / 5.0"], id="an exponent"),
        pytest.param([b"Content-length: 5", b"Spam: True ; 7.5"], id="no threshold"),
        pytest.param([b"Content-length: 5", b"Spam: True ; 7.5 / 5.0 / 3"], id="more than that"),
    ],
)
def test_a_head_without_both_is_a_failure(lines: list[bytes]) -> None:
    with pytest.raises(ScannerFailure, match="answered with the"):
        parse_head(lines)


@pytest.mark.parametrize(
    ("status", "names"),
    [
        (b"Yes, score=9 tests=A,B autolearn=no", ("A", "B")),
        (b"Yes, score=9 tests=A,\r\n\tB_1,\r\n\tC autolearn=no", ("A", "B_1", "C")),
        (b"No, score=0 tests=none autolearn=no", ()),
        (b"No", ()),
        (b"No, contests=A", ()),
        (b"No, tests=A=0.1,B=-2", ("A", "B")),
        (b"No, score=0 tests=[A=0.1, TIME_LIMIT_EXCEEDED=0.001] autolearn=no", ("A", "TIME_LIMIT_EXCEEDED")),
    ],
)
def test_the_symbols_in_the_status_field(status: bytes, names: tuple[str, ...]) -> None:
    fields = added_fields(b"X-Spam-Flag: YES\nx-spam-status: " + status + b"\nX-Spam-Status: tests=LATER\n\n")

    assert status_symbols(fields) == names


def test_a_report_of_any_size_is_not_put_into_a_header() -> None:
    with pytest.raises(ScannerFailure, match="adds more than"):
        added_fields(b"X-Spam-Report: " + b"x" * 70000 + b"\n\n")


@pytest.mark.parametrize("name", [b"X-Spam-" + b"x" * 70, b"X-Spam-", b"X-Spam-Prev-Subject", b"X-Spam-{}"])
def test_a_strange_name_is_no_field_of_spamds(name: bytes) -> None:
    assert added_fields(name + b": value\n\n") == ()


@given(st.binary(max_size=200))
def test_symbols_are_printable_whatever_they_are(body: bytes) -> None:
    assert all(name.isprintable() and name.isascii() for name in parse_symbols(body))


_NOISE = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda a, b, c: a[:b] + c + a[b:], st.just(MARKED), st.integers(0, len(MARKED)), st.binary()),
    st.builds(lambda a, b: a[:b], st.just(MARKED), st.integers(0, len(MARKED) - 1)),
)


def scan_scripted(reply: bytes) -> Report:
    """With the fields, and a spamd that says this and closes."""
    stream = ScriptedStream(FakeClock(), [reply])
    settings = SpamdSettings(endpoints=(ENDPOINT,), spam_headers=True)
    scanner = Spamd(settings, dialler_to(stream))
    return scanner.scan(in_pieces(CONTENT), envelope(), Deadline.after(stream.clock, 10))


def outcome(reply: bytes) -> Report:
    """The report, one of nothing but a cause where there is none."""
    try:
        return scan_scripted(reply)
    except (ScannerFailure, ConversationLost) as failure:
        return Report(Finding.ERROR, failure.cause)


@given(_NOISE)
def test_noise_is_a_failure_or_a_report_that_can_be_carried_out(noise: bytes) -> None:
    report = outcome(noise)
    header = edited(in_pieces(CONTENT).header, report.changes.edits)

    assert Message.in_memory(header + b"\r\nworld\r\n").header.raw == header
    assert report.detail.isprintable()


@given(st.integers(0, len(MARKED) - 1))
def test_a_reply_that_is_cut_anywhere_is_a_loss(length: int) -> None:
    with pytest.raises(PeerLost):
        scan_scripted(MARKED[:length])


@pytest.mark.parametrize(
    ("steps", "seconds", "failure"),
    [
        pytest.param([hear_all, hang], SHORT, PeerTimeout, id="silence"),
        pytest.param([hang], SHORT, PeerTimeout, id="a message that is not read"),
        pytest.param([hear_all, trickle(b"x")], SHORT, PeerTimeout, id="a byte now and then"),
        pytest.param([hear_all, flood(b"x" * 1000)], LONG, ScannerFailure, id="a line without end"),
        pytest.param(
            [hear_all, say(STATUS), flood(b"a: b\r\n")], LONG, ScannerFailure, id="lines without end"
        ),
        pytest.param(
            [hear_all, say(symbols(b"True ; 1.0 / 1.0", b"", 70000))], LONG, ScannerFailure, id="much"
        ),
        pytest.param([hear_all, say(HAM[:-1])], LONG, PeerLost, id="a symbol cut short"),
        pytest.param([hear_all], LONG, PeerLost, id="a close instead of a reply"),
        pytest.param([hear_all, reset], LONG, PeerLost, id="a reset instead of a reply"),
        pytest.param([], LONG, PeerLost, id="a close at once"),
        pytest.param([hear_some, say(HAM)], LONG, PeerLost, id="a verdict about half a message"),
        pytest.param(
            [hear_some, say(b"SPAMD/1.0 76 Bad header line\r\n")], LONG, ScannerFailure, id="an early error"
        ),
    ],
)
def test_whatever_else_happens_is_a_failure(
    listen: Listen, steps: list[Step], seconds: float, failure: type[Exception]
) -> None:
    daemon = listen(*steps)

    with pytest.raises(failure) as raised:
        scan(spamd(daemon.address), MUCH, seconds)
    assert str(raised.value).startswith(f"{daemon.address}: ")


def test_a_message_that_cannot_be_read_back_is_no_answer_of_spamds(listen: Listen) -> None:
    daemon = listen(hear_all, say(HAM))
    readings = iter([[CONTENT], OSError(5, "Input/output error")])  # for its size; to be sent

    def pieces() -> Iterator[bytes]:
        reading = next(readings)
        if isinstance(reading, OSError):
            raise reading
        yield from reading

    with pytest.raises(OSError, match="Input/output"):
        spamd(daemon.address).scan(Message(pieces), envelope(), Deadline.after(CLOCK, LONG))


def test_the_next_spamd_is_asked_where_one_is_not_there(listen: Listen) -> None:
    daemon = listen(hear_all, say(HAM))
    nowhere = SocketAddress(1, "/nowhere/spamd.sock")

    assert scan(spamd(nowhere, daemon.address)).finding is Finding.CLEAN
    with pytest.raises(PeerUnreachable, match=r"^unix:/nowhere/spamd\.sock: No such file"):
        scan(spamd(nowhere))


def test_a_ping_is_answered(listen: Listen) -> None:
    daemon = listen(hear(b"\r\n\r\n"), say(b"SPAMD/1.5 0 PONG\r\n"))

    assert spamd(daemon.address).ping(Deadline.after(CLOCK, LONG)) == f"{daemon.address}: SPAMD/1.5 0 PONG"
    assert daemon.heard == b"PING SPAMC/1.5\r\n\r\n"


@pytest.mark.parametrize("answer", [b"220 mx.example ESMTP\r\n", b"SPAMD/1.5 0 EX_OK\r\n"])
def test_what_is_no_spamd_does_not_answer_a_ping(listen: Listen, answer: bytes) -> None:
    daemon = listen(say(answer), hear_all)

    with pytest.raises(PeerUnreachable, match="answered"):
        spamd(daemon.address).ping(Deadline.after(CLOCK, LONG))


def test_spamd_is_a_scanner_that_needs_no_preparation() -> None:
    scanner: Scanner = spamd(SocketAddress(1, "/nowhere"))
    scanner.after_fork_in_worker()

    assert scanner.settings.name == "spamd"


@pytest.mark.parametrize(
    ("quarantine_score", "reject_score", "is_wrong"),
    [(5.0, 10.0, False), (5.0, 0.0, False), (0.0, 5.0, False), (5.0, 5.0, True), (10.0, 5.0, True)],
)
def test_a_score_that_is_never_reached_is_a_mistake_of_the_settings(
    quarantine_score: float, reject_score: float, is_wrong: bool
) -> None:
    settings = SpamdSettings(
        endpoints=(ENDPOINT,), quarantine_score=quarantine_score, reject_score=reject_score
    )

    assert bool(list(settings.problems())) is is_wrong
