"""What is shipped, built once a run from a copy of the repository, so that nothing is left in it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.doubles.programs import REPOSITORY

BUILD_LIMIT = 600.0
# What git ignores, and git itself.
_LEFT_OUT = (
    ".git",
    ".fuzz",
    ".venv*",
    "build",
    "dist",
    "results",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository as somebody has it who has just got it."""
    copy = tmp_path_factory.mktemp("sources") / "bqfilter"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*_LEFT_OUT), symlinks=True)
    return copy


@pytest.fixture(scope="session")
def distributions(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source distribution, and the wheel that was made of that."""
    directory = tmp_path_factory.mktemp("distributions")
    run([sys.executable, "-m", "build", "--outdir", str(directory), str(sources)])
    return directory


@pytest.fixture(scope="session")
def packages(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The Debian package, and one of a later revision."""
    if missing := [
        tool for tool in ("dpkg-deb", "dpkg-shlibdeps", "/usr/bin/python3") if not shutil.which(tool)
    ]:
        reason = f"{missing[0]} is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    directory = tmp_path_factory.mktemp("packages")
    script = str(sources / "scripts" / "build-deb")
    first = run([script, "--output", str(directory), "--revision", "1"]).strip()
    return Path(first), _with_revision(Path(first), "2")


def _with_revision(package: Path, revision: str) -> Path:
    """The same again under another version, which is enough to dpkg, and quicker than to build it again."""
    tree = package.parent / "tree"
    run(["dpkg-deb", "--raw-extract", str(package), str(tree)])
    control = tree / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("-1\nArchitecture", f"-{revision}\nArchitecture"))
    later = package.parent / package.name.replace("-1_", f"-{revision}_")
    run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(later)])
    return later


def run(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_LIMIT, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
