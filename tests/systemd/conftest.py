"""A real systemd, booted once a run. Where that cannot be its tests are skipped, but fail where CI is set."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.components import require
from tests.doubles.programs import short_directory, toml
from tests.doubles.sink import Sink
from tests.systemd.box import Box, booted, why_not
from tests.systemd.mail import BoxPostfix

CONFIG = "/etc/bqfilter/bqfilterd.toml"
UNITS = (
    "bqfilterd.socket",
    "bqfilterd-unix.socket",
    "bqfilterd-quarantine-expire.timer",
    "bqfilterd.service",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and "system" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.systemd)


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory("bqfilter-sd-") as path:
        yield path


@pytest.fixture(scope="session")
def system() -> Iterator[Box]:
    """With bqfilterd installed, as the manual says, and Postfix on both sides of where it belongs."""
    require(why_not())
    with contextlib.ExitStack() as held:
        try:
            box = held.enter_context(booted())
        except (
            AssertionError,
            OSError,
            subprocess.CalledProcessError,
        ) as failure:  # a container, for example
            require(f"no systemd can be booted here: {failure}")
        box.run("systemd-sysusers")
        box.run("systemd-tmpfiles", "--create")
        BoxPostfix(box).start()
        yield box


@pytest.fixture(scope="session")
def postfix(system: Box) -> BoxPostfix:
    return BoxPostfix(system)


@pytest.fixture
def box(system: Box) -> Iterator[Box]:
    """As it is before anybody has started bqfilterd; whatever a test did about it is undone."""
    system.forget_log()
    configure(system)
    yield system
    system.systemctl("stop", *UNITS)
    for unit in UNITS:
        (system.root / f"etc/systemd/system/{unit}.d/test.conf").unlink(missing_ok=True)
    system.systemctl("daemon-reload")
    system.systemctl("reset-failed")


@pytest.fixture
def sink(system: Box) -> Iterator[Sink]:
    """An after-filter server in the box that holds when it is told to."""
    with system.within_network(Sink) as sink:
        yield sink


def configure(box: Box, **tables: Any) -> None:
    """The shipped set-up with a small pool; `tables` add to it key by key, lists in full."""
    usual: dict[str, Any] = {
        "listen": [{"endpoint": "inet:127.0.0.1:10025"}],
        "upstream": {"endpoint": "inet:127.0.0.1:10026"},
        "pool": {"workers": 3},
    }
    merged = {
        name: {**usual.get(name, {}), **table} if isinstance(table, dict) else table
        for name, table in {**usual, **tables}.items()
    }
    box.write(CONFIG, toml(merged))
