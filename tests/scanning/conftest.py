"""Scripted daemons at a port and at a unix socket, for whatever scanner asks one."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.doubles.programs import short_directory
from tests.doubles.scanning_daemon import ScriptedDaemon, Step, scripted_daemon

Listen = Callable[..., ScriptedDaemon]


@pytest.fixture(params=["inet", "unix"])
def listen(request: pytest.FixtureRequest) -> Iterator[Listen]:
    """Starts a daemon with these steps, once or more often; at the end of the test all of them end."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(short_directory("bqsd-")) if request.param == "unix" else None
        started: list[ScriptedDaemon] = []

        def start(*steps: Step) -> ScriptedDaemon:
            path = directory / str(len(started)) if directory else None
            started.append(stack.enter_context(scripted_daemon(*steps, path=path)))
            return started[-1]

        yield start
