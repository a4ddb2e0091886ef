"""What the pages about scanners and policies say is there: keys, words, replies, numbers, configurations."""

import dataclasses
import re
from pathlib import Path

import pytest

from bqfilter.budget import Budget
from bqfilter.config.actions import Action
from bqfilter.config.content import SCANNER_KINDS, HeaderSettings, PolicySettings, ScannerSettings
from bqfilter.config.loader import parse
from bqfilter.config.schema import sample_settings
from bqfilter.quarantine import State
from bqfilter.saturation.metrics import METRICS, PREFIX
from bqfilter.scanning.report import Finding
from bqfilter.smtp import replies
from bqfilter.smtp.replies import Reply

_DOCS = Path(__file__).resolve().parent.parent / "docs"
_SCANNERS = (_DOCS / "scanners.md").read_text(encoding="utf-8")
_POLICY = (_DOCS / "policy.md").read_text(encoding="utf-8")
_PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(_DOCS.glob("*.md"))}
_LEAST = {
    "listen": '[[listen]]\nendpoint = "inet:127.0.0.1:10025"\n',
    "upstream": '[upstream]\nendpoint = "inet:127.0.0.1:10026"\n',
}
_OUR_REPLIES = {str(one) for one in vars(replies).values() if isinstance(one, Reply)}


def _column(page: str, heading: str) -> list[str]:
    """The words in code in the first column of the first table behind a heading."""
    section = page.split(f"\n{heading}\n")[1]
    (table, *_) = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    cells = [row.split(" | ")[0] for row in table.splitlines()[2:]]
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def _blocks() -> list[object]:
    """Every configuration that stands on a page of the manual."""
    found = [
        (name, number, block)
        for name, text in _PAGES.items()
        for number, block in enumerate(re.findall(r"```toml\n(.*?)```", text, re.DOTALL), start=1)
        if re.search(r"^\[\[?[a-z]+\]", block, re.MULTILINE) and "[project" not in block
    ]
    return [pytest.param(block, id=f"{name}-{number}") for name, number, block in found]


@pytest.mark.parametrize("block", _blocks())
def test_a_configuration_on_a_page_can_be_loaded(block: str) -> None:
    missing = [
        text for table, text in _LEAST.items() if not re.search(rf"^\[+{table}\]", block, re.MULTILINE)
    ]
    parse("".join(missing) + block, "page")


def test_every_kind_of_scanner_is_in_the_table_in_the_order_in_which_they_run() -> None:
    assert _column(_SCANNERS, "## Kinds") == [f"[[{kind.kind}]]" for kind in SCANNER_KINDS]


def test_every_common_key_is_explained_and_no_other() -> None:
    keys = [row.name for row in dataclasses.fields(ScannerSettings)]
    assert sorted(_column(_SCANNERS, "## Common keys")) == sorted(keys)


def test_every_finding_is_explained_and_no_other() -> None:
    assert _column(_SCANNERS, "## Findings") == [str(finding) for finding in Finding]


def test_the_breaker_has_the_numbers_that_are_told() -> None:
    shown = {kind.kind: kind.__dataclass_fields__["failures"].default for kind in SCANNER_KINDS}
    assert {kind for kind, failures in shown.items() if failures == 0} == {
        "rules",
        "attachments",
        "python",
        "command",
    }
    assert {failures for failures in shown.values() if failures} == {3}
    assert "(3 unless\nset" in _SCANNERS
    assert ScannerSettings.__dataclass_fields__["retry"].default == 10.0
    assert "`retry` (10 s)" in _SCANNERS


def test_the_time_of_scanners_is_what_the_table_says() -> None:
    budget = Budget(sample_settings().budget, lambda: 0.0, 0.0)
    rows = _SCANNERS.split("| seconds after the end of data | |")[1].split("\n\n")[0]
    ends = [float(end) for end in re.findall(r"^\| (?:0 )?to ([\d.]+) ", rows, re.MULTILINE)]
    settings = sample_settings().budget
    handover = budget.handover(0.0).at
    assert ends == [
        budget.scanning(0.0).at,
        handover,
        handover + settings.commit_reserve,
        settings.proxy_timeout,
    ]


@pytest.mark.parametrize("name", re.findall(r"`(bqfilterd_\w+)`", _SCANNERS))
def test_a_metric_that_is_named_is_there(name: str) -> None:
    assert name.removeprefix(PREFIX).removesuffix("_total") in METRICS


def test_every_condition_of_a_policy_is_explained_and_no_other() -> None:
    others = {"name", "scanners", "action", "reply", "hits", "redirect_to", "copy_to"}
    keys = [row.name for row in dataclasses.fields(PolicySettings) if row.name not in others]
    assert _column(_POLICY, "## Which policy") == keys


def test_every_action_is_explained_from_the_lightest_to_the_heaviest() -> None:
    table = _POLICY.split("## Actions")[1].split("### ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert rows == [str(action) for action in sorted(Action, key=lambda action: action.weight)]


@pytest.mark.parametrize("key", sorted(set(re.findall(r"`headers\.(\w+)", _POLICY))))
def test_a_key_about_headers_that_is_named_is_there(key: str) -> None:
    assert key in {row.name for row in dataclasses.fields(HeaderSettings)}


@pytest.mark.parametrize("key", [row.name for row in dataclasses.fields(HeaderSettings)])
def test_every_key_about_headers_is_mentioned(key: str) -> None:
    assert f"`headers.{key}" in _POLICY


@pytest.mark.parametrize(
    "words",
    sorted(
        {
            words
            for page in (_POLICY, _SCANNERS, _PAGES["postfix.md"], _PAGES["protocol.md"])
            for words in re.findall(r"`((?:45[0-9]|55[0-9]) \d\.\d\.\d (?:Error: |Message )[^`.]+)`", page)
        }
    ),
)
def test_a_reply_of_ours_is_quoted_as_it_is(words: str) -> None:
    assert words in _OUR_REPLIES | {"451 4.3.0 Error: queue file write error"}  # Postfix's own


def test_states_of_kept_messages_are_called_what_they_are() -> None:
    assert set(re.findall(r"`(held|pending|released)`", _POLICY)) <= {str(state) for state in State}
