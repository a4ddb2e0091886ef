"""bqfilterd between two real Postfix servers for a long time: while it is killed, and while all else fails.

    python -m tests.soak.storm --kills 500     # kill -9 of workers, exporter and master, under load
    python -m tests.soak --minutes 60          # faults around it, and whether it grows

Both need root and Debian's postfix, stay on loopback, and end with a ledger: what each client was told about
each message, against what became of it. A ledger that does not balance is exit status 1.
"""

import pytest

for module in ("boards", "manager"):
    pytest.register_assert_rewrite(f"{__name__}.{module}")
