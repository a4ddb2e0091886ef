"""docs/reliability.md says what the tests of faults expect."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import bench, client, window
from tests.faults.expectations import EXPECTED

_ROOT = Path(__file__).resolve().parent.parent
_PAGE = (_ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
_WORDS = " ".join(_PAGE.split())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the script reads and writes."""
    for folder in ("scripts", "docs", "tests/faults", "tests/scarcity"):
        shutil.copytree(_ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "tests" / "__init__.py", tmp_path / "tests")
    return tmp_path


def generate(tree: Path) -> str:
    subprocess.run([sys.executable, tree / "scripts" / "generate-reliability-docs"], check=True, timeout=60)
    return (tree / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_expectations_make_it(tree: Path) -> None:
    assert generate(tree) == _PAGE, "run scripts/generate-reliability-docs"


def test_the_script_notices_a_change_and_keeps_the_prose(tree: Path) -> None:
    page = tree / "docs" / "reliability.md"
    page.write_text(_PAGE.replace("content without its dot", "all of it"), encoding="utf-8")
    assert generate(tree) == _PAGE


def test_every_fault_that_is_tried_is_explained() -> None:
    rows = _PAGE.split("| fault | what it is |")[1].split("\n\n")[0]
    explained = {
        word for names in re.findall(r"^\| ([^|]+) \|", rows, re.MULTILINE) for word in names.split(", ")
    }
    assert {re.sub(r" (?:once|at once|reading)$", "", cell.fault) for cell in EXPECTED} <= explained


def test_figures_in_the_text_are_those_of_the_tests() -> None:
    assert f"the client waits {client.BUDGET:g} s for a reply" in _WORDS
    assert f"a phase has {bench.PHASE:g} s" in _WORDS
    assert f"no dot goes out later than {window.LAST_DOT:g} s" in _WORDS
    assert f"up to {window.LAST_MOMENT:g} s" in _WORDS
    assert f"at least {window.LAST_MOMENT - window.LAST_DOT:g} s" in _WORDS
    assert f"from 0 to {window.FURTHEST:g} s" in _WORDS
