"""A whole site on one machine: hosts with addresses of their own, two MX, HAProxy, three filters, a queue.

    BQFILTER_SITE_ROUNDS=20 pytest tests/hosts     # kill one, drain another, bring both back, and again
    python -m tests.hosts.comparison               # waits there, and in the simulation

Needs root, Debian's postfix and haproxy, and the right to make network namespaces.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.crowd", f"{__name__}.site")
