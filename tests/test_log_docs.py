"""docs/logs.md has every line that the daemon can log, and none that it cannot."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.config.line_template import MESSAGE_FIELDS, USUAL_LINE
from bqfilter.config.loader import parse
from bqfilter.config.schema import QUIET_EVENTS, LogSettings
from bqfilter.ledger import Stage
from bqfilter.outcome import Result

_ROOT = Path(__file__).resolve().parent.parent
_PAGE = (_ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
_DOCUMENTED = set(re.findall(r"^\| `([^`]+)` \| ", _PAGE.split("## Lines of a session")[1], re.MULTILINE))

# Put together while running, or written by the log itself: what the source has of them is not a plain string.
_COMPOSED = {"lost connection after", "timeout after", "log was stuck, lines dropped"}


def _logged() -> Iterator[str]:
    """The events in calls of `log.info`, `log.warning` and `log.error`, wherever the daemon has one."""
    for path in (_ROOT / "bqfilter").rglob("*.py"):
        if path.parent.name in ("cli", "demo"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr="_log") | ast.Name(id="log")),
                    args=[ast.Constant(value=str(event)), *_],
                ):
                    yield event


_LOGGED = sorted(set(_logged()))


@pytest.mark.parametrize("event", _LOGGED)
def test_a_line_that_can_be_logged_is_explained(event: str) -> None:
    assert event in _DOCUMENTED


def test_no_other_line_is_explained() -> None:
    assert set(_LOGGED) | _COMPOSED == _DOCUMENTED


def test_lines_that_are_composed_are_still_in_the_source() -> None:
    session = (_ROOT / "bqfilter" / "session.py").read_text(encoding="utf-8")
    sinks = (_ROOT / "bqfilter" / "log" / "sinks.py").read_text(encoding="utf-8")
    assert '"timeout" if isinstance(loss, PeerTimeout) else "lost connection"' in session
    assert '"log was stuck, lines dropped"' in sinks


@pytest.mark.parametrize("event", QUIET_EVENTS)
def test_what_can_be_left_out_is_logged_and_explained(event: str) -> None:
    """What follows "lost connection after" is put together while running."""
    explained = "lost connection after" if event == "lost connection after CONNECT" else event
    assert explained in _DOCUMENTED


def test_the_configurations_on_the_page_can_be_loaded() -> None:
    least = "[[listen]]\nendpoint = 'inet:127.0.0.1:10025'\n[upstream]\nendpoint = 'inet:127.0.0.1:10026'\n"
    blocks = re.findall(r"^```toml\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
    assert [parse(least + block, "logs.md").log != LogSettings() for block in blocks] == [True, True]


def test_the_usual_line_on_the_page_is_the_default() -> None:
    assert f'The usual line is `"{USUAL_LINE}"`' in _PAGE


@pytest.mark.parametrize("result", list(Result))
def test_what_can_become_of_a_message_is_explained(result: Result) -> None:
    assert f"\n| `{result.value}` | " in _PAGE


@pytest.mark.parametrize("stage", list(Stage))
def test_a_stage_is_explained(stage: Stage) -> None:
    assert f"`{stage.name.lower()}`" in _PAGE


def test_the_keys_of_a_messages_line_are_explained() -> None:
    tree = ast.parse((_ROOT / "bqfilter" / "session.py").read_text(encoding="utf-8"))
    (call,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and any(isinstance(argument, ast.Constant) and argument.value == "message" for argument in node.args)
    ]
    keys = {keyword.arg for keyword in call.keywords if keyword.arg} | {"from", "to"}
    section = _PAGE.split("## The line of a message")[1].split("Stages:")[0]
    assert keys == set(MESSAGE_FIELDS)
    assert keys == set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]+)\|", section, re.MULTILINE))))
