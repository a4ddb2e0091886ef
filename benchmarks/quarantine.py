"""How long a large quarantine takes to be listed, counted and searched, and a message to be kept.

    python -m benchmarks.quarantine [--messages 100000] [--days 30] [--directory DIR]

The files are made without flushing each (that is what takes the time of `keep`, which is measured apart), in
a directory that is removed afterwards. What is timed is the work without the start of a command, with the
files in the page cache; a number never fails a run.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from bqfilter.config.content_kinds import AddressPattern
from bqfilter.quarantine import Quarantine, Record, ReportSummary
from bqfilter.quarantine.listing import Listing, processors
from bqfilter.quarantine.selection import Selection
from bqfilter.quarantine.view import as_line
from bqfilter.smtp.commands import Mail, Rcpt

DAY = 86400.0
CONTENT = b"Subject: spam\r\n\r\n" + b"x" * 78 + b"\r\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quarantine", description="Measure a quarantine."
    )
    parser.add_argument("--messages", type=int, default=100_000, metavar="N")
    parser.add_argument("--days", type=int, default=30, metavar="N", help="that they are spread over")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where to make it (default: TMPDIR)")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bqbench-", dir=options.directory))
    try:
        _fill(directory, options.messages, options.days)
        _measure(Quarantine(directory))
    finally:
        shutil.rmtree(directory)
    return 0


def _fill(directory: Path, messages: int, days: int) -> None:
    now = time.time()
    with mock.patch("os.fsync"):
        for number in range(messages):
            Quarantine(directory, lambda at=now - number * days * DAY / messages: at).keep(
                _record(number), [CONTENT]
            )


def _record(number: int) -> Record:
    sender, recipient = b"a%d@remote.example" % number, b"user%d@example.org" % (number % 500)
    return Record(
        sender=Mail(b"MAIL FROM:<%b> SIZE=%d" % (sender, len(CONTENT)), sender, b""),
        recipients=(Rcpt(b"RCPT TO:<%b>" % recipient, recipient, b""),),
        session_id=f"{number:X}",
        action="quarantine",
        policy="inbound",
        reason="spamd: score 12.3",
        reports=(ReportSummary("clamd", "clean"), ReportSummary("spamd", "hit", "BAYES_99", 12.3)),
        message_id=f"<{number}@remote.example>",
        subject="You have won",
    )


def _measure(store: Quarantine) -> None:
    one = Selection(recipients=(AddressPattern.parse("user7@example.org"),))
    _time("names", lambda: sum(1 for _ in store.names()))
    _time("count and size", lambda: sum(usage.count for usage in store.usage().values()))
    _time("read all", lambda: sum(1 for _ in store.entries()))
    _time("list all, as text", lambda: _listed(store, 1))
    _time(f"by {processors()} processes", lambda: _listed(store, processors()))
    _time(
        "of one recipient", lambda: sum(bool(e.stored and one.fits(e.stored.record)) for e in store.entries())
    )
    _time("of the last day", lambda: sum(1 for _ in store.entries(since=time.time() - DAY)))
    last = list(store.names())[-1]
    _time("find one", lambda: len(store.find(last.id).id) and 1)
    _time("keep 200, flushed", lambda: sum(bool(store.keep(_record(n), [CONTENT])) for n in range(200)))


def _listed(store: Quarantine, processes: int) -> int:
    listing = Listing(store, list(store.names()), (), lambda _: True, as_line)
    return sum(part.text.count("\n") for part in listing.parts(processes))


def _time(what: str, work: Callable[[], int]) -> None:
    start = time.perf_counter()
    count = work()
    print(f"{what:<20} {count:>8} messages  {time.perf_counter() - start:8.3f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
