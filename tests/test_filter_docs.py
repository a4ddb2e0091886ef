"""docs/python-filters.md and docs/commands.md say what is so."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from bqfilter import api
from bqfilter.api import Envelope, Message, Verdict
from bqfilter.scanning.command import _MEANINGS, environment_of
from tests.doubles.messages import envelope

_DOCS = Path(__file__).resolve().parents[1] / "docs"
_PYTHON = (_DOCS / "python-filters.md").read_text(encoding="utf-8")
_COMMANDS = (_DOCS / "commands.md").read_text(encoding="utf-8")


def test_the_first_filter_passes_its_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```", _PYTHON, re.DOTALL | re.MULTILINE))
    for name, text in blocks.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "site_filters", raising=False)
    found = runpy.run_path(str(tmp_path / "test_site_filters.py"))
    tests = [one for name, one in found.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_example_of_the_api_is_python() -> None:
    text = (api.__doc__ or "").split("\n\n    ", 1)[1].split("\n\nNames and")[0]
    names: dict[str, object] = {}
    exec(re.sub("^    ", "", "    " + text, flags=re.MULTILINE), names)
    verdict = names["no_shouting"](Message.from_bytes(b"Subject: READ THIS NOW\n\n"), Envelope())  # type: ignore[operator]
    assert verdict == api.reject("Please do not shout")


@pytest.mark.parametrize("name", re.findall(r"`message\.(\w+)", _PYTHON))
def test_what_a_message_has_is_there(name: str) -> None:
    assert hasattr(Message, name)


@pytest.mark.parametrize("name", re.findall(r"`\.(\w+)\(", _PYTHON))
def test_what_a_verdict_can_is_there(name: str) -> None:
    assert hasattr(Verdict, name)


def test_everything_that_messages_and_verdicts_can_is_described() -> None:
    methods = {name for kind in (Message, Verdict) for name in vars(kind) if not name.startswith("_")}
    methods -= {*Verdict.__dataclass_fields__}
    assert {name for name in methods if f".{name}" not in _PYTHON} == set()
    assert {name for name in Envelope.__dataclass_fields__ if f"`{name}`" not in _PYTHON} == set()


def test_the_table_of_statuses_is_complete() -> None:
    section = _COMMANDS.split("## Exit status")[1].split("\n\n")[1]
    assert [int(status) for status in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)] == list(_MEANINGS)


def test_the_table_of_variables_is_complete() -> None:
    section = _COMMANDS.split("## Environment")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(environment_of(envelope()))
