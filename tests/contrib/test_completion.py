"""The completion files are found by their names, and the shells really complete with them."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.doubles.programs import REPOSITORY

_FILES = REPOSITORY / "contrib" / "completion"
# No file of the user's own is read.
_UNTOUCHED = {"bash": ["--norc"], "fish": ["--no-config"], "zsh": ["-f"]}
_BIN = Path(sys.executable).parent

# What each shell is told to do: load the file as its own machinery would, complete, print the proposals.
_BASH = """
. {file}
COMP_WORDS=({words}) COMP_CWORD={last}
_bqfilterd_completion bqfilterd
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
_FISH = "source {file}; complete -C '{line}'"
# zsh completes at its prompt alone; what would put proposals on the screen there prints them here.
_ZSH = """
fpath=({directory} $fpath); autoload -Uz _bqfilterd
compadd() {{ print -l -- $completions }}
_describe() {{ print -l -- ${{completions_with_descriptions%%:*}} }}
words=({words}) CURRENT={last}
_bqfilterd
"""


def _run(shell: str, script: str) -> list[str]:
    """The proposals, without what is said about them."""
    if not shutil.which(shell):
        if "CI" in os.environ:
            pytest.fail(f"{shell} is not installed")
        pytest.skip(f"{shell} is not installed")
    # A home of its own: fish makes directories in it.
    with tempfile.TemporaryDirectory(prefix="bqf-home-") as home:
        environment = {"PATH": f"{_BIN}:{os.environ['PATH']}", "HOME": home, "LC_ALL": "C.UTF-8"}
        run = subprocess.run(
            [shell, *_UNTOUCHED[shell], "-c", script],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    return [line.split("\t")[0] for line in run.stdout.splitlines()]


def _bash(line: str) -> list[str]:
    words = line.split(" ")
    return _run(
        "bash", _BASH.format(file=_FILES / "bash/bqfilterd", words=_quoted(words), last=len(words) - 1)
    )


def _zsh(line: str) -> list[str]:
    words = line.split(" ")
    return _run("zsh", _ZSH.format(directory=_FILES / "zsh", words=_quoted(words), last=len(words)))


def _fish(line: str) -> list[str]:
    return _run("fish", _FISH.format(file=_FILES / "fish/bqfilterd.fish", line=line))


def _quoted(words: list[str]) -> str:
    return " ".join(f"'{word}'" for word in words)


_CASES = [
    pytest.param("bqfilterd sh", ["show-config"], id="a command"),
    pytest.param("bqfilterd quarantine rel", ["release"], id="a command of a group"),
    pytest.param("bqfilterd check --post", ["--postfix"], id="an option"),
    pytest.param("bqfilterd scan --source ", ["local", "remote"], id="a value"),
]


@pytest.mark.parametrize(("line", "wanted"), _CASES)
def test_bash_completes(line: str, wanted: list[str]) -> None:
    assert _bash(line) == wanted


@pytest.mark.parametrize(("line", "wanted"), _CASES)
def test_fish_completes(line: str, wanted: list[str]) -> None:
    assert _fish(line) == wanted


@pytest.mark.parametrize(("line", "wanted"), _CASES)
def test_zsh_completes(line: str, wanted: list[str]) -> None:
    assert _zsh(line) == wanted


def test_the_script_writes_the_three_files(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "bqfilter").symlink_to(REPOSITORY / "bqfilter")
    shutil.copy(REPOSITORY / "scripts" / "generate-completion", tmp_path / "scripts")
    subprocess.run([sys.executable, tmp_path / "scripts" / "generate-completion"], check=True, timeout=60)
    written = tmp_path / "contrib" / "completion"
    names = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert names == {str(path.relative_to(_FILES)) for path in _FILES.rglob("*") if path.is_file()}
    assert all("_BQFILTERD_COMPLETE" in (written / name).read_text(encoding="utf-8") for name in names)
