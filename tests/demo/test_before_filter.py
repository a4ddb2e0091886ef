"""The played before-filter Postfix says what Postfix says, one command at a time."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from bqfilter.demo.before_filter import Message, give_up_in_the_middle, send
from bqfilter.net.address import SocketAddress
from bqfilter.smtp.replies import Reply

MESSAGE = Message(b"MAIL FROM:<a@x>", (b"RCPT TO:<b@y>", b"RCPT TO:<c@y>"), b"one line\r\nand another\r\n")
OBLIGING = {
    b"EHLO": b"250-filter\r\n250 XFORWARD NAME ADDR SOURCE\r\n",
    b"DATA": b"354 go\r\n",
    b".": b"250 2.0.0 Ok: queued as X\r\n",
    b"QUIT": b"",
}


@dataclass
class ScriptedFilter:
    """Answers one connection, by the first word of a line or else with 250; `heard` has the lines."""

    answers: dict[bytes, bytes]
    listener: socket.socket
    greeting: bytes = b"220 hello\r\n"
    heard: list[bytes] = field(default_factory=list)

    @property
    def address(self) -> SocketAddress:
        return SocketAddress(socket.AF_INET, self.listener.getsockname())

    def serve(self) -> None:
        sock, _ = self.listener.accept()
        with sock, sock.makefile("rb") as lines:
            sock.sendall(self.greeting)
            is_content = False
            for raw in lines:
                line = raw.rstrip(b"\r\n")
                self.heard.append(line)
                if is_content and line != b".":
                    continue
                is_content = line == b"DATA" and not self.answers[b"DATA"].startswith(b"5")
                sock.sendall(self.answers.get(line.split(b" ")[0], b"250 ok\r\n"))


@contextmanager
def filter_that_says(greeting: bytes = b"220 hello\r\n", **answers: bytes) -> Iterator[ScriptedFilter]:
    table = OBLIGING | {verb.encode(): answer for verb, answer in answers.items()}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scripted = ScriptedFilter(table, listener, greeting)
        thread = threading.Thread(target=scripted.serve)
        thread.start()
        yield scripted
        thread.join(30)


def test_a_message_is_handed_over_as_postfix_does_it() -> None:
    with filter_that_says() as filter_:
        assert send(filter_.address, MESSAGE) == Reply(250, (b"2.0.0 Ok: queued as X",))
    assert filter_.heard == [
        b"EHLO before.demo.example",
        b"XFORWARD NAME=mail.remote.example ADDR=192.0.2.7 SOURCE=REMOTE",
        b"MAIL FROM:<a@x>",
        b"RCPT TO:<b@y>",
        b"RCPT TO:<c@y>",
        b"DATA",
        b"one line",
        b"and another",
        b".",
        b"QUIT",
    ]


def test_without_an_announcement_there_is_no_xforward() -> None:
    with filter_that_says(EHLO=b"250 filter\r\n") as filter_:
        send(filter_.address, MESSAGE)
    assert not [line for line in filter_.heard if line.startswith(b"XFORWARD")]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_a_refusal_ends_the_message_and_is_what_the_client_is_told(verb: str) -> None:
    with filter_that_says(**{verb: b"550 5.7.1 no\r\n"}) as filter_:
        assert send(filter_.address, MESSAGE) == Reply(550, (b"5.7.1 no",))
    assert filter_.heard[-1] == b"QUIT"
    assert b"one line" not in filter_.heard


def test_a_refused_connection_is_told_too() -> None:
    with filter_that_says(greeting=b"554 5.7.1 no\r\n") as filter_:
        assert send(filter_.address, MESSAGE) == Reply(554, (b"5.7.1 no",))


def test_a_message_given_up_ends_in_quit_behind_half_of_its_content() -> None:
    with filter_that_says() as filter_:
        assert give_up_in_the_middle(filter_.address, MESSAGE) is None
    half = MESSAGE.content[: len(MESSAGE.content) // 2]
    assert filter_.heard[-2:] == [*(half + b"QUIT").split(b"\r\n")]
    assert b"." not in filter_.heard


def test_where_nobody_listens_there_is_no_reply() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert send(SocketAddress(socket.AF_INET, bound.getsockname()), MESSAGE) is None
