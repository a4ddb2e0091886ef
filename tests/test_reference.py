"""Schema, sample file, manual page and `show-config` say the same: every key, every default.

The files are compared with what scripts/generate-docs would write, and, because a generator can be wrong as
well, with the declarations themselves.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bqfilter.cli.config import show_config
from bqfilter.cli.options import DEFAULT_PATH
from bqfilter.config.loader import load, parse
from bqfilter.config.reference import annotated, markdown_tables, sample_file
from bqfilter.config.schema import ListenSettings, Settings, sample_settings, tables
from bqfilter.errors import ConfigError
from bqfilter.net.address import Endpoint

_ROOT = Path(__file__).resolve().parent.parent
_SAMPLE = (_ROOT / "etc" / "bqfilterd.toml").read_text(encoding="utf-8")
_PAGE = (_ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
_STALE = "run scripts/generate-docs"
_UNCOMMENTED = re.sub(r"^#(?=[a-z\[])", "", _SAMPLE, flags=re.MULTILINE)


def _declared() -> dict[str, dict[str, Any]]:
    """Table name to key to default, read from the dataclasses and from nothing else."""
    found = {}
    for table in dataclasses.fields(Settings):
        rows = dataclasses.fields(table.metadata["table"].table)
        found[table.name] = {row.name: row.default for row in rows}
    return found


_DECLARED = [
    pytest.param(table, key, default, id=f"{table}.{key}")
    for table, keys in _declared().items()
    for key, default in keys.items()
]


_ARRAYS = {row.name: row for row in tables() if row.is_optional_array}
_FULL = dataclasses.replace(sample_settings(), **{name: (row.sample,) for name, row in _ARRAYS.items()})


def _written(key: str) -> set[str]:
    """The names a key may have in a file."""
    return {key, "endpoint"} if key == "endpoints" else {key}


def _first(text: str, table: str) -> dict[str, Any]:
    """A table in TOML text, the first of several; empty where there is none."""
    found = tomllib.loads(text).get(table, {})
    return found[0] if isinstance(found, list) else found


def test_the_sample_file_is_what_the_schema_makes_it() -> None:
    assert sample_file() == _SAMPLE, _STALE


def test_the_sample_file_loads_as_it_is() -> None:
    assert load(_ROOT / "etc" / "bqfilterd.toml") == sample_settings()


def test_the_sample_file_with_every_default_spelt_out_means_the_same() -> None:
    assert parse(_UNCOMMENTED, "sample") == _FULL


@pytest.mark.parametrize(("table", "key", "default"), _DECLARED)
def test_the_sample_file_has_every_key_in_its_table(table: str, key: str, default: object) -> None:
    assert _first(_UNCOMMENTED, table).keys() & _written(key)
    is_active = default is dataclasses.MISSING and table not in _ARRAYS
    assert bool(_first(_SAMPLE, table).keys() & _written(key)) is is_active


def test_the_manual_page_is_what_the_schema_makes_it() -> None:
    assert f"begin -->\n\n{markdown_tables()}\n<!--" in _PAGE, _STALE


@pytest.mark.parametrize(("table", "key", "default"), _DECLARED)
def test_the_manual_page_has_every_key_with_its_default(table: str, key: str, default: object) -> None:
    (section,) = re.findall(rf"^### `\[+{table}\]+`\n(.*?)(?=^###|\Z)", _PAGE, re.MULTILINE | re.DOTALL)
    (row,) = [line for line in section.splitlines() if f"`{key}`" in line.split(" | ")[0]]
    shown = row.split(" | ")[3]
    if default is dataclasses.MISSING:
        assert shown == "none"
    else:
        found = getattr(parse(_with_line(table, f"{key} = {shown.strip('`')}"), "page"), table)
        assert getattr(found[0] if isinstance(found, tuple) else found, key) == default


def _with_line(table: str, line: str) -> str:
    """The smallest file that has this line in this table."""
    least = {"listen": 'endpoint = "unix:/a"', "upstream": 'endpoint = "unix:/b"'}
    if table in _ARRAYS:
        row = _ARRAYS[table]
        least[table] = "\n".join(key.toml(key.sample) for key in row.keys if key.required)
    least[table] = f"{least.get(table, '')}\n{line}"
    headers = {"listen": "[[listen]]", **{name: row.header for name, row in _ARRAYS.items()}}
    return "".join(f"{headers.get(name, f'[{name}]')}\n{body}\n" for name, body in least.items())


def test_the_manual_page_shows_messages_as_they_are() -> None:
    text = """
        budget.margin = 5
        pool.wokers = 30
        [[listen]]
        endpoint = "inet:127.0.0.1:10025"
        [[listen]]
        endpoint = "inet:127.0.0.1:10027"
        backlog = 0
        [upstream]
        endpoint = "inet:127.0.0.1:10026"
    """
    with pytest.raises(ConfigError) as caught:
        parse(text, DEFAULT_PATH)
    assert str(caught.value) in _PAGE


def test_the_manual_pages_first_example_is_enough() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", _PAGE, re.DOTALL)
    assert parse(example, "example") == sample_settings()


def test_the_script_writes_both_files_and_keeps_the_prose(tmp_path: Path) -> None:
    for folder in ("scripts", "etc", "docs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bqfilter").symlink_to(_ROOT / "bqfilter")
    shutil.copy(_ROOT / "scripts" / "generate-docs", tmp_path / "scripts")
    page, sample = tmp_path / "docs" / "configuration.md", tmp_path / "etc" / "bqfilterd.toml"
    page.write_text(_PAGE.replace("| `workers` |", "| `porters` |") + "Prose behind.\n", encoding="utf-8")
    subprocess.run([sys.executable, tmp_path / "scripts" / "generate-docs"], check=True, timeout=60)
    assert sample.read_text(encoding="utf-8") == _SAMPLE
    assert page.read_text(encoding="utf-8") == _PAGE + "Prose behind.\n"


def test_show_config_prints_what_a_file_comes_to(tmp_path: Path) -> None:
    path = tmp_path / "bqfilterd.toml"
    path.write_text(_SAMPLE.replace("#workers = 20", "workers = 7"))
    result = CliRunner().invoke(show_config, ["--config", str(path)])
    assert result.exit_code == 0
    assert parse(result.stdout, "shown") == load(path)
    assert "\nworkers = 7\n" in result.stdout


def test_show_config_prints_the_defaults_without_reading_a_file() -> None:
    result = CliRunner().invoke(show_config, ["--defaults", "--config", "/nonexistent/bqfilterd.toml"])
    assert result.exit_code == 0
    assert parse(result.stdout, "shown") == sample_settings()


@pytest.mark.parametrize(("table", "key", "default"), _DECLARED)
def test_show_config_has_every_key_with_its_meaning(table: str, key: str, default: object) -> None:
    assert _first(annotated(_FULL), table).keys() & _written(key)
    meaning = next(
        row.metadata["setting"].doc
        for one in dataclasses.fields(Settings)
        for row in dataclasses.fields(one.metadata["table"].table)
        if (one.name, row.name) == (table, key)
    )
    prose = " ".join(annotated(_FULL).replace("\n# ", " ").split())
    assert " ".join(meaning.split()) in prose


def test_show_config_repeats_the_table_for_each_listener() -> None:
    listen = tuple(ListenSettings(Endpoint.parse(text)) for text in ("unix:/a", "unix:/b"))
    settings = dataclasses.replace(sample_settings(), listen=listen)
    assert parse(annotated(settings), "shown") == settings


def test_show_config_reports_a_bad_file_on_standard_error_and_exits_with_78(tmp_path: Path) -> None:
    path = tmp_path / "bqfilterd.toml"
    path.write_text("[pool]\nworkers = 0\n")
    result = CliRunner().invoke(show_config, ["--config", str(path)])
    assert result.exit_code == os.EX_CONFIG == 78
    assert result.stdout == ""
    assert "pool.workers: found 0" in result.stderr
    assert "upstream: missing" in result.stderr


def test_show_config_reads_the_installed_file_unless_told_otherwise() -> None:
    assert DEFAULT_PATH == "/etc/bqfilter/bqfilterd.toml"
    assert DEFAULT_PATH in CliRunner().invoke(show_config, ["--help"]).stdout
