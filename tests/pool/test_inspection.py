"""What `check` finds out, against a real after-filter server and with things missing."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.config.loader import parse
from bqfilter.config.schema import Settings
from bqfilter.pool import inspection
from bqfilter.pool.inspection import Finding, inspect
from tests.doubles.programs import short_directory
from tests.doubles.sink import Sink

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

ALL = (
    b"PIPELINING",
    b"SIZE 10240000",
    b"8BITMIME",
    b"DSN",
    b"SMTPUTF8",
    b"XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink(ALL) as running:
        yield running


def settings_for(upstream: str, more: str = "") -> Settings:
    text = f'[[listen]]\nendpoint = "inet:127.0.0.1:0"\n[upstream]\nendpoint = "{upstream}"\n'
    return parse(text + '[runtime]\nuser = "nobody"\n' + more, "test")


def wrong(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(finding.subject, finding.text) for finding in findings if not finding.is_well]


def test_nothing_is_wrong_with_a_good_set_up_and_what_the_server_announces_is_shown(sink: Sink) -> None:
    findings = list(inspect(settings_for(sink.endpoint)))

    assert wrong(iter(findings)) == []
    assert any("SIZE 10240000" in finding.text and "SMTPUTF8" in finding.text for finding in findings)


def test_the_keywords_to_be_withheld_are_given_as_the_line_to_set(sink: Sink) -> None:
    sink.capabilities = (b"PIPELINING", b"8BITMIME", b"XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")

    (found,) = wrong(inspect(settings_for(sink.endpoint)))

    assert found[1].endswith("smtpd_discard_ehlo_keywords = dsn, smtputf8, size")


def test_a_server_without_xforward_is_pointed_out_with_the_remedy(sink: Sink) -> None:
    sink.capabilities = tuple(line for line in ALL if not line.startswith(b"XFORWARD"))

    (found,) = wrong(inspect(settings_for(sink.endpoint)))

    assert "smtpd_authorized_xforward_hosts" in found[1]


def test_an_after_filter_server_that_is_not_there_is_wrong() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    (found,) = wrong(inspect(settings_for(f"inet:127.0.0.1:{port}")))

    assert found == ("upstream", f"inet:127.0.0.1:{port}: Connection refused")


def test_a_server_that_is_mute_is_given_up_within_the_limit_for_its_greeting() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(5)
        endpoint = f"inet:127.0.0.1:{mute.getsockname()[1]}"
        (found,) = wrong(inspect(settings_for(endpoint, '[timeouts]\ngreeting = "100ms"\n')))

    assert found == ("upstream", f"{endpoint}: nothing received")


def test_a_name_that_does_not_resolve_is_wrong() -> None:
    found = wrong(inspect(settings_for("inet:no-such-host.invalid:10026")))

    assert {subject for subject, _ in found} == {"listen", "upstream"}
    assert all("no-such-host.invalid" in text for _, text in found)


def test_a_spool_directory_that_is_not_there_is_wrong(sink: Sink, tmp_path: Path) -> None:
    missing = tmp_path / "missing"

    (found,) = wrong(inspect(settings_for(sink.endpoint, f'[spool]\ndirectory = "{missing}"\n')))

    assert found[0] == "spool"
    assert str(missing) in found[1]


def test_a_backlog_that_the_kernel_would_cut_is_wrong(
    sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somaxconn = tmp_path / "somaxconn"
    somaxconn.write_text("100\n", encoding="ascii")
    monkeypatch.setattr(inspection, "_SOMAXCONN", somaxconn)

    (found,) = wrong(inspect(settings_for(sink.endpoint)))

    assert found[1].endswith("sysctl -w net.core.somaxconn=256")


def scanner_lines(settings: Settings) -> list[tuple[bool, str]]:
    return [(found.is_well, found.text) for found in inspect(settings) if found.subject == "scanner"]


@needs_root
def test_a_scanner_is_called_by_the_account_that_workers_have(sink: Sink) -> None:
    with short_directory("bqin-") as directory, socket.socket(socket.AF_UNIX) as listening:
        path = directory / "clamd.sock"
        listening.bind(str(path))
        listening.listen(1)
        path.chmod(0o660)
        (line,) = scanner_lines(settings_for(sink.endpoint, f'[[clamd]]\nendpoint = "unix:{path}"\n'))

    assert line == (False, f"clamd: unix:{path}: Permission denied: mail would be deferred")


def test_without_scanners_nobody_is_called(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "run_errand", None)

    assert scanner_lines(settings_for(sink.endpoint)) == []


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(TimeoutError, "a scanner does not return when it is called", id="does not return"),
        pytest.param(
            ChildProcessError, "a scanner ended the process when it was called", id="ends the process"
        ),
    ],
)
def test_a_scanner_that_ends_or_holds_up_the_call_is_wrong(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, failure: type[OSError], told: str
) -> None:
    def fail(*_: object) -> str:
        raise failure

    monkeypatch.setattr(inspection, "run_errand", fail)

    assert scanner_lines(settings_for(sink.endpoint, '[[clamd]]\nendpoint = "unix:/a"\n')) == [(False, told)]


def test_a_mistake_while_scanners_are_called_is_told(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "run_errand", lambda *_: "KeyError: 'x'")

    lines = scanner_lines(settings_for(sink.endpoint, '[[clamd]]\nendpoint = "unix:/a"\n'))
    assert lines == [(False, "KeyError: 'x'")]
