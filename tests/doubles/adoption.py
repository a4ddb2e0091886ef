"""Adopting orphans as a worker does, and not for the tests that follow."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from bqfilter.scanning import child

_PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Within the block; behind it nobody here would wait for the orphans of other tests."""
    child.adopt_orphans()
    try:
        yield
    finally:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
