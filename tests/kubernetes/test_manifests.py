"""The manifests: valid by Kubernetes' own schemas, and in agreement with the configuration they bring."""

import re
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from bqfilter import __version__
from bqfilter.config.schema import Settings
from bqfilter.pool.limits import Host, shortages
from bqfilter.scanning.policy import needs_directory
from tests.doubles.components import missing
from tests.kubernetes.containerfile import command_line, final
from tests.kubernetes.manifests import (
    BASE,
    KUBERNETES,
    MONITORING,
    SITE,
    Manifest,
    Rendering,
    quantity,
    render,
    without_hash,
)

# What docs/kubernetes.md says is the oldest, or the oldest whose schemas are still to be had; and the newest.
OLDEST = (1, 28)
VERSIONS = [version for version in all_versions() if tuple(map(int, version.split(".")[:2])) >= OLDEST]
OF_OPERATOR = "monitoring.coreos.com/v1"
MIB = 1 << 20
BESIDE_WORKERS = 64 * MIB  # master, exporter, what kubectl exec starts
TOLD_TWICE = 10  # seconds for workers that have to be told again, and killed at last


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_they_are_valid(version: str, site: Rendering) -> None:
    """All kinds are in the site's; the operator's own are looked at in test_monitoring.py."""
    known = [one for one in site.manifests if one["apiVersion"] != OF_OPERATOR]
    assert {one["kind"] for one in render(BASE).manifests} <= {one["kind"] for one in known}
    for one in known:
        kubernetes_validate.validate(one, version, strict=True)


def _real_kustomize(directory: Path) -> list[Manifest] | None:
    """None where there is no kubectl, or one of before 1.21, which knows no directories among resources."""
    if missing("kubectl", "kubernetes-client"):
        return None
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, check=False)
    if "must be a file (got d=" in done.stderr:
        return None
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("directory", [BASE, SITE, MONITORING], ids=lambda path: path.name)
def test_kustomize_makes_of_them_what_these_tests_look_at(directory: Path) -> None:
    """As far as there is one; without it these tests have only their own."""
    rendered = render(directory).manifests
    real = _real_kustomize(directory)
    assert without_hash(rendered if real is None else real) == without_hash(rendered)


def test_no_file_lies_about_that_no_kustomization_names() -> None:
    named = {KUBERNETES / "monitoring" / "prometheus-adapter.yaml"}  # for the adapter, which is no object
    for path in KUBERNETES.rglob("kustomization.yaml"):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = spec["resources"] + [
            name for one in spec.get("configMapGenerator", []) for name in one["files"]
        ]
        named |= {path, *(path.parent / name for name in names)}
    assert {path for path in KUBERNETES.rglob("*") if path.is_file()} - named == set()


class TestNames:
    """What refers to something refers to something that is there."""

    def test_selectors_find_the_pods(self, rendering: Rendering) -> None:
        labels = rendering.the("Deployment")["spec"]["template"]["metadata"]["labels"]
        assert [one for one in _selectors(rendering) if not one.items() <= labels.items()] == []
        assert len(_selectors(rendering)) >= 6

    def test_ports_are_those_of_the_configuration(self, rendering: Rendering) -> None:
        (listen,), metrics = rendering.settings.listen, rendering.settings.metrics.listen
        ports = {one["name"]: one["containerPort"] for one in rendering.container["ports"]}
        assert metrics is not None
        assert ports == {"smtp": listen.endpoint.port, "metrics": metrics.port}
        assert {listen.endpoint.host, metrics.host} == {"0.0.0.0"}
        for service in rendering.all("Service"):
            assert [(one["port"], one["targetPort"]) for one in service["spec"]["ports"]] == [(10025, "smtp")]

    def test_probes_ask_the_page_of_metrics(self, rendering: Rendering) -> None:
        probes = [rendering.container[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe")]
        assert [probe["httpGet"]["port"] for probe in probes] == ["metrics"] * 3

    def test_policies_are_about_these_ports(self, rendering: Rendering) -> None:
        (endpoint,) = rendering.settings.upstream.endpoints
        policies = [one["spec"] for one in rendering.all("NetworkPolicy")]
        allowed = {port["port"] for spec in policies for rule in spec["ingress"] for port in rule["ports"]}
        reached = {port["port"] for spec in policies for rule in spec["egress"] for port in rule["ports"]}
        assert (allowed, reached) == ({"smtp", "metrics"}, {endpoint.port, 53})

    def test_the_autoscaler_is_about_the_deployment_which_leaves_it_the_number(
        self, rendering: Rendering
    ) -> None:
        deployment = rendering.the("Deployment")
        target = rendering.the("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
        wanted = {"kind": "Deployment", "apiVersion": "apps/v1", "name": deployment["metadata"]["name"]}
        assert target == wanted
        assert "replicas" not in deployment["spec"]

    def test_the_image_is_of_this_version(self, rendering: Rendering) -> None:
        assert rendering.container["image"].rpartition(":")[2] == __version__
        security = rendering.pod["securityContext"]
        assert final("USER").arguments == f"{security['runAsUser']}:{security['runAsGroup']}"

    def test_a_changed_configuration_is_another_map(self) -> None:
        name = render(BASE).the("ConfigMap")["metadata"]["name"]
        assert name != render(SITE).the("ConfigMap")["metadata"]["name"]
        assert render(BASE).volume("/etc/bqfilter") == {"name": "config", "configMap": {"name": name}}


def _selectors(rendering: Rendering) -> list[dict[str, str]]:
    found = [one["spec"]["selector"] for one in rendering.all("Service")]
    for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        found += [one["spec"]["selector"]["matchLabels"] for one in rendering.all(kind)]
    found += [one["spec"]["podSelector"]["matchLabels"] for one in rendering.all("NetworkPolicy")]
    found += [one["labelSelector"]["matchLabels"] for one in rendering.pod["topologySpreadConstraints"]]
    return found


class TestTime:
    def test_a_drain_fits_into_what_kubernetes_grants(self, rendering: Rendering) -> None:
        runtime = rendering.settings.runtime
        needed = runtime.drain_delay + runtime.drain_timeout + TOLD_TWICE
        assert rendering.pod["terminationGracePeriodSeconds"] >= needed
        assert runtime.drain_timeout >= rendering.settings.budget.proxy_timeout
        assert runtime.drain_delay > 0
        assert "lifecycle" not in rendering.container

    def test_a_pod_on_its_way_out_is_ready_for_kube_proxy_until_it_takes_no_more(
        self, rendering: Rendering
    ) -> None:
        probe = rendering.container["readinessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= rendering.settings.runtime.drain_delay

    def test_pods_that_leave_are_replaced_before(self, rendering: Rendering) -> None:
        strategy = rendering.the("Deployment")["spec"]["strategy"]["rollingUpdate"]
        assert strategy == {"maxSurge": 1, "maxUnavailable": 0}
        budget = rendering.the("PodDisruptionBudget")["spec"]["maxUnavailable"]
        assert budget < rendering.the("HorizontalPodAutoscaler")["spec"]["minReplicas"]

    def test_the_page_of_metrics_is_given_time(self, rendering: Rendering) -> None:
        """It is no part of mail, so that it fails for a moment must cost nobody a restart."""
        probe = rendering.container["livenessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 120


class TestRoom:
    def test_the_memory_asked_for_is_enough(self, rendering: Rendering, tmp_path: Path) -> None:
        wanted = quantity(rendering.container["resources"]["requests"]["memory"])
        assert _memory_missing(rendering.settings, wanted - BESIDE_WORKERS, tmp_path) == []

    def test_the_limit_is_enough_for_both_generations_of_a_reload(
        self, rendering: Rendering, tmp_path: Path
    ) -> None:
        limit = quantity(rendering.container["resources"]["limits"]["memory"])
        runtime = quantity(rendering.volume("/run/bqfilter")["emptyDir"]["sizeLimit"])
        left = limit - BESIDE_WORKERS - runtime
        assert _memory_missing(rendering.settings, left / 2, tmp_path) == []

    def test_one_worker_cannot_use_it_up(self, rendering: Rendering) -> None:
        limit = quantity(rendering.container["resources"]["limits"]["memory"])
        assert 0 < rendering.settings.pool.worker_memory <= limit / 2

    def test_processor_time_is_not_limited(self, rendering: Rendering) -> None:
        assert set(rendering.container["resources"]["limits"]) == {"memory"}

    def test_the_spool_holds_two_of_the_largest_message_for_every_worker(self, rendering: Rendering) -> None:
        settings = rendering.settings
        spool = rendering.volume(settings.spool.directory)["emptyDir"]
        needed = 2 * settings.pool.workers * settings.limits.message_size
        assert needed > 0
        assert "medium" not in spool
        assert quantity(spool["sizeLimit"]) >= needed
        assert quantity(rendering.container["resources"]["requests"]["ephemeral-storage"]) >= needed

    def test_the_runtime_directory_is_in_memory(self, rendering: Rendering) -> None:
        assert rendering.volume(rendering.settings.runtime.directory)["emptyDir"]["medium"] == "Memory"


def _memory_missing(settings: Settings, count: float, root: Path) -> list[str]:
    """What the daemon would say of a container with so many bytes."""
    for name, text in {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/memory.max": str(int(count)),
        "sys/fs/cgroup/memory.current": "0",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return [str(one) for one in shortages(settings, Host(root)) if one.limit.startswith("memory")]


class TestMail:
    """250 means that it is safe; and nobody relays."""

    def test_nothing_is_kept_in_a_pod(self, rendering: Rendering) -> None:
        """Not even the safety copies that policies by recipient need, and copies of what is delivered."""
        kept = PurePosixPath(rendering.settings.quarantine.directory)
        assert rendering.settings.quarantine.quarantine_to
        assert not needs_directory(rendering.settings)
        mounts = [one["mountPath"] for one in rendering.container["volumeMounts"]]
        assert [path for path in mounts if kept.is_relative_to(path)] == []
        assert rendering.container["securityContext"]["readOnlyRootFilesystem"] is True

    def test_not_everybody_may_send(self, rendering: Rendering) -> None:
        for network in rendering.settings.listen[0].allow:
            assert network.prefixlen >= (16 if network.version == 4 else 48)

    def test_what_comes_from_outside_comes_from_the_mx_hosts(self, site: Rendering) -> None:
        hosts = {str(network) for network in site.settings.listen[0].allow}
        (service,) = [one["spec"] for one in site.all("Service") if one["spec"]["type"] != "ClusterIP"]
        assert (service["type"], service["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
        assert set(service["loadBalancerSourceRanges"]) == hosts
        blocks = [peer["ipBlock"]["cidr"] for peer in _peers(site, "ingress", "from") if "ipBlock" in peer]
        assert set(blocks) == hosts

    def test_the_base_is_for_the_cluster_alone(self, base: Rendering) -> None:
        assert [one["spec"]["type"] for one in base.all("Service")] == ["ClusterIP"]
        assert [peer for peer in _peers(base, "ingress", "from") if "ipBlock" in peer] == []

    def test_every_way_in_is_somebodys(self, rendering: Rendering) -> None:
        rules = [rule for one in rendering.all("NetworkPolicy") for rule in one["spec"]["ingress"]]
        assert all(rule.get("from") and rule.get("ports") for rule in rules)
        for one in rendering.all("NetworkPolicy"):
            assert one["spec"]["policyTypes"] == ["Ingress", "Egress"]

    def test_the_after_filter_server_can_be_reached(self, site: Rendering) -> None:
        (endpoint,) = site.settings.upstream.endpoints
        blocks = [peer["ipBlock"]["cidr"] for peer in _peers(site, "egress", "to") if "ipBlock" in peer]
        assert blocks == [f"{endpoint.host}/32"]


def _peers(rendering: Rendering, direction: str, key: str) -> list[Any]:
    rules = [rule for one in rendering.all("NetworkPolicy") for rule in one["spec"][direction]]
    return [peer for rule in rules for peer in rule.get(key, [])]


def test_the_pod_security_standard_restricted_is_met(rendering: Rendering) -> None:
    pod, container = rendering.pod, rendering.container
    for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
        assert key not in pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(iter(one.keys() - {"name"})) for one in pod["volumes"]} <= {"configMap", "emptyDir"}
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)


def test_the_namespace_of_the_site_insists_on_it(site: Rendering) -> None:
    namespace = site.the("Namespace")["metadata"]
    assert namespace["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    others = [one for one in site.manifests if one["kind"] != "Namespace"]
    assert {one["metadata"]["namespace"] for one in others} == {namespace["name"]}


def test_the_configuration_is_a_directory_which_changes_in_place(rendering: Rendering) -> None:
    (mount,) = [one for one in rendering.container["volumeMounts"] if one["name"] == "config"]
    assert "subPath" not in mount
    assert str(PurePosixPath(command_line()[-1]).parent) == mount["mountPath"]


def test_the_log_goes_where_kubernetes_takes_it(rendering: Rendering) -> None:
    assert (rendering.settings.log.target, rendering.settings.log.format) == ("stderr", "json")


def test_comments_with_numbers_say_what_is_so(base: Rendering) -> None:
    """They are there to be changed together."""
    text = (BASE / "deployment.yaml").read_text(encoding="utf-8")
    runtime, pool = base.settings.runtime, base.settings.pool
    assert re.findall(r"drain_delay \((\d+)s\)", text) == [f"{runtime.drain_delay:g}"] * 2
    assert re.findall(r"drain_timeout \((\d+)s\)", text) == [f"{runtime.drain_timeout:g}"]
    assert re.findall(r"(\d+) workers", text) == [str(pool.workers)] * 2
