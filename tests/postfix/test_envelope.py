"""The envelope is passed on as the remote client wrote it, parameters and oddities included."""

import re

import pytest

from tests.doubles.programs import Bqfilterd

from .conftest import Filters
from .deliveries import arrives_once
from .postfix_instance import MaillogView, PostfixInstance, fresh_address
from .smtp_client import PLAIN, SmtpClient

MAIL = "MAIL FROM:<a@remote.example>"
RCPT = "RCPT TO:<x@box.example>"

# What the client writes, by what is special about it: a MAIL and a RCPT line.
ENVELOPES = {
    "the usual": (MAIL, RCPT),
    "letter case and blanks": ("mail from: <a@remote.example> ", "Rcpt tO:  <x@box.example>"),
    "null sender": ("MAIL FROM:<>", RCPT),
    "no angle brackets": ("MAIL FROM:a@remote.example", "RCPT TO:x@box.example"),
    "blanks in quotes": ('MAIL FROM:<"a b"@remote.example>', 'RCPT TO:<"x y"@box.example>'),
    "brackets in quotes": ('MAIL FROM:<"a>b"@remote.example>', 'RCPT TO:<"x<y>"@box.example>'),
    "escapes in quotes": (r'MAIL FROM:<"a\"\\b"@remote.example>', r'RCPT TO:<"x\"y"@box.example>'),
    "routes": ("MAIL FROM:<@r.example:a@remote.example>", "RCPT TO:<@r.example,@s.example:x@box.example>"),
    "SIZE": (f"{MAIL} SIZE=1000", RCPT),
    "8BITMIME": (f"{MAIL} BODY=8BITMIME", RCPT),
    "lower-case parameters": (f"{MAIL} body=7bit size=77", RCPT),
    "DSN": (f"{MAIL} RET=HDRS ENVID=e+2B1", f"{RCPT} NOTIFY=FAILURE,DELAY ORCPT=rfc822;o+3Dp@r.example"),
    "SMTPUTF8": ("MAIL FROM:<jürgen@remote.example> SMTPUTF8", "RCPT TO:<зоя@box.example>"),
    "SMTPUTF8 domain": ("MAIL FROM:<a@bücher.example> BODY=8BITMIME SMTPUTF8", RCPT),
    "long addresses": (f"MAIL FROM:<{'a' * 64}@{'b' * 60}.example>", f"RCPT TO:<{'x' * 64}@box.example>"),
}


@pytest.fixture(scope="module", autouse=True)
def bqfilterd(lasting_filters: Filters) -> Bqfilterd:
    """The after-filter server behind it logs every line that it gets."""
    return lasting_filters.start("after-verbose")


@pytest.mark.parametrize(("mail", "rcpt"), ENVELOPES.values(), ids=ENVELOPES)
def test_the_after_filter_server_gets_the_lines_the_client_wrote(
    postfix: PostfixInstance, maillog: MaillogView, before: str, mail: str, rcpt: str
) -> None:
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"250", mail.encode())
        client.expect(b"250", rcpt.encode())
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    maillog.wait_for(rf"postfix/after-verbose/smtpd\S+: < \S+: {re.escape(mail)}$")
    maillog.wait_for(rf"postfix/after-verbose/smtpd\S+: < \S+: {re.escape(rcpt)}$")
    maillog.wait_for(r"postfix/virtual\S+: .*status=sent")


@pytest.mark.parametrize(
    "path", ["<%s>", "<@:%s>", "<@r,s:%s>", "<@r, @s:%s>", "<@[192.0.2.1]x:%s>", "<@r:@s:%s>", "@r,s:%s"]
)
def test_who_a_recipient_is_for_us_is_who_it_is_for_postfix(
    postfix: PostfixInstance, bqfilterd: Bqfilterd, before: str, path: str
) -> None:
    recipient = fresh_address()
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"250", MAIL.encode())
        client.expect(b"250", b"RCPT TO:" + (path % recipient).encode())
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    arrives_once(postfix, recipient, PLAIN)
    bqfilterd.wait_for_log(rf" to=<{re.escape(recipient)}> ")


def test_a_delivery_report_asked_for_by_the_client_has_what_the_client_gave_for_it(
    postfix: PostfixInstance, before: str
) -> None:
    sender, recipient = fresh_address("sender"), fresh_address()
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<%s> RET=HDRS ENVID=envelope+2B7" % sender.encode())
        asking = b"NOTIFY=SUCCESS ORCPT=rfc822;first@r.example"
        client.expect(b"250", b"RCPT TO:<%s> %s" % (recipient.encode(), asking))
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    arrives_once(postfix, recipient, PLAIN)
    (report,) = postfix.inbox.wait_for(sender)
    assert b"\nOriginal-Envelope-Id: envelope+7\n" in report
    assert b"\nOriginal-Recipient: rfc822;first@r.example\n" in report
    assert b"\nAction: delivered\n" in report
    assert b"Hello." not in report


def test_an_address_in_utf8_is_delivered_to(postfix: PostfixInstance, before: str) -> None:
    recipient = fresh_address("зоя")
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"250", "MAIL FROM:<jürgen@remote.example> SMTPUTF8".encode())
        client.expect(b"250", b"RCPT TO:<%s>" % recipient.encode())
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    arrives_once(postfix, recipient, PLAIN)


def test_recipients_the_after_filter_server_has_no_room_for_are_named_one_by_one(
    postfix: PostfixInstance,
) -> None:
    """The after-filter server takes 1000; of the rest each is told so, and the message goes to the 1000."""
    with SmtpClient(postfix.at("generous")) as client:
        client.greet()
        client.expect(b"250", MAIL.encode())
        recipients = [fresh_address("many", "elsewhere.example") for _ in range(1010)]
        replies = [client.command(b"RCPT TO:<%s>" % recipient.encode()) for recipient in recipients]
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    assert {reply[:9] for reply in replies[:1000]} == {b"250 2.1.5"}
    assert set(replies[1000:]) == {b"452 4.5.3 Error: too many recipients"}


# The first is without SOURCE, which for Postfix means a client on its own host; to the others it answers 501.
XFORWARDS = {
    "nothing about the source": b"ADDR=192.0.2.7",
    "IPv6 where it has none": b"ADDR=IPv6:2001:db8::7",
    "a name that is an address": b"NAME=[192.0.2.7]",
    "an address that is none": b"ADDR=somewhere",
    "an over-long greeting": b"HELO=" + b"x" * 800,
    "a value that is empty": b"IDENT=",
    "an unknown attribute": b"COLOUR=blue",
    "no attribute at all": b"nonsense",
}


@pytest.mark.parametrize("attribute", XFORWARDS.values(), ids=XFORWARDS)
def test_no_client_attribute_stops_a_message_or_makes_it_look_like_one_of_this_host(
    postfix: PostfixInstance, attribute: bytes
) -> None:
    """The content has no From and no Date: a server adds them to what it takes for mail of its own host."""
    recipient = fresh_address()
    with SmtpClient(postfix.at("filter")) as client:
        client.greet()
        client.expect(b"250", b"XFORWARD " + attribute)
        client.expect(b"250", b"XFORWARD PROTO=ESMTP")
        client.expect(b"250", MAIL.encode())
        client.expect(b"250", b"RCPT TO:<%s>" % recipient.encode())
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    arrives_once(postfix, recipient, PLAIN)
