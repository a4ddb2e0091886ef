"""Submission by docs/postfix.md: users log in, and the filter knows their mail by the listener."""

import re
import smtplib
import ssl
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.components import require
from tests.doubles.dovecot_auth import PASSWORD, USER, authenticating
from tests.doubles.programs import Bqfilterd, eventually, short_directory, start_bqfilterd

from .by_the_book import PostfixByTheBook, block, by_the_book
from .conftest import why_not
from .postfix_instance import fresh_address
from .smtp_client import SENDER, submit
from .test_manual import BEFORE_QUEUE, MASTER_CF

SUBMISSION = block("Submission", MASTER_CF)
MAIN = block("Submission", "`/etc/postfix/main.cf`")
OURS = block("Submission", "`/etc/bqfilter/bqfilterd.toml`")
PORTS = ("smtp", "submission", "submissions", "filter", "filter-submission", "after")

# As mail programs send it: it leaves Date and Message-ID to the server.
LETTER = "From: ann@box.example\r\nSubject: a letter\r\n\r\nHello.\r\n"
PROGRAM = (
    "Subject: a program\r\nMIME-Version: 1.0\r\n"
    'Content-Type: application/octet-stream; name="holiday.exe"\r\n\r\nx\r\n'
)


@pytest.fixture(scope="module")
def postfix() -> Iterator[PostfixByTheBook]:
    require(why_not())
    with (
        by_the_book(BEFORE_QUEUE + SUBMISSION, MAIN, PORTS, certify) as instance,
        authenticating(instance.directory / "q" / "private" / "auth"),
    ):
        yield instance


def certify(configuration: Path) -> None:
    """A certificate of its own, and who may write as whom."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(configuration / "mx.key"), "-out", str(configuration / "mx.pem")]
    subject = ["-subj", "/CN=mx.postfix.example", "-addext", "subjectAltName=DNS:mx.postfix.example"]
    subprocess.run([*command, *files, *subject], check=True, capture_output=True)
    (configuration / "sender_logins").write_text(f"{USER} {USER}\n")


@pytest.fixture(params=["submission", "submissions"])
def service(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@contextmanager
def connected(postfix: PostfixByTheBook, service: str) -> Iterator[smtplib.SMTP]:
    """Over TLS, with the certificate checked, and not logged in."""
    context = ssl.create_default_context(cafile=str(postfix.directory / "c" / "mx.pem"))
    context.check_hostname = False  # it is called by its address
    host, port = postfix.at(service)
    with ExitStack() as stack:
        if service == "submissions":
            client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=60, context=context)
            stack.enter_context(client)
        else:
            client = stack.enter_context(smtplib.SMTP(host, port, timeout=60))
            client.starttls(context=context)
        yield client


def test_whoever_has_not_logged_in_is_refused_before_the_filter_is_called(
    postfix: PostfixByTheBook, service: str
) -> None:
    """There is none; where it was called the reply was 451."""
    with connected(postfix, service) as client:
        client.ehlo()
        assert client.has_extn("auth")
        client.mail(SENDER)
        code, text = client.rcpt(fresh_address())
        assert (code, b"Access denied" in text) == (554, True), text
        client.rset()
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(USER, "another password")


def test_without_tls_nobody_can_log_in(postfix: PostfixByTheBook) -> None:
    with smtplib.SMTP(*postfix.at("submission"), timeout=60) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.mail(USER)[0] == 530


def test_nobody_writes_in_the_name_of_another(postfix: PostfixByTheBook, service: str) -> None:
    with connected(postfix, service) as client:
        client.login(USER, PASSWORD)
        client.mail("boss@box.example")
        assert client.rcpt(fresh_address())[0] == 553


@pytest.fixture(scope="module")
def program(postfix: PostfixByTheBook) -> Iterator[Bqfilterd]:
    with short_directory("bqfs-") as directory:
        settings: dict[str, Any] = {
            **tomllib.loads(postfix.moved(OURS)),
            "pool": {"workers": 3},
            "runtime": {"user": "nobody", "directory": str(directory / "run")},
            "quarantine": {"directory": str(directory / "quarantine")},
        }
        started = start_bqfilterd(directory, settings)
        try:
            yield started
        finally:
            assert started.stop() == 0


def send(postfix: PostfixByTheBook, service: str, recipient: str, content: str, *options: str) -> None:
    with connected(postfix, service) as client:
        client.login(USER, PASSWORD)
        client.sendmail(USER, recipient, content, mail_options=options)


def test_a_user_s_mail_goes_through_the_filter_and_is_completed_behind_it(
    postfix: PostfixByTheBook, program: Bqfilterd, service: str
) -> None:
    recipient, maillog = fresh_address(), postfix.maillog_from_now()
    send(postfix, service, recipient, LETTER)
    (message,) = postfix.inbox.wait_for(recipient)
    assert message.endswith(b"\n\nHello.\n")
    assert re.search(rb"^Message-Id: <", message, re.MULTILINE)
    assert re.search(rb"^Date: ", message, re.MULTILINE)
    assert b"with ESMTPSA id" not in message  # the second server's own line says how the filter came
    assert maillog.wait_for(rf"postfix/{service}/smtpd.*: NOQUEUE: client=.*sasl_username={re.escape(USER)}")
    assert not maillog.trouble()


def test_what_is_done_depends_on_where_a_message_came_in(
    postfix: PostfixByTheBook, program: Bqfilterd, service: str
) -> None:
    kept = program.results().count("quarantined")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        send(postfix, service, fresh_address(), PROGRAM)
    assert refused.value.smtp_code == 554
    assert submit(postfix.at("smtp"), SENDER, [fresh_address()], PROGRAM.encode()) == b"250 2.0.0 Ok"
    eventually(lambda: program.results().count("quarantined") > kept, "one more in the quarantine")


def test_a_mail_program_that_says_in_mail_who_has_logged_in_is_served(
    postfix: PostfixByTheBook, program: Bqfilterd
) -> None:
    """The parameter is passed on to a server that knows of no login."""
    recipient = fresh_address()
    send(postfix, "submission", recipient, LETTER, f"AUTH={USER}")
    assert postfix.inbox.wait_for(recipient)
