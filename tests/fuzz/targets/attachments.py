"""What is found in messages and archives that somebody built to hide it."""

import base64
import io
import zipfile
from collections.abc import Iterator

from bqfilter.config.content import AttachmentSettings
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning import zip_headers
from bqfilter.scanning.attachments import Attachments
from bqfilter.scanning.file_names import NameRules, bare_names, extension, shown
from bqfilter.scanning.report import Finding, Report
from bqfilter.scanning.zip_headers import DEFLATED, STORED, Unpacking
from bqfilter.smtp.body import without_strays
from bqfilter.smtp.commands import Mail
from tests.fuzz.cuts import pieces

_SETTINGS = AttachmentSettings(
    name="attachments", max_depth=4, max_parts=30, max_archive_entries=50, max_unpacked=200_000
)
_ENVELOPE = Envelope(Client(), Mail(b"MAIL FROM:<>", b"", b""))
_HEAD = b'Content-Type: application/zip; name="a.zip"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
_LONG_ENOUGH = 4096  # bytes of an entry that are compared
_RULES = NameRules.of(["exe", "js"], ["invoice*"], double_extensions=True)


def attachments(data: bytes) -> None:
    """A message of anything gets a report within its limits, the same one however it came."""
    content = b"".join(without_strays([data, b"\r\n"]))
    report = _scanned(Message.in_memory(content))
    assert report == _scanned(Message(lambda: iter(pieces(content))))
    assert report.finding in (Finding.CLEAN, Finding.HIT)
    assert report.detail or report.finding is Finding.CLEAN
    assert len(report.detail) < 2000


def zips(data: bytes) -> None:
    """Whatever Python's zipfile can list or unpack of an archive is seen: every name, and what is in there.

    An archive of anything, in a message, gets a report.
    """
    found = list(zip_headers.entries(io.BytesIO(data)))
    for entry in found:
        assert data[entry.at : entry.at + 2] == b"PK"
        assert len(next(iter(Unpacking(io.BytesIO(data), entry, entry.method, 100)), b"")) <= 100
    names = {name for entry in found for name in entry.names}
    starts = {name.partition("\0")[0].replace("\\", "/") for name in names}
    for name, at, head in _by_zipfile(data):
        assert name.replace("\\", "/") in starts
        mine = [entry for entry in found if entry.at == at and entry.data_at is not None]
        if head and mine:  # what is stored goes on to the end of the file
            assert any(_head(data, mine[0], method).startswith(head) for method in (STORED, DEFLATED))
    _scanned(Message.in_memory(_HEAD + base64.encodebytes(data).replace(b"\n", b"\r\n")))


def file_names(data: bytes) -> None:
    """A name of anything is looked at; no bare name is empty, in capitals or a path, and it can be shown."""
    name = data.decode("utf-8", "surrogateescape")
    for one in bare_names(name):
        assert one
        assert "/" not in one
        assert one.isascii() is False or one == one.lower()
    assert "\n" not in shown(name)
    assert "\x1b" not in shown(name)
    _RULES.objection(name)
    if data.isascii() and data.isalnum():
        assert _RULES.objection(name + ".exe") == "extension exe"
        assert extension(f"{name}.ExE. ") == "exe"


def _scanned(message: Message) -> Report:
    scanner = Attachments(_SETTINGS)
    return scanner.scan(message, _ENVELOPE, Deadline.after(lambda: 0.0, 1.0))


def _by_zipfile(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Names, places of headers, and the beginning of what zipfile would unpack."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception:  # no archive to zipfile, in one of many words
        return
    with archive:
        for info in archive.infolist():
            try:
                with archive.open(info) as file:
                    head = file.read(_LONG_ENOUGH)
            except Exception:  # broken, encrypted, or packed in a way that it does not know
                head = b""
            yield info.filename, info.header_offset, head


def _head(data: bytes, entry: zip_headers.Entry, method: int) -> bytes:
    head = b""
    for piece in Unpacking(io.BytesIO(data), entry, method):
        head += piece
        if len(head) >= _LONG_ENOUGH:
            break
    return head[:_LONG_ENOUGH]
