"""From TOML text to `Settings`, and back.

Everything wrong with a file is reported at once, a line each, in one ConfigError: the line names the file,
the key, the value found and what is allowed. Nothing is guessed, and nothing unknown is passed over: a
misspelt key would be a limit that is not in force. Whether users, directories or hosts exist is not looked
at here: the same file must be checkable on another machine.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bqfilter.config.schema import KeyRow, Settings, TableRow, keys_of, named_tables, tables
from bqfilter.config.table import Table
from bqfilter.errors import ConfigError

_MAX_SHOWN = 60


def load(path: str | Path) -> Settings:
    """The settings in a file, or ConfigError."""
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: byte {error.start + 1} is wrong") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Settings:
    """The settings in TOML text; `name` is what the messages call it."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: is not TOML: {error}") from error
    return _Reader(name).read(document)


class _Reader:
    """Goes through a document once and collects what is wrong with it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._errors: list[str] = []

    def read(self, document: Mapping[str, Any]) -> Settings:
        rows = {row.name: row for row in tables()}
        self._refuse_unknown("", document, rows, "table")
        read = {name: self._read_tables(row, document.get(name)) for name, row in rows.items()}
        self._raise_if_any()
        values: dict[str, Any] = {name: value for name, value in read.items() if value is not None}
        settings = Settings(**values)
        for problem in settings.problems():
            self._complain(problem.key, problem.sentence)
        self._raise_if_any()
        return settings

    def _raise_if_any(self) -> None:
        if self._errors:
            raise ConfigError("\n".join(self._errors))

    def _complain(self, key: str, sentence: str) -> None:
        self._errors.append(f"{self._name}: {key}: {sentence}")

    def _refuse_unknown(self, table: str, found: Mapping[str, Any], known: Iterable[str], what: str) -> None:
        names = list(known)
        for key in found:
            if key not in names:
                self._complain(
                    table + _shown_key(key),
                    f"found {shown(found[key])}: unknown {what}{_did_you_mean(key, names)};"
                    f" allowed here: {', '.join(names)}",
                )

    def _read_tables(self, row: TableRow, found: Any) -> Table | tuple[Table, ...] | None:
        """One table or all of an array; None where nothing usable was found, and the default applies."""
        if found is None or found == []:
            if row.required:
                self._complain(row.name, f"missing; a table {row.header} is needed")
            return None
        if row.field.many:
            return self._read_array(row, found)
        if not isinstance(found, dict):
            self._complain(row.name, f"found {shown(found)}; allowed is a single table {row.header}")
            return None
        return self._read_table(row, row.name, found)

    def _read_array(self, row: TableRow, found: Any) -> tuple[Table, ...] | None:
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            self._complain(
                row.name, f"found {shown(found)}; allowed are tables {row.header}, with two brackets"
            )
            return None
        read = [self._read_table(row, f"{row.name}[{i}]", one) for i, one in enumerate(found, start=1)]
        return tuple(table for table in read if table is not None)

    def _read_table(self, row: TableRow, name: str, found: Mapping[str, Any]) -> Table | None:
        errors_before = len(self._errors)
        rows = row.keys
        known = [key for key_row in rows for key in key_row.spellings]
        self._refuse_unknown(f"{name}.", found, known, "key")
        values: dict[str, Any] = {}
        for key_row in rows:
            values |= self._read_key(key_row, name, found)
        if len(self._errors) > errors_before:
            return None
        table = row.field.table(**values)
        for problem in table.problems():
            self._complain(f"{name}.{problem.key}", problem.sentence)
        return table

    def _read_key(self, row: KeyRow, table: str, found: Mapping[str, Any]) -> dict[str, Any]:
        """The value of one key under its attribute's name; empty where the default applies."""
        given = [key for key in row.spellings if key in found]
        if len(given) > 1:
            self._complain(f"{table}.{given[1]}", f"found beside {given[0]}; allowed is one of the two")
        elif given:
            return self._read_value(row, table, given[0], found[given[0]])
        elif row.required:
            key, kind = next(iter(row.spellings.items()))
            self._complain(f"{table}.{key}", f"missing; allowed is {kind.allowed}")
        return {}

    def _read_value(self, row: KeyRow, table: str, key: str, found: Any) -> dict[str, Any]:
        kind = row.spellings[key]
        try:
            return {row.name: kind.read(found)}
        except ValueError as error:
            self._complain(f"{table}.{key}", f"found {shown(found)}: {error}; allowed is {kind.allowed}")
            return {}


def _did_you_mean(key: str, names: Sequence[str]) -> str:
    import difflib  # here: most configurations need no advice, and every worker would carry it

    close = difflib.get_close_matches(key, names, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _shown_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else shown(key)


def shown(value: object) -> str:
    """A TOML value in a message: short, on one line, and with nothing in it that a terminal would obey."""
    if isinstance(value, dict):
        return "a table"
    text = json.dumps(value, default=str).replace("\x7f", "\\u007f")
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def not_reloadable_changes(old: Settings, new: Settings) -> list[str]:
    """The keys whose change takes a restart, as "runtime.user", or "listen[2]" for a table come or gone.

    Listeners are compared by their place: where this list is empty, the sockets of the old settings and the
    listeners of the new ones correspond one to one.
    """
    before, after = dict(named_tables(old)), dict(named_tables(new))
    changed = [key for name in before if name in after for key in _changes(name, before[name], after[name])]
    come_or_gone = before.keys() ^ after.keys()
    return changed + sorted(name for name in come_or_gone if _fixed_keys((before | after)[name]))


def reloaded(old: Settings, new: Settings) -> Settings:
    """What a reload leads to: the new settings, but every key that takes a restart as it was.

    Listeners are matched by endpoint, and they are those that are open: one that came into the file waits for
    a restart, one that left it goes on as before.
    """
    listed = {listen.endpoint: listen for listen in new.listen}
    single = {row.name for row in tables() if not row.field.many}
    return dataclasses.replace(
        new,
        listen=tuple(_kept(listen, listed.get(listen.endpoint, listen)) for listen in old.listen),
        **{name: _kept(getattr(old, name), getattr(new, name)) for name in single},
    )


def _kept(old: Table, new: Table) -> Any:
    return dataclasses.replace(new, **{key: getattr(old, key) for key in _fixed_keys(new)})


def _changes(name: str, old: Table, new: Table) -> list[str]:
    return [f"{name}.{key}" for key in _fixed_keys(old) if getattr(old, key) != getattr(new, key)]


def _fixed_keys(table: Table) -> list[str]:
    return [row.name for row in keys_of(type(table)) if not row.setting.reloadable]


def render(settings: Settings) -> str:
    """TOML text with every key, which `parse` turns into the same settings again."""
    return "\n".join(_render_table(row, table) for row in tables() for table in row.instances(settings))


def _render_table(row: TableRow, table: Table) -> str:
    lines = [key_row.toml(getattr(table, key_row.name)) for key_row in row.keys]
    return "\n".join([row.header, *lines]) + "\n"
