"""A site's own code in a running pool: whatever it does, the next message is served, by the same worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, serving, settings_for
from tests.postfix.smtp_client import SENDER, Closed, SmtpClient

FILTERS = """
import os
from bqfilter.api import accept, reject


def by_subject(message, envelope):
    subject = message.header("Subject")
    if subject == "refuse":
        return reject("Not this one", 554, "5.7.0")
    if subject == "hang":
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
    if subject == "raise":
        raise SystemExit(0)
    if subject == "end":
        os._exit(3)
    print("never seen")
    return accept().prepend_header("X-Seen", subject)
"""

PROGRAM = """#!/bin/sh
subject=$(sed -n 's/^Subject: //p')
[ "$subject" != "broken program" ] || exit 1
[ "$subject" != "slow program" ] || { setsid sleep 3600 & sleep 3600; }
[ "$subject" != "refused by program" ] || { echo "550 5.7.1 By the program"; exit 100; }
exit 0
"""


@pytest.fixture
def daemon(directory: Path, sink: Sink) -> Iterator[Daemon]:
    """One worker, a filter in Python and then a program; each besides with little time, for a domain."""
    (directory / "pool_site_filters.py").write_text(FILTERS)
    program = directory / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    settings = settings_for(
        sink.endpoint,
        directory,
        pool={"workers": 1},
        python=[
            {"name": "filter", "filter": "pool_site_filters:by_subject", "timeout": "60s"},
            {"name": "hasty-filter", "filter": "pool_site_filters:by_subject", "timeout": "500ms"},
        ],
        command=[
            {"name": "program", "argv": [str(program)], "timeout": "60s"},
            {"name": "hasty-program", "argv": [str(program)], "timeout": "2s"},
        ],
        policy=[
            {"name": "hasty-filter", "recipients": ["@hasty-filter.example"], "scanners": ["hasty-filter"]},
            {
                "name": "hasty-program",
                "recipients": ["@hasty-program.example"],
                "scanners": ["hasty-program"],
            },
            {"name": "all", "scanners": ["filter", "program"]},
        ],
    )
    with serving(directory, settings, environment={"PYTHONPATH": str(directory)}) as daemon:
        yield daemon


def deliver(daemon: Daemon, subject: str, domain: str = "example.org") -> bytes:
    with SmtpClient(daemon.address) as client:
        client.begin(SENDER, [f"b@{domain}"])
        return client.end(f"Subject: {subject}\r\n\r\nHello.\r\n".encode())


def test_what_a_filter_says_is_done(daemon: Daemon, sink: Sink) -> None:
    assert deliver(daemon, "pass").startswith(b"250 ")
    assert sink.messages[-1].content.startswith(b"X-Seen: pass\r\nSubject: pass\r\n")
    assert deliver(daemon, "refuse") == b"554 5.7.0 Not this one"
    assert deliver(daemon, "refused by program") == b"550 5.7.1 By the program"
    assert len(sink.messages) == 1
    assert "never seen" not in daemon.log()


@pytest.mark.parametrize(
    ("subject", "domain", "cause"),
    [
        ("hang", "hasty-filter.example", "did not finish in time, interrupted"),
        ("raise", "example.org", "SystemExit"),
        ("broken program", "example.org", "exit status 1 without a word"),
        ("slow program", "hasty-program.example", "did not end in time, killed"),
    ],
)
def test_a_failure_defers_one_message_and_costs_no_worker(
    daemon: Daemon, sink: Sink, subject: str, domain: str, cause: str
) -> None:
    worker = daemon.workers()
    assert deliver(daemon, subject, domain).startswith(b"451 4.")
    assert deliver(daemon, "pass").startswith(b"250 ")
    assert daemon.workers() == worker
    assert [message.content for message in sink.messages] == [
        b"X-Seen: pass\r\nSubject: pass\r\n\r\nHello.\r\n"
    ]
    daemon.wait_for_log(cause)


def test_a_filter_that_ends_its_process_costs_that_worker_alone(daemon: Daemon, sink: Sink) -> None:
    worker = daemon.workers()
    with pytest.raises((Closed, ConnectionError)):
        deliver(daemon, "end")
    assert deliver(daemon, "pass").startswith(b"250 ")
    assert daemon.workers() != worker
    assert len(sink.messages) == 1
