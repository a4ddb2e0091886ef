"""The envelope is passed on as the remote client wrote it, parameters and oddities included."""

import re

import pytest

from .conftest import Filters
from .postfix_instance import MaillogView, PostfixInstance, arrived, fresh_address
from .smtp_client import SmtpClient

PLAIN = b"Subject: plain\r\n\r\nHello.\r\n"
MAIL = "MAIL FROM:<a@remote.example>"
RCPT = "RCPT TO:<x@box.example>"

ENVELOPES = [
    pytest.param(MAIL, RCPT, id="the usual"),
    pytest.param("mail from: <a@remote.example> ", "Rcpt tO:  <x@box.example>", id="letter case and blanks"),
    pytest.param("MAIL FROM:<>", RCPT, id="null sender"),
    pytest.param("MAIL FROM:a@remote.example", "RCPT TO:x@box.example", id="no angle brackets"),
    pytest.param('MAIL FROM:<"a b"@remote.example>', 'RCPT TO:<"x y"@box.example>', id="blanks in quotes"),
    pytest.param('MAIL FROM:<"a>b"@remote.example>', 'RCPT TO:<"x<y>"@box.example>', id="brackets in quotes"),
    pytest.param(r'MAIL FROM:<"a\"\\b"@remote.example>', r'RCPT TO:<"x\"y"@box.example>', id="escapes in quotes"),
    pytest.param("MAIL FROM:<@r.example:a@remote.example>", "RCPT TO:<@r.example,@s.example:x@box.example>", id="routes"),
    pytest.param(f"{MAIL} SIZE=1000", RCPT, id="SIZE"),
    pytest.param(f"{MAIL} BODY=8BITMIME", RCPT, id="8BITMIME"),
    pytest.param(f"{MAIL} body=7bit size=77", RCPT, id="lower-case parameters"),
    pytest.param(f"{MAIL} RET=HDRS ENVID=e+2B1", f"{RCPT} NOTIFY=FAILURE,DELAY ORCPT=rfc822;o+3Dp@r.example", id="DSN"),
    pytest.param("MAIL FROM:<jürgen@remote.example> SMTPUTF8", "RCPT TO:<зоя@box.example>", id="SMTPUTF8"),
    pytest.param("MAIL FROM:<a@bücher.example> BODY=8BITMIME SMTPUTF8", RCPT, id="SMTPUTF8 domain"),
    pytest.param(f"MAIL FROM:<{'a' * 64}@{'b' * 60}.example>", f"RCPT TO:<{'x' * 64}@box.example>", id="long addresses"),
]


@pytest.mark.parametrize(("mail", "rcpt"), ENVELOPES)
def test_the_after_filter_server_gets_the_lines_the_client_wrote(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str, mail: str, rcpt: str
) -> None:
    filters.start("after-verbose")
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"250", mail.encode())
        client.expect(b"250", rcpt.encode())
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    maillog.wait_for(rf"postfix/after-verbose/smtpd\S+: < \S+: {re.escape(mail)}$")
    maillog.wait_for(rf"postfix/after-verbose/smtpd\S+: < \S+: {re.escape(rcpt)}$")
    maillog.wait_for(r"postfix/virtual\S+: .*status=sent")


def test_a_delivery_report_asked_for_by_the_client_has_what_the_client_gave_for_it(
    postfix: PostfixInstance, filters: Filters, before: str
) -> None:
    filters.start()
    sender, recipient = fresh_address("sender"), fresh_address()
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<%s> RET=HDRS ENVID=envelope+2B7" % sender.encode())
        client.expect(b"250", b"RCPT TO:<%s> NOTIFY=SUCCESS ORCPT=rfc822;first@r.example" % recipient.encode())
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    arrived(*postfix.inbox.wait_for(recipient), PLAIN)
    (report,) = postfix.inbox.wait_for(sender)
    assert b"\nOriginal-Envelope-Id: envelope+7\n" in report
    assert b"\nOriginal-Recipient: rfc822;first@r.example\n" in report
    assert b"\nAction: delivered\n" in report
    assert b"Hello." not in report


def test_an_address_in_utf8_is_delivered_to(postfix: PostfixInstance, filters: Filters, before: str) -> None:
    filters.start()
    recipient = fresh_address("зоя")
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"250", "MAIL FROM:<jürgen@remote.example> SMTPUTF8".encode())
        client.expect(b"250", b"RCPT TO:<%s>" % recipient.encode())
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    arrived(*postfix.inbox.wait_for(recipient), PLAIN)


def test_recipients_the_after_filter_server_has_no_room_for_are_named_one_by_one(
    postfix: PostfixInstance, filters: Filters
) -> None:
    """The after-filter server takes 1000; of the rest each is told so, and the message goes to the 1000."""
    bqfilterd = filters.start()
    with SmtpClient(postfix.at("generous")) as client:
        client.greet()
        client.expect(b"250", MAIL.encode())
        recipients = [fresh_address("many", "elsewhere.example") for _ in range(1010)]
        replies = [client.command(b"RCPT TO:<%s>" % recipient.encode()) for recipient in recipients]
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    assert {reply[:9] for reply in replies[:1000]} == {b"250 2.1.5"}
    assert set(replies[1000:]) == {b"452 4.5.3 Error: too many recipients"}
    assert bqfilterd.results() == ["accepted"]
