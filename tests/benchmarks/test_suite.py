"""The whole suite, as small as it gets: every program starts, mail arrives, every run is recorded."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, NO_FILTER
from benchmarks.programs import ROOT, SEARCH_PATH

PARTS = ["many", "alone", "large-1", "memory"]
SMALLEST = ["--rounds=1", "--messages=20", "--alone-messages=1", "--large-messages=1", "--workers=20"]


def _missing() -> str | None:
    programs = [name for name in ("smtp-source", "haproxy") if not shutil.which(name, path=SEARCH_PATH)]
    return f"not installed: {', '.join(programs)}" if programs else None


@pytest.fixture
def _programs() -> None:
    if reason := _missing():
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


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
