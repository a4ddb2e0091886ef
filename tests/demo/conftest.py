"""Where the demos of these tests work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.programs import short_directory


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the account may pass through which workers become where the tests run as root."""
    with short_directory("bqfilter-demo-") as path:
        yield path
