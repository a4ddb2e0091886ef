"""A directory and an after-filter server for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.programs import short_directory
from tests.doubles.sink import Sink


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory("bqfilter-pool-") as path:
        yield path


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink
