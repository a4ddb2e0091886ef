"""What the manual points at is there: pages, headings, tests, files and commands."""

import re
import textwrap
from pathlib import Path

import click
import pytest

from bqfilter.cli import main

_ROOT = Path(__file__).resolve().parent.parent
_COMMANDS = sorted(main.list_commands(click.Context(main)))
_PAGES = {
    str(path.relative_to(_ROOT)): path.read_text(encoding="utf-8")
    for path in sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md")])
}


def _references(pattern: str) -> list[object]:
    """What the pattern finds on all pages, each as a case of its own, with its page."""
    found = {(page, match) for page, text in _PAGES.items() for match in re.findall(pattern, text)}
    return [pytest.param(*case, id=f"{case[0]} to {case[1]}") for case in sorted(found)]


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), _references(r"\]\(([^)#:]*(?:#[^)]*)?)\)"))
def test_a_link_leads_somewhere(page: str, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (_ROOT / page).parent / name if name else _ROOT / page
    assert target.exists()
    assert not anchor or anchor in _anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("page", "path"), _references(r"`((?:tests|scripts|bqfilter|etc)/[\w./-]+\w/?)`"))
def test_a_file_that_is_named_is_there(page: str, path: str) -> None:
    assert (_ROOT / path).exists()


@pytest.mark.parametrize(("page", "name"), _references(r"`(tests/[\w/]+\.py::\w+)`"))
def test_a_test_that_is_named_is_there(page: str, name: str) -> None:
    path, _, function = name.partition("::")
    assert f"\ndef {function}(" in (_ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "command"), _references(r"`bqfilterd ([a-z][\w-]*)"))
def test_a_command_that_is_named_is_there(page: str, command: str) -> None:
    assert command in _COMMANDS


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_is_mentioned(command: str) -> None:
    assert any(f"bqfilterd {command}" in text for text in _PAGES.values())


def test_the_entries_of_the_readme_are_those_of_the_page_on_postfix() -> None:
    """Those are tried out with a real Postfix (tests/postfix/test_manual.py)."""
    (indented,) = re.findall(
        r"^   ```\n(   # Before.*?)^   ```", _PAGES["README.md"], re.DOTALL | re.MULTILINE
    )
    assert f"```\n{textwrap.dedent(indented)}```" in _PAGES["docs/postfix.md"]


def test_the_floors_are_those_of_the_contract() -> None:
    contract = (_ROOT / "setup.cfg").read_text(encoding="utf-8").split("layers =\n")[1]
    floors = [re.findall(r"\w+", line) for line in contract.splitlines() if line.startswith("    ")]
    section = _PAGES["docs/design.md"].split("| floor | holds |")[1].split("\n\n")[0]
    rows = [row.split(" | ")[0] for row in section.splitlines() if row.startswith("| `")]
    assert [re.findall(r"`(\w+)`", row) for row in rows] == floors


def test_every_page_is_on_the_map() -> None:
    assert {page for page in _PAGES if page != "README.md"} <= set(
        re.findall(r"\]\(([^)]+\.md)\)", _PAGES["README.md"])
    )
