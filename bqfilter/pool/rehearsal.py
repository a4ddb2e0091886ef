"""Rehearsal: a site's own filters are loaded once for trial, before workers are asked to live with them.

A filter that cannot be loaded would be an error report with every message. So at start and with every reload
each gets ready on an errand, unprivileged as a worker and in a process of its own, and tells what went wrong.
Nothing of the site's is ever imported into the master. Configurations without such filters cost no fork.

The master waits for it, ten seconds at most: a filter that takes longer to load is refused.
"""

import time
from collections.abc import Sequence

from bqfilter.errors import ConfigError, ScannerFailure
from bqfilter.net.deadline import Deadline
from bqfilter.pool.errand import as_worker
from bqfilter.pool.startup import Identity
from bqfilter.scanning.scanner import Scanner

_TIMEOUT = 10.0  # seconds for all of them together
_OF_THE_SITE = frozenset({"python"})  # kinds that load what is not ours


def rehearse(scanners: Sequence[Scanner], identity: Identity | None) -> None:
    """In the master. Raises ConfigError with what the first scanner that cannot get ready has to say."""
    deadline = Deadline.after(time.monotonic, _TIMEOUT)
    for scanner in scanners:
        if scanner.settings.kind in _OF_THE_SITE:
            _rehearse(scanner, identity, deadline)


def _rehearse(scanner: Scanner, identity: Identity | None, deadline: Deadline) -> None:
    def act() -> str:
        scanner.after_fork_in_worker()
        return ""

    try:
        as_worker(act, identity, deadline)
    except ScannerFailure as failure:
        raise ConfigError(f"{scanner.settings.name}: cannot be loaded: {failure.cause}") from failure
