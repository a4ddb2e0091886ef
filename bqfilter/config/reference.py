"""The schema told to people: annotated TOML for `show-config` and the sample file, tables for the manual.

All of it is text made from `schema`, so that none of it can disagree with what the loader accepts. No file is
read or written here.
"""

from __future__ import annotations

import re
import textwrap

from bqfilter.config.schema import KeyRow, Settings, TableRow, sample_settings, tables
from bqfilter.config.table import Table

_COMMENT = textwrap.TextWrapper(
    width=100, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
)

_SAMPLE_HEAD = """\
# bqfilterd.toml - where mail comes in, where it goes, and how long anything may take.
#
# bqfilterd reads /etc/bqfilter/bqfilterd.toml unless it is told otherwise with --config. [[listen]]
# and [upstream] are needed. Every other key is shown with its default, commented out: a line
# "#key = value" does nothing until its "#" is taken away.
#
# "bqfilterd check" says what is wrong with a file, "bqfilterd show-config" what is in force, and
# SIGHUP makes a running bqfilterd read it again. The same in tables: docs/configuration.md.
"""


def annotated(settings: Settings) -> str:
    """Every key with its value in `settings`, and above it what the key means and allows."""
    return "\n".join(_annotate(row, table) for row in tables() for table in row.instances(settings))


def sample_file() -> str:
    """The file installed as etc/bqfilterd.toml: every key, the defaults commented out."""
    settings = sample_settings()
    parts = [
        _sample_part(row, table) for row in tables() for table in row.instances(settings) or (row.sample,)
    ]
    return "\n".join([_SAMPLE_HEAD, *parts])


def _sample_part(row: TableRow, table: Table) -> str:
    """A table with its defaults commented out; one that need not be there at all is commented out whole."""
    text = _annotate(row, table, sample=True)
    if not row.is_optional_array:
        return text
    return re.sub(r"^(?=\[|[a-z_]+ = )", "#", text, flags=re.MULTILINE)


def _annotate(row: TableRow, table: Table, *, sample: bool = False) -> str:
    parts = [_comment(row.field.doc) + row.header + "\n"]
    for key in row.keys:
        line = key.toml(getattr(table, key.name))
        parts.append(_explain(key) + ("#" if sample and not key.required else "") + line + "\n")
    return "\n".join(parts)


def _explain(key: KeyRow) -> str:
    return _comment(key.setting.doc) + _comment(facts(key))


def facts(key: KeyRow) -> str:
    """What a key allows, its default, and how a change is applied, in one line."""
    default = "none" if key.required else _default(key)
    return f"Allowed: {_allowed(key)}. Default: {default}. A change takes a {_change(key)}."


def _comment(text: str) -> str:
    return _COMMENT.fill(text) + "\n"


def _allowed(key: KeyRow) -> str:
    return next(iter(key.spellings.values())).allowed


def _default(key: KeyRow) -> str:
    return key.setting.kind.toml(key.default)


def _change(key: KeyRow) -> str:
    return "reload" if key.setting.reloadable else "restart"


def markdown_tables() -> str:
    """The part of docs/configuration.md that the schema decides."""
    return "\n".join(_markdown_table(row) for row in tables())


def _markdown_table(row: TableRow) -> str:
    head = [f"### `{row.header}`", "", row.field.doc + (" Needed." if row.required else ""), ""]
    columns = ["| key | kind | allowed | default | change | meaning |", "|---|---|---|---|---|---|"]
    return "\n".join(head + columns + [_markdown_row(key) for key in row.keys]) + "\n"


def _markdown_row(key: KeyRow) -> str:
    names = " or ".join(f"`{name}`" for name in key.spellings)
    kind = next(iter(key.spellings.values())).name
    default = "none" if key.required else f"`{_default(key)}`"
    cells = [names, kind, _allowed(key), default, _change(key), key.setting.doc]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
