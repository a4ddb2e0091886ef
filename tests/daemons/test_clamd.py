"""A real clamd: what it finds, where it stops, and what happens while it hangs, dies or reloads."""

import base64
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from bqfilter.config.actions import DEFER
from bqfilter.config.content import ClamdSettings
from bqfilter.errors import PeerLost, PeerTimeout, PeerUnreachable, ScannerFailure
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.message import Message
from bqfilter.net.address import resolve
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.clamd import Clamd
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.report import CLEAN, Finding, Report
from bqfilter.smtp.commands import Mail
from tests.daemons.private_clamd import (
    PATTERN,
    STREAM_MAX_BYTES,
    add_signature,
    private_clamd,
)
from tests.daemons.process import Daemon
from tests.doubles.messages import EICAR
from tests.doubles.programs import eventually

LONG = 300.0  # seconds; a test that comes near to it has failed
SHORT = 0.5  # seconds that are waited for
CLOCK = time.monotonic
ENVELOPE = Envelope(Client(), Mail(b"MAIL FROM:<>", b"", b""))
HEADER = b"From: a@a.example\r\nSubject: hello\r\n\r\n"

MIME = (
    b"Subject: an attachment\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n"
    b"--cut\r\n\r\nhello\r\n--cut\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(EICAR) + b"\r\n--cut--\r\n"
)


def scanner(*daemons: Daemon) -> Clamd:
    """One that knows these, each by its unix socket and by its port."""
    endpoints = tuple(endpoint for daemon in daemons for endpoint in (daemon.unix, daemon.inet))
    addresses = [address for endpoint in endpoints for address in resolve(endpoint)]
    return Clamd(ClamdSettings(endpoints=endpoints), Dialler(addresses, CLOCK))


def scan(scanner: Clamd, content: bytes, seconds: float = LONG, piece: int = 65536) -> Report:
    message = Message(lambda: (content[at : at + piece] for at in range(0, len(content), piece)))
    return scanner.scan(message, ENVELOPE, Deadline.after(CLOCK, seconds))


@pytest.fixture(params=["unix", "inet"])
def either(request: pytest.FixtureRequest, clamd: Daemon) -> Clamd:
    """The same clamd by its unix socket, and by its port."""
    endpoint = getattr(clamd, request.param)
    return Clamd(ClamdSettings(endpoints=(endpoint,)), Dialler(resolve(endpoint), CLOCK))


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        pytest.param(HEADER + b"world\r\n", CLEAN, id="clean"),
        pytest.param(b"", CLEAN, id="empty"),
        pytest.param(HEADER + EICAR, Report(Finding.HIT, "Local.Eicar.UNOFFICIAL"), id="EICAR in the text"),
        pytest.param(MIME, Report(Finding.HIT, "Local.Eicar.UNOFFICIAL"), id="EICAR in an attachment"),
        pytest.param(EICAR, Report(Finding.HIT, "Local.Eicar.UNOFFICIAL"), id="EICAR and nothing else"),
        pytest.param(
            HEADER + b"BQ-RIGHT-HALF BQ-LEFT-HALF",
            Report(Finding.HIT, "Local.BqLogic.UNOFFICIAL"),
            id="logic",
        ),
    ],
)
@pytest.mark.parametrize("piece", [7, 65536])
def test_what_clamd_finds_is_reported(either: Clamd, content: bytes, finding: Report, piece: int) -> None:
    assert scan(either, content, piece=piece) == finding


def test_malware_at_the_end_of_a_large_message_is_found(either: Clamd) -> None:
    filler = b"0123456789abcd\r\n" * (STREAM_MAX_BYTES // 16 - 10)

    assert scan(either, HEADER + filler + PATTERN) == Report(Finding.HIT, "Local.BqTest.UNOFFICIAL")


@pytest.mark.parametrize("excess", [0, 1, 65536, 8 << 20])
def test_beyond_the_length_that_clamd_takes_there_is_no_verdict(either: Clamd, excess: int) -> None:
    content = EICAR + b"\r\n" + b"x" * (STREAM_MAX_BYTES - len(EICAR) - 2 + excess)
    if not excess:
        assert scan(either, content).finding is Finding.HIT
        return

    with pytest.raises(ScannerFailure, match="StreamMaxLength"):
        scan(either, content)


def test_a_ping_tells_the_version_at_every_endpoint(clamd: Daemon) -> None:
    line = scanner(clamd).ping(Deadline.after(CLOCK, LONG))

    assert line.startswith(f"{clamd.unix}: ClamAV ")
    assert f"; {clamd.inet}: ClamAV " in line


def test_a_limit_of_clamds_own_is_told_only_where_clamd_is_told_to_tell() -> None:
    content = HEADER + b"0123456789abcd\r\n" * 20000
    with private_clamd(MaxFileSize="100K", AlertExceedsMax="yes") as daemon:
        report = scan(scanner(daemon), content)
    with private_clamd(MaxFileSize="100K") as daemon:
        assert scan(scanner(daemon), content) == CLEAN

    assert report.detail == "not scanned as a whole: Heuristics.Limits.Exceeded.MaxFileSize"
    assert report.response == DEFER


def test_a_clamd_that_was_killed_is_not_waited_for(own_clamd: Daemon) -> None:
    clamd = scanner(own_clamd)
    assert scan(clamd, HEADER) == CLEAN
    own_clamd.kill()

    with pytest.raises(PeerUnreachable, match=r"unix:.*Connection refused; inet:.*Connection refused"):
        scan(clamd, HEADER)


def in_the_middle(action: Callable[[], None]) -> Message:
    """A message of nearly as much as clamd takes; something happens while it is being sent."""

    def pieces() -> Iterator[bytes]:
        yield HEADER
        for _ in range(7):
            yield b"x" * 65534 + b"\r\n"
        action()
        for _ in range(7):
            yield b"x" * 65534 + b"\r\n"

    return Message(pieces)


def test_a_clamd_that_is_killed_in_the_middle_of_a_message_gives_no_verdict(own_clamd: Daemon) -> None:
    message = in_the_middle(own_clamd.kill)

    with pytest.raises(PeerLost, match=r"^unix:"):
        scanner(own_clamd).scan(message, ENVELOPE, Deadline.after(CLOCK, LONG))


def test_a_clamd_that_hangs_costs_one_message_its_time_and_the_next_one_nothing(
    own_clamd: Daemon, clamd: Daemon
) -> None:
    own_clamd.pause()
    try:
        only = Clamd(ClamdSettings(endpoints=(own_clamd.unix,)), Dialler([own_clamd.address], CLOCK))
        with pytest.raises(PeerTimeout, match=r"^unix:.*nothing received"):
            scan(only, HEADER, SHORT)
        both = Clamd(only.settings, Dialler([own_clamd.address, clamd.address], CLOCK))
        with pytest.raises(PeerTimeout):
            scan(both, HEADER, SHORT)
        assert scan(both, HEADER) == CLEAN
    finally:
        own_clamd.resume()

    assert scan(only, HEADER + EICAR).finding is Finding.HIT


def test_a_hanging_clamd_that_takes_no_more_bytes_is_left_at_the_deadline(own_clamd: Daemon) -> None:
    message = Message(lambda: iter([b"x" * 65536] * 200))
    own_clamd.pause()
    try:
        with pytest.raises(PeerTimeout, match="peer takes no data"):
            scanner(own_clamd).scan(message, ENVELOPE, Deadline.after(CLOCK, SHORT))
    finally:
        own_clamd.resume()


def reload(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LONG)
        sock.connect(daemon.unix.path)
        sock.sendall(b"zRELOAD\0")
        assert sock.recv(100) == b"RELOADING\0"


def test_a_reload_of_the_database_disturbs_no_scan_and_counts_for_the_next(own_clamd: Daemon) -> None:
    clamd = scanner(own_clamd)
    content = HEADER + b"BQ-NEW-PATTERN\r\n"
    assert scan(clamd, content) == CLEAN
    add_signature(own_clamd, "Local.New", b"BQ-NEW-PATTERN")
    message = in_the_middle(lambda: reload(own_clamd))

    assert clamd.scan(message, ENVELOPE, Deadline.after(CLOCK, LONG)) == CLEAN
    found = eventually(lambda: [one for one in [scan(clamd, content)] if one != CLEAN], "the new signature")
    assert found == [Report(Finding.HIT, "Local.New.UNOFFICIAL")]


def test_a_database_that_cannot_be_loaded_disturbs_no_scan(own_clamd: Daemon) -> None:
    (own_clamd.directory / "db" / "broken.ndb").write_text("this is no signature\n")
    reload(own_clamd)
    log = own_clamd.directory / "clamd.log"

    while "reload failed" not in log.read_text():
        assert scan(scanner(own_clamd), HEADER + EICAR).finding is Finding.HIT
    assert scan(scanner(own_clamd), HEADER + EICAR).finding is Finding.HIT
