"""How fast time runs in a cell: every limit and every pause of it, on all sides, goes by the same factor."""

from collections.abc import Iterator
from contextlib import contextmanager

_factors = [1.0]


def scaled(seconds: float) -> float:
    """So many seconds, as they are at the present tempo."""
    return seconds * _factors[-1]


@contextmanager
def slower(factor: float) -> Iterator[None]:
    """Within the block, for all threads: more time for everything."""
    _factors.append(factor)
    try:
        yield
    finally:
        _factors.pop()
