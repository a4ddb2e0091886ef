"""What is shipped beside the program: rules, tests of the rules, and a dashboard, for programs of others."""

import pytest

from tests.doubles.components import program


@pytest.fixture
def promtool() -> str:
    return program("promtool", "prometheus")
