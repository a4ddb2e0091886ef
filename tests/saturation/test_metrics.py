"""The declarations of metrics, and the page that is made from them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bqfilter.saturation.metrics import GROUPS, METRICS, Metric
from bqfilter.scoreboard import SECONDS, SHARES, SIZES, STAGE_BOUNDS

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = (_ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
class TestEveryMetric:
    def test_has_a_name_of_good_form(self, metric: Metric) -> None:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket", "_created"))

    def test_has_a_help_text_of_whole_sentences(self, metric: Metric) -> None:
        assert re.match(r"[A-Z]|[a-z]+\.[a-z_]+", metric.help)
        assert metric.help.endswith(".")

    def test_is_on_the_page(self, metric: Metric) -> None:
        (row,) = [line for line in _PAGE.splitlines() if line.startswith(f"| `{metric.full_name}` |")]
        assert row.split(" | ")[1] == metric.kind
        assert metric.help in row


def test_no_name_is_declared_twice() -> None:
    assert len(METRICS) == sum(map(len, GROUPS.values()))


def test_the_page_names_no_metric_that_is_not_there() -> None:
    names = {metric.full_name for metric in METRICS.values()}
    assert set(re.findall(r"bqfilterd_[a-z_]+", _PAGE)) <= names


def test_the_page_tells_the_bounds_of_the_buckets() -> None:
    prose = " ".join(_PAGE.split())
    for bounds in (SECONDS, STAGE_BOUNDS, SHARES, SIZES):
        words = [f"{bound:.10g}" for bound in bounds]
        assert f"{', '.join(words[:-1])} and {words[-1]}" in prose


def test_the_script_makes_the_page_and_keeps_the_prose(tmp_path: Path) -> None:
    for folder in ("scripts", "docs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bqfilter").symlink_to(_ROOT / "bqfilter")
    shutil.copy(_ROOT / "scripts" / "generate-metrics-docs", tmp_path / "scripts")
    page = tmp_path / "docs" / "metrics.md"
    page.write_text(
        _PAGE.replace("| `bqfilterd_workers` |", "| `porters` |") + "Prose behind.\n", encoding="utf-8"
    )
    subprocess.run([sys.executable, tmp_path / "scripts" / "generate-metrics-docs"], check=True, timeout=60)
    made = page.read_text(encoding="utf-8")
    assert made == _PAGE + "Prose behind.\n", "run scripts/generate-metrics-docs"
