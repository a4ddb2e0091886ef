"""What is shipped beside the program: rules, tests of the rules, and a dashboard, for programs of others."""

import os
import shutil
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def program() -> Callable[[str, str], str]:
    """The path of a program; without it a test is skipped, but fails where CI is set."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"not installed: {name} (Debian: {package})"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
        return path

    return find


@pytest.fixture
def promtool(program: Callable[[str, str], str]) -> str:
    return program("promtool", "prometheus")
