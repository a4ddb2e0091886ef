"""What the exit status and the output of a program say."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.config.content import CommandSettings
from bqfilter.errors import ScannerFailure
from bqfilter.mail.fields import edited
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.command import _MEANINGS, Command, _changes, _with_unix_line_ends, environment_of
from bqfilter.scanning.output import Output, Workspace
from bqfilter.scanning.report import CLEAN, Finding, Report
from bqfilter.smtp.replies import Reply
from tests.doubles.adoption import adopting_orphans
from tests.doubles.messages import envelope, message

WORKSPACE = Workspace("/tmp", 65536, 1_000_000)
TEXT = "Received: one\nSubject: hello\nTo: x@y\n\nfirst\nsecond\n"


def ask(script: str, mail: Message | None = None, changes: bool = False, seconds: float = 600.0) -> Report:
    settings = CommandSettings(argv=("/bin/sh", "-c", script), changes_message=changes)
    deadline = Deadline.after(time.monotonic, seconds)
    return Command(settings, WORKSPACE).scan(mail or message(TEXT), envelope(), deadline)


@pytest.mark.parametrize(
    ("script", "detail", "response"),
    [
        pytest.param("echo Bad thing; exit 1", "Bad thing", None, id="1, up to the settings"),
        pytest.param("echo; echo Bad; echo more; exit 1", "Bad", None, id="1, first line with words"),
        pytest.param("echo Bad; exit 98", "Bad", "quarantine", id="98, quarantine"),
        pytest.param("echo Bad; exit 99", "Bad", "discard", id="99, discard"),
        pytest.param("echo Bad; exit 100", "Bad", "reject", id="100, reject"),
        pytest.param("echo Later; exit 75", "Later", "defer", id="75, defer"),
        pytest.param("echo no database >&2; exit 75", "no database", "defer", id="75, words as an error"),
        pytest.param("exit 75", "", "defer", id="75, without words"),
        pytest.param(
            "printf 'a\\tb\\033[31m\\000c\\377\\n'; exit 1", "a b [31m c\ufffd", None, id="hostile words"
        ),
        pytest.param("head -c 9000 /dev/zero | tr '\\0' x; exit 1", "x" * 200, None, id="too many words"),
    ],
)
def test_a_status_says_what_is_to_be_done(script: str, detail: str, response: str | None) -> None:
    report = ask(script)
    assert (report.finding, report.detail) == (Finding.HIT, detail)
    assert (str(report.response) if report.response else None) == response


@pytest.mark.parametrize("script", ["exit 0", "echo all is well; echo really >&2", "cat"])
def test_status_0_is_clean_whatever_is_said(script: str) -> None:
    assert ask(script) == CLEAN


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        pytest.param("exit 1", "exit status 1 without a word", id="1 without words"),
        pytest.param("false", "exit status 1 without a word", id="a script that broke"),
        pytest.param(
            "echo Traceback >&2; exit 1", "without a word of what was found: Traceback", id="Python"
        ),
        pytest.param("exit 100", "exit status 100 without a word", id="100 without words"),
        pytest.param("echo x; echo why >&2; exit 2", "exit status 2: why", id="2, wrong usage"),
        pytest.param("echo x; exit 69", "exit status 69", id="69, service unavailable"),
        pytest.param("/nonexistent", "exit status 127: .*not found", id="127, not found"),
        pytest.param("echo x; exit 10", "exit status 10", id="10 where it may not change messages"),
        pytest.param("kill -9 $$", "killed by signal 9", id="a signal"),
        pytest.param("echo x; kill -SEGV $$", "killed by signal 11", id="a crash"),
    ],
)
def test_anything_else_is_a_failure_and_never_a_finding(script: str, cause: str) -> None:
    with pytest.raises(ScannerFailure, match=cause):
        ask(script)


@pytest.mark.parametrize("status", sorted(set(range(256)) - set(_MEANINGS)))
def test_no_status_that_is_not_in_the_table_says_anything(status: int) -> None:
    command = Command(CommandSettings(argv=("/bin/true",), changes_message=True), WORKSPACE)
    with pytest.raises(ScannerFailure, match=f"exit status {status}"):
        command._meaning(status, "")


def test_a_python_program_that_raises_is_a_failure(tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text("print(undefined)")
    with pytest.raises(ScannerFailure, match="NameError: name 'undefined' is not defined"):
        ask(f"exec python3 {program}")


def test_a_program_that_takes_too_long_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match="did not end in time"):
        ask("echo Bad; sleep 3600", seconds=0.2)


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        pytest.param(
            "echo 554 5.6.0 No such thing; exit 100", Reply(554, (b"5.6.0 No such thing",)), id="5xx"
        ),
        pytest.param("echo 450 4.2.0 Later; exit 75", Reply(450, (b"4.2.0 Later",)), id="4xx"),
        pytest.param("echo Just words; exit 100", None, id="words: the settings' reply"),
        pytest.param("echo 450 4.2.0 Later; exit 100", None, id="4xx for a rejection"),
        pytest.param("echo 550 5.2.0 No; exit 75", None, id="5xx for a deferral"),
        pytest.param("echo 550 4.2.0 No; exit 100", None, id="classes that differ"),
        pytest.param("echo 521 5.2.0 No; exit 100", None, id="521 would hang up"),
        pytest.param("echo 421 4.2.0 No; exit 75", None, id="421 would hang up"),
        pytest.param("echo 550 5.7.1 No; exit 1", None, id="up to the settings"),
        pytest.param("printf '550 5.7.1 Gr\\303\\266\\n'; exit 100", None, id="beyond ASCII"),
    ],
)
def test_a_refusal_may_have_words_of_its_own(script: str, reply: Reply | None) -> None:
    assert ask(script).reply == reply


def test_the_message_has_unix_line_ends(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    ask(f"cat > {seen}")
    assert seen.read_bytes() == TEXT.encode()


def changed(script: str, mail: Message) -> Message:
    """The message that would be passed on."""
    changes = ask(script, mail, changes=True).changes
    body = b"".join(changes.body() if changes.body else mail.body())
    separator = b"\r\n" if mail.has_separator else b""
    return Message.in_memory(edited(mail.header, changes.edits) + separator + body)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        pytest.param("cat; exit 10", TEXT, id="nothing"),
        pytest.param("(echo X-New: 1; cat); exit 10", "X-New: 1\n" + TEXT, id="a field more"),
        pytest.param("sed s/hello/bye/; exit 10", TEXT.replace("hello", "bye"), id="another subject"),
        pytest.param("sed /^Received/d; exit 10", TEXT.replace("Received: one\n", ""), id="a field less"),
        pytest.param("(cat; echo -- banner); exit 10", TEXT + "-- banner\n", id="a line more"),
        pytest.param("(cat; printf banner); exit 10", TEXT + "banner\n", id="a line without its end"),
        pytest.param("sed 's/$/\\r/' ; exit 10", TEXT, id="given back with CRLF"),
        pytest.param("tr '[:lower:]' '[:upper:]'; exit 10", TEXT.upper(), id="everything"),
    ],
)
def test_a_program_may_change_the_message(script: str, text: str) -> None:
    assert b"".join(changed(script, message(TEXT)).content()) == text.replace("\n", "\r\n").encode()


def test_what_a_program_left_alone_is_not_touched() -> None:
    report = ask("(echo X-New: 1; cat); exit 10", changes=True)
    assert report.finding is Finding.CLEAN
    assert len(report.changes.edits) == 1
    assert report.changes.body is None


def test_a_program_that_changes_nothing_asks_for_nothing() -> None:
    assert ask("cat; exit 10", changes=True) == CLEAN


def test_a_large_message_is_changed_without_being_held_in_memory() -> None:
    mail = message(TEXT + "0123456789" * 50_000 + "\n")
    assert changed("sed s/9/nine/g; exit 10", mail).size > mail.size


def test_a_change_and_a_finding_may_come_together() -> None:
    report = ask("sed s/hello/bye/; echo Spam >&2; exit 11", changes=True)
    assert (report.finding, report.detail, report.response) == (Finding.HIT, "Spam", None)
    assert report.changes


def test_where_the_status_says_so_the_output_is_words_after_all() -> None:
    report = ask("echo Bad; exit 1", changes=True)
    assert (report.detail, report.changes) == ("Bad", CLEAN.changes)


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        pytest.param("exit 10", "does not begin with the header", id="nothing at all"),
        pytest.param(
            "echo debugging; cat; exit 10", "does not begin with the header", id="something else first"
        ),
        pytest.param("echo; cat; exit 10", "does not begin with the header", id="an empty line first"),
        pytest.param("cat; yes; exit 10", "more than a message may have", id="without an end"),
    ],
)
def test_what_is_no_message_is_a_failure(script: str, cause: str) -> None:
    with pytest.raises(ScannerFailure, match=cause):
        ask(script, changes=True)


@given(st.binary(max_size=60), st.sampled_from([1, 2, 7, 65536]))
def test_line_ends_come_back_as_they_were(body: bytes, size: int) -> None:
    """Through a program that gives back what it gets."""
    content = b"A: 1\r\n\r\n" + body.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    mail = Message(lambda: (content[at : at + size] for at in range(0, len(content), size)))
    assert _through_cat(mail) == CLEAN.changes


def _through_cat(mail: Message) -> object:
    output = Output(WORKSPACE)
    for piece in _with_unix_line_ends(mail.content()):
        output.append(piece)
    return _changes(mail, output)


def test_the_environment_holds_the_envelope_and_no_more() -> None:
    mail = envelope(
        b"s@remote.example",
        (b"one@here.example", b"two@here.example"),
        name=b"mx.remote.example",
        addr=b"IPv6:2001:db8::1",
        helo=b"remote",
        source=b"REMOTE",
    )
    assert environment_of(mail) == {
        "PATH": b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": b"C.UTF-8",
        "BQFILTER_SENDER": b"s@remote.example",
        "BQFILTER_RECIPIENTS": b"one@here.example\ntwo@here.example",
        "BQFILTER_RECIPIENT_COUNT": b"2",
        "BQFILTER_CLIENT_ADDRESS": b"2001:db8::1",
        "BQFILTER_CLIENT_NAME": b"mx.remote.example",
        "BQFILTER_CLIENT_HELO": b"remote",
        "BQFILTER_CLIENT_SOURCE": b"REMOTE",
        "BQFILTER_SESSION": b"5f00aa",
        "BQFILTER_LISTENER": b"inet:127.0.0.1:10025",
    }


def test_a_program_sees_its_environment() -> None:
    assert ask('echo "$BQFILTER_SENDER $(env | wc -l)"; exit 1').detail.startswith("sender@remote.example ")


@given(st.binary(max_size=100), st.lists(st.binary(max_size=30), max_size=5))
def test_no_address_adds_a_line_or_ends_a_value(sender: bytes, recipients: list[bytes]) -> None:
    found = environment_of(envelope(sender, tuple(recipients), helo=sender))
    values = b"".join(found.values())
    assert b"\0" not in values
    assert b"\n" not in found["BQFILTER_SENDER"] + found["BQFILTER_CLIENT_HELO"]
    assert found["BQFILTER_RECIPIENTS"].count(b"\n") == max(len(recipients) - 1, 0)


def test_ten_thousand_recipients_do_not_keep_a_program_from_starting() -> None:
    recipients = tuple(b"a.rather.long.recipient.%d@here.example" % n for n in range(10_000))
    found = environment_of(envelope(recipients=recipients))
    listed = found["BQFILTER_RECIPIENTS"].split(b"\n")
    assert 1000 < len(listed) < 10_000
    assert listed == list(recipients[: len(listed)])
    assert found["BQFILTER_RECIPIENT_COUNT"] == b"10000"
    settings = CommandSettings(argv=("/bin/true",))
    deadline = Deadline.after(time.monotonic, 600.0)
    assert (
        Command(settings, WORKSPACE).scan(message(TEXT), envelope(recipients=recipients), deadline) == CLEAN
    )


def ping(program: str) -> str:
    command = Command(CommandSettings(argv=(program,)), WORKSPACE)
    return command.ping(Deadline.after(time.monotonic, 600.0))


def test_a_program_that_is_there_is_not_started_to_find_out() -> None:
    assert ping("/bin/false") == "/bin/false is there"


@pytest.mark.parametrize("program", ["/nonexistent", "/etc/passwd", "/usr"])
def test_a_program_that_cannot_be_run_is_told(program: str) -> None:
    with pytest.raises(ScannerFailure, match="is not there, or no program"):
        ping(program)


def test_a_worker_finds_what_a_program_leaves_behind(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = Command(
        CommandSettings(
            argv=(
                "/bin/sh",
                "-c",
                f"""
        setsid sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 3600' >/dev/null 2>&1 &
        until [ -e {pid} ]; do sleep 0.01; done""",
            )
        ),
        WORKSPACE,
    )
    with adopting_orphans():
        command.after_fork_in_worker()
        command.scan(message(TEXT), envelope(), Deadline.after(time.monotonic, 600.0))
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
