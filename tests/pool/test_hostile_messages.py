"""A thousand messages as nobody should send them, through a pool that looks into every one."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.daemons.private_clamd import private_clamd
from tests.doubles.hostile import messages
from tests.doubles.sink import Message, Sink
from tests.pool.daemon import Daemon, serving, settings_for
from tests.postfix.smtp_client import SENDER, SmtpClient

COUNT = 1000
CLIENTS = 3
REPORT = b"X-Bqfilter-Report: filter.example;"

MARK = b"X-Marked: yes\r\n"

HEADER_CHECKS = f"/^MIME-Version:/ PREPEND {MARK.decode().strip()}\n/^X-Never:/ REJECT never\n"
MIME_CHECKS = "/name=.*\\.never$/ REJECT never\n"
BODY_CHECKS = "/^unlikely words$/ REJECT not these words\n"


def configured(sink: Sink, directory: Path, clamd: str) -> dict[str, Any]:
    tables = {"header_checks": HEADER_CHECKS, "mime_header_checks": MIME_CHECKS, "body_checks": BODY_CHECKS}
    for name, text in tables.items():
        (directory / name).write_text(text, encoding="utf-8")
    rules: dict[str, Any] = {name: [str(directory / name)] for name in tables}
    return settings_for(
        sink.endpoint,
        directory,
        pool={"workers": CLIENTS, "max_messages": 0},
        rules=[{"timeout": "60s", "body_limit": "0B", **rules}],
        attachments=[{"timeout": "60s"}],
        clamd=[{"endpoint": clamd, "timeout": "60s", "size_limit": "1000KiB"}],
        quarantine={"directory": str(directory / "quarantine")},
    )


def submit(daemon: Daemon, number: int, content: bytes) -> bytes:
    """Everything that is said behind the final dot, up to the reply to NOOP: it has to be one reply."""
    with SmtpClient(daemon.address) as client:
        client.begin(SENDER, [f"r{number}@example.org"])
        verdict = client.end(content)
        assert client.command(b"NOOP").startswith(b"250 ")
        return verdict


@pytest.mark.daemons
def test_a_thousand_hostile_messages_have_one_answer_each_and_arrive_whole_or_not_at_all(
    sink: Sink, directory: Path
) -> None:
    names, contents = [], []
    for name, content in messages(COUNT):
        names.append(name)
        # One that was cut off has its last line end, or half of it, made whole: it has to be clean.
        contents.append(content if content.endswith(b"\r\n") else content.removesuffix(b"\r") + b"\r\n")
    with private_clamd() as clamd, serving(directory, configured(sink, directory, str(clamd.unix))) as daemon:
        before = daemon.wait_until_idle(CLIENTS)
        with ThreadPoolExecutor(CLIENTS) as pool:
            verdicts = list(pool.map(lambda one: submit(daemon, *one), enumerate(contents)))
        daemon.wait_for_results(COUNT)
        assert daemon.wait_until_idle(CLIENTS) == before
        assert daemon.trouble() == []
        unscanned = [line for line in daemon.log().splitlines() if "not scanned" in line]

    assert [line for line in unscanned if "scanner=clamd" not in line] == []
    codes = Counter(verdict[:3] for verdict in verdicts)
    assert codes.keys() <= {b"250", b"451", b"550", b"552", b"554"}
    assert min(codes[b"250"], codes[b"451"]) > 20  # passed on, and not to be looked at whole
    assert codes[b"554"]  # banned
    assert len([message for message in sink.messages if MARK in message.content]) > 20
    arrived = {message.recipients[0]: message for message in sink.messages}
    assert len(arrived) == len(sink.messages) == sum(verdict.startswith(b"250") for verdict in verdicts)
    for name, number, verdict in zip(names, range(COUNT), verdicts, strict=True):
        message = arrived.get(b"RCPT TO:<r%d@example.org>" % number)
        assert (message is not None) is verdict.startswith(b"250"), name
        assert message is None or is_whole(message, contents[number]), name


def is_whole(message: Message, content: bytes) -> bool:
    """Byte for byte, but for the mark by a rule, and a report of ours where somebody could not look at it."""
    unmarked = message.content.replace(MARK, b"")
    return unmarked == content or (unmarked.startswith(REPORT) and unmarked.endswith(content))
