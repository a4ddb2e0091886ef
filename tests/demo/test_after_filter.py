"""The after-filter server of the demo: what it announces, refuses and keeps, and how gullible it is."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.demo.after_filter import NO_SUCH_USER, AfterFilter, GullibleReader
from bqfilter.demo.before_filter import Message, send
from bqfilter.demo.maildir import Maildir
from tests.doubles.programs import eventually

CONTENT = b"Subject: x\r\n\r\nHello\r\n..dotted\r\n"
MESSAGE = Message(b"MAIL FROM:<a@remote.example>", (b"RCPT TO:<b@demo.example>",), CONTENT)


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    return Maildir(tmp_path / "Maildir")


@pytest.fixture
def server(maildir: Maildir) -> Iterator[AfterFilter]:
    server = AfterFilter(maildir)
    server.start()
    yield server
    server.close()


def conversation(server: AfterFilter, said: bytes) -> bytes:
    """Everything the server says to a client that says all of its own at once and then waits for the end."""
    with socket.create_connection(("127.0.0.1", server.address.sockaddr[1]), timeout=30) as sock:
        sock.sendall(said)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_message_is_kept_with_its_envelope_and_the_facts_about_the_client(
    server: AfterFilter, maildir: Maildir
) -> None:
    reply = send(server.address, MESSAGE)
    (path,) = maildir.messages()
    assert reply is not None
    assert reply.lines[0].decode().removeprefix("2.0.0 Ok: queued as ") in path.name
    head, _, content = path.read_bytes().partition(b"Subject:")
    assert b"Return-Path: <a@remote.example>\n" in head
    assert b"Delivered-To: b@demo.example\n" in head
    assert b"NAME=mail.remote.example ADDR=192.0.2.7" in head
    assert b"SOURCE=REMOTE" in head
    assert content == b" x\n\nHello\n.dotted\n"


def test_one_recipient_is_refused(server: AfterFilter, maildir: Maildir) -> None:
    message = Message(MESSAGE.mail, (b"RCPT TO:<unknown@demo.example>",), b"")
    assert send(server.address, message) == NO_SUCH_USER
    assert maildir.messages() == []


@pytest.mark.parametrize(
    "keyword", ["PIPELINING", "SIZE", "8BITMIME", "DSN", "SMTPUTF8", "ENHANCEDSTATUSCODES", "XFORWARD"]
)
def test_it_announces(server: AfterFilter, keyword: str) -> None:
    assert f"250-{keyword}".encode() in conversation(server, b"EHLO x\r\nQUIT\r\n").replace(b"250 ", b"250-")


def test_the_facts_about_one_client_are_not_told_of_the_next(server: AfterFilter, maildir: Maildir) -> None:
    mail = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n\r\n.\r\n"
    conversation(server, b"EHLO x\r\nXFORWARD NAME=first.example\r\n" + mail + mail + b"QUIT\r\n")
    facts = [b"first.example" in path.read_bytes() for path in maildir.messages()]
    assert facts == [True, False]


def test_what_is_told_of_a_client_ends_with_a_reset(server: AfterFilter, maildir: Maildir) -> None:
    mail = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n"
    facts = b"XFORWARD NAME=first.example\r\n"
    conversation(
        server, b"EHLO x\r\n" + facts + mail + b"RSET\r\n" + facts + mail + b"DATA\r\n\r\n.\r\nQUIT\r\n"
    )
    (path,) = maildir.messages()
    assert path.read_bytes().count(b"first.example") == 1


def test_a_client_that_leaves_in_the_middle_leaves_no_message(server: AfterFilter, maildir: Maildir) -> None:
    said = b"EHLO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nhalf of it"
    with socket.create_connection(("127.0.0.1", server.address.sockaddr[1]), timeout=30) as sock:
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        assert b"354" in b"".join(iter(lambda: sock.recv(65536), b""))
    assert maildir.messages() == []


def test_stopped_it_refuses_connections_and_started_again_it_has_the_same_address(
    server: AfterFilter, maildir: Maildir
) -> None:
    server.stop()
    assert send(server.address, MESSAGE) is None
    server.start()
    server.start()  # the second one changes nothing
    assert send(server.address, MESSAGE) is not None
    assert len(maildir.messages()) == 1


def test_stopped_it_ends_its_connections_too(server: AfterFilter) -> None:
    with socket.create_connection(("127.0.0.1", server.address.sockaddr[1]), timeout=30) as sock:
        assert sock.recv(100).startswith(b"220 ")
        server.stop()
        assert sock.recv(100) == b""


def test_stopped_at_once_it_ends_though_its_maker_catches_the_signal(maildir: Maildir) -> None:
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        for _ in range(20):
            server = AfterFilter(maildir)
            server.start()
            server.close()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_closed_it_leaves_no_process_behind(maildir: Maildir) -> None:
    server = AfterFilter(maildir)
    server.start()
    group = server._pid
    server.close()

    def is_gone() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    assert eventually(is_gone, "the process group is gone")


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(b"\r\n.\r\n", id="CRLF dot CRLF, which is right"),
        pytest.param(b"\n.\n", id="LF dot LF"),
        pytest.param(b"\r\n.\r\r\n", id="CRLF dot CR CRLF"),
        pytest.param(b"\n.\r\n", id="LF dot CRLF"),
    ],
)
def test_it_takes_for_the_end_of_data(ending: bytes) -> None:
    reader = GullibleReader()
    assert reader.feed(b"content" + ending + b"MAIL") == b"MAIL"
    assert reader.lines == [b"content"]


def test_the_end_of_data_is_found_however_the_input_is_cut() -> None:
    reader = GullibleReader()
    found = [reader.feed(bytes([byte])) for byte in b"a\r\n..b\r\n.\r\n"]
    assert found == [None] * (len(found) - 1) + [b""]
    assert reader.lines == [b"a", b".b"]
