"""The doubles that decide something are tested like everything else."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.actions import REJECT
from bqfilter.config.content import PolicySettings
from bqfilter.errors import PeerLost, PeerTimeout, PeerUnreachable
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream
from bqfilter.scanning.scanner import Scanner
from tests.doubles import components
from tests.doubles.clock import FakeClock
from tests.doubles.faults import Gone, failing
from tests.doubles.playback import Playback
from tests.doubles.scanners import hit, scanner, with_scanners
from tests.doubles.settings import settings
from tests.doubles.streams import CLOSE, RESET, FakeStream, ScriptedStream
from tests.doubles.transcript import Step, Transcript, shown, wire
from tests.doubles.upstream import HANGUP, FakeUpstream

ADDRESS = SocketAddress(2, ("127.0.0.1", 10026))


def test_a_fake_stream_has_every_method_of_stream() -> None:
    methods = {name for name in vars(Stream) if not name.startswith("_")} - {"fileno", "peer"}

    assert {name for name in methods if not hasattr(FakeStream, name)} == set()


def test_a_scripted_client_speaks_when_it_is_waited_for(clock: FakeClock) -> None:
    client = ScriptedStream(clock, [b"one", 5, b"two"])
    deadline = Deadline.after(clock, 10)

    assert client.read(deadline) == b"one"
    assert client.read(deadline, 2) == b"tw"
    assert clock() == 1005
    with pytest.raises(PeerLost):
        client.read(Deadline.after(clock, 10), 1) and client.read(deadline)


def test_time_that_passes_in_a_script_ends_a_read(clock: FakeClock) -> None:
    client = ScriptedStream(clock, [5, 5, b"too late"])

    with pytest.raises(PeerTimeout):
        client.read(Deadline.after(clock, 10))


def test_a_signal_in_a_script_can_hasten_a_read(clock: FakeClock) -> None:
    client = ScriptedStream(clock, [lambda: client.hasten(2), 3, b"too late"])

    with pytest.raises(PeerTimeout):
        client.read(Deadline.after(clock, 300))


@pytest.mark.parametrize("ending", [CLOSE, RESET])
def test_a_client_is_seen_to_leave_behind_what_it_sent(clock: FakeClock, ending: str) -> None:
    client = ScriptedStream(clock, [b"QUIT\r\n", ending])

    assert client.peer_has_left()
    assert client.read(Deadline.after(clock, 1)) == b"QUIT\r\n"


def test_a_client_that_has_not_left_yet_is_there(clock: FakeClock) -> None:
    assert not ScriptedStream(clock, [b"QUIT\r\n"]).peer_has_left()
    assert not ScriptedStream(clock, [1, CLOSE]).peer_has_left()


def test_a_silent_stream_is_silent_until_the_deadline(clock: FakeClock) -> None:
    with pytest.raises(PeerTimeout):
        FakeStream(clock).read(Deadline.after(clock, 7))
    assert clock() == 1007


def test_a_stream_may_be_unreachable_stuck_or_reset(clock: FakeClock) -> None:
    stream = FakeStream(clock)
    stream.unreachable = 111
    with pytest.raises(PeerUnreachable, match="Connection refused"):
        stream.finish_connecting(Deadline.after(clock, 1))
    stream.is_stuck = True
    with pytest.raises(PeerTimeout):
        stream.write(b"x", Deadline.after(clock, 1))
    stream.is_stuck, stream.is_reset = False, True
    with pytest.raises(PeerLost):
        stream.write(b"x", Deadline.after(clock, 1))
    assert stream.written == b""
    with pytest.raises(PeerLost):
        stream.shutdown_write()
    assert not stream.is_shut


def talk(server: FakeUpstream, data: bytes) -> bytes:
    stream = server.connect(ADDRESS, server.clock)
    stream.write(data, Deadline.after(server.clock, 1))
    return stream.read(Deadline.after(server.clock, 1))


@pytest.mark.parametrize("end", [b"\r\n.\r\n", b"\n.\n", b"\r\n.\r\r\n", b"\r\n.\n"])
def test_a_fake_server_is_as_careless_as_can_be(clock: FakeClock, end: bytes) -> None:
    server = FakeUpstream(clock)
    talk(server, b"DATA\r\ntext" + end + b"MAIL FROM:<smuggled>\r\n")

    assert server.messages == [b"text" + end]
    assert server.commands == [b"DATA", b"MAIL FROM:<smuggled>"]


def test_a_fake_server_says_what_it_is_told(clock: FakeClock) -> None:
    server = FakeUpstream(clock, [b"SIZE 1"], mail=[b"550 no\r\n", HANGUP])

    assert talk(server, b"EHLO x\r\n") == b"220 after.example ESMTP\r\n250-after.example\r\n250 SIZE 1\r\n"
    assert talk(server, b"MAIL FROM:<a>\r\n").endswith(b"550 no\r\n")
    assert talk(server, b"MAIL FROM:<a>\r\nRSET\r\n") == b"220 after.example ESMTP\r\n"
    assert server.connections[2].has_left


def test_settings_are_defaults_with_exceptions() -> None:
    assert settings("budget.session = '30s'").budget.session == 30
    assert settings().budget.session == 0


@given(st.binary(max_size=60).filter(lambda data: b"\r\n" not in data), st.booleans())
def test_a_line_of_a_transcript_stands_for_its_bytes(data: bytes, has_end: bool) -> None:
    line = data + b"\r\n" if has_end and not data.endswith(b"\r") else data
    text = shown(line)

    assert wire(text) == line or "{" in text  # braces in content are a shorthand, not content
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"text", b"text\r\n"),
        (r"no end\ ".rstrip(), b"no end"),
        (r"a backslash \\", b"a backslash \\\r\n"),
        (r"\r\n\t\x00\\", b"\r\n\t\x00\\\r\n"),
        (r"{3*ab}c", b"abababc\r\n"),
        ("", b"\r\n"),
    ],
)
def test_the_spelling_of_bytes_in_a_transcript(text: str, data: bytes) -> None:
    assert wire(text) == data


def transcript(tmp_path: Path, *lines: str) -> Playback:
    path = tmp_path / "dialogue.txt"
    path.write_text("\n".join(["A title.", *lines]) + "\n")
    playback = Playback(Transcript.read(path))
    playback.run()
    return playback


HELLO = ("! client connects", "S: 220 filter.example ESMTP bqfilterd")
BYE = ("C: QUIT", "S: 221 2.0.0 Bye")


def test_a_transcript_that_happens_as_written_makes_no_difference(tmp_path: Path) -> None:
    assert transcript(tmp_path, *HELLO, *BYE).difference == ""


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([*HELLO, "C: NOOP", "S: 500 no", *BYE], id="another reply"),
        pytest.param([*HELLO, "C: NOOP", *BYE], id="a reply too many"),
        pytest.param([*HELLO, "S: 250 2.0.0 Ok", *BYE], id="a reply too few"),
        pytest.param([*HELLO, "U> (connects to inet:127.0.0.1:10026)", *BYE], id="a connection not made"),
        pytest.param([*HELLO], id="an end too early"),
        pytest.param([*HELLO, *BYE, "C: NOOP", "S: 250 2.0.0 Ok"], id="an end too late"),
        pytest.param([*HELLO, *BYE, *HELLO], id="a second session without an end"),
        pytest.param([*HELLO, *BYE, "L: message ..."], id="a log line that was not written"),
        pytest.param([*HELLO, "! 301 s pass", *BYE], id="a timeout nobody expects"),
    ],
)
def test_a_transcript_that_does_not_happen_is_told_from_one_that_does(
    tmp_path: Path, lines: list[str]
) -> None:
    assert transcript(tmp_path, *lines).difference


def test_a_warning_that_is_not_in_the_transcript_is_a_difference(tmp_path: Path) -> None:
    playback = transcript(
        tmp_path, "! client connects, having waited 99 s", HELLO[1], "C: MAIL FROM:<a>",
        "S: 451 4.3.2 Error: waited too long for a free filter process", *BYE,
    )  # fmt: skip

    assert "+L: warning: waited too long" in playback.difference


def test_what_means_nothing_is_no_transcript(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a line of a transcript"):
        transcript(tmp_path, *HELLO, "QUIT")
    with pytest.raises(ValueError, match="no such event: ! client sneezes"):
        transcript(tmp_path, *HELLO, "! client sneezes")


def test_a_step_is_printed_as_it_is_written() -> None:
    assert str(Step("C:", "")) == "C:"
    assert str(Step("U>", "QUIT")) == "U> QUIT"


def test_a_fake_scanner_has_every_method_of_scanner() -> None:
    methods = {name for name in vars(Scanner) if not name.startswith("_")}

    assert {name for name in methods if not hasattr(scanner("fake"), name)} == set()


def test_a_fake_scanner_goes_through_its_script_and_takes_its_time(clock: FakeClock) -> None:
    fake = scanner("fake", PeerLost("gone"), hit("x", "reject+quarantine"), clock=clock, takes=2)
    deadline = Deadline.after(clock, 10)

    with pytest.raises(PeerLost):
        fake.ping(deadline)
    assert {fake.ping(deadline), fake.ping(deadline)} == {"x"}
    assert clock() == 1006


def test_scanners_stand_in_settings_as_if_read_from_the_file() -> None:
    inbound = PolicySettings(name="inbound", scanners=("second",))
    given = with_scanners(settings(), [scanner("first"), scanner("second", on_hit=REJECT)], inbound)

    assert [one.name for one in given.scanners] == ["first", "second"]
    assert given.policy == (inbound,)


def test_a_call_fails_once_and_the_others_do_not(tmp_path: Path) -> None:
    with failing(2, OSError(errno.EIO, "broken")) as faults:
        (tmp_path / "one").mkdir()
        with pytest.raises(OSError, match="broken"):
            (tmp_path / "two").mkdir()
        assert faults.is_over
        (tmp_path / "three").mkdir()
    assert faults.made == ["mkdir", "mkdir"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three"]


def test_a_process_that_is_gone_makes_no_call_any_more(tmp_path: Path) -> None:
    with failing(2) as faults:
        (tmp_path / "one").mkdir()
        for _ in range(2):
            with pytest.raises(Gone):
                (tmp_path / "one").rmdir()
    assert faults.is_over
    (tmp_path / "one").rmdir()


@pytest.mark.parametrize(("ci", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_program_skips_a_test_and_fails_it_where_ci_is_set(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match=r"not installed: no-such-program \(Debian: none\)"):
        components.program("no-such-program", "none")
    assert components.needs("no-such-program", "none").mark.args == (not ci,)


def test_a_program_that_is_there_is_found_and_stops_nothing() -> None:
    assert components.program("sh", "dash").endswith("/sh")
    assert components.needs("sh", "dash").mark.args == (False,)
