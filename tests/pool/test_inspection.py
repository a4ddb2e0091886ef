"""What `check` finds out, against a real after-filter server and with things missing."""

import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.config.loader import parse
from bqfilter.config.schema import Settings
from bqfilter.pool import inspection
from bqfilter.pool.inspection import Finding, inspect
from bqfilter.pool.limits import Host, shortages
from tests.doubles.programs import short_directory
from tests.doubles.scanning_daemon import hang, hear, say, scripted_daemon
from tests.doubles.sink import Sink
from tests.pool.daemon import needs_root

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


def test_a_syslog_daemon_that_is_not_there_is_wrong(sink: Sink) -> None:
    with short_directory("bqlog-") as directory:
        path = directory / "log"
        settings = settings_for(sink.endpoint, f'[log]\ntarget = "syslog"\nsyslog = "unix:{path}"\n')
        missing = wrong(inspect(settings))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
            daemon.bind(str(path))
            found = list(inspect(settings))

    assert missing == [
        ("log", f"syslog at unix:{path}: [Errno 2] No such file or directory: lines would be lost")
    ]
    assert wrong(iter(found)) == []
    assert found[0].text == f"syslog at unix:{path}, facility mail"


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


def test_a_spool_directory_that_is_not_there_is_wrong(sink: Sink, directory: Path) -> None:
    missing = directory / "missing"

    (found,) = wrong(inspect(settings_for(sink.endpoint, f'[spool]\ndirectory = "{missing}"\n')))

    assert found == ("spool", f"{missing} is not a directory: large messages would be answered 451")


def test_a_backlog_that_the_kernel_would_cut_is_wrong(
    sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somaxconn = tmp_path / "proc" / "sys" / "net" / "core" / "somaxconn"
    somaxconn.parent.mkdir(parents=True)
    somaxconn.write_text("100\n", encoding="ascii")
    monkeypatch.setattr(inspection, "shortages", lambda settings: shortages(settings, Host(tmp_path)))

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
    monkeypatch.setattr(inspection, "_called", None)

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


@needs_root
def test_a_program_that_workers_may_not_run_is_wrong(sink: Sink, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)

    (found,) = wrong(inspect(settings_for(sink.endpoint, f'[[command]]\nargv = ["{program}"]\n')))

    assert found[0] == "scanner"
    assert "no program that we may run" in found[1]


# Scanners

CLAMD_VERSION = (hear(b"zVERSION\0"), say(b"ClamAV 1.4.6/27000\0"))


def of(subject: str, settings: Settings) -> list[tuple[bool, str]]:
    """What is found about one thing."""
    found = inspect(settings)
    return [(finding.is_well, finding.text) for finding in found if finding.subject == subject]


def test_a_scanner_that_is_up_is_shown_with_its_version(sink: Sink) -> None:
    with scripted_daemon(*CLAMD_VERSION) as clamd:
        settings = settings_for(sink.endpoint, f'[[clamd]]\nendpoint = "{clamd.address}"\n')

        assert of("scanner", settings) == [(True, f"clamd: {clamd.address}: ClamAV 1.4.6/27000")]


@pytest.mark.parametrize(
    ("on_error", "consequence"), [("defer", "deferred"), ("pass", "passed on unscanned")]
)
@pytest.mark.parametrize("kind", ["clamd", "spamd", "rspamd"])
def test_a_scanner_that_is_down_is_wrong_and_what_becomes_of_mail_is_told(
    sink: Sink, directory: Path, kind: str, on_error: str, consequence: str
) -> None:
    table = f'[[{kind}]]\nname = "mine"\nendpoint = "unix:{directory}/missing"\non_error = "{on_error}"\n'
    (found,) = of("scanner", settings_for(sink.endpoint, table))

    assert not found[0]
    assert found[1].startswith("mine: ")
    assert "No such file or directory" in found[1]
    assert found[1].endswith(f": mail would be {consequence}")


def test_a_scanner_that_is_mute_is_given_up_within_its_timeout(sink: Sink) -> None:
    with scripted_daemon(hang) as clamd:
        table = f'[[clamd]]\nendpoint = "{clamd.address}"\ntimeout = "100ms"\n'
        (found,) = of("scanner", settings_for(sink.endpoint, table))

    assert not found[0]
    assert "nothing received" in found[1]


def test_a_filter_of_the_site_is_loaded_elsewhere(sink: Sink) -> None:
    table = '[[python]]\nfilter = "antigravity_of_nobody:x"\n'
    (found,) = of("scanner", settings_for(sink.endpoint, table))

    assert not found[0]
    assert "antigravity_of_nobody" in found[1]
    (found,) = of("scanner", settings_for(sink.endpoint, '[[python]]\nfilter = "this:c"\n'))
    assert "this" not in sys.modules


def test_a_table_of_rules_that_is_not_there_is_wrong(sink: Sink, tmp_path: Path) -> None:
    table = f'[[rules]]\nheader_checks = ["{tmp_path}/missing"]\n'
    ((is_well, text),) = of("scanner", settings_for(sink.endpoint, table))

    assert not is_well
    assert f"{tmp_path}/missing" in text


@pytest.mark.parametrize(
    ("seconds", "notes"),
    [pytest.param("40s", 0, id="within"), pytest.param("41s", 1, id="beyond")],
)
def test_timeouts_that_are_more_than_the_budget_are_pointed_out(sink: Sink, seconds: str, notes: int) -> None:
    # Scanners have 0.9 * (100 - 5 - 10) = 76.5 s.
    scanners = '[[command]]\nargv = ["/bin/true"]\ntimeout = "36s"\n'
    table = f'[[command]]\nname = "other"\nargv = ["/bin/true"]\ntimeout = "{seconds}"\n'
    found = of("scanner", settings_for(sink.endpoint, scanners + table))

    assert [is_well for is_well, _ in found] == [True] * len(found)
    assert len([text for _, text in found if "77 s, and the budget leaves scanners 76.5 s" in text]) == notes


# The quarantine

KEEPS = '[[policy]]\nname = "all"\naction = "quarantine"\n[quarantine]\n'


def test_the_quarantine_is_looked_at_where_something_may_be_kept(sink: Sink, directory: Path) -> None:
    table = f'[quarantine]\ndirectory = "{directory}/kept"\n'

    assert of("quarantine", settings_for(sink.endpoint, table)) == []
    ((_, text),) = of("quarantine", settings_for(sink.endpoint, KEEPS + f'directory = "{directory}/kept"\n'))
    assert text.startswith(f"{directory}/kept, which will be made, ")
    to = 'quarantine_to = "kept@example.org"\n'
    assert of("quarantine", settings_for(sink.endpoint, KEEPS + to)) == [(True, "goes to kept@example.org")]


@pytest.mark.parametrize(
    ("content", "is_needed"),
    [
        pytest.param('[[policy]]\nname = "all"\naction = "quarantine"\n', False, id="it goes to the mailbox"),
        pytest.param('[[policy]]\nname = "all"\naction = "accept+quarantine"\n', True, id="a copy besides"),
        pytest.param(
            '[[policy]]\nname = "some"\nrecipients = ["@a.example"]\n', True, id="recipients differ"
        ),
        pytest.param('[[command]]\nargv = ["/bin/true"]\non_hit = "quarantine"\n', True, id="who knows"),
        pytest.param('[[attachments]]\non_hit = "quarantine"\n', False, id="a scanner that keeps"),
    ],
)
def test_a_directory_is_looked_at_besides_a_mailbox_where_one_may_be_needed(
    sink: Sink, directory: Path, content: str, is_needed: bool
) -> None:
    (directory / "file").touch()
    table = f'[quarantine]\nquarantine_to = "kept@example.org"\ndirectory = "{directory}/file/kept"\n'
    found = of("quarantine", settings_for(sink.endpoint, content + table))

    assert found[0] == (True, "goes to kept@example.org")
    assert [is_well for is_well, _ in found[1:]] == ([False] if is_needed else [])


def test_a_quarantine_that_is_there_has_room(sink: Sink, directory: Path) -> None:
    ((is_well, text),) = of("quarantine", settings_for(sink.endpoint, KEEPS + f'directory = "{directory}"\n'))

    assert is_well
    assert re.fullmatch(rf"{directory}, \d+ MiB free", text)


def test_a_quarantine_that_cannot_be_made_is_wrong(sink: Sink, directory: Path) -> None:
    (directory / "file").touch()
    ((is_well, text),) = of(
        "quarantine", settings_for(sink.endpoint, KEEPS + f'directory = "{directory}/file/kept"\n')
    )

    assert not is_well
    assert text == f"{directory}/file is not a directory: what is to be kept would be answered 451"


@needs_root
def test_a_spool_that_is_not_the_workers_to_write_to_is_wrong_although_root_may(
    sink: Sink, directory: Path
) -> None:
    (found,) = of("spool", settings_for(sink.endpoint, f'[spool]\ndirectory = "{directory}"\n'))

    assert found == (False, f"{directory} is not for nobody to write: large messages would be answered 451")


@needs_root
@pytest.mark.parametrize("name", ["closed", "closed/kept"])
def test_a_quarantine_that_workers_cannot_get_to_is_wrong_although_root_can(
    sink: Sink, directory: Path, name: str
) -> None:
    (directory / "closed").mkdir(mode=0o700)
    (directory / name).mkdir(exist_ok=True)
    table = f'directory = "{directory}/closed/kept"\n'
    ((is_well, text),) = of("quarantine", settings_for(sink.endpoint, KEEPS + table))

    assert not is_well
    assert text == f"{directory}/closed is not for nobody to enter: what is to be kept would be answered 451"


# Policies


@pytest.mark.parametrize(
    ("policy", "is_noted"),
    [
        pytest.param('recipients = ["@example.org"]', True, id="by recipient"),
        pytest.param('senders = ["@example.org"]', False, id="by sender"),
    ],
)
def test_what_one_reply_for_all_means_is_told_where_policies_depend_on_recipients(
    sink: Sink, policy: str, is_noted: bool
) -> None:
    found = of("policy", settings_for(sink.endpoint, f'[[policy]]\nname = "some"\n{policy}\n'))

    assert [is_well for is_well, _ in found] == [True] * is_noted
    assert all("policies depend on recipients" in text for _, text in found)
