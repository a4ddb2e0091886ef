"""bqfilterd as a content_filter: smtp(8) pipelines, names its queue ids and keeps its connections."""

import pytest

from .conftest import Filters
from .deliveries import arrives_once
from .load import MESSAGES, delivered_once, start_load
from .postfix_instance import MaillogView, PostfixInstance, fresh_address
from .smtp_client import SENDER, submit

# More workers than smtp(8) has processes and parked connections: a parked connection keeps a worker.
WORKERS = {"workers": 20}
CONTENT = b"Subject: 8-bit \xff\r\n\r\n.\r\n..\r\ntab\t \r\n\x80\xfe\r\n" + b"x" * 900 + b"\r\n"


@pytest.mark.parametrize("upstream", [1, 100], ids=["a connection each", "kept"])
def test_a_queue_full_of_mail_passes_once_over_connections_that_are_used_again(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, upstream: int
) -> None:
    bqfilterd = filters.start(pool=WORKERS, upstream={"max_messages_per_connection": upstream})
    load = start_load(postfix.at("queue"), "-l", "4096")
    load.wait()
    queue_ids = delivered_once(postfix, maillog, load)
    assert bqfilterd.wait_for_results(MESSAGES) == ["accepted"] * MESSAGES
    assert sorted(bqfilterd.queue_ids()) == sorted(queue_ids)
    assert any(int(use[1]) > 2 for use in maillog.matches(r"postfix/scan/smtp\S+: .* conn_use=(\d+),"))
    assert not maillog.trouble()
    assert not bqfilterd.trouble()


def test_every_message_keeps_the_queue_id_it_had_before(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView
) -> None:
    filters.start(pool=WORKERS, upstream={"max_messages_per_connection": 100})
    load = start_load(postfix.at("queue"), messages=100, sessions=5)
    load.wait()
    queue_ids = delivered_once(postfix, maillog, load)
    sent = maillog.matches(r"postfix/scan/smtp\S+: (\w+): to=.*\(250 2\.0\.0 Ok: queued as (\w+)\)")
    seen = maillog.matches(r"postfix/after/smtpd\S+: (\w+): client=.*orig_queue_id=(\w+),")
    assert {found[2] for found in sent} == queue_ids
    assert {found[1]: found[2] for found in seen} == {found[2]: found[1] for found in sent}


def test_content_passes_the_after_queue_filter_byte_for_byte(
    postfix: PostfixInstance, filters: Filters
) -> None:
    filters.start(pool=WORKERS)
    recipient = fresh_address()
    assert submit(postfix.at("queue"), SENDER, [recipient], CONTENT).startswith(b"250 ")
    arrives_once(postfix, recipient, CONTENT)


def test_one_refused_recipient_in_a_pipelined_group_is_the_only_one_that_bounces(
    postfix: PostfixInstance, filters: Filters
) -> None:
    filters.start(pool=WORKERS)
    sender, stranger = fresh_address("sender"), fresh_address("stranger")
    good = [fresh_address() for _ in range(10)]
    recipients = [*good[:5], stranger, *good[5:]]
    assert submit(postfix.at("queue"), sender, recipients, CONTENT).startswith(b"250 ")
    for recipient in good:
        arrives_once(postfix, recipient, CONTENT)
    (bounce,) = postfix.inbox.wait_for(sender)
    assert b"\nFinal-Recipient: rfc822; %s\n" % stranger.encode() in bounce
    assert b"nobody here of that name" in bounce
    assert bounce.count(b"\nFinal-Recipient: ") == 1
