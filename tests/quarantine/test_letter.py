"""Letters to the quarantine's mailbox: what is had back from a file is what was kept, or nothing is."""

import base64
import re
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import QuarantineFailure
from bqfilter.mail.envelope import Client
from bqfilter.mail.fields import Header
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited
from bqfilter.quarantine import Record
from bqfilter.quarantine.letter import HEADER_LIMIT, Letter, edits, read
from bqfilter.smtp.commands import Mail, parse_command
from bqfilter.trial import read_message
from tests.doubles.kept import CONTENT, FACTS, mail, rcpt, record

ID = "20261125-135619-392560-86e430483771"
POSTFIX_TOP = (
    b"Return-Path: <>\nX-Original-To: quarantine@example.org\nDelivered-To: quarantine@example.org\n"
    b"Received: from filter.example (remote.example [192.0.2.7])\n\tby mx.example (Postfix); today\n"
)


def posted(content: bytes, given_record: Record | None = None) -> bytes:
    """What the after-filter server is sent."""
    message = Message.in_memory(content)
    added = edits(message, given_record or record(), ID)
    return b"".join(Edited(message, added, None, is_small=True).cleaned())


def delivered(letter: bytes) -> bytes:
    """As a Maildir has it."""
    return POSTFIX_TOP + letter.replace(b"\r\n", b"\n")


def had_back(file: bytes) -> Letter:
    clean = file.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return read(Message.in_memory(clean, HEADER_LIMIT))


def content_of(letter: Letter) -> bytes:
    return b"".join(letter.content())


def test_a_letter_says_on_top_why_it_was_kept_and_for_whom() -> None:
    header = Message.in_memory(posted(CONTENT, record(b"b@y", b"c@y"))).header
    assert [field.name for field in header.fields] == [
        b"X-Bqfilter-Quarantined", b"X-Bqfilter-Envelope-From", b"X-Bqfilter-Envelope-To",
        b"X-Bqfilter-Record", b"Subject", b"Message-ID",
    ]  # fmt: skip
    assert header.first(b"x-bqfilter-quarantined") == b"clamd: Eicar-Signature"
    assert header.first(b"x-bqfilter-envelope-from") == b"<a@remote.example>"
    assert header.first(b"x-bqfilter-envelope-to") == b"<b@y>, <c@y>"


def test_what_is_had_back_from_a_maildir_is_what_was_kept() -> None:
    envelope = record(
        b"b@y", b"c@y",
        sender=mail(b"MAIL FROM:<a@remote.example> SIZE=70 BODY=8BITMIME RET=HDRS ENVID=QQ314159"),
        recipients=(rcpt(b"b@y", b" NOTIFY=NEVER ORCPT=rfc822;b@y"), rcpt("grüße@y".encode())),
    )  # fmt: skip
    letter = had_back(delivered(posted(CONTENT, envelope)))

    assert (letter.id, letter.record) == (ID, envelope)
    assert letter.record.client.attributes == FACTS
    assert content_of(letter) == CONTENT


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\r\n\r\n",
        b"Subject: x\r\n",
        b"\r\nno header\r\n",
        b"no header either\r\n",
        b"Subject: x\r\nno empty line in front of the body\r\n",
        b"X-Bqfilter-Record: 20261125-135619-392560-000000000000 1/1 AAAA\r\nSubject: x\r\n\r\nforged\r\n",
        b"X-Bqfilter-Envelope-To: <king@x>\r\nReturn-Path: <me>\r\nBcc: all\r\nSubject: x\r\n\r\ntext\r\n",
        b"Subject: x\r\n\r\nFrom here\r\n.\r\n..\r\n\r\n\r\n",
    ],
    ids=lambda content: content[:30].decode(),
)
def test_so_it_is_whatever_the_message_looks_like(content: bytes) -> None:
    assert content_of(had_back(delivered(posted(content)))) == content


def test_fields_that_the_mailbox_has_dropped_added_or_moved_do_not_matter() -> None:
    content = b"Return-Path: <x>\r\nBcc: all\r\nSubject: x\r\nContent-Length: 3\r\n\r\ntext\r\n"
    file = delivered(posted(content, record(*(b"r%04d@example.org" % number for number in range(1000)))))
    head, _, body = file.partition(b"\n\n")
    fields = [field.raw for field in Header(head.replace(b"\n", b"\r\n") + b"\r\n").fields]
    dropped = (b"return-path", b"bcc", b"content-length")
    others = [raw for raw in reversed(fields) if raw.split(b":")[0].lower() not in dropped]
    changed = b"".join([b"X-Spam: yes\r\n", *others, b"X-Seen: today\r\n"]) + b"\r\n" + body

    assert content_of(had_back(changed)) == content


def test_a_long_record_is_cut_into_fields_that_postfix_does_not_cut() -> None:
    people = record(*(sha256(bytes([n % 256, n // 256])).hexdigest().encode() + b"@y" for n in range(1000)))
    head = Message.in_memory(posted(CONTENT, people), HEADER_LIMIT).header
    pieces = head.all(b"X-Bqfilter-Record")

    assert len(pieces) > 1
    assert max(len(field.raw) for field in head.fields) < 102_400
    assert max(map(len, head.raw.split(b"\r\n"))) <= 998
    assert had_back(delivered(posted(CONTENT, people))).record == people


def test_a_body_that_was_changed_on_its_way_is_noticed() -> None:
    file = delivered(posted(CONTENT)).replace(b"Hello.", b"Hello, send money.")
    with pytest.raises(QuarantineFailure, match="its body is not what was kept"):
        content_of(had_back(file))


FILE = delivered(posted(CONTENT))
TITLE = b"X-Bqfilter-Record: " + ID.encode()


def packed(line: bytes) -> bytes:
    """A file with this in its record."""
    return b"%b 1/1\n %b\n\ntext\n" % (TITLE, base64.b64encode(zlib.compress(line)))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"Subject: x\n\ntext\n", "it has no X-Bqfilter-Record"),
        (b"", "it has no X-Bqfilter-Record"),
        (FILE.replace(ID.encode(), b"../../etc/passwd"), "is not whole"),
        (FILE.replace(b" 1/1\n", b" 1/2\n"), "is not whole"),
        (FILE.replace(b" 1/1\n", b" 1/99999\n"), "is not whole"),
        (FILE.replace(b" 1/1\n", b"\n"), "cannot be read"),
        (re.sub(rb"(1/1\n .{20})", rb"\1!", FILE), "cannot be read"),
        (re.sub(rb"(1/1\n .{20}).{4}", rb"\1AAAA", FILE), "cannot be read|is cut"),
        (re.sub(rb"(1/1\n .{72})[^:]*\nSubject", rb"\1\nSubject", FILE), "is cut"),
        (b"X-Bqfilter-Record: " + ID[:-1].encode() + b"0 1/1 eJwDAAAAAAE=\n" + FILE, "of several messages"),
        (packed(b"x" * (65 * 1024 * 1024)), "far too large"),
        (packed(b"{}\n"), "first line cannot be read"),
        (packed(b"[" * 100_000 + b"\n"), "first line cannot be read"),
    ],
    ids=range(13),
)
def test_what_is_no_letter_is_told(file: bytes, words: str) -> None:
    with pytest.raises(QuarantineFailure, match=words):
        had_back(file)


@pytest.mark.parametrize(
    "sender",
    [
        Mail(b"MAIL FROM:<a@x>\r\nRCPT TO:<king@x>", b"a@x", b""),
        Mail(b"MAIL FROM:<a@x>\nDATA", b"a@x", b""),
        Mail(b"QUIT", b"a@x", b""),
    ],
    ids=["CRLF", "LF", "another command"],
)
def test_a_forged_record_puts_no_command_of_its_own_on_the_wire(sender: Mail) -> None:
    with pytest.raises(QuarantineFailure, match="is no MAIL line that can be sent"):
        had_back(delivered(posted(CONTENT, record(sender=sender))))


def test_nothing_of_an_envelope_ends_a_line_of_the_header() -> None:
    nasty = replace(
        record(b"b@y"),
        sender=Mail(b"MAIL FROM:<a@x>", b"a\r\nX-Own: 1\r\n\r\nbody", b""),
        reason="found\r\n\r\nX-Own: 2\nX-Own: 3\x00",
        client=Client({b"NAME": b"x\r\nX-Own: 4", b"ADDR": b"\xff\x00"}),
    )
    message = Message.in_memory(posted(CONTENT, nasty))
    assert not message.header.all(b"X-Own")
    assert b"".join(message.body()) == CONTENT.partition(b"\r\n\r\n")[2]


lines = st.binary(max_size=40).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b""))
names = st.from_regex(rb"[!-9;-~]{1,12}", fullmatch=True)
fields = st.lists(st.tuples(names, lines).map(lambda pair: pair[0] + b": " + pair[1] + b"\r\n"), max_size=5)
bodies = st.lists(lines.map(lambda line: line + b"\r\n"), max_size=5)
addresses = st.from_regex(rb"[a-z0-9.+-]{1,20}@[a-z.]{1,20}", fullmatch=True)


@given(fields, st.booleans(), bodies, addresses, st.lists(addresses, min_size=1, max_size=5))
def test_every_message_is_had_back(
    head: list[bytes], is_separated: bool, body: list[bytes], sender: bytes, recipients: list[bytes]
) -> None:
    content = b"".join([*head, b"\r\n" * is_separated, *body]) or b"\r\n"
    command = parse_command(b"MAIL FROM:<%b> SIZE=7" % sender)
    assert isinstance(command, Mail)
    envelope = record(*recipients, sender=command)
    letter = had_back(POSTFIX_TOP.replace(b"\n", b"\r\n") + posted(content, envelope))

    assert letter.record == envelope
    assert content_of(letter) == content


@given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 300))
def test_whatever_stands_in_a_file_is_read_or_told(junk: bytes, at: int, cut: int) -> None:
    file = FILE[:at] + junk + FILE[at + cut :]
    try:
        content = content_of(had_back(file))
    except QuarantineFailure:
        return
    assert content == CONTENT


def test_a_file_is_read_with_line_ends_of_either_kind(tmp_path: Path) -> None:
    for name, data in (("lf", FILE), ("crlf", FILE.replace(b"\n", b"\r\n")), ("mbox", b"From x\n" + FILE)):
        (tmp_path / name).write_bytes(data)
        with (tmp_path / name).open("rb") as file:
            assert content_of(read(read_message(file, HEADER_LIMIT))) == CONTENT
