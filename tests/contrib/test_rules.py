"""The rules for Prometheus: in order, tried out one by one, about metrics that exist, and on the page."""

import re
import subprocess
from pathlib import Path

import pytest

from bqfilter.saturation.metrics import METRICS
from tests.contrib.shipped import RULE_TESTS, RULES, Alert, alerts, exported, recorded, rules, series_in
from tests.doubles.programs import REPOSITORY


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing(promtool: str) -> None:
    run(promtool, "check", "rules", RULES)


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.name)
def test_the_tests_of_the_rules_pass(file: Path, promtool: str) -> None:
    run(promtool, "test", "rules", file)


def test_the_rules_ask_for_nothing_that_is_not_there() -> None:
    in_prose = {metric.full_name for metric in METRICS.values()}
    assert series_in(rules()) - exported() - recorded() - in_prose == set()


def test_what_is_recorded_has_the_form_of_such_names() -> None:
    assert [name for name in recorded() if not re.fullmatch(r"bqfilterd:[a-z_]+:[a-z0-9_]+", name)] == []


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
class TestEveryAlert:
    def test_says_what_is_wrong_and_what_to_do(self, alert: Alert) -> None:
        whose = "job" if alert.name.startswith("Fleet") else "instance"
        assert re.search(rf"summary: \"\{{\{{ \$labels\.{whose} \}}\}}: ", alert.text)
        assert re.search(r"description: >-\n.*\.\s*$", alert.text, re.DOTALL)

    def test_has_a_severity_that_means_something(self, alert: Alert) -> None:
        assert alert.severity in ("page", "ticket", "info")

    def test_is_seen_firing_in_a_test(self, alert: Alert) -> None:
        examples = "".join(file.read_text(encoding="utf-8") for file in RULE_TESTS)
        by_count = rf"""\{{alertname="{alert.name}"[^}}]*\}}', value: 1"""
        in_words = rf"- alertname: {alert.name}\n +eval_time: .*\n +exp_alerts:\n"
        assert re.search(by_count, examples) or re.search(in_words, examples)

    def test_is_on_the_page_of_metrics(self, alert: Alert) -> None:
        page = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
        assert re.search(rf"^\| `{alert.name}` \| {alert.severity} \|", page, re.MULTILINE)


def test_the_page_lists_no_alert_that_is_not_there() -> None:
    page = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| (?:page|ticket|info) \|", page, re.MULTILINE)
    assert listed == list(dict.fromkeys(alert.name for alert in alerts()))
