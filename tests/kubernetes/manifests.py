"""The manifests as a cluster gets them: kustomize, as far as our own files need it, and what is read from it.

What is not understood here is an error, so nothing in a kustomization can be without effect unnoticed.
"""

import copy
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bqfilter.config.loader import parse
from bqfilter.config.schema import Settings
from tests.doubles.programs import REPOSITORY

KUBERNETES = REPOSITORY / "contrib" / "kubernetes"
BASE, SITE, MONITORING = KUBERNETES / "base", KUBERNETES / "site", KUBERNETES / "monitoring"

Manifest = dict[str, Any]

_QUANTITY = re.compile(r"(\d+)(m|Ki|Mi|Gi)?")
_UNITS = {None: 1, "m": 0.001, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def quantity(text: str | int) -> float:
    """What Kubernetes means by it."""
    found = _QUANTITY.fullmatch(str(text))
    assert found, f"{text!r} is no quantity"
    return int(found[1]) * _UNITS[found[2]]


def documents(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Rendering:
    """All manifests of one kustomization."""

    manifests: list[Manifest]

    def all(self, kind: str) -> list[Manifest]:
        return [one for one in self.manifests if one["kind"] == kind]

    def the(self, kind: str) -> Any:
        (found,) = self.all(kind)
        return found

    @property
    def pod(self) -> Any:
        return self.the("Deployment")["spec"]["template"]["spec"]

    @property
    def container(self) -> Any:
        (found,) = self.pod["containers"]
        return found

    @property
    def config(self) -> str:
        """The configuration file."""
        text: str = self.the("ConfigMap")["data"]["bqfilterd.toml"]
        return text

    @property
    def settings(self) -> Settings:
        return parse(self.config, "bqfilterd.toml")

    def volume(self, path: str) -> Any:
        """What is mounted there."""
        (mount,) = [one for one in self.container["volumeMounts"] if one["mountPath"] == path]
        (found,) = [one for one in self.pod["volumes"] if one["name"] == mount["name"]]
        return found


def render(directory: Path) -> Rendering:
    """As `kubectl kustomize` does, but for the hash, which is another one."""
    rendering = Rendering(_accumulated(directory))
    _name_by_content(rendering.manifests)
    return rendering


def _accumulated(directory: Path) -> list[Manifest]:
    (spec,) = documents(directory / "kustomization.yaml")
    assert (spec.pop("apiVersion"), spec.pop("kind")) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
    found: list[Manifest] = []
    for name in spec.pop("resources"):
        path = directory / name
        found += _accumulated(path) if path.is_dir() else documents(path)
    for generator in spec.pop("configMapGenerator", []):
        _generate(directory, generator, found)
    for image in spec.pop("images", []):
        _set_image(image, found)
    _set_namespace(spec.pop("namespace", None), found)
    assert spec == {}, "not understood"
    return found


def _generate(directory: Path, generator: Manifest, found: list[Manifest]) -> None:
    there = [
        one for one in found if (one["kind"], one["metadata"]["name"]) == ("ConfigMap", generator["name"])
    ]
    assert (generator.get("behavior") == "replace") is bool(there), "a map is made once, then replaced"
    data = {name: (directory / name).read_text(encoding="utf-8") for name in generator["files"]}
    for one in there:
        one["data"] = data
    if not there:
        metadata = {"name": generator["name"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _set_image(image: Manifest, found: list[Manifest]) -> None:
    """An image that is nowhere used would be a mistake."""
    wanted = re.compile(rf"{image['name']}:.*")
    containers = [one for pod in Rendering(found).all("Deployment") for one in _containers(pod)]
    changed = [one for one in containers if wanted.fullmatch(one["image"])]
    assert changed
    for one in changed:
        one["image"] = f"{image['newName']}:{image['newTag']}"


def _containers(deployment: Manifest) -> list[Manifest]:
    found: list[Manifest] = deployment["spec"]["template"]["spec"]["containers"]
    return found


def _set_namespace(namespace: str | None, found: list[Manifest]) -> None:
    for one in found:
        if namespace and one["kind"] != "Namespace":
            one["metadata"]["namespace"] = namespace


def _name_by_content(manifests: list[Manifest]) -> None:
    rendering = Rendering(manifests)
    for one in rendering.all("ConfigMap"):
        old = one["metadata"]["name"]
        digest = hashlib.sha256(repr(one["data"]).encode()).hexdigest()[:10]
        one["metadata"]["name"] = f"{old}-{digest}"
        for deployment in rendering.all("Deployment"):
            for volume in deployment["spec"]["template"]["spec"]["volumes"]:
                if volume.get("configMap") == {"name": old}:
                    volume["configMap"] = {"name": one["metadata"]["name"]}


def without_hash(manifests: list[Manifest]) -> list[Manifest]:
    """To compare with what somebody else has rendered, in whichever order."""
    copied = copy.deepcopy(manifests)
    rendering = Rendering(copied)
    for one in rendering.all("ConfigMap"):
        one["metadata"]["name"] = "bqfilterd"
    for deployment in rendering.all("Deployment"):
        for volume in deployment["spec"]["template"]["spec"]["volumes"]:
            if "configMap" in volume:
                volume["configMap"]["name"] = "bqfilterd"
    return sorted(copied, key=lambda one: (one["kind"], one["metadata"]["name"]))
