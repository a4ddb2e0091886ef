"""Rehearsal: a site's own filters are loaded once for trial, before workers are asked to live with them.

A filter that cannot be loaded would be an error report with every message. So at start and with every reload
a child, unprivileged as a worker, lets each scanner get ready and tells what went wrong; the child is gone
before anything else happens. Nothing of the site's is ever imported into the master. Configurations without
such filters cost no fork.

The master waits for it, ten seconds at most: a filter that takes longer to load is refused.
"""

from collections.abc import Sequence

from bqfilter.errors import ConfigError, ScannerFailure
from bqfilter.pool.errand import run_errand
from bqfilter.pool.startup import Identity
from bqfilter.scanning.scanner import Scanner

_TIMEOUT = 10.0  # seconds for all of them together
_OF_THE_SITE = frozenset({"python"})  # kinds that load what is not ours


def rehearse(scanners: Sequence[Scanner], identity: Identity | None) -> None:
    """In the master. Raises ConfigError with what the first scanner that cannot get ready has to say."""
    tried = [scanner for scanner in scanners if scanner.settings.kind in _OF_THE_SITE]
    if not tried:
        return
    try:
        told = run_errand(lambda: _complaint_of(tried), identity, _TIMEOUT)
    except TimeoutError:
        told = f"filters took more than {_TIMEOUT:g} s to load"
    except ChildProcessError:
        told = "a filter ended the process while it was loaded"
    except OSError as error:  # no process or descriptor to be had: no reason for the master to end
        told = f"filters cannot be loaded for trial: {error.strerror}"
    if told:
        raise ConfigError(told)


def _complaint_of(scanners: Sequence[Scanner]) -> str:
    """In the child."""
    for scanner in scanners:
        try:
            scanner.after_fork_in_worker()
        except ScannerFailure as failure:
            return f"{scanner.settings.name}: {failure.cause}"
    return ""
