"""Attachments that nobody should be sent, however hidden; and messages that cannot be looked at whole."""

import base64
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.config.actions import ACCEPT, DEFER, QUARANTINE, REJECT, Response
from bqfilter.config.content import AttachmentSettings
from bqfilter.errors import ScannerFailure
from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.attachments import Attachments
from bqfilter.scanning.report import Finding, Report
from bqfilter.smtp.commands import Mail
from tests.doubles import hostile
from tests.doubles.clock import FakeClock
from tests.doubles.hostile import attachment, multipart, zipped

ENVELOPE = Envelope(Client(), Mail(b"MAIL FROM:<>", b"", b""))
TEXT = b"Content-Type: text/plain\r\n\r\nHello\r\n"


def scan(content: bytes, directory: str | None = None, **settings: object) -> Report:
    scanner = Attachments(AttachmentSettings(**settings), directory)  # type: ignore[arg-type]
    return scanner.scan(Message.in_memory(content), ENVELOPE, Deadline.never(FakeClock()))


def named(name: bytes, data: bytes = b"x") -> bytes:
    """A message with text, and an attachment of this name."""
    return multipart(TEXT, attachment(data, b'Content-Disposition: attachment; filename="' + name + b'"\r\n'))


def nested(levels: int, inner: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    for _ in range(levels):
        inner = zipped(("inner.zip", inner), method=method)
    return inner


def encrypted(data: bytes) -> bytes:
    """The archive with the flag that says so."""
    return data.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01")


def lying(data: bytes, fact: str) -> bytes:
    """The archive where the headers in front of entries contradict the directory, which says the truth."""
    flags, method = {"encrypted": (1, 8), "stored": (0, 0), "packed otherwise": (0, 99)}[fact]
    old = b"PK\x03\x04\x14\0" + struct.pack("<HH", 0, 8)
    assert old in data
    return data.replace(old, old[:6] + struct.pack("<HH", flags, method))


EVIL = zipped(("a.txt", b"x"), ("dir/b.exe", b"y"))
FORWARDED = b"Subject: forwarded\r\n" + named(b"b.exe")


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        pytest.param(named(b"invoice.pdf.exe"), "invoice.pdf.exe (extension exe)", id="by extension"),
        pytest.param(
            named(b"invoice.pdf.py"), "invoice.pdf.py (double extension pdf.py)", id="by two of them"
        ),
        pytest.param(
            named(b"a.txt", b"MZ\x90\x00"), "a.txt (type application/x-dosexec)", id="by its first bytes"
        ),
        pytest.param(
            multipart(b"Content-Type: application/x-dosexec\r\n\r\nx"),
            "a part without a name (type application/x-dosexec)",
            id="by its declared type",
        ),
        pytest.param(named(b"a.zip", EVIL), "dir/b.exe in a.zip (extension exe)", id="in an archive"),
        pytest.param(
            named(b"a.txt", EVIL), "dir/b.exe in a.txt (extension exe)", id="in what is said to be no archive"
        ),
        pytest.param(
            named(b"a.zip", b"MZ\x90\x00" + EVIL),
            "a.zip (type application/x-dosexec)",
            id="a program with an archive",
        ),
        pytest.param(
            named(b"a.zip", b"..." + EVIL), "dir/b.exe in a.zip (extension exe)", id="an archive behind junk"
        ),
        pytest.param(
            named(b"a.zip", zipped(("a.txt", b"MZ\x90\x00"))),
            "a.txt in a.zip (type application/x-dosexec)",
            id="in an archive by its first bytes",
        ),
        pytest.param(
            named(b"a.zip", nested(3, EVIL)),
            "dir/b.exe in inner.zip (extension exe)",
            id="archives in archives",
        ),
        pytest.param(
            named(b"a.zip", nested(3, EVIL, zipfile.ZIP_STORED)),
            "dir/b.exe in a.zip (extension exe)",
            id="archives in archives, stored",
        ),
        pytest.param(
            named(b"a.docx", zipped(("word/x.zip", EVIL))),
            "dir/b.exe in word/x.zip (extension exe)",
            id="in a document",
        ),
        pytest.param(
            named(b"a.zip", encrypted(EVIL)),
            "dir/b.exe in a.zip (extension exe)",
            id="in an encrypted archive",
        ),
        *(
            pytest.param(
                named(b"a.zip", lying(nested(2, EVIL), fact)),
                "dir/b.exe in inner.zip (extension exe)",
                id=f"in an archive that says of itself that it is {fact}",
            )
            for fact in ("encrypted", "stored", "packed otherwise")
        ),
        *(
            pytest.param(
                named(b"a.zip", lying(zipped(("a.txt", b"MZ\x90\x00")), fact)),
                "a.txt in a.zip (type application/x-dosexec)",
                id=f"by its first bytes, said to be {fact}",
            )
            for fact in ("encrypted", "stored", "packed otherwise")
        ),
        pytest.param(
            named(b"a.zip", EVIL[:-60]), "dir/b.exe in a.zip (extension exe)", id="in half an archive"
        ),
        pytest.param(
            multipart(b"Content-Type: message/rfc822\r\n\r\n" + FORWARDED),
            "b.exe (extension exe)",
            id="in a message",
        ),
        pytest.param(
            multipart(attachment(FORWARDED, b"Content-Type: message/rfc822\r\n")),
            "b.exe in a part without a name (extension exe)",
            id="in a message in base64",
        ),
        pytest.param(
            named(b"a.eml", FORWARDED), "b.exe in a.eml (extension exe)", id="in a file that is a message"
        ),
        pytest.param(
            named(b"a.eml", FORWARDED.replace(b"\r\n", b"\n")),
            "b.exe in a.eml (extension exe)",
            id="in a file that is a message with other line ends",
        ),
        pytest.param(
            attachment(
                named(b"b.exe").partition(b"\r\n\r\n")[2], b"Content-Type: multipart/mixed; boundary==_b\r\n"
            ),
            "b.exe in a part without a name (extension exe)",
            id="in a multipart in base64",
        ),
        pytest.param(
            b"\r\nHi\r\nbegin 644 b.exe\r\n#0V%T\r\n`\r\nend\r\n",
            "b.exe (extension exe)",
            id="by uuencode in text",
        ),
        pytest.param(
            b"Content-Transfer-Encoding: x-uuencode\r\nContent-Type: x/y\r\n\r\n"
            b"begin 644 a\r\n$35J0``\r\nend\r\n",
            "a part without a name (type application/x-dosexec)",
            id="by its first bytes in uuencode",
        ),
        pytest.param(
            b"Content-Type: x/y\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=4DZ=90=00\r\n",
            "a part without a name (type application/x-dosexec)",
            id="by its first bytes in quoted-printable",
        ),
        pytest.param(
            b"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\nTVqQAA==\r\n",
            "a part without a name (type application/x-dosexec)",
            id="by the second of two encodings",
        ),
        pytest.param(
            multipart(
                b'Content-Type: text/plain; name="a.txt"\r\nContent-Disposition: x; filename=b.exe\r\n\r\n'
            ),
            "b.exe (extension exe)",
            id="by the second of two names",
        ),
        pytest.param(
            named(b"a.exe\xe2\x80\xae\x00\x07 "),
            "a.exe???  (extension exe)",
            id="shown without what it hides",
        ),
    ],
)
def test_what_is_banned_is_found_and_named(content: bytes, detail: str) -> None:
    report = scan(content)

    assert (report.finding, report.detail) == (Finding.HIT, detail)
    assert report.response is None  # what is done is the operator's to say


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(TEXT, id="text"),
        pytest.param(named(b"a.pdf", b"%PDF-1.4"), id="a document"),
        pytest.param(
            named(b"a.zip", zipped(("a.txt", b"x"), ("b.com/", b""))), id="an archive with a directory"
        ),
        pytest.param(named(b"a.zip", b"PK\x03\x04"), id="no archive"),
        pytest.param(named(b"a.zip", b""), id="nothing for an archive"),
        pytest.param(named(b"a.zip", nested(3, zipped(("a.txt", b"x")))), id="archives in archives"),
        pytest.param(named(b"a.eml", b"Subject: x\n\nHi\n"), id="a message"),
        pytest.param(b"\r\nWe begin 644 meetings with a.exe\r\n", id="talk of a program"),
    ],
)
def test_what_is_not_banned_is_clean(content: bytes) -> None:
    assert scan(content) == Report(Finding.CLEAN)


def test_rules_are_those_of_the_settings() -> None:
    message = named(b"Secret plan.txt")

    assert scan(message, banned_names=("secret*",)).detail == "Secret plan.txt (name secret*)"
    assert scan(message, banned_extensions=("TXT",)).detail == "Secret plan.txt (extension txt)"
    assert scan(named(b"a.png", b"\x7fELF"), banned_types=("application/*",)).finding is Finding.HIT
    assert scan(named(b"a.exe"), banned_extensions=(), banned_types=()).finding is Finding.CLEAN
    assert scan(named(b"a.pdf.exe"), banned_extensions=(), double_extensions=False).finding is Finding.CLEAN


def test_java_archives_are_known_by_their_manifest() -> None:
    message = named(b"a.zip", zipped(("META-INF/MANIFEST.MF", b""), ("A.class", b"")))

    assert (
        scan(message, banned_types=("application/java-archive",)).detail
        == "a.zip (type application/java-archive)"
    )


def test_archives_are_left_alone_where_the_settings_say_so() -> None:
    assert scan(named(b"a.zip", EVIL), archives=False).finding is Finding.CLEAN


def test_disk_images_are_known_behind_their_empty_sectors() -> None:
    message = named(b"a.bin", bytes(0x8001) + b"CD001")

    assert scan(message, banned_types=("application/x-iso9660-image",)).finding is Finding.HIT


# what cannot be looked at


@pytest.mark.parametrize(
    ("content", "settings", "detail"),
    [
        pytest.param(
            b"Content-Type: message/rfc822\r\n\r\n" * 9,
            {"max_depth": 3},
            "nested too deep",
            id="messages in messages",
        ),
        pytest.param(
            named(b"a.zip", nested(9, EVIL)), {"max_depth": 3}, "nested too deep", id="archives in archives"
        ),
        pytest.param(multipart(*[TEXT] * 20), {"max_parts": 10}, "too many parts", id="parts"),
        pytest.param(
            named(b"a.zip", zipped(*[(str(number), b"") for number in range(20)])),
            {"max_archive_entries": 10},
            "too many names in archives",
            id="names in an archive",
        ),
        pytest.param(
            multipart(*[attachment(zipped(("a", b"")))] * 20),
            {"max_archive_entries": 10},
            "too many names in archives",
            id="names in archives together",
        ),
        pytest.param(
            named(b"a.zip", zipped(("b.zip", zipped(("c", bytes(9999)), method=zipfile.ZIP_STORED)))),
            {"max_unpacked": 5000},
            "too much to unpack",
            id="unpacked",
        ),
        pytest.param(
            multipart(attachment(TEXT * 500, b"Content-Type: message/rfc822\r\n")),
            {"max_unpacked": 5000},
            "too much to unpack",
            id="messages in base64",
        ),
        pytest.param(
            named(b"a.zip", zipped(("b.zip", EVIL), method=zipfile.ZIP_LZMA)),
            {},
            "an archive packed in an unknown way",
            id="an archive in an archive by another method",
        ),
        pytest.param(
            named(b"a.zip", b"PK\x03\x04" * 9999),
            {},
            "an archive whose headers overlap",
            id="headers in headers",
        ),
        pytest.param(
            multipart(b"X: y\r\n" * 50_000 + b"\r\n"), {}, "too large a header", id="the header of a part"
        ),
        pytest.param(
            b"Content-Disposition: x"
            + b"".join(b"; name=%d" % number for number in range(5000))
            + b"\r\n\r\n",
            {},
            "too many names in a header",
            id="names of a part",
        ),
        pytest.param(
            b"Content-Type: multipart/x"
            + b"".join(b";boundary=%d" % number for number in range(5000))
            + b"\r\n\r\n",
            {},
            "too many names in a header",
            id="boundaries of a part",
        ),
        pytest.param(
            multipart(*[b"X: " + b"y" * 50_000 + b"\r\n\r\n"] * 50),
            {},
            "too large headers of parts",
            id="headers",
        ),
    ],
)
def test_beyond_a_limit_the_response_is_on_excess(
    content: bytes, settings: dict[str, object], detail: str
) -> None:
    report = scan(content, **settings)

    assert (report.finding, report.detail) == (Finding.HIT, f"not looked at whole: {detail}")
    assert report.response == DEFER
    assert report.reply is not None
    assert report.reply.code == 451
    assert scan(content, on_excess=REJECT, **settings).response == REJECT
    assert scan(content, on_excess=ACCEPT, **settings) == Report(Finding.CLEAN, report.detail)


def test_what_is_banned_counts_more_than_what_could_not_be_looked_at() -> None:
    message = multipart(b"Content-Type: message/rfc822\r\n\r\n" * 9, named(b"b.exe"))

    assert scan(message, max_depth=3).detail == "b.exe (extension exe)"


@pytest.mark.parametrize(
    ("response", "finding"),
    [
        (ACCEPT, Finding.CLEAN),
        (REJECT, Finding.HIT),
        (Response.parse("accept+quarantine"), Finding.HIT),
        (QUARANTINE, Finding.HIT),
    ],
)
def test_an_encrypted_archive_gets_the_response_of_the_settings(response: Response, finding: Finding) -> None:
    report = scan(named(b"a.zip", encrypted(zipped(("a.txt", b"x")))), encrypted_archives=response)

    assert (report.finding, report.detail) == (finding, "a.zip (encrypted archive)")
    assert report.response == (None if response == ACCEPT else response)


@pytest.mark.parametrize(("one", "other"), [(REJECT, DEFER), (DEFER, REJECT)])
def test_of_two_responses_the_one_that_weighs_more_counts(one: Response, other: Response) -> None:
    message = named(b"a.zip", encrypted(zipped(("a.txt", b"x"), ("b.txt", b"x"))))

    assert scan(message, encrypted_archives=one, on_excess=other, max_archive_entries=1).response == REJECT


# time, room and memory


def test_a_deadline_that_passes_is_a_failure_and_no_finding() -> None:
    clock = FakeClock()

    def pieces() -> Iterator[bytes]:
        yield b"Content-Type: text/plain\r\n\r\n"
        while True:  # a message without end
            clock.advance(1)
            yield b"x" * 65536

    scanner = Attachments(AttachmentSettings())
    with pytest.raises(ScannerFailure, match="out of time"):
        scanner.scan(Message(pieces), ENVELOPE, Deadline.after(clock, 30))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(named(b"a.zip", EVIL), id="an archive"),
        pytest.param(b"Content-Disposition: x" + b"; name=a" * 9 + b"\r\n\r\n", id="names"),
        pytest.param(TEXT, id="text"),
    ],
)
def test_without_any_time_nothing_is_said(content: bytes) -> None:
    clock = FakeClock()
    with pytest.raises(ScannerFailure):
        Attachments(AttachmentSettings()).scan(Message.in_memory(content), ENVELOPE, Deadline.after(clock, 0))


def test_a_directory_without_room_is_a_failure_and_no_finding(tmp_path: Path) -> None:
    large = zipped(("a.bin", bytes(300_000)), method=zipfile.ZIP_STORED)

    with pytest.raises(ScannerFailure, match="cannot keep an archive: No such file"):
        scan(named(b"a.zip", large), str(tmp_path / "missing"))


def test_a_large_archive_is_kept_in_a_file_that_has_no_name(tmp_path: Path) -> None:
    large = zipped(("a.bin", bytes(300_000)), ("b.exe", b""), method=zipfile.ZIP_STORED)

    assert scan(named(b"a.zip", large), str(tmp_path)).detail == "b.exe in a.zip (extension exe)"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name_and_start",
    [(b"a.bin", b""), (b"a.zip", b"PK\x03\x04"), (b"a.eml", b"Subject: x\n\n")],
    ids=["data", "an archive", "a message"],
)
def test_memory_does_not_grow_with_an_attachment(name_and_start: tuple[bytes, bytes]) -> None:
    name, start = name_and_start
    encoded = base64.encodebytes(bytes(57 * 1000)).replace(b"\n", b"\r\n")

    def pieces() -> Iterator[bytes]:
        head = (
            b'Content-Disposition: attachment; filename="'
            + name
            + b'"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        )
        yield head + base64.encodebytes(start).replace(b"\n", b"\r\n")
        for _ in range(400):
            yield encoded

    scanner = Attachments(AttachmentSettings())
    message = Message(pieces)
    tracemalloc.start()
    report = scanner.scan(message, ENVELOPE, Deadline.never(FakeClock()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert report.finding is Finding.CLEAN
    assert peak < 2 * 1024 * 1024


def test_no_file_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    large = zipped(("a.zip", zipped(("b.bin", bytes(300_000)), method=zipfile.ZIP_STORED)), ("c.exe", b""))
    for content in (named(b"a.zip", large), named(b"a.zip", nested(9, large)), multipart(attachment(large))):
        scan(content, max_unpacked=100_000)
        scan(content)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_hostile_messages_get_a_report() -> None:
    scanner = Attachments(AttachmentSettings())
    for name, content in hostile.messages(400, seed=2):
        report = scanner.scan(Message.in_memory(content), ENVELOPE, Deadline.never(FakeClock()))
        assert report.finding in (Finding.CLEAN, Finding.HIT), name
        assert report.detail.isprintable(), name
        assert len(report.detail) < 300, name


def test_ping_says_what_is_banned() -> None:
    scanner = Attachments(AttachmentSettings(banned_extensions=("exe", "scr"), banned_types=()))
    scanner.after_fork_in_worker()

    line = "bans 2 extensions, 0 names, 0 types, inside zip archives too"
    assert scanner.ping(Deadline.never(FakeClock())) == line
