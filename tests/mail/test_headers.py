"""Header fields read on the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.headers import message_id


@pytest.mark.parametrize(
    ("head", "identifier"),
    [
        pytest.param(b"Message-ID: <1@x>\r\n\r\ntext", b"<1@x>", id="first field"),
        pytest.param(b"Subject: a\r\nMESSAGE-ID:<1@x>\r\n", b"<1@x>", id="odd case, no blank"),
        pytest.param(b"Message-Id:\r\n <1@x>\r\nSubject: a\r\n", b"<1@x>", id="on a continuation line"),
        pytest.param(b"Message-ID: <1@x>  \r\n", b"<1@x>", id="blanks behind it"),
        pytest.param(b"Message-ID: <1@x>\nSubject: a\n\n", b"<1@x>", id="bare LF"),
        pytest.param(b"Message-ID: <1@x>\r\nMessage-ID: <2@x>\r\n", b"<1@x>", id="the first of two"),
        pytest.param(b"Subject: a\r\n\r\nMessage-ID: <1@x>\r\n", b"", id="in the body"),
        pytest.param(b"Subject: a\n\nMessage-ID: <1@x>\n", b"", id="in the body, bare LF"),
        pytest.param(b"\r\nMessage-ID: <1@x>\r\n", b"", id="in the body of a message without header"),
        pytest.param(b"X-Message-ID: <1@x>\r\n", b"", id="another field"),
        pytest.param(b"Resent-Message-ID: <1@x>\r\n", b"", id="yet another field"),
        pytest.param(b"Message-ID: \r\nSubject: a\r\n", b"", id="empty"),
        pytest.param(b"Message-ID: <1", b"<1", id="cut off"),
        pytest.param(b"", b"", id="nothing"),
    ],
)
def test_the_message_id_is_found_in_the_header_alone(head: bytes, identifier: bytes) -> None:
    assert message_id(head) == identifier


@given(st.binary(max_size=200))
def test_any_bytes_have_a_message_id_of_one_line_or_none(data: bytes) -> None:
    assert not {0x0A, 0x0D} & set(message_id(b"Message-ID:" + data))
