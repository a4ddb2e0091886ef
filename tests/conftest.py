"""What many tests need, named after the glossary; and how hypothesis searches."""

import signal

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.doubles.clock import FakeClock
from tests.doubles.recorder import RecordingSink

# The same examples on every run, and no limit on the time of one: a busy machine is no defect.
hypothesis_settings.register_profile(
    "bqfilter", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("bqfilter")

# Tests that a shell has started in the background are deaf to Ctrl-C, and so is all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()
