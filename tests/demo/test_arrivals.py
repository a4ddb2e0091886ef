"""Files of the Maildir against what should have arrived."""

from pathlib import Path

import pytest

from bqfilter.demo.arrivals import Arrived, Watch, complaints
from bqfilter.demo.maildir import Maildir
from bqfilter.demo.scenes import Arrival

HEAD = b"Return-Path: <a@x>\nDelivered-To: b@y\nDelivered-To: c@y\nX-Demo-XFORWARD: NAME=z\n"
CONTENT = b"Subject: Gr\xc3\xbc\xc3\x9fe\nDelivered-To: somebody@else\n\n.a dot\n"
EXPECTED = Arrival(
    ("b@y", "c@y"), b"Subject: Gr\xc3\xbc\xc3\x9fe\r\nDelivered-To: somebody@else\r\n\r\n..a dot\r\n"
)


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    return Maildir(tmp_path)


@pytest.fixture
def arrived(maildir: Maildir) -> Arrived:
    maildir.store(HEAD + CONTENT)
    return Arrived.read(maildir.messages()[0])


def test_a_file_tells_for_whom_it_is_and_what_came(arrived: Arrived) -> None:
    assert arrived.to == ("b@y", "c@y")
    assert arrived.content == CONTENT
    assert str(arrived) == f'new/{arrived.path.name} (subject "Grüße", to b@y, c@y)'


def test_a_message_without_a_subject_has_none(maildir: Maildir) -> None:
    maildir.store(b"X-Demo-XFORWARD:\n\nno header\n")
    assert '(subject "none", to )' in str(Arrived.read(maildir.messages()[0]))


def test_only_what_comes_later_is_seen(maildir: Maildir, arrived: Arrived) -> None:
    watch = Watch(maildir)
    assert watch.arrived() == []
    maildir.store(HEAD + b"Subject: second\n\n")
    assert [one.content for one in watch.arrived()] == [b"Subject: second\n\n"]
    assert arrived.path not in [one.path for one in watch.arrived()]


def test_what_is_as_it_should_be_is_no_complaint(arrived: Arrived) -> None:
    assert complaints([EXPECTED], [arrived]) == []
    assert complaints([], []) == []


@pytest.mark.parametrize(
    ("expected", "complaint"),
    [
        pytest.param([], "messages that should have arrived: 0", id="one too many"),
        pytest.param([EXPECTED] * 2, "messages that should have arrived: 2", id="one is missing"),
        pytest.param([Arrival(("b@y",), EXPECTED.content)], "it should have gone to b@y", id="recipients"),
        pytest.param(
            [Arrival(EXPECTED.to, b"\r\n" + EXPECTED.content)],
            "the message is not as it should be",
            id="content",
        ),
    ],
)
def test_anything_else_is(arrived: Arrived, expected: list[Arrival], complaint: str) -> None:
    assert complaints(expected, [arrived]) == [complaint]
