"""What `check` finds out, against a real after-filter server and with things missing."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.config.loader import parse
from bqfilter.config.schema import Settings
from bqfilter.pool import inspection
from bqfilter.pool.inspection import Finding, inspect
from tests.doubles.sink import Sink

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
