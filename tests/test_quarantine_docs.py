"""docs/quarantine.md tells the states, keys, options and timers that there are."""

import json
import re
from pathlib import Path

import click
import pytest

from bqfilter.cli.quarantine import quarantine
from bqfilter.quarantine import Quarantine, State
from tests.doubles.kept import keep
from tests.doubles.programs import REPOSITORY

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


def test_the_timer_that_is_named_is_shipped_and_its_service_does_what_is_said() -> None:
    (named,) = re.findall(r"`(contrib/systemd/\S+)\.timer`", _PAGE)
    assert (REPOSITORY / f"{named}.timer").is_file()
    service = (REPOSITORY / f"{named}.service").read_text(encoding="utf-8")
    assert re.search(r"^ExecStart=bqfilterd quarantine expire ", service, re.MULTILINE)
