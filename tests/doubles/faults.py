"""Faults: the n-th system call of certain kinds fails, or the process is gone before it.

A process that is gone makes no further call of these kinds, not even to clean up behind itself: all of them
raise `Gone`, and what is on disk is what a crash would have left.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

CALLS = ("open", "write", "pwrite", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "link")


class Gone(BaseException):
    """The process has ended here."""


class Faults:
    """Counts the calls; number `at`, from 1, raises `error`. `made` are the names of those that were made."""

    def __init__(self, at: int, error: OSError | None) -> None:
        self._at = at
        self._error = error
        self._count = 0
        self.made: list[str] = []

    @property
    def is_over(self) -> bool:
        """The call that was to fail has come."""
        return self._count >= self._at

    def around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **others: Any) -> Any:
            self._count += 1
            if self._error is None and self._count >= self._at:
                raise Gone(name)
            if self._error is not None and self._count == self._at:
                raise self._error
            self.made.append(name)
            return real(*arguments, **others)

        return call


@contextmanager
def failing(at: int, error: OSError | None = None) -> Iterator[Faults]:
    """Within the block; without an `error` the process is gone before call number `at`."""
    faults = Faults(at, error)
    with mock.patch.multiple(os, **{name: faults.around(name, getattr(os, name)) for name in CALLS}):
        yield faults
