"""The processes: real forks on loopback, in front of an after-filter server in the test's own process."""

import pytest

pytest.register_assert_rewrite("tests.pool.daemon")
