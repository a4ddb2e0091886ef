"""Content arrives as it was sent, whatever it looks like: no signature of a sender is broken on the way."""

import pytest

from tests.doubles.programs import Bqfilterd

from .conftest import Filters
from .deliveries import arrives_once
from .postfix_instance import PostfixInstance, fresh_address
from .smtp_client import PLAIN, SENDER, submit

SUBJECT = b"Subject: test\r\n"
LINE_ENDS_OF_PYTHON = b"a\x0bb\x0cc\x1cd\x1de\x1ef\xc2\x85g\xe2\x80\xa8h\xe2\x80\xa9i\r\n"

CONTENTS = {
    "an ordinary message": PLAIN,
    "lines that begin with dots": SUBJECT + b"\r\n.\r\n..\r\n.a line\r\n...\r\n",
    "bytes that are no text": b"Subject: caf\xc3\xa9 \xff\r\n\r\n\x80\xfe \x01 and \x00\r\n",
    "a line of 70,000 bytes": SUBJECT + b"\r\n" + b"x" * 70_000 + b"\r\nend\r\n",
    "blanks and empty lines": b"Subject: \t \r\n\r\n  \t\r\n\r\ntrailing  \r\n\r\n\r\n",
    "odd headers": b"Subject: folded\r\n\tand\r\n more\r\nX-A:no blank\r\nx-a:  two\r\n\r\nbody\r\n",
    "old trace fields": b"Received: from a by b; Mon, 1 Jan 2024\r\nX-Mailbox-Line: From x\r\n\r\nx\r\n",
    "what only Python calls line ends": SUBJECT + b"\r\n" + LINE_ENDS_OF_PYTHON,
    "headers alone": SUBJECT + b"\r\n",
    "2 MB in one line": SUBJECT + b"\r\n" + b"0123456789abcdef" * 120_000 + b"\r\n",
    "3 MB in many lines": SUBJECT + b"\r\n" + b"0123456789 one line of many\r\n" * 100_000,
}


@pytest.fixture(scope="module", autouse=True)
def bqfilterd(lasting_filters: Filters) -> Bqfilterd:
    return lasting_filters.start()


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_content_arrives_once_and_byte_for_byte(
    postfix: PostfixInstance, before: str, content: bytes
) -> None:
    recipient = fresh_address()
    assert submit(postfix.at(before), SENDER, [recipient], content).startswith(b"250 2.0.0 ")
    arrives_once(postfix, recipient, content)
