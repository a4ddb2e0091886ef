"""From the exporter to the number of pods: monitor, rules, adapter and autoscaler name the same things."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contrib.shipped import RULES, recorded
from tests.doubles.components import program
from tests.doubles.programs import REPOSITORY
from tests.kubernetes.manifests import MONITORING, Rendering

TEMPLATE = re.compile(r"<<\.(\w+)>>")


@pytest.fixture(scope="module")
def adapter_rule() -> Any:
    values = yaml.safe_load((MONITORING / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    (rule,) = values["rules"]["custom"]
    return rule


def test_the_rules_are_those_of_contrib_prometheus(monitoring: Rendering) -> None:
    made = monitoring.the("PrometheusRule")
    assert made["apiVersion"] == "monitoring.coreos.com/v1"
    assert made["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))


def test_the_generator_has_been_run(tmp_path: Path) -> None:
    for name in ("scripts/generate-kubernetes-rules", "contrib/prometheus/bqfilterd.rules.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    made = tmp_path / "contrib" / "kubernetes" / "monitoring" / "rules.yaml"
    made.parent.mkdir(parents=True)
    subprocess.run(
        [sys.executable, tmp_path / "scripts" / "generate-kubernetes-rules"], check=True, timeout=60
    )
    assert made.read_bytes() == (MONITORING / "rules.yaml").read_bytes(), (
        "run scripts/generate-kubernetes-rules"
    )


def test_the_monitor_has_the_form_of_one_and_asks_the_port_that_is_there(
    monitoring: Rendering, base: Rendering
) -> None:
    """Its schema is the operator's, and comes with it."""
    monitor = monitoring.the("PodMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"jobLabel", "selector", "podMetricsEndpoints"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [one["name"] for one in base.container["ports"]]
    assert re.fullmatch(r"\d+s", endpoint["interval"])


def test_the_job_is_called_as_the_rules_take_it_to_be(monitoring: Rendering, base: Rendering) -> None:
    label = monitoring.the("PodMonitor")["spec"]["jobLabel"]
    labels = base.the("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert set(re.findall(r'job="(\w+)"', RULES.read_text(encoding="utf-8"))) == {labels[label]}


def test_the_autoscaler_asks_for_what_the_adapter_offers(base: Rendering, adapter_rule: Any) -> None:
    (metric,) = base.the("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert (metric["type"], metric["pods"]["metric"]["name"]) == ("Pods", adapter_rule["name"]["as"])
    series = re.findall(r'__name__="([^"]+)"', adapter_rule["seriesQuery"])
    assert len(series) == 1
    assert set(series) <= recorded()
    assert set(adapter_rule["resources"]["overrides"]) == {"namespace", "pod"}


def test_scaling_down_looks_back_further_than_the_rule_does(base: Rendering) -> None:
    down = base.the("HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] > 300
    assert all(one["periodSeconds"] > base.pod["terminationGracePeriodSeconds"] for one in down["policies"])


def test_prometheus_answers_the_query_of_the_adapter_pod_by_pod(adapter_rule: Any, tmp_path: Path) -> None:
    """From the exporter's own counters, by way of the rules."""
    promtool = program("promtool", "prometheus")
    parts = {
        "Series": re.findall(r'__name__="([^"]+)"', adapter_rule["seriesQuery"])[0],
        "LabelMatchers": 'namespace="mail",pod=~"bqfilterd-a|bqfilterd-b"',
        "GroupBy": "pod",
    }
    query = TEMPLATE.sub(lambda found: parts[found[1]], adapter_rule["metricsQuery"])
    labels = {
        pod: f'{{namespace="mail",pod="bqfilterd-{pod}",instance="{pod}",job="bqfilterd"}}' for pod in "ab"
    }
    series = [
        {"series": f"bqfilterd_{name}{labels[pod]}", "values": values}
        for pod, busy in (("a", "0+300x20"), ("b", "0+600x20"))  # in a minute: of 20 workers 5, and 10
        for name, values in (("worker_busy_seconds_total", busy), ("workers_limit", "20x20"))
    ]
    samples = [
        {"labels": f'{{pod="bqfilterd-{pod}"}}', "value": value} for pod, value in (("a", 0.25), ("b", 0.5))
    ]
    test = {
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [{"expr": query, "eval_time": "10m", "exp_samples": samples}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test), encoding="utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
