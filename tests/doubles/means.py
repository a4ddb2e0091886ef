"""What a worker has for its messages, with scanners that a test makes up."""

from collections.abc import Sequence
from pathlib import Path

from bqfilter.config.schema import Settings
from bqfilter.log import Log
from bqfilter.net.deadline import Clock
from bqfilter.quarantine import Quarantine
from bqfilter.scanning.judge import Judge, is_needed
from bqfilter.scanning.scanner import Scanner
from bqfilter.transaction import Means
from bqfilter.upstream import Upstream
from tests.doubles.settings import HOSTNAME


def means(
    settings: Settings,
    upstream: Upstream,
    clock: Clock,
    log: Log,
    scanners: Sequence[Scanner] = (),
    directory: str | Path = "/nonexistent/quarantine",
) -> Means:
    """A quarantine in a directory that is not there keeps nothing: a test that needs one names it."""
    judge = None
    if is_needed(settings):
        judge = Judge(settings, scanners, HOSTNAME.decode("ascii"), clock, log)
    return Means(settings, upstream, judge, Quarantine(directory))
