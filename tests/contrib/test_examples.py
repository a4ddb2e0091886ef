"""The examples do what they say, run as bqfilterd runs them."""

import time
import tomllib
from pathlib import Path

import pytest

from bqfilter.config.content import CommandSettings, PythonSettings
from bqfilter.errors import ScannerFailure
from bqfilter.mail.fields import edited
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.command import Command
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.python import PythonFilter
from bqfilter.scanning.report import CLEAN, Finding, Report
from bqfilter.smtp.replies import Reply
from tests.doubles.messages import envelope, message

_EXAMPLES = Path(__file__).resolve().parents[2] / "contrib" / "examples"
_WORKSPACE = Workspace("/tmp", 65536, 1_000_000)
_MAIL = message("Subject: hello\nTo: x@y\n\nbody\n")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(_EXAMPLES / "python")


def deadline() -> Deadline:
    return Deadline.after(time.monotonic, 600.0)


def ask(
    name: str,
    mail: Message = _MAIL,
    sender: bytes = b"s@remote.example",
    source: bytes = b"REMOTE",
    **options: str,
) -> Report:
    scanner = PythonFilter(
        PythonSettings(filter=f"example_filters:{name}", options=tuple(options.items())), _WORKSPACE
    )
    scanner.after_fork_in_worker()
    return scanner.scan(mail, envelope(sender, source=source), deadline())


def run(name: str, *arguments: str, mail: Message = _MAIL, source: bytes = b"REMOTE") -> Report:
    argv = (str(_EXAMPLES / "commands" / name), *arguments)
    command = Command(CommandSettings(argv=argv, changes_message=True), _WORKSPACE)
    return command.scan(mail, envelope(source=source), deadline())


def passed_on(mail: Message, report: Report) -> bytes:
    body = b"".join(report.changes.body() if report.changes.body else mail.body())
    return edited(mail.header, report.changes.edits) + b"\r\n" + body


@pytest.mark.parametrize(
    ("subject", "source", "is_refused"),
    [
        ("READ THIS AT ONCE", b"REMOTE", True),
        ("READ THIS AT ONCE", b"LOCAL", False),
        ("FWD: ABC", b"REMOTE", False),
        ("Read this at once", b"REMOTE", False),
        ("=?utf-8?q?=C3=84RGER_IM_B=C3=9CRO?=", b"REMOTE", True),
    ],
)
def test_no_shouting(subject: str, source: bytes, is_refused: bool) -> None:
    report = ask("no_shouting", message(f"Subject: {subject}\n\n"), source=source)
    assert (report.reply == Reply(550, (b"5.7.1 Please do not shout",))) is is_refused


def test_archive_sends_a_copy_once() -> None:
    report = ask("archive", to="archive@here.example")
    assert (report.finding, report.changes.copies) == (Finding.CLEAN, (b"archive@here.example",))
    assert passed_on(_MAIL, report).startswith(
        b"Subject: hello\r\nTo: x@y\r\nX-Archived-For: one@here.example, two@here.example\r\n\r\n"
    )
    again = Message.in_memory(passed_on(_MAIL, report))
    assert ask("archive", again, to="archive@here.example") == CLEAN


@pytest.mark.parametrize(
    ("sender", "is_refused"),
    [
        (b"x@bad.example", True),
        (b"x@deep.below.BAD.example", True),
        (b"x@notbad.example", False),
        (b"x@example", False),
        (b"", False),
    ],
)
def test_blocked_domains(sender: bytes, is_refused: bool, tmp_path: Path) -> None:
    listed = tmp_path / "domains"
    listed.write_text("# ours\nBad.example  # since May\n\nother.example\n")
    report = ask("BlockedDomains", sender=sender, file=str(listed), text="No")
    assert (report.reply == Reply(554, (b"5.7.1 No",))) is is_refused


def test_blocked_domains_without_a_list_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match="FileNotFoundError"):
        ask("BlockedDomains", file="/nonexistent")


def test_the_banner_stands_above_plain_text_from_outside() -> None:
    report = ask("ExternalBanner", own="here.example", text="Careful!")
    assert passed_on(_MAIL, report) == (
        b"X-External: yes\r\nSubject: hello\r\nTo: x@y\r\n\r\nCareful!\r\n\r\nbody\r\n"
    )


@pytest.mark.parametrize(
    "field", ["Content-Type: multipart/mixed; boundary=x", "Content-Transfer-Encoding: base64"]
)
def test_the_banner_leaves_other_bodies_alone(field: str) -> None:
    report = ask("ExternalBanner", message(f"{field}\n\nbody\n"), own="here.example")
    assert report.changes.body is None
    assert report.changes.edits


def test_the_banner_is_for_what_comes_from_outside() -> None:
    assert ask("ExternalBanner", own="here.example", source=b"LOCAL") == CLEAN
    report = ask("ExternalBanner", own="here.example", sender=b"boss@here.example")
    assert report.reply is not None
    assert report.reply.code == 451


def test_every_entry_point_of_the_package_is_there() -> None:
    project = tomllib.loads((_EXAMPLES / "python" / "pyproject.toml").read_text())["project"]
    names = project["entry-points"]["bqfilter.filters"].values()
    import example_filters  # type: ignore[import-not-found]

    assert [name for name in names if not hasattr(example_filters, name.partition(":")[2])] == []


@pytest.mark.parametrize(
    ("listed", "is_refused"),
    [("SENDER@remote.example\n", True), ("other@remote.example\n", False), (".*\n", False), ("", False)],
)
def test_the_command_blocked_sender(listed: str, is_refused: bool, tmp_path: Path) -> None:
    file = tmp_path / "blocked"
    file.write_text(listed)
    report = run("blocked-sender", str(file))
    assert (report.finding is Finding.HIT) is is_refused
    assert (report.reply == Reply(550, (b"5.7.1 Mail from this sender is not wanted here",))) is is_refused


def test_the_command_blocked_sender_lets_bounces_pass(tmp_path: Path) -> None:
    file = tmp_path / "blocked"
    file.write_text("\n\n")
    argv = (str(_EXAMPLES / "commands" / "blocked-sender"), str(file))
    command = Command(CommandSettings(argv=argv), _WORKSPACE)
    assert command.scan(_MAIL, envelope(b""), deadline()) == CLEAN


def test_the_command_blocked_sender_without_its_list_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match=r"exit status 2: grep: .*No such file"):
        run("blocked-sender", "/nonexistent")


def test_the_command_mark_external_changes_the_subject_and_nothing_else() -> None:
    report = run("mark-external")
    assert report.changes.body is None
    assert passed_on(_MAIL, report) == b"Subject: [EXTERNAL] hello\r\nTo: x@y\r\n\r\nbody\r\n"
    assert run("mark-external", mail=Message.in_memory(passed_on(_MAIL, report))) == CLEAN
    assert run("mark-external", source=b"LOCAL") == CLEAN
