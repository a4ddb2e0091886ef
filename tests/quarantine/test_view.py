"""What is shown of a kept message does nothing to a terminal, whoever wrote it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.mail.envelope import Client
from bqfilter.quarantine import Quarantine, ReportSummary
from bqfilter.quarantine.history import Event, What
from bqfilter.quarantine.view import as_line, as_size, as_text, as_value, details, page, printable
from tests.doubles.kept import CONTENT, keep, mail, record
from tests.doubles.programs import REPOSITORY

HOSTILE = b"\x1b]0;owned\x07\x1b[2J\xff\xe2\x80\xaegpj"


@pytest.fixture
def store(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path)


def shown(store: Quarantine) -> tuple[str, list[str], dict[str, Any]]:
    (entry,) = store.entries()
    with store.open(entry.name.id) as kept:
        return as_line(entry), list(page(kept)), details(kept)


def test_a_line_tells_what_matters(store: Quarantine) -> None:
    keep(store, b"b@example.org", b"c@example.org")
    line, _, _ = shown(store)
    assert " held " in line
    assert '<a@remote.example> -> <b@example.org> (+1)  clamd: Eicar-Signature  "Invoice"' in line


def test_a_page_tells_everything(store: Quarantine) -> None:
    kept = keep(store)
    with store.claim(kept.id) as claim:
        claim.note(Event(what=What.FAILED, at="2025-11-25T13:27:23+00:00", by="root", text="450 later"))
    _, lines, _ = shown(store)
    assert "client      remote.example[192.0.2.7]" in lines
    assert "mail        MAIL FROM:<a@remote.example> SIZE=70 BODY=8BITMIME" in lines
    assert "rcpt 1      RCPT TO:<b@example.org>" in lines
    assert "report      clamd: hit Eicar-Signature" in lines
    assert "report      spamd: clean score 0.3" in lines
    assert "history     2025-11-25T13:27:23+00:00 failed by root 450 later" in lines
    assert lines[-2:] == ["Subject: Invoice", "Message-ID: <1@remote.example>"]


def test_a_long_header_is_cut(store: Quarantine) -> None:
    store.keep(record(), [b"X: 1\r\n" * 500 + b"\r\n"])
    assert shown(store)[1][-1] == "[300 more lines]"


def test_nothing_from_a_message_reaches_a_terminal_as_it_is(store: Quarantine) -> None:
    text = HOSTILE.decode("utf-8", "replace")
    envelope = {"sender": mail(b"MAIL FROM:<%b>" % HOSTILE), "client": Client({b"HELO": HOSTILE})}
    texts = {"subject": text, "reason": text, "reports": (ReportSummary(text, text, text),)}
    store.keep(record(HOSTILE, **envelope, **texts), [b"Subject: %b\r\n\r\n" % HOSTILE])
    line, lines, value = shown(store)
    written = [line, *lines, json.dumps(value, ensure_ascii=False)]
    assert [text for text in written if not text.isprintable()] == []
    assert value["sender"] == r"\x1b]0;owned\x07\x1b[2J\xff\u202egpj"


@given(st.text())
def test_what_is_printed_is_printable(text: str) -> None:
    assert printable(text).isprintable()


def test_what_is_escaped_can_be_read() -> None:
    text = "\x1b[31m \t\u200b żółć '\ud800' \U000e0001\\"
    assert printable(text) == r"\x1b[31m \t\u200b żółć '\ud800' \U000e0001" + "\\"


def test_an_owner_who_cannot_read_where_python_is_can_escape() -> None:
    program = (
        "import sys; from bqfilter.quarantine.view import printable; sys.meta_path.clear(); "
        "print(printable(chr(27)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert run.stdout == "\\x1b\n", run.stderr


@given(st.binary())
def test_bytes_are_printed_printably(data: bytes) -> None:
    assert as_text(data).isprintable()


def test_letters_of_all_scripts_stay_as_they_are() -> None:
    assert printable("Rechnung für Łukasz, 東京") == "Rechnung für Łukasz, 東京"


def test_json_has_the_same_facts(store: Quarantine) -> None:
    kept = keep(store)
    (entry,) = store.entries()
    value = as_value(entry)
    assert value["id"] == kept.id
    assert value["state"] == "held"
    assert value["recipients"] == ["b@example.org"]
    assert value["client_address"] == "192.0.2.7"
    assert value["reports"][0] == {
        "scanner": "clamd", "finding": "hit", "detail": "Eicar-Signature", "score": None
    }  # fmt: skip
    assert shown(store)[2]["xforward"]["NAME"] == "remote.example"
    assert shown(store)[2]["size"] == len(CONTENT)


def test_a_damaged_file_has_a_line_and_a_value(store: Quarantine) -> None:
    Path(keep(store).path).write_bytes(b"\x1b[2J\n")
    (entry,) = store.entries()
    assert "cannot be read" in as_line(entry)
    assert as_line(entry).isprintable()
    assert as_value(entry)["flaw"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0KiB"),
        (20_480, "20KiB"),
        (5 * 1024**2, "5.0MiB"),
        (1024**5, "1024TiB"),
    ],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert as_size(size) == text
