"""bqfilterd between two real Postfix servers: what the remote client is told, and what arrives."""

import pytest

for module in ("deliveries", "load", "postfix_instance", "smtp_client"):
    pytest.register_assert_rewrite(f"{__name__}.{module}")
