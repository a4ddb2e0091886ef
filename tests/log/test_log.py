"""The log as the rest of the program has it, and as the configuration asks for it."""

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bqfilter.config.line_template import LineTemplate
from bqfilter.config.schema import LogSettings
from bqfilter.errors import ConfigError
from bqfilter.log import Log, Priority, open_log
from bqfilter.net.address import Endpoint
from tests.doubles.recorder import RecordingSink


def test_a_line_has_session_event_and_fields(sink: RecordingSink) -> None:
    Log(sink, is_json=False).for_session("5F1").info("message", result="accepted", size=12, msgid=None)

    assert sink.entries == [(Priority.INFO, "5F1: message result=accepted size=12")]


@pytest.mark.parametrize(("method", "word"), [("error", "error: "), ("warning", "warning: "), ("info", "")])
def test_what_needs_attention_says_so(sink: RecordingSink, method: str, word: str) -> None:
    getattr(Log(sink, is_json=False), method)("it happened")

    assert sink.lines == [f"{word}it happened"]


def test_a_template_words_the_lines_of_messages_and_no_others(sink: RecordingSink) -> None:
    template = LineTemplate.parse("{queued_as}: from={from}")
    log = Log(sink, is_json=False, template=template).for_session("5F1")
    log.info("message", **{"from": b"<a@b>"}, queued_as="4XY")
    log.info("reject", command="RCPT")

    assert sink.lines == ["4XY: from=<a@b>", "5F1: reject command=RCPT"]


def test_json_has_all_fields_whatever_the_template_says(sink: RecordingSink) -> None:
    Log(sink, is_json=True, template=LineTemplate.parse("{size}")).info("message", size=1, result="accepted")

    assert json.loads(sink.lines[0])["result"] == "accepted"


def test_an_event_that_a_site_can_do_without_is_left_out_unless_it_is_a_warning(sink: RecordingSink) -> None:
    log = Log(sink, is_json=False, quiet=("reject",)).for_session("5F1")
    log.info("reject")
    log.info("message")
    log.warning("reject")

    assert sink.lines == ["5F1: message", "5F1: warning: reject"]


def logged(settings: LogSettings, write: Callable[[Log], None]) -> bytes:
    """What comes out at standard error when a log with these settings is opened and `write` has it."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader:
        with os.fdopen(writing, "w") as stderr, contextlib.redirect_stderr(stderr):
            write(open_log(settings))
        return reader.read()


def test_the_configured_log_is_opened() -> None:
    def write(log: Log) -> None:
        log.for_session("5F1").info("message", size=3)
        log.info("reject")

    template = LineTemplate.parse("{session}> {size}")
    settings = LogSettings(ident="bqfilterd-in", message=template, quiet=("reject",))
    assert logged(settings, write).endswith(f" bqfilterd-in[{os.getpid()}]: 5F1> 3\n".encode())


def test_json_on_standard_error_is_nothing_but_json() -> None:
    line = json.loads(logged(LogSettings(format="json"), lambda log: log.info("up")))

    assert line.pop("time")
    assert line == {"program": "bqfilterd", "pid": os.getpid(), "priority": "info", "event": "up"}


def test_a_syslog_daemon_need_not_be_there_at_the_start(tmp_path: Path) -> None:
    endpoint = Endpoint("unix", path=str(tmp_path / "log"))

    open_log(LogSettings("syslog", syslog=endpoint)).info("lost")


def test_a_syslog_host_that_cannot_be_found_is_a_matter_of_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    endpoint = Endpoint("inet", host="loghost.example", port=514)
    with pytest.raises(ConfigError, match=r"log\.syslog: .*cannot be resolved"):
        open_log(LogSettings("syslog", syslog=endpoint))


def test_a_standard_error_that_is_none_is_a_matter_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
    with pytest.raises(ConfigError, match=r"log\.target"):
        open_log(LogSettings())
