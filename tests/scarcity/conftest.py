"""A directory and an after-filter server for each test."""

from tests.pool.conftest import directory, sink

__all__ = ["directory", "sink"]
