"""The manual pages are what their sources make them, say what is so, and are good roff.

The pages are compared with what scripts/generate-man would write and, because a generator can be wrong as
well, what a reader sees is compared with commands and schema themselves.
"""

import dataclasses
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from bqfilter.cli import main
from bqfilter.config.loader import load, parse
from bqfilter.config.schema import Settings
from bqfilter.scanning.making import make_scanners

_ROOT = Path(__file__).resolve().parent.parent
_MAN = _ROOT / "docs" / "man"
_SOURCES = sorted(_MAN.glob("*.md"))
_PAGES = [source.with_suffix("") for source in _SOURCES]
_TEXTS = {source.name: source.read_text(encoding="utf-8") for source in _SOURCES}


def _script(name: str) -> ModuleType:
    """A script as a module, which keeps no compiled form beside it."""
    loader = SourceFileLoader(name.replace("-", "_"), str(_ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    before = list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    yield _script("generate-man")
    sys.path[:], sys.dont_write_bytecode = before


@pytest.fixture(scope="module")
def roff(generator: ModuleType) -> ModuleType:
    found: ModuleType = generator.roff
    return found


def _tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which(name):
        pytest.fail(f"no {name}") if os.environ.get("CI") else pytest.skip(f"no {name}")
    return subprocess.run([name, *arguments], capture_output=True, text=True, timeout=60, check=False)


def _shown(page: str) -> str:
    """What a reader sees whose terminal is so wide that hardly a paragraph is broken."""
    text = _tool("mandoc", "-Tutf8", "-Owidth=1000", str(_MAN / page)).stdout
    return re.sub(".\x08", "", text)


def _commands(command: click.Command = main, words: str = "bqfilterd") -> Iterator[tuple[str, click.Command]]:
    if words != "bqfilterd":
        yield words, command
    context = click.Context(command)
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        child = command.get_command(context, name)
        assert child
        yield from _commands(child, f"{words} {name}")


@pytest.mark.parametrize("source", _SOURCES, ids=lambda source: source.name)
def test_a_page_is_what_its_sources_make_it(generator: ModuleType, source: Path) -> None:
    made = generator.page(source)
    assert made == source.with_suffix("").read_text(encoding="ascii"), "run scripts/generate-man"


def test_there_is_no_page_without_a_source() -> None:
    assert sorted(path for path in _MAN.iterdir() if path.suffix != ".md") == _PAGES


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_mandoc_finds_no_fault(page: Path) -> None:
    found = _tool("mandoc", "-Tlint", str(page)).stdout.splitlines()
    # It looks for pages that are referred to on this machine, where Postfix need not be installed.
    assert [line for line in found if "referenced manual not found" not in line] == []


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_groff_finds_no_fault(page: Path) -> None:
    assert _tool("groff", "-man", "-ww", "-Tutf8", str(page)).stderr == ""


@pytest.mark.parametrize(("words", "command"), [pytest.param(*one, id=one[0]) for one in _commands()])
def test_a_command_is_there_with_every_option(words: str, command: click.Command) -> None:
    (section,) = re.findall(
        rf"^   {words} \[OPTIONS\].*\n((?:.*\n)*?)(?=^   \S|^\S)", _shown("bqfilterd.8"), re.MULTILINE
    )
    common = {"--config"}
    options = {option for parameter in command.params for option in parameter.opts if option[0] == "-"}
    tags = set(re.findall(r"^       (--[\w-]+)", section, re.MULTILINE))
    assert options - common <= tags
    for parameter in command.params:
        meaning = getattr(parameter, "help", None)
        if meaning and not common & set(parameter.opts):
            assert " ".join(meaning.replace("`", "").split()) in section


@pytest.mark.parametrize(
    ("table", "key"),
    [
        pytest.param(table.name, row, id=f"{table.name}.{row.name}")
        for table in dataclasses.fields(Settings)
        for row in dataclasses.fields(table.metadata["table"].table)
    ],
)
def test_a_key_is_there_with_meaning_default_and_how_it_is_changed(
    table: str, key: dataclasses.Field[object]
) -> None:
    (section,) = re.findall(
        rf"^   \[+{table}\]+\n((?:.*\n)*?)(?=^   \S|^\S)", _shown("bqfilterd.toml.5"), re.MULTILINE
    )
    (text,) = re.findall(
        rf"^       (?:\w+ or )?{key.name}(?:\n| +)((?:  .*\n|.*\n)*?)(?=\n|\Z)", section, re.MULTILINE
    )
    setting = key.metadata["setting"]
    told = " ".join(text.split())
    assert " ".join(re.sub(r"`` ?| ?``|`|\*\*", "", setting.doc).split()) in told
    assert f"A change takes a {'reload' if setting.reloadable else 'restart'}." in told
    default = "none" if key.default is dataclasses.MISSING else setting.kind.toml(key.default)
    assert f"Default: {default}." in told


def _code_blocks(page: str) -> list[str]:
    found = re.findall(r"\n\n((?:    .*\n|\n(?=    ))+)", _TEXTS[page])
    return [textwrap.dedent(block) for block in found]


def test_configurations_on_the_pages_can_be_used() -> None:
    configurations = [block for page in _TEXTS for block in _code_blocks(page) if "[[listen]]" in block]
    assert len(configurations) == 2
    for text in configurations:
        parse(text, "page")


def test_the_table_of_rules_on_its_page_can_be_used(tmp_path: Path) -> None:
    (table,) = [block for block in _code_blocks("bqfilter-rules.5.md") if "QUARANTINE" in block]
    rules, config = tmp_path / "header_checks", tmp_path / "bqfilterd.toml"
    rules.write_text(table)
    config.write_text(
        '[[listen]]\nendpoint = "unix:/a"\n[upstream]\nendpoint = "unix:/b"\n'
        f'[[rules]]\nheader_checks = ["{rules}"]\n'
    )
    make_scanners(load(config), b"here.example")


@pytest.mark.parametrize(
    "line", re.findall(r"^    # bqfilterd ([^&\n]+)", "\n".join(_TEXTS.values()), re.MULTILINE)
)
def test_a_command_line_on_the_pages_is_understood(line: str) -> None:
    assert CliRunner().invoke(main, [*shlex.split(line), "--help"]).exit_code == 0


def test_the_environment_is_what_is_looked_at() -> None:
    (section,) = re.findall(r"## ENVIRONMENT\n(.*?)\n## ", _TEXTS["bqfilterd.8.md"], re.DOTALL)
    first_cells = [row.split(" | ")[0] for row in section.splitlines() if row.startswith("| `")]
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    code = "\n".join(path.read_text(encoding="utf-8") for path in (_ROOT / "bqfilter").rglob("*.py"))
    looked_at = set(re.findall(r'os\.environ(?:\.get|\.pop)?[(\[]"(\w+)"', code))
    looked_at |= set(re.findall(r'"(\w+)" in os\.environ', code))
    # Taken away, so that no program of a scanner sees it; nobody asks for its value.
    assert named - {"_BQFILTERD_COMPLETE"} == looked_at - {"LISTEN_FDNAMES"}


@pytest.mark.parametrize(
    ("markdown", "wanted"),
    [
        pytest.param("one\ntwo", ".PP\none two\n", id="a paragraph"),
        pytest.param(".one", ".PP\n\\&.one\n", id="no request by chance"),
        pytest.param("'one", ".PP\n\\(aqone\n", id="nor by an apostrophe"),
        pytest.param("a\\b", ".PP\na\\(rsb\n", id="no escape by chance"),
        pytest.param("`a-b`", ".PP\n\\fBa\\-b\\fP\n", id="code, where a hyphen is a minus"),
        pytest.param("use --json", ".PP\nuse \\fB\\-\\-json\\fP\n", id="an option"),
        pytest.param("**a `b` c**", ".PP\n\\fBa b c\\fP\n", id="bold, and code in it"),
        pytest.param("see *this*", ".PP\nsee \\fIthis\\fP\n", id="italics"),
        pytest.param(
            "the word \u201cé\u201d", ".PP\nthe word \\[u201C]\\[u00E9]\\[u201D]\n", id="beyond ASCII"
        ),
        pytest.param("x(5)", ".PP\n\\fBx\\fP(5)\n", id="another manual page"),
        pytest.param("[a](known.md)", ".PP\n\\fBk\\fP(5)\n", id="a link to a page that man has"),
        pytest.param("[a](other.md#b)", ".PP\na (\\fIother.md\\fP)\n", id="a link to another"),
        pytest.param("[a](#b)", ".PP\na\n", id="a link on the same page"),
        pytest.param("[a](https://b/)", ".PP\na <https://b/>\n", id="a link into the world"),
        pytest.param("## A b", ".SH A b\n", id="a section"),
        pytest.param("### A b", ".SS A b\n", id="a subsection"),
        pytest.param("- a\n  b\n- c", ".IP \\(bu 2\na b\n.IP \\(bu 2\nc\n", id="a list"),
        pytest.param("1. a", ".IP 1. 4\na\n", id="a numbered list"),
        pytest.param("    a\n    .b", ".PP\n.RS 4\n.EX\na\n\\&.b\n.EE\n.RE\n", id="indented code"),
        pytest.param("```\na\n\n## b\n```", ".PP\n.RS 4\n.EX\na\n\\&\n## b\n.EE\n.RE\n", id="fenced code"),
        pytest.param("| a | b |\n|---|---|\n| c | d |", ".TP\nc\nd\n", id="a table of two columns"),
        pytest.param(
            "| a | b | e |\n|---|---|---|\n| c | d\\|f | g |",
            ".TP\nc\n\\fIb:\\fP d|f\n.br\n\\fIe:\\fP g\n",
            id="a table of more columns",
        ),
    ],
)
def test_markdown_becomes_roff(roff: ModuleType, markdown: str, wanted: str) -> None:
    assert roff.page(markdown, {"known.md": "k(5)"}) == wanted


def test_a_heading_that_is_gone_is_told(generator: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r'docs/operations\.md has no heading "Nowhere"'):
        generator.section_of("operations.md", "Nowhere")
