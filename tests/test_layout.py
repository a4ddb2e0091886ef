"""The house is in order: every module has its tests, and imports go down the floors as drawn."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bqfilter

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bqfilter"
TESTS = ROOT / "tests"

# Modules without a test file of their own, and what tests them instead: processes are tested from outside, by
# what becomes of messages and signals; documents by what they say; the exceptions decide nothing; the parts
# of a delivery are tested together, because only the whole keeps promises.
TESTED_ELSEWHERE = {
    "__main__.py": "pool/test_serving.py",
    "errors.py": "net/test_stream.py",
    "cli/config.py": "test_reference.py",
    "cli/group.py": "test_docs.py",
    "cli/options.py": "cli/test_check.py",
    "config/reference.py": "test_reference.py",
    "config/table.py": "config/test_schema.py",
    "handover.py": "test_transaction.py",
    "outcome.py": "test_delivery.py",
    "parcels.py": "test_delivery.py",
    "scanning/report.py": "scanning/test_decision.py",
    "scanning/scanner.py": "doubles/test_doubles.py",
    "pool/brief_server.py": "pool/test_pages.py",
    "pool/master.py": "pool/test_reload.py",
    "pool/worker.py": "pool/test_serving.py",
    "saturation/chain.py": "saturation/test_agreement.py",
    "saturation/checks/access.py": "saturation/test_agreement.py",
    "saturation/checks/capacity.py": "saturation/test_agreement.py",
    "saturation/checks/content.py": "saturation/test_agreement.py",
    "saturation/checks/finding.py": "saturation/test_agreement.py",
    "saturation/checks/queue.py": "saturation/test_agreement.py",
    "saturation/checks/timing.py": "saturation/test_agreement.py",
    "saturation/checks/wiring.py": "saturation/test_agreement.py",
    "saturation/entries.py": "cli/test_postfix_config.py",
    "saturation/layout.py": "saturation/test_tune_report.py",
}


def modules() -> list[str]:
    """Every module with code of its own, as a path below the package."""
    paths = (path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")))
    return [str(path) for path in paths if path.name != "__init__.py"]


def mirror(module: str) -> Path:
    path = Path(module)
    return TESTS / path.parent / f"test_{path.name}"


@pytest.mark.parametrize("module", [name for name in modules() if name not in TESTED_ELSEWHERE])
def test_every_module_has_a_test_file_that_mirrors_it(module: str) -> None:
    assert mirror(module).is_file(), f"{module} is tested by nobody: write {mirror(module).relative_to(ROOT)}"


def test_the_exceptions_are_modules_that_exist() -> None:
    assert set(TESTED_ELSEWHERE) <= set(modules())
    assert [test for test in TESTED_ELSEWHERE.values() if not (TESTS / test).is_file()] == []
    assert [module for module in TESTED_ELSEWHERE if mirror(module).exists()] == []


def test_every_module_says_what_it_promises() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    silent = [path for path, text in texts.items() if not text.startswith(('"""', 'r"""'))]

    assert silent == []


def layers_in_setup_cfg() -> list[str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser["importlinter:contract:floors"]["layers"].split("\n")[1:]


def floors_in_docstring() -> list[str]:
    """The indented lines of the package's docstring: names, then maybe what they are."""
    lines = re.findall(r"^    (\w+(?: \| \w+)*)(?=$|  )", bqfilter.__doc__ or "", re.MULTILINE)
    return [str(line) for line in lines]


def test_the_floors_are_drawn_as_they_are_enforced() -> None:
    assert floors_in_docstring() == layers_in_setup_cfg()


def test_every_floor_exists() -> None:
    names = [name for layer in layers_in_setup_cfg() for name in layer.split(" | ")]
    there = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    assert set(names) == there - {"__init__", "__main__"}


def test_a_file_imports_only_from_the_floors_below_it() -> None:
    lint = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    assert lint, "lint-imports is not installed (pip install import-linter)"
    run = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
