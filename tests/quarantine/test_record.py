"""The first line of a kept file: nothing of the envelope is lost, nothing damaged is believed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import QuarantineFailure
from bqfilter.mail.envelope import Client
from bqfilter.mail.fields import Header
from bqfilter.quarantine.record import Record, ReportSummary, check, decode, encode, headline
from tests.doubles.kept import mail, rcpt, record

ID = "20251125-132723-482913-9f3ac41e77b1"
LINE_BYTES = st.binary(max_size=60).map(lambda data: data.translate(None, b'\r\n\0<>"'))


def through(given_record: Record) -> Record:
    return decode(encode(given_record, ID, 70, "ab" * 32), ID).record


def test_what_was_written_is_read() -> None:
    stored = decode(encode(record(b"b@example.org", b"c@example.org"), ID, 70, "ab" * 32), ID)
    assert stored.record == record(b"b@example.org", b"c@example.org")
    assert (stored.size, stored.sha256) == (70, "ab" * 32)


@given(LINE_BYTES, LINE_BYTES, LINE_BYTES)
def test_command_lines_and_facts_stay_the_same_bytes(sender: bytes, parameter: bytes, helo: bytes) -> None:
    """Whatever Postfix let through, also what is no UTF-8."""
    line = b"MAIL FROM:<%b> X=%b" % (sender, parameter)
    given_record = record(sender, sender=mail(line), client=Client({b"HELO": helo}))
    read = through(given_record)
    assert read.sender == mail(line)
    assert read.recipients == given_record.recipients
    assert read.client.attributes == {b"HELO": helo}


@given(LINE_BYTES, st.lists(LINE_BYTES, max_size=3), st.text(max_size=50), st.text(max_size=50))
def test_what_a_list_shows_is_what_the_record_says(
    sender: bytes, recipients: list[bytes], reason: str, subject: str
) -> None:
    """Though it is told before a record has been made of the line."""
    kept = record(*recipients, sender=mail(b"MAIL FROM:<%b>" % sender), reason=reason, subject=subject)
    stored = decode(encode(kept, ID, 70, "ab" * 32), ID)
    assert stored.sender.encode("utf-8", "surrogateescape") == stored.record.sender.address
    told = [address.encode("utf-8", "surrogateescape") for address in stored.recipients]
    assert told == [recipient.address for recipient in stored.record.recipients]
    assert (stored.reason, stored.subject) == (stored.record.reason, stored.record.subject)


@given(st.text(max_size=2000), st.text(max_size=100))
def test_texts_are_one_printable_line_of_bounded_length(reason: str, detail: str) -> None:
    line = encode(record(reason=reason, reports=(ReportSummary("x", "hit", detail),)), ID, 0, "")
    read = decode(line, ID).record
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert len(read.reason) <= 500
    assert all(ord(char) >= 32 for char in read.reason + read.reports[0].detail)


def test_the_line_is_as_long_before_the_size_is_known() -> None:
    known = encode(record(), ID, 123_456_789, "f" * 64)
    assert len(encode(record(), ID, 0, "e3b0")) == len(known)


def test_a_score_that_is_no_number_is_none() -> None:
    assert through(record(reports=(ReportSummary("x", "hit", "", float("nan")),))).reports[0].score is None


def altered(**changes: Any) -> bytes:
    value = json.loads(encode(record(), ID, 70, "ab" * 32)) | changes
    return json.dumps(value).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" " * 500 + b"\n", id="blanks, as in a file that was being written"),
        pytest.param(b'{"format": 1}\n', id="too little"),
        pytest.param(b"[1]\n", id="no object"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(altered(format=2), id="a format of the future"),
        pytest.param(altered(id="20251125-132723-482913-000000000000"), id="the line of another file"),
        pytest.param(altered(mail=["MAIL FROM:<a>"]), id="half a command"),
        pytest.param(altered(rcpt=[["RCPT TO:<a>", 1, 2]]), id="a command of numbers"),
        pytest.param(altered(mail=None), id="no text"),
        pytest.param(altered(reports=[["clamd", "hit", "", "high"]]), id="a score that is no number"),
        pytest.param(altered(reports=[["clamd", "hit", "", 10**400]]), id="a score that no number can hold"),
        pytest.param(altered(subject="caf").replace(b"caf", b"caf\xe9"), id="bytes that are no ASCII"),
        pytest.param(altered(client=[]), id="no facts"),
        pytest.param(altered(size=-1), id="less than no content"),
        pytest.param(altered(size="70"), id="a size in quotes"),
        pytest.param(altered(reports=[["clamd"]]), id="half a report"),
        pytest.param(altered(reports=[["clamd", "hit", None, None]]), id="a report without a word"),
        pytest.param(altered(reason=7), id="a number for a text"),
        pytest.param(altered(size=True), id="no size at all"),
        pytest.param(altered(client={"HELO": 7}), id="a fact that is no text"),
        pytest.param(altered(rcpt=["RCPT TO:<a>"]), id="a command in one piece"),
        pytest.param(altered(mail=["MAIL FROM:<\ud800>", "\ud800", ""]), id="a letter that is none"),
        pytest.param(
            altered(mail=["MAIL FROM:<\ud800>", "\ud800", ""]).replace(b"\\ud", b"\\uD"),
            id="the same in capitals, which nobody here writes",
        ),
    ],
)
def test_a_line_that_is_not_what_was_written_is_refused(line: bytes) -> None:
    with pytest.raises(QuarantineFailure, match="first line cannot be read"):
        decode(line, ID)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"mail": ["MAIL FROM:<a>\r\nRCPT TO:<x>", "a", ""]}, id="two commands in one"),
        pytest.param({"mail": ["MAIL FROM:<a>\nRCPT TO:<x>", "a", ""]}, id="a bare line feed"),
        pytest.param({"mail": ["QUIT", "a", ""]}, id="another command than MAIL"),
        pytest.param({"rcpt": [["MAIL FROM:<a>", "a", ""]]}, id="another command than RCPT"),
        pytest.param({"rcpt": [["RCPT TO:<a>", "b", ""]]}, id="another address than in the line"),
    ],
)
def test_a_command_line_that_is_none_is_not_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(QuarantineFailure, match="line that can be sent"):
        check(decode(altered(**changes), ID).record)


def test_what_a_client_said_may_be_sent() -> None:
    check(through(record(b"b@example.org", b'"a b"@example.org')))


def test_facts_of_other_names_are_left_out() -> None:
    line = altered(client={"ADDR": "192.0.2.7", "X Y": "1"})
    assert decode(line, ID).record.client.attributes == {b"ADDR": b"192.0.2.7"}


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        pytest.param(b"Invoice", "Invoice", id="plain"),
        pytest.param(b"=?utf-8?q?caf=C3=A9?= now", "café now", id="encoded words"),
        pytest.param(b"=?x-unheard-of?q?caf?=", "caf", id="an unknown character set"),
        pytest.param(b"=?punycode?q?caf-?=", "caf-", id="a codec that is no character set"),
        pytest.param(b"=?utf-8?b?YWI=!Y?=", "ab", id="broken base64"),
        pytest.param(b"caf\xe9", "café", id="bytes without a character set"),
        pytest.param(b"=?utf-8?q?=1B[2J=E2=80=AEgpj.exe?=", "[2J gpj.exe", id="commands for a terminal"),
        pytest.param(b"two\r\n lines", "two lines", id="folded"),
        pytest.param(b"x" * 100_000, "x" * 500, id="very long"),
        pytest.param(b"=?utf-8?q?" + b"a" * 99_999 + b"?=", None, id="a very long encoded word"),
    ],
)
def test_a_subject_is_decoded_and_made_harmless(subject: bytes, shown: str | None) -> None:
    found = headline(Header(b"Subject: " + subject + b"\r\nMessage-ID: <1@x>\r\n"))
    assert found[0] == "<1@x>"
    assert found[1] == shown or (shown is None and len(found[1]) <= 500)


def test_a_message_without_a_header_has_no_headline() -> None:
    assert headline(Header(b"")) == ("", "")


def test_a_recipient_keeps_its_parameters() -> None:
    line = rcpt(b"b@example.org", b" NOTIFY=NEVER ORCPT=rfc822;b@example.org").line
    assert through(record(recipients=(rcpt(b"b@example.org", line[23:]),))).recipients[0].line == line
