"""A real spamd: scores, its fields in the header, checks that take too long, and one that hangs or dies."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from bqfilter.config.actions import REJECT
from bqfilter.config.content import SpamdSettings
from bqfilter.errors import PeerLost, PeerTimeout, PeerUnreachable, ScannerFailure
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.fields import Header, edited
from bqfilter.mail.message import Message
from bqfilter.net.address import resolve
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.report import Finding, Report
from bqfilter.scanning.spamd import Spamd
from bqfilter.smtp.commands import Mail, Rcpt
from tests.daemons.private_spamd import PATTERN, private_spamd
from tests.daemons.process import Daemon
from tests.doubles.messages import GTUBE
from tests.doubles.programs import eventually

LONG = 300.0  # seconds; a test that comes near to it has failed
SHORT = 0.5  # seconds that are waited for
CLOCK = time.monotonic
HEADER = (
    b"From: Anna <anna@a.example>\r\nTo: Bert <bert@b.example>\r\nSubject: hello\r\n"
    b"Date: Mon, 01 Jan 2024 10:00:00 +0000\r\nMessage-ID: <20240101100000.12345@a.example>\r\n"
)
HAM = HEADER + b"\r\nThe meeting is at ten, in the large room on the second floor.\r\n"
SPAM = HEADER + b"\r\nThe meeting is at ten. " + PATTERN + b"\r\n"


def scanner(daemon: Daemon, **settings: Any) -> Spamd:
    return Spamd(SpamdSettings(endpoints=(daemon.unix,), **settings), Dialler([daemon.address], CLOCK))


def scan(
    scanner: Spamd, content: bytes, seconds: float = LONG, recipient: bytes = b"bert@b.example"
) -> Report:
    envelope = Envelope(
        Client(), Mail(b"MAIL FROM:<>", b"", b""), [Rcpt(b"RCPT TO:<%b>" % recipient, recipient, b"")]
    )
    message = Message(lambda: (content[at : at + 1000] for at in range(0, len(content), 1000)))
    return scanner.scan(message, envelope, Deadline.after(CLOCK, seconds))


def changed_header(content: bytes, report: Report) -> Header:
    return Header(edited(Message.in_memory(content).header, report.changes.edits))


@pytest.mark.parametrize("spam_headers", [False, True])
@pytest.mark.parametrize("scheme", ["unix", "inet"])
def test_spam_is_told_from_ham(spamd: Daemon, scheme: str, spam_headers: bool) -> None:
    endpoint = getattr(spamd, scheme)
    settings = SpamdSettings(endpoints=(endpoint,), spam_headers=spam_headers, reject_score=100.0)
    asked = Spamd(settings, Dialler(resolve(endpoint), CLOCK))
    ham, spam, gtube = (scan(asked, content) for content in (HAM, SPAM, HEADER + b"\r\n" + GTUBE + b"\r\n"))

    assert (ham.finding, ham.response) == (Finding.CLEAN, None)
    assert (spam.finding, spam.response) == (Finding.HIT, None)
    assert (gtube.finding, gtube.response) == (Finding.HIT, REJECT)
    assert ham.score is not None
    assert spam.score is not None
    assert ham.score < 5 <= spam.score
    assert "/5 " in spam.detail
    assert "BQ_LOCAL" in spam.detail
    assert "GTUBE" in gtube.detail


def test_both_ways_to_ask_find_the_same(spamd: Daemon) -> None:
    for content in (HAM, SPAM, b"", b"\r\n", HEADER):
        plain = scan(scanner(spamd), content)
        marked = scan(scanner(spamd, spam_headers=True), content)

        assert (plain.finding, plain.score, plain.detail) == (marked.finding, marked.score, marked.detail)


def test_a_message_gets_the_fields_of_spamd_and_loses_those_that_it_had(spamd: Daemon) -> None:
    forged = (
        b"X-Spam-Status: No, score=-99\r\n\ttests=FORGED\r\nx-spam-level :\r\nX-Spam-Prev-Subject: forged\r\n"
    )
    content = b"Received: from a by b\r\n" + forged + SPAM
    header = changed_header(content, scan(scanner(spamd, spam_headers=True), content))
    names = [field.name for field in header.fields]

    assert names[-6:] == [b"Received", b"From", b"To", b"Subject", b"Date", b"Message-ID"]
    assert set(names[:-6]) == {
        b"X-Spam-Checker-Version", b"X-Spam-Flag", b"X-Spam-Level", b"X-Spam-Status", b"X-Spam-Report"
    }  # fmt: skip
    assert header.first(b"x-spam-flag") == b"YES"
    assert header.first(b"subject") == b"hello"
    assert b"BQ_LOCAL" in (header.first(b"x-spam-status") or b"")
    assert b"forged" not in header.raw.lower()


def test_ham_gets_its_fields_as_well(spamd: Daemon) -> None:
    header = changed_header(HAM, scan(scanner(spamd, spam_headers=True), HAM))

    assert (header.first(b"X-Spam-Status") or b"").startswith(b"No, score=")
    assert header.first(b"X-Spam-Flag") is None


def test_of_a_report_that_would_replace_the_message_only_the_fields_are_taken() -> None:
    with private_spamd(
        local_cf="report_safe 1\nclear_report_template\nreport tests=TIME_LIMIT_EXCEEDED\n"
    ) as own:
        report = scan(scanner(own, spam_headers=True), SPAM)
    header = changed_header(SPAM, report)

    assert report.finding is Finding.HIT
    assert header.raw.endswith(HEADER)
    assert header.first(b"X-Spam-Flag") == b"YES"
    assert header.first(b"Content-Type") is None


def test_a_message_cannot_pretend_that_its_check_was_broken_off(spamd: Daemon) -> None:
    words = b"tests=TIME_LIMIT_EXCEEDED\r\n"
    content = b"X-Spam-Status: No, " + words + b"X-TIME: " + words + SPAM + words

    for spam_headers in (False, True):
        assert scan(scanner(spamd, spam_headers=spam_headers), content).finding is Finding.HIT


def test_a_large_message_arrives_as_a_whole(spamd: Daemon) -> None:
    content = HAM + b"The meeting is at ten, in the large room on the second floor.\r\n" * 3000
    scan(scanner(spamd), content)

    eventually(lambda: f" {len(content)} bytes." in spamd.log(), "the size in spamd's log")


def test_spamd_looks_up_the_preferences_of_the_recipient(spamd: Daemon) -> None:
    scan(scanner(spamd, user="{recipient}"), HAM, recipient=b"Preferred@B.Example")

    eventually(lambda: "for preferred@b.example:" in spamd.log(), "the recipient in spamd's log")


def test_spamd_is_there(spamd: Daemon) -> None:
    line = scanner(spamd).ping(Deadline.after(CLOCK, LONG))

    assert line.startswith(f"{spamd.unix}: SPAMD/")
    assert line.endswith("PONG")


@pytest.fixture(scope="module")
def hasty_spamd() -> Iterator[Daemon]:
    """Breaks a check off after two seconds."""
    with private_spamd("--timeout-child=2") as daemon:
        yield daemon


@pytest.mark.parametrize("spam_headers", [False, True])
@pytest.mark.parametrize("content", [HAM, SPAM], ids=["ham", "spam"])
def test_a_check_that_spamd_broke_off_is_no_verdict(
    hasty_spamd: Daemon, content: bytes, spam_headers: bool
) -> None:
    with pytest.raises(ScannerFailure, match="no verdict"):
        scan(scanner(hasty_spamd, spam_headers=spam_headers), b"X-BQ-Sleep: 4\r\n" + content)


def test_a_check_that_takes_too_long_for_us_is_a_timeout(spamd: Daemon) -> None:
    with pytest.raises(PeerTimeout, match=r"^unix:.*nothing received"):
        scan(scanner(spamd), b"X-BQ-Sleep: 5\r\n" + HAM, SHORT)

    assert scan(scanner(spamd), SPAM).finding is Finding.HIT


def test_a_spamd_that_hangs_is_left_at_the_deadline(spamd: Daemon) -> None:
    spamd.pause()
    try:
        with pytest.raises(PeerTimeout):
            scan(scanner(spamd), HAM, SHORT)
    finally:
        spamd.resume()

    assert scan(scanner(spamd), HAM).finding is Finding.CLEAN


def test_a_spamd_that_was_killed_is_not_waited_for(own_spamd: Daemon) -> None:
    own_spamd.kill()

    with pytest.raises(PeerUnreachable, match="Connection refused"):
        scan(scanner(own_spamd), HAM)


def test_a_spamd_that_is_killed_in_the_middle_of_a_message_gives_no_verdict(own_spamd: Daemon) -> None:
    readings = iter(["for its size", "to be sent"])

    def pieces() -> Iterator[bytes]:
        reading = next(readings)
        yield HAM
        if reading == "to be sent":
            own_spamd.kill()
        yield PATTERN + b"\r\n"

    envelope = Envelope(Client(), Mail(b"MAIL FROM:<>", b"", b""))
    with pytest.raises(PeerLost, match=r"^unix:"):
        scanner(own_spamd).scan(Message(pieces), envelope, Deadline.after(CLOCK, LONG))
