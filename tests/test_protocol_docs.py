"""docs/protocol.md says what the table of phases says, and quotes nothing that is not in the program."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bqfilter.smtp import commands, replies
from bqfilter.smtp.client import NO_CAPABILITIES
from bqfilter.smtp.ehlo import ehlo_reply
from bqfilter.smtp.phases import TABLE, Phase
from bqfilter.smtp.server import MAX_COMMAND_BYTES

_ROOT = Path(__file__).resolve().parent.parent
_PAGE = (_ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
_MATRIX = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in _PAGE.split("begin -->")[1].split("```")[0].splitlines()
    if line.startswith("|")
]
_VERBS = {kind.verb: kind for kind in TABLE if kind not in (commands.Malformed, commands.EndOfData)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the script reads and writes."""
    for folder in ("bqfilter", "scripts", "docs"):
        shutil.copytree(_ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def generate(tree: Path) -> str:
    subprocess.run([sys.executable, tree / "scripts" / "generate-protocol-docs"], check=True, timeout=60)
    return (tree / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_table_makes_it(tree: Path) -> None:
    assert generate(tree) == _PAGE, "run scripts/generate-protocol-docs"


def test_the_script_notices_a_change_and_keeps_the_prose(tree: Path) -> None:
    page = tree / "docs" / "protocol.md"
    page.write_text(_PAGE.replace("| NOOP | stays", "| NOOP | goes away"), encoding="utf-8")
    assert generate(tree) == _PAGE


@pytest.mark.parametrize("verb", _VERBS)
@pytest.mark.parametrize("phase", [Phase.CONNECTED, Phase.READY, Phase.MAIL, Phase.RCPT])
def test_a_cell_of_the_matrix_is_what_the_table_says(verb: str, phase: Phase) -> None:
    """Looked up here in the table's own rows, because a generator can be wrong as well."""
    row = TABLE[_VERBS[verb]]
    (line,) = [line for line in _MATRIX if line[0] == verb]
    shown = line[_MATRIX[0].index(phase.value)]
    if phase not in row.allowed:
        expected = replies.NO_VALID_RECIPIENTS if (verb, phase) == ("DATA", Phase.MAIL) else row.otherwise
        assert shown == f"`{expected}`"
    else:
        assert shown == ("stays" if row.then is None else f"&rarr; {row.then.value}")


def test_every_command_has_a_row() -> None:
    assert len(_MATRIX) == len(TABLE) + 2  # the head of the table and the line below it


def test_every_reply_that_is_quoted_in_full_is_one_of_ours() -> None:
    ours = {str(value) for value in vars(replies).values() if isinstance(value, replies.Reply)}
    quoted = set(re.findall(r"`([2-5]\d\d [2-5]\.\d\.\d Error: [^`]+)`", _PAGE))
    assert quoted
    assert quoted <= ours


def test_the_announcement_that_is_quoted_is_ours() -> None:
    announced = ehlo_reply(b"x", NO_CAPABILITIES, 0)
    assert announced.lines[1] == b"PIPELINING"
    assert f"`{announced.lines[-1].decode()}` stands on the last line" in " ".join(_PAGE.split())


def test_the_limit_on_a_command_line_is_the_one_in_force() -> None:
    assert f"A command line may have {MAX_COMMAND_BYTES} bytes" in _PAGE


def test_phases_that_are_explained_are_all_there_are() -> None:
    assert {phase.value for phase in Phase} == set(re.findall(r"\*(\w+)\* is after", _PAGE))
