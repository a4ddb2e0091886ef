"""The scanning daemons of Debian, each private to the run: one that all tests share, and others for some."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons.private_clamd import private_clamd
from tests.daemons.private_spamd import private_spamd
from tests.daemons.process import Daemon


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.daemons)


@pytest.fixture(scope="session")
def clamd() -> Iterator[Daemon]:
    """For tests that leave it as it is."""
    with private_clamd() as daemon:
        yield daemon


@pytest.fixture
def own_clamd() -> Iterator[Daemon]:
    """For a test that does something to it."""
    with private_clamd() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def spamd() -> Iterator[Daemon]:
    """For tests that leave it as it is."""
    with private_spamd() as daemon:
        yield daemon


@pytest.fixture
def own_spamd() -> Iterator[Daemon]:
    """For a test that does something to it."""
    with private_spamd() as daemon:
        yield daemon
