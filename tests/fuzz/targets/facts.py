"""What is said about a client (PROXY header, XFORWARD), and what was kept about a message (quarantine)."""

import base64
import hashlib
import ipaddress
import json
import re
import zlib

from bqfilter.errors import QuarantineFailure
from bqfilter.mail.envelope import Client
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited
from bqfilter.net.proxy_protocol import LONGEST_HEADER, Announcement, announced, wanted
from bqfilter.quarantine import history, view
from bqfilter.quarantine.letter import HEADER_LIMIT, edits
from bqfilter.quarantine.letter import read as read_letter
from bqfilter.quarantine.names import Name, State
from bqfilter.quarantine.record import check, decode, encode
from bqfilter.quarantine.store import Entry
from bqfilter.scanning.rspamd_request import request_headers
from bqfilter.scoreboard import Slot
from bqfilter.smtp import grammar
from bqfilter.smtp.body import without_strays
from bqfilter.smtp.commands import XForward, parse_command
from bqfilter.upstream.xforward import xforward_lines
from tests.doubles.messages import envelope

_ID = "20261125-132723-482913-9f3ac41e77b1"
_ALL = frozenset(grammar.XFORWARD_VALUES)
_MOST_LINE_BYTES = 510
_WIRE = re.compile(rb"[!-~]+")


def xforward(data: bytes) -> None:
    """Whatever was said of a client, what is said of it again is lines that Postfix takes.

    They are short, hold every attribute once, SOURCE among them, and read as what they say. Decoded, it can
    be shown, put into the scoreboard, and handed to Rspamd without breaking a line there.
    """
    command = parse_command(
        b"XFORWARD " + data.replace(b"\n", b" ").replace(b"\r", b" ").replace(b"\0", b" ")
    )
    assert isinstance(command, XForward)
    client = Client().with_attributes(command.attributes)
    read: list[tuple[bytes, bytes]] = []
    for line in xforward_lines(client, _ALL):
        assert len(line) <= _MOST_LINE_BYTES
        again = parse_command(line)
        assert isinstance(again, XForward)
        read += again.attributes
    assert sorted(name for name, _ in read) == sorted(_ALL)
    for name, value in read:
        assert value == grammar.UNAVAILABLE or grammar.XFORWARD_VALUES[name].fullmatch(value)
        assert value in (client.attributes.get(name), grammar.UNAVAILABLE, b"REMOTE")
    assert client.source in ("local", "remote")
    assert client.namaddr.endswith(b"]")
    slot = Slot.unseen()
    slot.serve(client.address)
    assert re.fullmatch(r"[0-9a-f.:]*", slot.client)
    facts = {name.decode().lower(): value for name, value in client.attributes.items()}
    for name, value in request_headers(envelope(**facts), "mx.example", ""):
        assert _WIRE.fullmatch(name)
        assert not set(value) & set(b"\r\n\0")


def proxy_header(data: bytes) -> None:
    """A header is taken to its last byte and no further, however it comes; all else is a ValueError or short.

    Whom it announces is an internet address with a port, or nobody.
    """
    found = _announced(data, piece_bytes=len(data) or 1)
    assert found == _announced(data, piece_bytes=1)
    if found is None:
        return
    announcement, taken = found
    if data.startswith(b"PROXY "):
        assert taken == data.index(b"\r\n") + 2 <= 107
    else:
        assert data.startswith(b"\r\n\r\n\0\r\nQUIT\n")
        assert taken == 16 + int.from_bytes(data[14:16], "big") <= LONGEST_HEADER
    assert 0 <= announcement.port <= 65535
    if announcement.host:
        assert str(ipaddress.ip_address(announcement.host)) == announcement.host
        assert not announcement.is_local


def _announced(data: bytes, piece_bytes: int) -> tuple[Announcement, int] | None:
    """What a reader finds that gets so many bytes at a time at most, and how many it took."""
    at = 0
    try:
        while count := wanted(data[:at]):
            assert count > 0
            if at >= len(data):
                return None
            at = min(at + min(count, piece_bytes), len(data))
        return announced(data[:at]), at
    except ValueError:
        return None


def record(data: bytes) -> None:
    """The first line of a kept file is a record or a QuarantineFailure; a record is the same once written.

    One that passes the check has nothing but lines that may be sent; shown, it has no control character. What
    stands behind the content is events or nothing.
    """
    events = history.decode(data)
    history.resting_state(_RECORD, history.standing(events))
    try:
        stored = decode(data, _ID)
    except QuarantineFailure as failure:
        assert failure.cause.isprintable()
        return
    entry = Entry(Name(_ID, State.HELD), stored)
    assert view.as_line(entry).isprintable()
    json.dumps(view.as_value(entry))
    again = decode(encode(stored.record, _ID, stored.size, stored.sha256), _ID)
    twice = decode(encode(again.record, _ID, again.size, again.sha256), _ID)
    assert twice == again
    assert again.record.sender == stored.record.sender
    assert again.record.recipients == stored.record.recipients
    assert again.size == stored.size
    try:
        check(stored.record)
    except QuarantineFailure:
        return
    for command in (stored.record.sender, *stored.record.recipients):
        assert not set(command.line) & set(b"\r\n\0")
    assert all(len(line) <= _MOST_LINE_BYTES for line in xforward_lines(stored.record.client, _ALL))


def letter(data: bytes) -> None:
    """A file out of the quarantine's mailbox is the message that was kept, or a QuarantineFailure.

    So is a record that says what the data say. One that is read has nothing but lines that may be sent, and
    no control character when it is shown; a letter made of it is read as the same.
    """
    title = b"X-Bqfilter-Record: %b 1/1\n " % _ID.encode()
    for file in (data, title + base64.b64encode(zlib.compress(data, 1)) + b"\n\ntext\n"):
        message = Message.in_memory(b"".join(without_strays(iter([file]))), HEADER_LIMIT)
        try:
            found = read_letter(message)
        except QuarantineFailure as failure:
            assert failure.cause.isprintable()
            continue
        assert all(line.isprintable() for line in view.letter_page(found))
        for command in (found.record.sender, *found.record.recipients):
            assert not set(command.line) & set(b"\r\n\0")
        again = Edited(message, edits(message, found.record, found.id), None, is_small=True)
        assert read_letter(Message.in_memory(b"".join(again.cleaned()), HEADER_LIMIT)).record == found.record
        try:
            content = b"".join(found.content())
        except QuarantineFailure:
            continue
        assert hashlib.sha256(content).hexdigest() == found.stored.sha256


_RECORD = decode(
    b'{"format":1,"id":"%b","size":1,"sha256":"0","session":"","listener":"","client":{},'
    b'"mail":["MAIL FROM:<a@x>","a@x",""],"rcpt":[["RCPT TO:<b@y>","b@y",""]],"action":"","policy":"",'
    b'"reason":"","reports":[],"message_id":"","subject":""}\n' % _ID.encode(),
    _ID,
).record
