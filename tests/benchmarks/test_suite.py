"""The whole suite, as small as it gets: every program starts, mail arrives, every run is recorded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, NO_FILTER
from benchmarks.programs import ROOT
from tests.doubles.components import missing, require

PARTS = ["many", "alone", "large-1", "memory"]
SMALLEST = ["--rounds=1", "--messages=20", "--alone-messages=1", "--large-messages=1", "--workers=20"]


@pytest.fixture
def _programs() -> None:
    require(missing("smtp-source", "postfix") or missing("haproxy", "haproxy"))


@pytest.mark.postfix
@pytest.mark.usefixtures("_programs")
def test_the_suite_measures_every_contender_and_records_every_run(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "benchmarks", *PARTS, *SMALLEST, f"--results={tmp_path}"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.iterdir()
    content = json.loads(record.read_text())
    assert {load["name"] for load in content["loads"]} == set(PARTS) - {"memory"}
    for load in content["loads"]:
        assert {run["contender"] for run in load["runs"]} == {NO_FILTER, HAPROXY, FILTER_ONE, FILTER_KEPT}
    assert content["memory"]
