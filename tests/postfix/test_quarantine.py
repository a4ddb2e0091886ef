"""A kept message is released through a real after-filter server: as it came, and once."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bqfilter.cli import main
from bqfilter.quarantine import Kept, Quarantine, State
from tests.doubles.kept import CONTENT, keep, mail
from tests.doubles.programs import COMMAND, REPOSITORY

from .conftest import Filters
from .deliveries import arrives_once
from .postfix_instance import MaillogView, PostfixInstance, fresh_address
from .smtp_client import SENDER, submit


@pytest.fixture
def store(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine")


RULE = "/^Subject: .*keep/ HOLD looks odd\n"
ODD = (
    b"Return-Path: <forged@remote.example>\r\nBcc: everybody\r\nX-Bqfilter-Envelope-To: <king@example>\r\n"
    b"From: a@remote.example\r\nSubject: do keep this\r\n\r\n.\r\n..dots\r\nFrom here\r\ngr\xfc\xdfe\r\n\r\n"
)


def release(store: Quarantine, postfix: PostfixInstance, kept: Kept, *options: str) -> Result:
    config = store.directory.parent / "bqfilterd.toml"
    host, port = postfix.at("after")
    config.write_text(
        f'[[listen]]\nendpoint = "inet:127.0.0.1:0"\n[upstream]\nendpoint = "inet:{host}:{port}"\n'
        f'[quarantine]\ndirectory = "{store.directory}"\n'
    )
    return CliRunner().invoke(main, ["quarantine", "release", "--config", str(config), kept.id, *options])


def test_a_released_message_arrives_byte_for_byte_and_a_second_release_sends_nothing(
    postfix: PostfixInstance, maillog: MaillogView, store: Quarantine
) -> None:
    recipient = fresh_address()
    kept = keep(store, recipient.encode())
    first = release(store, postfix, kept)
    assert first.exit_code == 0, first.output
    arrival = r"/after/smtpd\S+: (\w+): .*\borig_client=remote\.example\[192\.0\.2\.7\]"
    queue_id = maillog.wait_for(arrival)[1]
    assert first.stdout == f"{kept.id}: released as {queue_id} to <{recipient}>\n"
    arrives_once(postfix, recipient, CONTENT)
    second = release(store, postfix, kept)
    assert second.exit_code == 0
    assert second.stdout.startswith(f"{kept.id}: delivered already as {queue_id}, by a release at ")
    arrives_once(postfix, recipient, CONTENT)
    assert store.find(kept.id).state is State.RELEASED


def test_a_recipient_that_is_refused_keeps_it_held_and_the_other_gets_it(
    postfix: PostfixInstance, store: Quarantine
) -> None:
    good, stranger = fresh_address(), fresh_address("stranger")
    kept = keep(store, good.encode(), stranger.encode(), sender=mail(b"MAIL FROM:<> BODY=8BITMIME"))
    result = release(store, postfix, kept)
    assert result.exit_code == 1
    assert "released in part" in result.stdout
    assert f"<{stranger}> 550 5.1.1" in result.stdout
    arrives_once(postfix, good, CONTENT)
    assert store.find(kept.id).state is State.HELD


def test_what_was_sent_to_a_mailbox_is_released_from_its_files_by_a_machine_that_has_not_kept_it(
    postfix: PostfixInstance, filters: Filters
) -> None:
    mailbox, recipients = fresh_address("quarantine"), [fresh_address(), fresh_address()]
    (filters.directory / "odd").write_text(RULE)
    rules = [{"name": "odd", "header_checks": [str(filters.directory / "odd")]}]
    bqfilterd = filters.start(rules=rules, quarantine={"quarantine_to": mailbox})
    for recipient in recipients:
        assert submit(postfix.at("before"), SENDER, [recipient], ODD).startswith(b"250 2.0.0 ")
    assert bqfilterd.wait_for_results(2) == ["quarantined"] * 2
    files = [filters.directory / f"{number}.eml" for number in range(2)]
    for file, message in zip(files, postfix.inbox.wait_for(mailbox, 2), strict=True):
        file.write_bytes(message)
    assert not any(map(postfix.inbox.messages, recipients))
    other = {"directory": str(filters.directory / "other")}
    bqfilterd.configure(filters.settings(quarantine=other))

    shown = release_files(bqfilterd.config_path, *files)
    assert shown.returncode == 1
    assert all(f"rcpt 1      RCPT TO:<{recipient}>" in shown.stdout for recipient in recipients)
    for _ in range(2):  # the second time nothing is sent
        done = release_files(bqfilterd.config_path, *files, "--yes")
        assert done.returncode == 0, done.stderr
        for recipient in recipients:
            arrives_once(postfix, recipient, postfix_drops(ODD))
    assert done.stdout.count("delivered already as ") == 2


def release_files(config: Path, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    words = [f"--from-file={one}" if isinstance(one, Path) else one for one in arguments]
    command = [*COMMAND, "quarantine", "release", "--config", str(config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY)


def postfix_drops(content: bytes) -> bytes:
    """message_drop_headers: what every recipient gets without, however the message comes."""
    return re.sub(rb"(?m)^(Return-Path|Bcc): .*\r\n", b"", content)
