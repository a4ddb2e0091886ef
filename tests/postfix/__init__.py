"""bqfilterd between two real Postfix servers: what the remote client is told, and what arrives."""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in ("load", "postfix_instance", "smtp_client")))
