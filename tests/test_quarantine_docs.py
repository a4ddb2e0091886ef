"""docs/quarantine.md tells the states, keys, options and timers that there are."""

import json
import re
import subprocess
from pathlib import Path

import click
import pytest

from bqfilter.cli.quarantine import quarantine
from bqfilter.quarantine import Quarantine, State
from tests.doubles.components import needs
from tests.doubles.kept import keep

_PAGE = (Path(__file__).resolve().parent.parent / "docs" / "quarantine.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return re.split(r"^#+ ", _PAGE.split(f"# {heading}\n")[1], flags=re.MULTILINE)[0]


def first_cells(heading: str) -> set[str]:
    cells = re.findall(r"^\| (`[^|]+) \|", section(heading), re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def test_every_state_is_explained_and_no_other() -> None:
    assert first_cells("States") == {str(state) for state in State}


def test_every_key_of_the_first_line_is_explained_and_no_other(tmp_path: Path) -> None:
    with Path(keep(Quarantine(tmp_path)).path).open("rb") as file:
        assert first_cells("The file") == set(json.loads(file.readline()))


def test_every_command_has_its_exit_status() -> None:
    assert first_cells("Commands") == set(quarantine.commands)


def options(command: str) -> set[str]:
    found = quarantine.commands[command].params
    return {name for one in found if isinstance(one, click.Option) for name in one.opts}


def test_every_filter_is_explained_and_no_other() -> None:
    told = {word.split()[0] for word in first_cells("Which messages")}
    assert told == (options("list") & options("delete")) - {"--config"}


@pytest.mark.parametrize("command", sorted(quarantine.commands))
def test_every_option_is_mentioned(command: str) -> None:
    assert {option for option in options(command) if option not in _PAGE} == set()


def test_every_option_that_is_mentioned_is_there() -> None:
    known = set().union(*map(options, quarantine.commands)) | {"--state"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", _PAGE)) <= known


@needs("systemd-analyze", "systemd")
def test_the_timer_is_one_that_systemd_takes(tmp_path: Path) -> None:
    blocks = re.findall(r"```\n# /etc/systemd/system/(\S+)\n(.*?)```", _PAGE, re.DOTALL)
    assert [name for name, _ in blocks] == ["bqfilter-expire.service", "bqfilter-expire.timer"]
    for name, text in blocks:
        (tmp_path / name).write_text(text.replace("/usr/bin/bqfilterd", "/bin/true"))
    paths = [str(tmp_path / name) for name, _ in blocks]
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    complaints = [
        line for line in done.stderr.splitlines() if str(tmp_path) in line or "bqfilter-expire" in line
    ]
    assert (done.returncode, complaints) == (0, [])
