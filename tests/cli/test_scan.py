"""`bqfilterd scan` as its user sees it: lines, JSON, exit status, and as whom it looks at messages."""

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bqfilter import trial
from bqfilter.cli import main
from bqfilter.pool import startup
from tests.doubles.programs import COMMAND, REPOSITORY, short_directory
from tests.doubles.signatures import find_key, signed

CONTENT = b"From: a@sender.example\r\nTo: b@here.example\r\nSubject: hello\r\n\r\nHello.\r\n"
BANNED = b"From: a@sender.example\nContent-Type: text/plain; name=run.exe\n\nMZ\n"
SETTINGS = """\
[[listen]]
endpoint = "inet:127.0.0.1:10025"
[[listen]]
endpoint = "inet:127.0.0.1:10027"
[upstream]
endpoint = "inet:127.0.0.1:10026"
[runtime]
hostname = "filter.example"
user = "nobody"
[[attachments]]
"""


# The account may not be able to read where Python is installed.
IMPORTS_NOTHING_THEN = """
import sys
from bqfilter.cli import main
from bqfilter.pool import startup
drop_privileges = startup.drop_privileges

def drop_and_import_nothing(identity):
    drop_privileges(identity)
    sys.meta_path.clear()

startup.drop_privileges = drop_and_import_nothing
main()
"""


@pytest.fixture(autouse=True)
def still_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own process stays what it is, and nobody asks a name server."""
    monkeypatch.setattr(startup, "drop_privileges", lambda _identity: None)
    monkeypatch.setattr(trial, "try_out", partial(trial.try_out, find_key=find_key))


def run(directory: Path, *arguments: str | Path, more: str = "", **messages: bytes) -> Result:
    """Scan these messages, each in a file of its name."""
    config = directory / "bqfilterd.toml"
    config.write_text(SETTINGS + more, encoding="utf-8")
    paths = []
    for name, content in messages.items():
        paths.append(directory / name)
        paths[-1].write_bytes(content)
    return CliRunner().invoke(main, ["scan", "--config", str(config), *map(str, [*arguments, *paths])])


def test_clean_messages_end_with_status_0(tmp_path: Path) -> None:
    result = run(tmp_path, one=CONTENT, two=CONTENT.replace(b"\r\n", b"\n"))

    assert result.exit_code == 0, result.output
    heads = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert [re.sub(r"\d+ ms", "N ms", head) for head in heads] == [
        f"{tmp_path}/one: 250 2.0.0 Ok (N ms)",
        f"{tmp_path}/two: 250 2.0.0 Ok (N ms)",
    ]
    assert "  policy default for postmaster@localhost: accept\n    attachments    clean " in result.stdout


def test_a_finding_ends_with_status_1_and_the_reply_that_there_would_be(tmp_path: Path) -> None:
    result = run(tmp_path, good=CONTENT, bad=BANNED)

    assert result.exit_code == 1
    assert f"{tmp_path}/good: 250 " in result.stdout
    assert re.search(rf"{tmp_path}/bad: 554 5\.7\.1 Attachment refused: .*run\.exe", result.stdout)
    assert re.search(r"policy default for .*: reject \(attachments: .*run\.exe", result.stdout)


def test_what_would_change_is_shown_with_its_recipients_and_signatures(tmp_path: Path) -> None:
    more = (
        'on_hit = "tag"\nsubject_prefix = "[EXE] "\nadd_headers = ["X-Exe: {detail}"]\n'
        '[[policy]]\nname = "archived"\ncopy_to = ["archive@here.example"]\n'
    )
    result = run(tmp_path, more=more, bad=signed(BANNED.replace(b"\n", b"\r\n"), names=(b"from",)))

    assert result.exit_code == 1
    shown = result.stdout
    assert "policy archived for postmaster@localhost: tag (attachments: " in shown
    assert "\n    +X-Bqfilter-Report: filter.example;" in shown
    assert re.search(r"\n    \+X-Exe: .*run\.exe", shown)
    assert "\n    +Subject: [EXE]\n" in shown
    assert "\n    goes to archive@here.example as well\n" in shown
    assert shown.endswith("    DKIM d=sender.example s=test: verifies before, verifies after\n")


def test_a_redirection_is_shown(tmp_path: Path) -> None:
    more = '[[policy]]\nname = "moved"\naction = "redirect"\nredirect_to = "new@here.example"\n'
    result = run(tmp_path, "--recipient", "old@here.example", more=more, one=CONTENT)

    assert "policy moved for old@here.example: redirect" in result.stdout
    assert "\n    goes to new@here.example instead\n" in result.stdout


def edits_hello(directory: Path) -> str:
    """A table that replaces the line, which is the whole body."""
    (directory / "body_checks").write_text("/^Hello\\./ REPLACE Goodbye.\n", encoding="utf-8")
    return f'[[rules]]\nbody_checks = ["{directory}/body_checks"]\n'


def test_edits_of_the_body_are_shown(tmp_path: Path) -> None:
    result = run(tmp_path, more=edits_hello(tmp_path), one=CONTENT)
    as_json = json.loads(run(tmp_path, "--json", more=edits_hello(tmp_path), one=CONTENT).stdout)

    assert result.exit_code == 0, result.output
    assert "\n    the body is edited:\n    -Hello.\n    +Goodbye.\n" in result.stdout
    assert as_json["policies"][0]["body_changes"] == ["-Hello.", "+Goodbye."]
    assert as_json["policies"][0]["has_new_body"] is True


def test_edits_that_a_signature_would_suffer_from_are_shown_where_they_are_made(tmp_path: Path) -> None:
    spared = run(tmp_path, more=edits_hello(tmp_path), one=signed(CONTENT))
    told = edits_hello(tmp_path) + "[headers]\nchange_signed = true\n"
    made = run(tmp_path, more=told, one=signed(CONTENT))

    assert "REPLACE Goodbye. (not done: signed or encrypted)\n" in spared.stdout
    assert spared.stdout.endswith("verifies before, verifies after\n")
    assert "\n    +Goodbye.\n" in made.stdout
    assert made.stdout.endswith("verifies before, FAILS after\n")


def test_json_has_an_object_for_each_file(tmp_path: Path) -> None:
    result = run(tmp_path, "--json", good=signed(CONTENT), bad=BANNED)
    good, bad = map(json.loads, result.stdout.splitlines())

    assert result.exit_code == 1
    assert good["file"] == f"{tmp_path}/good"
    assert good["reply"] == "250 2.0.0 Ok"
    (opinion,) = good["policies"]
    assert opinion["dkim"] == [
        {"domain": "sender.example", "selector": "test", "before": True, "after": True}
    ]
    assert opinion["header_changes"] == []
    (refusal,) = bad["policies"]
    assert (refusal["policy"], refusal["action"], refusal["keeps_copy"]) == ("default", "reject", False)
    (report,) = refusal["reports"]
    assert (report["scanner"], report["finding"]) == ("attachments", "hit")
    assert "run.exe" in report["detail"]


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        pytest.param([], "default", id="nothing said"),
        pytest.param(["--sender", "a@b.example"], "sender", id="sender"),
        pytest.param(["--client", "192.0.2.7"], "client", id="client"),
        pytest.param(["--client", "2001:db8::7"], "client", id="client by IPv6"),
        pytest.param(["--helo", "mail.b.example"], "helo", id="helo"),
        pytest.param(["--source", "local"], "local", id="source"),
        pytest.param(["--listener", "inet:127.0.0.1:10027"], "second", id="listener"),
        pytest.param(["--recipient", "x@y.example"], "recipient", id="recipient"),
    ],
)
def test_options_say_under_which_policy_a_message_comes(
    tmp_path: Path, options: list[str], policy: str
) -> None:
    conditions = {
        "sender": 'senders = ["@b.example"]',
        "client": 'clients = ["192.0.2.0/24", "2001:db8::/32"]',
        "helo": 'helo = [".b.example"]',
        "local": 'source = "local"',
        "second": 'listeners = ["inet:127.0.0.1:10027"]',
        "recipient": 'recipients = ["@y.example"]',
    }
    more = "".join(f'[[policy]]\nname = "{name}"\n{line}\n' for name, line in conditions.items())
    result = run(tmp_path, *options, more=more, one=CONTENT)

    assert result.exit_code == 0, result.output
    assert f"  policy {policy} for " in result.stdout


def test_without_a_listener_named_the_first_one_is_meant(tmp_path: Path) -> None:
    more = '[[policy]]\nname = "first"\nlisteners = ["inet:127.0.0.1:10025"]\n'

    assert "policy first for" in run(tmp_path, more=more, one=CONTENT).stdout
    wrong = run(tmp_path, "--listener", "inet:127.0.0.1:1", more=more, one=CONTENT)
    assert wrong.exit_code == 2
    assert "inet:127.0.0.1:10025, inet:127.0.0.1:10027" in wrong.stderr


def test_nothing_that_a_message_says_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    evil = (
        b"From: a@b\nSubject: \x1b]0;owned\x07\x9b2J\nX-Bqfilter-Report: \x1b[31m\xc2\x9b2J\xe2\x80\xaex\n"
        b'Content-Type: text/plain; name="\x1b[2Ja\xc2\x9b.exe"\n\nMZ\n'
    )
    more = 'on_hit = "tag"\nsubject_prefix = "X "\n'
    result = run(tmp_path, more=more, **{"evil\x1b[2J\u202e": evil})

    assert result.exit_code == 1
    assert "-X-Bqfilter-Report: " in result.stdout
    assert not [char for char in result.stdout.replace("\n", "") if not char.isprintable()]


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_looked_at(tmp_path: Path) -> None:
    result = run(tmp_path, "/proc/self/mem", one=CONTENT)

    assert result.exit_code == 1
    assert result.stderr == "bqfilterd: /proc/self/mem: Input/output error\n"
    assert f"{tmp_path}/one: 250 2.0.0 Ok" in result.stdout


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    assert run(tmp_path, tmp_path / "missing").exit_code == 2


def test_a_configuration_that_cannot_be_used_ends_with_status_78(tmp_path: Path) -> None:
    result = run(tmp_path, more="on_hitt = 3\n", one=CONTENT)

    assert result.exit_code == os.EX_CONFIG
    assert "attachments[1].on_hitt" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_started_by_root_messages_are_looked_at_by_the_workers_account() -> None:
    with short_directory("bqscan-") as directory:
        secret = directory / "secret"
        secret.write_bytes(CONTENT)
        secret.chmod(0o600)
        program = directory / "whoami"
        program.write_text('#!/bin/sh\necho "uid $(id -u) groups $(id -G)"\nexit 1\n')
        program.chmod(0o755)
        config = directory / "bqfilterd.toml"
        config.write_text(SETTINGS + f'[[command]]\nargv = ["{program}"]\n', encoding="utf-8")
        config.chmod(0o600)
        done = subprocess.run(
            [*COMMAND, "scan", "--config", str(config), str(secret)],
            capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False,
        )  # fmt: skip

    assert done.returncode == 1, done
    assert f"{secret}: 550 5.7.1 Message refused: uid 65534 groups 65534 " in done.stdout


def test_all_charsets_are_there_for_an_account_that_cannot_read_where_python_is(tmp_path: Path) -> None:
    config, message = tmp_path / "bqfilterd.toml", tmp_path / "one"
    config.write_text(SETTINGS, encoding="utf-8")
    message.write_bytes(BANNED.replace(b"run.exe", b'"=?iso-8859-2?q?za=BF=F3=B3=E6?=.exe"'))
    with message.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS_NOTHING_THEN, "scan", "--config", str(config), "/dev/stdin"],
            stdin=file, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False,
        )  # fmt: skip

    assert ".exe (extension exe)" in done.stdout, done
