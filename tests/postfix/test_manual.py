"""The entries of docs/postfix.md work as they stand; only addresses, ports and the chroot are exchanged."""

from pathlib import Path

import pytest

from tests.doubles.components import require
from tests.doubles.programs import Settings, short_directory, start_bqfilterd

from .by_the_book import PAGE, block, by_the_book
from .conftest import why_not
from .postfix_instance import PostfixInstance, fresh_address
from .smtp_client import PLAIN, SENDER, SmtpClient, submit

MASTER_CF = "`/etc/postfix/master.cf`"
BEFORE_QUEUE = block("Before the queue, with speed_adjust", MASTER_CF)
AFTER_QUEUE = block("After the queue", MASTER_CF)
WITHOUT_SPEED_ADJUST = BEFORE_QUEUE.replace("    -o smtpd_proxy_options=speed_adjust\n", "")
SOCKET = WITHOUT_SPEED_ADJUST.replace("=127.0.0.1:10025", "=unix:bqfilter/smtp.sock")

ENTRIES = {
    "with speed_adjust": BEFORE_QUEUE,
    "without speed_adjust": WITHOUT_SPEED_ADJUST,
    "over a unix socket": SOCKET,
    "after the queue": AFTER_QUEUE,
}


@pytest.fixture(autouse=True)
def _postfix_can_be_started() -> None:
    require(why_not())


def settings(postfix: PostfixInstance, directory: Path, entries: str) -> Settings:
    listen: dict[str, object] = {"endpoint": "inet:{}:{}".format(*postfix.at("filter"))}
    if entries is SOCKET:
        (postfix.directory / "q" / "bqfilter").mkdir()
        listen = {"endpoint": f"unix:{postfix.directory}/q/bqfilter/smtp.sock", "group": "postfix"}
    return {
        "listen": [listen],
        "pool": {"workers": 3},
        "upstream": {"endpoint": "inet:{}:{}".format(*postfix.at("after"))},
        "runtime": {"user": "nobody", "directory": str(directory / "run")},
    }


@pytest.mark.parametrize("entries", ENTRIES.values(), ids=ENTRIES)
def test_mail_passes_by_the_entries_of_the_manual(entries: str) -> None:
    recipient = fresh_address()
    with by_the_book(entries) as postfix, short_directory("bqfm-") as directory:
        maillog = postfix.maillog_from_now()
        program = start_bqfilterd(directory, settings(postfix, directory, entries))
        try:
            assert submit(postfix.at("smtp"), SENDER, [recipient], PLAIN).startswith(b"250 2.0.0 Ok: queued")
            (message,) = postfix.inbox.wait_for(recipient)
            assert message.endswith(b"\n\nHello.\n")
            maillog.wait_for(r"orig_client=\S+\[127\.")
            assert not maillog.trouble()
            assert program.wait_for_results(1) == ["accepted"]
        finally:
            assert program.stop() == 0


@pytest.mark.parametrize(
    ("entries", "verb"), [(WITHOUT_SPEED_ADJUST, "RCPT"), (BEFORE_QUEUE, "DATA")], ids=["without", "with"]
)
def test_what_the_client_is_told_without_bqfilterd_comes_where_the_manual_says(
    entries: str, verb: str
) -> None:
    with by_the_book(entries) as postfix, SmtpClient(postfix.at("smtp")) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<%b>" % SENDER.encode())
        at_recipient = client.command(b"RCPT TO:<%b>" % fresh_address().encode())
        if verb == "DATA":
            assert at_recipient.startswith(b"250 ")
            client.expect(b"354", b"DATA")
            at_recipient = client.end(PLAIN)
        assert at_recipient == b"451 4.3.0 Error: queue file write error"
        assert at_recipient.decode() in PAGE
