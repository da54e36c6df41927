"""Render k8s/ and look into what comes out: objects, pods, schemas."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
K8S = REPOSITORY / "k8s"
KUBERNETES = "1.37"
"""Version whose schemas are used."""

Object = dict[str, Any]
COMPONENT_FIELDS = ("minReplicas", "maxReplicas", "labels", "annotations", "deploymentStrategy")
"""What an InferenceService's component has beside the fields of a pod."""
_CUSTOM: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "custom_resources.yaml").read_text())


def kubectl() -> str | None:
    """Find kubectl: that of the development dependencies, else one on PATH."""
    beside_python = Path(sys.executable).parent / "kubectl"
    return str(beside_python) if beside_python.exists() else shutil.which("kubectl")


@functools.cache
def _render(folder: Path) -> str:
    command = kubectl()
    assert command, "kubectl is missing: make setup installs it"
    done = subprocess.run([command, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return done.stdout


def render(folder: Path) -> list[Object]:
    """Return the objects of a kustomization."""
    return _load(_render(folder))


def _load(text: str) -> list[Object]:
    return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]


@functools.cache
def _compose(components: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        # kustomize takes other folders only by paths that are relative.
        k8s = os.path.relpath(K8S, Path(temporary).resolve())
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "fovea",
            "resources": [f"{k8s}/base"],
            "components": [*(f"{k8s}/components/{component}" for component in components), f"{k8s}/images"],
        }
        (Path(temporary) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return _render(Path(temporary).resolve())


def compose(*components: str) -> list[Object]:
    """Return the objects of the base with some components."""
    return _load(_compose(components))


@dataclass(frozen=True)
class Pod:
    """A pod that an object makes: its labels and specification, which belong to the object."""

    owner: Object
    where: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Object

    @property
    def app(self) -> str:
        """The name by which services and policies select it."""
        return self.labels.get("app.kubernetes.io/name", "")

    @property
    def containers(self) -> list[Object]:
        """All containers, those that run before the others included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def named_ports(self) -> dict[str, int]:
        """Ports that have a name."""
        return {
            port["name"]: port["containerPort"]
            for container in self.containers
            for port in container.get("ports", [])
            if "name" in port
        }


def name(item: Object) -> str:
    """Return Kind/name."""
    return f"{item['kind']}/{item['metadata']['name']}"


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """Return the objects of some kinds."""
    return [item for item in objects if item["kind"] in kinds]


def pods(objects: list[Object]) -> Iterator[Pod]:
    """Yield every pod that the objects make."""
    for item in objects:
        spec = item.get("spec", {})
        if item["kind"] == "InferenceService":
            for part, component in spec.items():
                fields = {key: value for key, value in component.items() if key not in COMPONENT_FIELDS}
                yield Pod(
                    item,
                    f"{name(item)} {part}",
                    component.get("labels", {}),
                    component.get("annotations", {}),
                    fields,
                )
            continue
        for template in _templates(item["kind"], spec):
            metadata = template.get("metadata", {})
            yield Pod(item, name(item), metadata.get("labels", {}), metadata.get("annotations", {}), template["spec"])


def _templates(kind: str, spec: Object) -> list[Object]:
    if kind in ("Deployment", "Job"):
        return [spec["template"]]
    if kind == "CronJob":
        return [spec["jobTemplate"]["spec"]["template"]]
    if kind == "TFJob":
        return [replicas["template"] for replicas in spec["tfReplicaSpecs"].values()]
    return []


def schema_errors(item: Object) -> list[str]:
    """Say what Kubernetes' schema, or ours of a custom resource, finds wrong with an object."""
    return list(_schema_errors(json.dumps(item)))


@functools.cache
def _schema_errors(text: str) -> tuple[str, ...]:
    item = json.loads(text)
    if item["kind"] in _CUSTOM:
        return tuple(_custom_errors(item))
    try:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return (f"{name(item)}: no schema for {item['apiVersion']} {item['kind']}",)
    except kubernetes_validate.ValidationError as error:
        return (f"{name(item)}: {'.'.join(map(str, error.path))}: {error.message}",)
    return ()


def _custom_errors(item: Object) -> list[str]:
    known = _CUSTOM[item["kind"]]
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": known["apiVersion"]},
            "kind": {},
            "metadata": {"type": "object"},
            "spec": known["spec"],
        },
        "$defs": _CUSTOM["$defs"],
    }
    errors = [
        f"{name(item)}: {'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(item)
    ]
    for pod in pods([item]):
        plain = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod.spec}
        errors += [error.replace("Pod/x", pod.where) for error in schema_errors(plain)]
    return errors
