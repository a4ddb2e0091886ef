"""Making scanners: one for each table, in order; what is wrong is told before anything is forked."""

import subprocess
import sys
from pathlib import Path

import pytest

from bqfilter.config.loader import parse
from bqfilter.config.schema import Settings
from bqfilter.errors import ConfigError
from bqfilter.scanning.making import make_scanners

_LEAST = """
[[listen]]
endpoint = "inet:127.0.0.1:10025"
[upstream]
endpoint = "inet:127.0.0.1:10026"
"""


def _settings(text: str) -> Settings:
    return parse(_LEAST + text, "test.toml")


def _everything(table: Path) -> str:
    return f"""
[[rspamd]]
endpoint = "inet:127.0.0.1:11333"
[[spamd]]
endpoint = "inet:127.0.0.1:783"
[[clamd]]
endpoint = "unix:/run/clamav/clamd.ctl"
[[command]]
argv = ["/bin/true"]
[[python]]
filter = "not_installed:at_all"
[[attachments]]
[[rules]]
header_checks = ["{table}"]
"""


def test_there_is_one_for_each_table_in_the_order_in_which_they_run(tmp_path: Path) -> None:
    table = tmp_path / "header_checks"
    table.write_text("/^Subject: x/ REJECT\n")

    scanners = make_scanners(_settings(_everything(table)), b"filter.example")

    assert [one.settings.kind for one in scanners] == [
        "rules", "attachments", "python", "command", "clamd", "spamd", "rspamd",
    ]  # fmt: skip
    for one in scanners:
        assert one.settings.name == one.settings.kind


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(
            '[[clamd]]\nendpoint = "inet:no-such-host.invalid:3310"',
            "clamd: inet:no-such-host.invalid:3310",
            id="host",
        ),
        pytest.param('[[rules]]\nbody_checks = ["/nonexistent/table"]', "/nonexistent/table", id="a table"),
        pytest.param("[[rules]]", "rules", id="no table"),
    ],
)
def test_what_is_wrong_is_a_mistake_in_the_configuration(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make_scanners(_settings(text), b"filter.example")


def test_kinds_that_nobody_has_are_not_loaded() -> None:
    """Every worker is a copy of the master: what it does not need costs memory."""
    heavy = ("email", "h11", "re2", "zipfile", "subprocess")
    program = (
        "import sys, bqfilter.pool.master, bqfilter.pool.worker, bqfilter.scanning.making; "
        f"print(sorted(name for name in sys.modules if name.split('.')[0] in {heavy}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
