"""One mail log with the lines of both Postfix servers and of bqfilterd, written by a real rsyslogd.

A message can be followed in it from the remote client to the mailbox, and a program that reads Postfix's
lines is not disturbed by ours.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.programs import Bqfilterd, eventually, short_directory

from .conftest import Filters
from .postfix_instance import MaillogView, PostfixInstance, fresh_address
from .smtp_client import SENDER, SmtpClient

POSTFIX_LIKE = (
    "{queued_as}: client={client}, from={from}, to={to}, size={size}, msgid={msgid}, status={result}"
)
CLIENT = re.escape("mail.remote.example[192.0.2.7]")

INPUT = """\
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{socket}")
"""

# The lines go where those of Postfix are, and into the file in which a test looks for those of bqfilterd.
TOGETHER = """\
template(name="usual" type="string" string="%timestamp% %hostname% %syslogtag%%msg%\\n")
mail.* action(type="omfile" file="{maillog}" template="usual")
mail.* action(type="omfile" file="{own}" template="usual")
"""


def _missing(program: str) -> str | None:
    return None if shutil.which(program, path="/usr/sbin:/usr/bin") else f"{program} is not installed"


def _needs(program: str) -> None:
    if reason := _missing(program):
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@contextlib.contextmanager
def rsyslogd(directory: Path, rules: str, **files: Path) -> Iterator[Path]:
    """The socket of a private rsyslogd that does what `rules` say."""
    _needs("rsyslogd")
    path = directory / "socket"
    (directory / "conf").write_text(INPUT.format(socket=path) + rules.format(**files))
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            ["/usr/sbin/rsyslogd", "-n", "-f", str(directory / "conf"), "-i", str(directory / "pid")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        eventually(path.exists, f"rsyslogd listens: {(directory / 'output').read_text()}")
        yield path
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def logging(postfix: PostfixInstance, filters: Filters) -> Iterator["Logging"]:
    files = {"maillog": postfix.directory / "maillog", "own": filters.directory / "log"}
    with short_directory("bqlog-") as directory, rsyslogd(directory, TOGETHER, **files) as path:
        yield Logging(filters, path)
        filters.stop()


class Logging:
    """Starts a bqfilterd that logs to the rsyslogd."""

    def __init__(self, filters: Filters, path: Path) -> None:
        self._filters = filters
        self._path = path

    def start(self, **log: str) -> Bqfilterd:
        return self._filters.start(log={"target": "syslog", "syslog": f"unix:{self._path}", **log})


def send(postfix: PostfixInstance, before: str, recipient: str) -> str:
    """Send a message as a remote client with a name; returns its Message-ID."""
    message_id = f"<{recipient}.id>"
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"220", b"XCLIENT NAME=mail.remote.example ADDR=192.0.2.7")
        client.begin(SENDER, [recipient])
        content = f"Message-ID: {message_id}\r\nSubject: followed\r\n\r\nHello.\r\n"
        assert client.end(content.encode()).startswith(b"250 ")
    return message_id


def test_a_message_can_be_followed_through_one_log_from_the_client_to_the_mailbox(
    postfix: PostfixInstance, logging: Logging, maillog: MaillogView, before: str
) -> None:
    logging.start()
    recipient = fresh_address()
    message_id = send(postfix, before, recipient)

    arrival = maillog.wait_for(rf"{before}/smtpd\[(\d+)\]: NOQUEUE: client={CLIENT}$")
    handed = maillog.wait_for(
        rf"{before}/smtpd\[{arrival[1]}\]: proxy-accept: END-OF-MESSAGE: 250 2\.0\.0 Ok: queued as (\w+);"
        rf" from=<{re.escape(SENDER)}> to=<{re.escape(recipient)}>"
    )
    queue_id = handed[1]
    ours = maillog.wait_for(rf"bqfilterd\[\d+\]: [0-9A-F]+: message result=accepted .*queued_as={queue_id} ")[
        0
    ]
    assert re.search(rf" client={CLIENT} ", ours)
    assert f" msgid={message_id} " in ours
    maillog.wait_for(rf"after/smtpd\[\d+\]: {queue_id}: client=.*, orig_client={CLIENT}$")
    maillog.wait_for(rf"cleanup\[\d+\]: {queue_id}: message-id={re.escape(message_id)}$")
    maillog.wait_for(rf"virtual\[\d+\]: {queue_id}: to=<{re.escape(recipient)}>,.* status=sent ")
    maillog.wait_for(rf"qmgr\[\d+\]: {queue_id}: removed$")


def test_with_a_template_the_queue_id_alone_finds_our_line_among_those_of_postfix(
    postfix: PostfixInstance, logging: Logging, maillog: MaillogView, before: str
) -> None:
    logging.start(message=POSTFIX_LIKE)
    recipient = fresh_address()
    message_id = send(postfix, before, recipient)

    queue_id = maillog.wait_for(r"proxy-accept: END-OF-MESSAGE: 250 2\.0\.0 Ok: queued as (\w+);")[1]
    maillog.wait_for(rf"qmgr\[\d+\]: {queue_id}: removed$")
    ours = maillog.wait_for(rf"bqfilterd\[\d+\]: {queue_id}: (.*)$")
    assert re.fullmatch(
        rf"client={CLIENT}, from=<{re.escape(SENDER)}>, to=<{re.escape(recipient)}>, size=\d+,"
        rf" msgid={re.escape(message_id)}, status=accepted",
        ours[1],
    )
    programs = {found[1] for found in maillog.matches(rf" (\S+)\[\d+\]: {queue_id}: ")}
    assert {"bqfilterd", "postfix/after/smtpd", "postfix/cleanup", "postfix/qmgr"} <= programs


@pytest.mark.parametrize(
    "options", [{}, {"message": POSTFIX_LIKE}, {"format": "json"}], ids=["usual", "like postfix", "json"]
)
def test_pflogsumm_is_not_disturbed_by_our_lines(
    postfix: PostfixInstance,
    logging: Logging,
    maillog: MaillogView,
    options: dict[str, str],
    tmp_path: Path,
) -> None:
    _needs("pflogsumm")
    bqfilterd = logging.start(**options)
    recipients = [fresh_address(), fresh_address()]
    for recipient in recipients:
        send(postfix, "before", recipient)
        postfix.inbox.wait_for(recipient)
    postfix.settle()
    eventually(
        lambda: len(re.findall(r"\bmail\.remote\.example\[", bqfilterd.log())) == 2, "two lines of ours"
    )

    for recipient in recipients:
        maillog.wait_for(rf"to=<{re.escape(recipient)}>.* status=sent")

    text = maillog.text()
    lines = text.splitlines(keepends=True)
    without = "".join(line for line in lines if " bqfilterd[" not in line)
    assert without != text
    summary = pflogsumm(tmp_path / "mail.log", text)
    assert summary == pflogsumm(tmp_path / "mail.log", without)
    assert re.search(r"^ +2 +delivered$", summary, re.MULTILINE)


def pflogsumm(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return subprocess.run(
        ["/usr/sbin/pflogsumm", str(path)], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_the_rule_in_the_manual_gives_our_lines_a_file_of_their_own(
    postfix: PostfixInstance, filters: Filters, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")
    (rule,) = re.findall(r"^```\n# /etc/rsyslog\.d/.*?\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    own = filters.directory / "log"
    rest = f'mail.* action(type="omfile" file="{tmp_path}/m")'
    rules = rule.replace("/var/log/bqfilterd.log", str(own)) + rest
    literal = rules.replace("{", "{{").replace("}", "}}")
    with short_directory("bqlog-") as directory, rsyslogd(directory, literal) as path:
        bqfilterd = filters.start(log={"target": "syslog", "syslog": f"unix:{path}"})
        send(postfix, "before", fresh_address())
        bqfilterd.wait_for_log("message result=accepted")
        filters.stop()
    assert not (tmp_path / "m").exists()
