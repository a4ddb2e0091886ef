"""A message goes through before-filter server, bqfilterd and after-filter server, and is the same message."""

import re

from .conftest import Filters
from .deliveries import arrives_once
from .postfix_instance import MaillogView, PostfixInstance, fresh_address
from .smtp_client import PLAIN, SENDER, SmtpClient, submit


def test_the_queue_id_is_known_to_the_client_to_both_servers_and_to_the_filter(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str
) -> None:
    bqfilterd = filters.start()
    verdict = submit(postfix.at(before), SENDER, [fresh_address()], PLAIN)
    queued = re.fullmatch(rb"250 2\.0\.0 Ok: queued as (\w+)", verdict)
    assert queued
    queue_id = queued[1].decode()
    maillog.wait_for(rf"{before}/.*proxy-accept: END-OF-MESSAGE: 250 2\.0\.0 Ok: queued as {queue_id};")
    maillog.wait_for(rf"postfix/after/smtpd.*: {queue_id}: client=")
    bqfilterd.wait_for_log(rf"result=accepted .*queued_as={queue_id}\b")
    assert bqfilterd.queue_ids() == [queue_id]
    assert not maillog.trouble()


def test_the_after_filter_server_knows_the_remote_client(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str
) -> None:
    filters.start(after="after-verbose")
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"220", b"XCLIENT NAME=mail.remote.example ADDR=192.0.2.7 PORT=4711")
        client.begin(SENDER, [fresh_address()])
        assert client.end(PLAIN).startswith(b"250 ")
    maillog.wait_for(r"after-verbose/smtpd.*: client=\S+, orig_client=mail\.remote\.example\[192\.0\.2\.7\]$")
    received = " ".join(found[1] for found in maillog.matches(r"after-verbose/smtpd.*: < .*: XFORWARD (.*)"))
    assert {"PORT=4711", "HELO=client.example", "PROTO=ESMTP", "SOURCE=REMOTE"} <= set(received.split())


def test_several_messages_of_one_remote_client_are_several_messages(
    postfix: PostfixInstance, filters: Filters, before: str
) -> None:
    filters.start()
    recipients = [fresh_address() for _ in range(5)]
    with SmtpClient(postfix.at(before)) as client:
        for recipient in recipients:
            client.begin(SENDER, [recipient])
            assert client.end(PLAIN + recipient.encode() + b"\r\n").startswith(b"250 ")
    for recipient in recipients:
        arrives_once(postfix, recipient, PLAIN + recipient.encode() + b"\r\n")


def test_a_message_to_many_recipients_is_one_message(
    postfix: PostfixInstance, filters: Filters, before: str
) -> None:
    bqfilterd = filters.start()
    recipients = [fresh_address() for _ in range(30)]
    assert submit(postfix.at(before), SENDER, recipients, PLAIN).startswith(b"250 ")
    for recipient in recipients:
        arrives_once(postfix, recipient, PLAIN)
    assert bqfilterd.wait_for_results(1) == ["accepted"]


def test_a_kept_upstream_connection_names_the_right_client_for_every_message(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str
) -> None:
    filters.start(pool={"workers": 1}, upstream={"max_messages_per_connection": 100})
    for number in range(1, 6):
        with SmtpClient(postfix.at(before)) as client:
            client.greet()
            client.expect(b"220", b"XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.%d" % number)
            client.begin(SENDER, [fresh_address()])
            assert client.end(PLAIN).startswith(b"250 ")
    for number in range(1, 6):
        maillog.wait_for(rf"postfix/after/smtpd.*, orig_client=unknown\[192\.0\.2\.{number}\]")
    assert len(maillog.matches(r"postfix/after/smtpd\S+: connect from")) == 1
