"""Ration: how much memory and processor time a worker may take, where the configuration sets a limit.

Memory is a soft limit of address space (RLIMIT_AS) on top of what the worker has once its filters are loaded.
Beyond it an allocation fails: a MemoryError, which is an error of the scanner that it comes up in, and else a
451; a library that ends the process instead ends one worker, and Postfix says 451.

Processor time (RLIMIT_CPU) counts over the life of a process, so the limit is moved on with every session.
When it is reached the kernel sends SIGXCPU, once a second. Code of the site is interrupted by that; all else
goes on, because a message whose dot is out must not be cut short, and the worker is replaced afterwards. What
never comes back to the interpreter is not reached; the master kills what outlives every other limit.

Hard limits are left alone: nothing could be moved on below them. Programs that a worker runs inherit the soft
ones, each with a count of its own.
"""

import math
import resource
import time
from pathlib import Path

from bqfilter.config.schema import PoolSettings

_STATM = Path("/proc/self/statm")


class Ration:
    """A worker's share, as `settings` say."""

    def __init__(self, settings: PoolSettings) -> None:
        self._memory = settings.worker_memory
        self._cpu = settings.worker_cpu

    @property
    def limits_cpu(self) -> bool:
        """SIGXCPU is to be expected."""
        return self._cpu > 0

    def limit_memory(self) -> None:
        """Once, when everything is loaded. Raises OSError."""
        if self._memory:
            size = int(_STATM.read_bytes().split()[0]) * resource.getpagesize()
            _set_soft(resource.RLIMIT_AS, size + self._memory)

    def renew_cpu(self) -> None:
        """With every session: its time begins now."""
        if self._cpu:
            _set_soft(resource.RLIMIT_CPU, math.ceil(time.process_time() + self._cpu))


def _set_soft(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
