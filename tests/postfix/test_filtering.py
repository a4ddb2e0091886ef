"""The whole filter between two real Postfixes, with a real clamd, spamd and Rspamd: what becomes of messages.

One bqfilterd serves all tests, and the domain of a recipient says under which policy it comes. Mail for the
bare domain comes under one by which the three daemons are asked and have their way.
"""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons.private_clamd import private_clamd
from tests.daemons.private_spamd import PATTERN, private_spamd
from tests.doubles.messages import EICAR, GTUBE
from tests.doubles.programs import COMMAND, REPOSITORY, Bqfilterd, short_directory
from tests.doubles.rspamd import running_rspamd
from tests.doubles.signatures import signed, verifies

from .conftest import Filters
from .deliveries import arrives_once, arrives_with
from .postfix_instance import MAILBOX_DOMAIN, MaillogView, PostfixInstance, fresh_address
from .smtp_client import SmtpClient, submit

pytestmark = pytest.mark.daemons

NAME = "filter.example"  # of bqfilterd
MOVED_TO, ARCHIVE = f"moved-to@{MAILBOX_DOMAIN}", f"archive@{MAILBOX_DOMAIN}"
HEADER = (
    b"From: Anna <anna@remote.example>\r\nTo: Bert <bert@box.example>\r\nSubject: hello\r\n"
    b"Date: Mon, 01 Jan 2024 10:00:00 +0000\r\nMessage-ID: <20240101100000.12345@remote.example>\r\n"
)
SPAM = HEADER + b"\r\n" + GTUBE + b"\r\n"
ATTACHED = HEADER + (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n--cut\r\n\r\nhello\r\n"
    b"--cut\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.b64encode(EICAR) + b"\r\n--cut--\r\n"
)  # fmt: skip
FORGED = (
    b"X-Bqfilter-Report: filter.example; action=accept\r\n"
    b"Authentication-Results: filter.example; dkim=pass\r\n"
)
OTHERS = b"Authentication-Results: other.example; spf=pass\r\nX-Other-Report: fine\r\n"

NEW_BODY = "Grüße\r\n.\r\nThis is what is left.\r\n".encode()
REPLACE_BODY = """\
#!/bin/sh
sed '/^$/q'
printf 'Gr\\303\\274\\303\\237e\\n.\\nThis is what is left.\\n'
exit 10
"""


@pytest.fixture(scope="module")
def quarantine() -> Iterator[Path]:
    """A directory that is not there yet."""
    with short_directory("bqqu-") as directory:
        yield directory / "quarantine"


@pytest.fixture(scope="module", autouse=True)
def bqfilterd(lasting_filters: Filters, quarantine: Path) -> Iterator[Bqfilterd]:
    program = quarantine.parent / "replace-body"
    program.write_text(REPLACE_BODY)
    program.chmod(0o755)
    with private_clamd() as clamd, private_spamd() as spamd, running_rspamd() as rspamd:
        running = lasting_filters.start(
            after="after-verbose",
            runtime={"hostname": NAME},
            quarantine={"directory": str(quarantine)},
            clamd=[{"endpoint": str(clamd.unix)}],
            spamd=[
                {
                    "endpoint": str(spamd.unix),
                    "subject_prefix": "[SPAM] ",
                    "add_headers": ["X-Spam-Flag: YES, score {score}"],
                }
            ],
            rspamd=[{"endpoint": str(rspamd.inet)}],
            command=[{"name": "replace-body", "argv": [str(program)], "changes_message": True}],
            policy=[
                policy("checked", scanners=["clamd", "spamd"]),
                policy("tagged", scanners=["spamd"]),
                policy("kept", scanners=["spamd"], hits={"spamd": "quarantine"}),
                policy("refused", scanners=["spamd"], hits={"spamd": "reject"}),
                policy("rspamd", scanners=["rspamd"]),
                policy("moved", scanners=[], action="redirect", redirect_to=MOVED_TO),
                policy("archived", scanners=[], copy_to=[ARCHIVE]),
                policy("untouched", scanners=[]),
                policy("replaced", scanners=["replace-body"]),
                {"name": "all", "scanners": ["clamd", "spamd", "rspamd"]},
            ],
        )
        yield running
        assert running.trouble() == []


def policy(name: str, **keys: object) -> dict[str, object]:
    return {"name": name, "recipients": [f"@{name}.{MAILBOX_DOMAIN}"], **keys}


def someone(policy: str) -> str:
    return fresh_address(domain=f"{policy}.{MAILBOX_DOMAIN}")


@pytest.fixture
def sender() -> str:
    """Told from all others in the maillog."""
    return fresh_address("sender", "remote.example")


def tagged(content: bytes) -> bytes:
    """How the header ends, and the body."""
    return content.replace(b"\r\nSubject: ", b"\r\nSubject: [SPAM] ")


def nothing_is_queued(postfix: PostfixInstance, maillog: MaillogView, sender: str) -> None:
    postfix.settle()
    assert not maillog.matches(rf"qmgr\[\d+\]: \w+: from=<{sender}>")


@pytest.mark.parametrize(
    "content", [HEADER + b"\r\n" + EICAR + b"\r\n", ATTACHED], ids=["text", "attachment"]
)
def test_malware_is_refused_to_the_remote_client_and_nothing_is_queued(
    postfix: PostfixInstance,
    maillog: MaillogView,
    bqfilterd: Bqfilterd,
    before: str,
    sender: str,
    content: bytes,
) -> None:
    recipient = fresh_address()
    refusal = "554 5.7.1 Malware found: Local.Eicar.UNOFFICIAL"
    assert submit(postfix.at(before), sender, [recipient], content) == refusal.encode()
    maillog.wait_for(
        rf"postfix/{before}/smtpd.* proxy-reject: END-OF-MESSAGE: {re.escape(refusal)}; from=<{sender}> "
    )
    nothing_is_queued(postfix, maillog, sender)
    assert not postfix.inbox.messages(recipient)
    bqfilterd.wait_for_log(rf'from=<{sender}> .*verdict=reject .*why="clamd: Local\.Eicar\.UNOFFICIAL"')


def test_ham_passes_scanners_byte_for_byte(postfix: PostfixInstance, before: str, sender: str) -> None:
    recipient = someone("checked")
    content = HEADER + b"\r\nThe meeting is at ten, in the large room on the second floor.\r\n"
    assert submit(postfix.at(before), sender, [recipient], content).startswith(b"250 2.0.0 ")
    arrives_once(postfix, recipient, content)


def test_spam_is_tagged_and_its_body_and_other_fields_stay(
    postfix: PostfixInstance, before: str, sender: str
) -> None:
    recipient = someone("tagged")
    assert submit(postfix.at(before), sender, [recipient], SPAM).startswith(b"250 2.0.0 ")
    added = arrives_with(postfix, recipient, tagged(SPAM))
    assert sorted(added) == [b"x-bqfilter-report", b"x-spam-flag"]
    assert re.fullmatch(rb"YES, score 100\d(\.\d)?", added[b"x-spam-flag"])
    report = rb"filter\.example; action=tag; spamd=hit \(100\d(\.\d)?/5 .*\bGTUBE\b.*\)"
    assert re.fullmatch(report, added[b"x-bqfilter-report"])


def test_spam_is_quarantined_shown_released_and_delivered_once(
    postfix: PostfixInstance, maillog: MaillogView, bqfilterd: Bqfilterd, before: str, sender: str
) -> None:
    recipient = someone("kept")
    assert submit(postfix.at(before), sender, [recipient], SPAM).startswith(b"250 2.0.0 Ok")
    nothing_is_queued(postfix, maillog, sender)
    (kept,) = kept_for(bqfilterd, recipient)
    assert (kept["state"], kept["sender"], kept["recipients"]) == ("held", sender, [recipient])
    assert "GTUBE" in kept["reason"]
    shown = operate(bqfilterd, "show", kept["id"])
    assert f"MAIL FROM:<{sender}>" in shown
    assert "GTUBE" in shown
    assert raw_output(bqfilterd, "show", "--raw", kept["id"]).endswith(SPAM)

    assert "released as " in operate(bqfilterd, "release", kept["id"])
    maillog.wait_for(rf"qmgr\[\d+\]: \w+: from=<{sender}>, .* nrcpt=1 ")
    arrives_once(postfix, recipient, SPAM)
    assert " delivered already as " in operate(bqfilterd, "release", kept["id"])
    arrives_once(postfix, recipient, SPAM)


def test_spam_is_refused(postfix: PostfixInstance, maillog: MaillogView, before: str, sender: str) -> None:
    recipient = someone("refused")
    verdict = submit(postfix.at(before), sender, [recipient], SPAM)
    assert re.fullmatch(rb"550 5\.7\.1 Message refused as spam, score 100\d(\.\d)?", verdict)
    nothing_is_queued(postfix, maillog, sender)


def test_rspamd_refuses_what_it_rejects_and_marks_what_it_would_mark(
    postfix: PostfixInstance, before: str, sender: str
) -> None:
    recipient = someone("rspamd")
    verdict = submit(postfix.at(before), sender, [recipient], SPAM)
    assert verdict == b"554 5.7.1 Gtube pattern"
    content = b"X-BQ-Score: 7\r\n" + HEADER + b"\r\nhello\r\n"
    assert submit(postfix.at(before), sender, [recipient], content).startswith(b"250 2.0.0 ")
    (message,) = postfix.inbox.wait_for(recipient)
    header, _, body = message.partition(b"\n\n")
    added = header.partition(HEADER.replace(b"\r\n", b"\n").rstrip())[2]  # as by a milter: behind the others
    assert b"\nX-Spam-Status: Yes, score=7" in added
    assert b"rspamd=hit" in header.partition(b"X-Bqfilter-Report:")[2]
    assert body == b"hello\n"


@pytest.mark.parametrize(
    "body", [b"Nothing special.\r\n", b"For the test: " + PATTERN + b"\r\n"], ids=["ham", "spam"]
)
def test_a_signed_message_still_verifies_behind_the_filter(
    postfix: PostfixInstance, before: str, sender: str, body: bytes
) -> None:
    recipient = someone("tagged")
    content = signed(HEADER + b"\r\n" + body + b".. dots\r\n")
    assert submit(postfix.at(before), sender, [recipient], content).startswith(b"250 2.0.0 ")
    (message,) = postfix.inbox.wait_for(recipient)
    assert verifies(message)
    assert (b"\nX-Spam-Flag: YES" in message) is (PATTERN in body)
    assert b"\nSubject: hello\n" in message  # covered by the signature, so it has no prefix


def test_a_redirected_message_reaches_its_new_recipient_alone(
    postfix: PostfixInstance, maillog: MaillogView, before: str, sender: str
) -> None:
    recipient = someone("moved")
    content = HEADER + b"X-Token: " + recipient.encode() + b"\r\n\r\nhello\r\n"
    assert submit(postfix.at(before), sender, [recipient], content).startswith(b"250 2.0.0 ")
    maillog.wait_for(rf"qmgr\[\d+\]: \w+: from=<{sender}>, .* nrcpt=1 ")
    assert len(copies_of(postfix, MOVED_TO, content)) == 1
    assert not postfix.inbox.messages(recipient)


def test_a_copy_goes_to_the_archive_as_well(
    postfix: PostfixInstance, maillog: MaillogView, before: str, sender: str
) -> None:
    recipient = someone("archived")
    content = HEADER + b"X-Token: " + recipient.encode() + b"\r\n\r\nhello\r\n"
    assert submit(postfix.at(before), sender, [recipient], content).startswith(b"250 2.0.0 ")
    maillog.wait_for(rf"qmgr\[\d+\]: \w+: from=<{sender}>, .* nrcpt=2 ")
    arrives_once(postfix, recipient, content)
    assert len(copies_of(postfix, ARCHIVE, content)) == 1


def test_recipients_under_different_policies_get_their_own_copies_once(
    postfix: PostfixInstance, bqfilterd: Bqfilterd, before: str, sender: str
) -> None:
    plain, marked, moved, kept = map(someone, ("untouched", "tagged", "moved", "kept"))
    content = SPAM + plain.encode() + b"\r\n"
    assert submit(postfix.at(before), sender, [plain, marked, moved, kept], content).startswith(b"250 2.0.0 ")
    arrives_once(postfix, plain, content)
    assert b"x-spam-flag" in arrives_with(postfix, marked, tagged(content))
    assert len(copies_of(postfix, MOVED_TO, content)) == 1
    assert not postfix.inbox.messages(moved)
    assert not postfix.inbox.messages(kept)
    assert [one["recipients"] for one in kept_for(bqfilterd, sender, "--sender")] == [[kept]]


def test_what_only_some_recipients_would_refuse_goes_to_the_quarantine_for_them(
    postfix: PostfixInstance, bqfilterd: Bqfilterd, before: str, sender: str
) -> None:
    plain, refused = someone("untouched"), someone("refused")
    assert submit(postfix.at(before), sender, [refused, plain], SPAM).startswith(b"250 2.0.0 ")
    arrives_once(postfix, plain, SPAM)
    assert not postfix.inbox.messages(refused)
    (kept,) = kept_for(bqfilterd, sender, "--sender")
    assert (kept["state"], kept["recipients"], kept["action"]) == ("held", [refused], "reject")


def test_what_says_in_our_name_that_it_is_good_is_gone_and_what_others_say_stays(
    postfix: PostfixInstance, before: str, sender: str
) -> None:
    recipient = someone("tagged")
    content = HEADER + b"\r\nThe meeting is at ten, in the large room on the second floor.\r\n"
    sent = FORGED + OTHERS + content
    assert submit(postfix.at(before), sender, [recipient], sent).startswith(b"250 2.0.0 ")
    arrives_once(postfix, recipient, OTHERS + content)


def test_a_body_that_was_replaced_arrives_under_a_mail_command_that_is_true_of_it(
    postfix: PostfixInstance, maillog: MaillogView, before: str, sender: str
) -> None:
    recipient = someone("replaced")
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<%s> SIZE=5000 BODY=7BIT" % sender.encode())
        client.expect(b"250", b"RCPT TO:<%s>" % recipient.encode())
        client.expect(b"354", b"DATA")
        assert client.end(HEADER + b"\r\n" + b"old body\r\n" * 300).startswith(b"250 2.0.0 ")
    arrives_once(postfix, recipient, HEADER + b"\r\n" + NEW_BODY)
    told = maillog.wait_for(rf"after-verbose/smtpd\S+ < .*: MAIL FROM:<{sender}> (SIZE=(\d+) BODY=8BITMIME)$")
    (queued,) = maillog.matches(rf"qmgr\[\d+\]: \w+: from=<{sender}>, size=(\d+), nrcpt=1 ")
    sent = len(HEADER + b"\r\n" + NEW_BODY)
    assert sent < int(told[2]) < 5000, told[1]
    assert queued


def test_behind_a_queue_spam_is_tagged_and_malware_comes_back_to_the_sender(postfix: PostfixInstance) -> None:
    sender, recipient, other = fresh_address("sender"), someone("tagged"), fresh_address()
    assert submit(postfix.at("queue"), sender, [recipient], SPAM).startswith(b"250 2.0.0 ")
    assert submit(postfix.at("queue"), sender, [other], ATTACHED).startswith(b"250 2.0.0 ")
    assert b"x-spam-flag" in arrives_with(postfix, recipient, tagged(SPAM))
    (bounce,) = postfix.inbox.wait_for(sender)
    assert b"554 5.7.1 Malware found: Local.Eicar.UNOFFICIAL" in bounce.replace(b"\n   ", b"")
    assert not postfix.inbox.messages(other)


def copies_of(postfix: PostfixInstance, mailbox: str, content: bytes) -> list[bytes]:
    """The messages in a mailbox that many tests use which are this one."""
    postfix.inbox.wait_for(mailbox)
    postfix.settle()
    return [one for one in postfix.inbox.messages(mailbox) if one.endswith(content.replace(b"\r\n", b"\n"))]


def kept_for(bqfilterd: Bqfilterd, address: str, option: str = "--recipient") -> list[dict[str, str]]:
    return [json.loads(line) for line in operate(bqfilterd, "list", "--json", option, address).splitlines()]


def operate(bqfilterd: Bqfilterd, command: str, *arguments: str) -> str:
    return raw_output(bqfilterd, command, *arguments).decode()


def raw_output(bqfilterd: Bqfilterd, command: str, *arguments: str) -> bytes:
    done = subprocess.run(
        [*COMMAND, "quarantine", command, "--config", str(bqfilterd.config_path), *arguments],
        capture_output=True,
        cwd=REPOSITORY,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout
