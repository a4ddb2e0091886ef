"""A kept message is released through a real after-filter server: as it came, and once."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bqfilter.cli import main
from bqfilter.quarantine import Kept, Quarantine, State
from tests.doubles.kept import CONTENT, keep, mail

from .deliveries import arrives_once
from .postfix_instance import MaillogView, PostfixInstance, fresh_address


@pytest.fixture
def store(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine")


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
