"""Log lines: one event a line, whatever the wire held, and never a wait for the log itself."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bqfilter.errors import ConfigError
from bqfilter.log import Log, Priority, StderrSink, SyslogSink, as_text, open_log, quoted
from tests.doubles.recorder import RecordingSink


def test_a_line_has_session_event_and_fields(sink: RecordingSink) -> None:
    Log(sink, is_json=False).for_session("5F1").info("message", result="accepted", size=12, msgid=None)

    assert sink.entries == [(Priority.INFO, "5F1: message result=accepted size=12")]


@pytest.mark.parametrize(("method", "word"), [("error", "error: "), ("warning", "warning: "), ("info", "")])
def test_what_needs_attention_says_so(sink: RecordingSink, method: str, word: str) -> None:
    getattr(Log(sink, is_json=False), method)("it happened")

    assert sink.lines == [f"{word}it happened"]


def test_a_json_line_is_one_object(sink: RecordingSink) -> None:
    Log(sink, is_json=True, session="5F1").warning("message", size=3, to=b"\xff", cause='"b"\n', no=None)

    known = {"priority": "warning", "session": "5F1", "event": "message"}
    assert json.loads(sink.lines[0]) == {**known, "size": 3, "to": "\\xff", "cause": '"b"\n'}
    assert "\n" not in sink.lines[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain", "plain", id="plain"),
        pytest.param("", '""', id="nothing"),
        pytest.param("two words", '"two words"', id="a blank"),
        pytest.param('say "x"', r'"say \"x\""', id="quotes"),
        pytest.param("a=b", '"a=b"', id="an equals sign"),
        pytest.param("a\\b", r'"a\\b"', id="a backslash"),
        pytest.param("a\r\nb\0", r'"a\r\nb\x00"', id="control characters"),
        pytest.param("a\x1b[31m", r'"a\x1b[31m"', id="a terminal's escape"),
        pytest.param("a\u2028b\x85c", r'"a\u2028b\x85c"', id="other line ends"),
        pytest.param("a\u202eb", r'"a\u202eb"', id="text that turns around"),
        pytest.param("Müller", "Müller", id="letters of any language"),
    ],
)
def test_a_value_reads_as_one_word(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(st.text(max_size=80))
def test_any_value_stays_on_one_line_and_can_be_split_off_again(text: str) -> None:
    shown = quoted(text)

    assert len(shown.splitlines()) == 1
    assert shown.startswith('"') or " " not in shown


@pytest.mark.parametrize("is_json", [False, True], ids=["text", "json"])
@hypothesis_settings(max_examples=25)
@given(
    st.dictionaries(
        st.sampled_from(["from", "to", "helo", "msgid", "reply", "cause", "queued_as", "client", "ms"]),
        st.one_of(st.text(min_size=400, max_size=600), st.binary(min_size=300, max_size=900), st.integers()),
    )
)
def test_a_line_fits_into_what_a_pipe_takes_whole(
    is_json: bool, fields: dict[str, str | bytes | int]
) -> None:
    sink = RecordingSink()
    Log(sink, is_json, "5F1").info("message", **fields)

    assert len(sink.lines[0].encode("utf-8", "backslashreplace")) <= 4000
    assert "\n" not in sink.lines[0]
    if is_json:
        assert json.loads(sink.lines[0]).keys() >= fields.keys()


def test_a_long_value_loses_its_middle_visibly(sink: RecordingSink) -> None:
    log = Log(sink, is_json=False)
    log.info("x", value="a" * 300 + "b" * 300)
    log.info("x", value=b"x" * 500)

    assert sink.lines[0].startswith("x value=aaa")
    assert "a...b" in sink.lines[0]
    assert sink.lines[0].endswith("b")
    assert len(sink.lines[0]) <= len("x value=") + 500
    assert sink.lines[1] == "x value=" + "x" * 500


@pytest.mark.parametrize("is_json", [False, True], ids=["text", "json"])
def test_nothing_that_a_terminal_obeys_gets_into_the_log(sink: RecordingSink, is_json: bool) -> None:
    Log(sink, is_json).info("message", helo="\0\x1b[2J\x7f\x9b2J\u202e\u2028", cause=b"\x1b\xc2\x9b")

    assert sink.lines[0].isprintable()


def test_bytes_that_are_no_utf_8_are_shown() -> None:
    assert as_text(b"M\xfcller") == r"M\xfcller"
    assert as_text("M\xc3\xbcller".encode("latin-1")) == "M\u00fcller"


def test_a_stuck_log_drops_lines_and_says_how_many(sink: RecordingSink) -> None:
    log = Log(sink, is_json=False)
    sink.is_stuck = True
    for number in range(3):
        log.info("lost", number=number)
    sink.is_stuck = False
    log.info("through")
    log.info("again")

    assert sink.lines == ["warning: log was stuck, lines dropped count=3", "through", "again"]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_standard_error_gets_time_program_and_line(pipe: tuple[int, int]) -> None:
    StderrSink(pipe[1]).write(Priority.INFO, "message size=1")

    written = os.read(pipe[0], 4096).decode()
    assert written.endswith(f" bqfilterd[{os.getpid()}]: message size=1\n")
    assert written.count("\n") == 1


def test_a_pipe_that_nobody_empties_does_not_block(pipe: tuple[int, int]) -> None:
    sink = StderrSink(pipe[1])
    for number in range(5000):  # far more than a pipe holds
        sink.write(Priority.INFO, f"{number} " + "x" * 100)
    os.set_blocking(pipe[0], False)
    while True:
        try:
            os.read(pipe[0], 65536)
        except BlockingIOError:
            break

    sink.write(Priority.INFO, "through")

    note, line = os.read(pipe[0], 65536).decode().splitlines()
    assert "warning: log was stuck, lines dropped count=" in note
    assert line.endswith("through")


def test_the_journal_gets_priorities_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    ours, journal = socket.socketpair()
    with ours, journal:
        StderrSink(ours.fileno()).write(Priority.WARNING, "warning: mind this")

        assert journal.recv(4096) == b"<4>warning: mind this\n"


def test_a_closed_standard_error_is_no_trouble() -> None:
    reader, writer = os.pipe()
    sink = StderrSink(writer)
    os.close(reader)

    sink.write(Priority.INFO, "nobody hears this")

    os.close(writer)


@contextlib.contextmanager
def syslog_sink(path: str) -> Iterator[SyslogSink]:
    """A sink whose socket is closed at the end, which no daemon ever has a reason to do."""
    sink = SyslogSink(path)
    yield sink
    if sink._socket is not None:
        sink._socket.close()


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[socket.socket]:
    with listen_as_syslog(str(tmp_path / "log")) as daemon:
        yield daemon


def test_syslog_gets_the_mail_facility(syslog: socket.socket) -> None:
    with syslog_sink(syslog.getsockname()) as sink:
        sink.write(Priority.INFO, "message size=1")

    assert syslog.recv(4096) == f"<{(2 << 3) | 6}>bqfilterd[{os.getpid()}]: message size=1".encode()


def listen_as_syslog(path: str) -> socket.socket:
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    daemon.bind(path)
    daemon.settimeout(30)
    return daemon


def test_a_syslog_daemon_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with syslog_sink(str(path)) as sink:
        for number in range(2):
            with listen_as_syslog(str(path)) as daemon:
                sink.write(Priority.INFO, f"line {number}")
                assert daemon.recv(4096).endswith(b"line %d" % number)
            path.unlink()


def test_lines_without_a_syslog_daemon_are_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with syslog_sink(path) as sink:
        sink.write(Priority.INFO, "lost")
        with listen_as_syslog(path) as daemon:
            sink.write(Priority.INFO, "through")

            assert daemon.recv(4096).endswith(b"warning: log was stuck, lines dropped count=1")
            assert daemon.recv(4096).endswith(b"through")


def test_a_syslog_daemon_that_reads_nothing_does_not_block(syslog: socket.socket) -> None:
    with syslog_sink(syslog.getsockname()) as sink:
        for _ in range(2000):
            sink.write(Priority.INFO, "x" * 1000)


def test_the_configured_log_is_opened(monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]) -> None:
    with os.fdopen(os.dup(pipe[1]), "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        open_log("stderr", "json").info("up")
    open_log("syslog", "text")

    assert os.read(pipe[0], 4096).endswith(b' {"priority": "info", "event": "up"}\n')


def test_a_standard_error_that_is_none_is_a_matter_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
    with pytest.raises(ConfigError, match=r"log\.target"):
        open_log("stderr", "text")
