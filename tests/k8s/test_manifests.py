"""Everything in k8s/ renders, keeps its schemas, and keeps the policy."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serving.model_server.__main__ import parse_flags
from tests.k8s import policy
from tests.k8s.manifests import K8S, REPOSITORY, compose, kubectl, of_kind, pods, render, schema_errors

OVERLAYS = sorted(folder.name for folder in (K8S / "overlays").iterdir())
# A component, and what has to be there beside it.
COMPONENTS = {
    "api-keys": ["store-pvc"],
    "autoscaling-cpu": ["store-pvc"],
    "autoscaling-prometheus": ["store-pvc", "monitoring"],
    "console": ["store-pvc", "training-volumes", "network-policies"],
    "declared-models": ["store-pvc"],
    "gateway-api": ["store-pvc"],
    "gpu": ["store-pvc"],
    "ingress": ["store-pvc"],
    "monitoring": ["store-pvc"],
    "network-policies": ["store-pvc"],
    "retrain": ["store-pvc", "training-volumes"],
    "rollout": ["store-pvc", "training-volumes", "network-policies"],
    "store-gcs": ["network-policies"],
    "store-pvc": [],
    "store-s3": [],
    "tls": ["store-pvc", "ingress", "gateway-api"],
    "tracing": ["store-pvc", "network-policies"],
    "train": ["store-pvc", "training-volumes"],
    "train-gpu": ["store-pvc", "training-volumes", "train", "retrain", "train-tfjob", "train-workers"],
    "train-models": ["store-pvc", "training-volumes"],
    "train-tfjob": ["store-pvc", "training-volumes"],
    "train-workers": ["store-pvc", "training-volumes"],
    "trainer-sidecar": ["store-pvc", "training-volumes"],
    "training-volumes": ["store-pvc"],
    "upload": ["store-pvc", "training-volumes", "network-policies"],
}

pytestmark = pytest.mark.skipif(kubectl() is None, reason="kubectl is missing; make setup installs it")


def _check(objects):
    wrong = [error for item in objects for error in schema_errors(item)] + policy.violations(objects)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay(overlay):
    _check(render(K8S / "overlays" / overlay))


@pytest.mark.parametrize("component", COMPONENTS)
def test_component_on_the_base(component):
    objects = compose(*COMPONENTS[component], component)
    _check(objects)
    assert objects != compose(*COMPONENTS[component])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_on_several_nodes_share_volumes_that_allow_it(overlay):
    objects = render(K8S / "overlays" / overlay)
    modes = {
        item["metadata"]["name"]: item["spec"]["accessModes"] for item in of_kind(objects, "PersistentVolumeClaim")
    }
    for item in of_kind(objects, "Deployment"):
        for volume in item["spec"]["template"]["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and item["spec"].get("replicas", 2) > 1:
                assert modes[claim] != ["ReadWriteOnce"], f"{item['metadata']['name']} mounts {claim} on several nodes"


def test_every_component_is_tested():
    assert set(COMPONENTS) == {folder.name for folder in (K8S / "components").iterdir()}


def test_the_model_server_is_of_tensorflows_version():
    locked = re.search(r"^tensorflow==(\S+)", (REPOSITORY / "requirements/train.lock").read_text(), re.M)
    assert locked
    tags = {
        image["name"]: image["newTag"]
        for image in yaml.safe_load((K8S / "images/kustomization.yaml").read_text())["images"]
        if image["newName"] == "tensorflow/serving"
    }
    assert tags == {"model-server": locked[1], "model-server-gpu": f"{locked[1]}-gpu"}


def test_our_images_are_of_the_projects_version():
    version = re.search(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(), re.M)
    assert version
    images = yaml.safe_load((K8S / "images/kustomization.yaml").read_text())["images"]
    tags = {image["name"]: image["newTag"] for image in images if image["newName"].startswith("fovea-")}
    assert tags == {"gateway": version[1], "training": version[1], "training-gpu": f"{version[1]}-gpu"}


def test_images_are_named_in_one_place():
    for file in K8S.rglob("*.yaml"):
        if file.parent.name != "images":
            assert not re.search(r"image: \S+[:/]", file.read_text()), file


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_embedded_model_server_takes_the_flags(overlay):
    # So that a laptop can run the same command line.
    pod = next(pod for pod in pods(render(K8S / "overlays" / overlay)) if pod.app == "model-server")
    flags = policy.flags_of(pod) | dict.fromkeys(
        ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"), "2"
    )
    parsed = parse_flags([f"--{name}={value}" for name, value in flags.items()])
    assert (parsed.port, parsed.rest_api_port, parsed.grpc_max_threads) == (8500, 8501, 512)


def test_recipes_exist():
    from training.recipes import RECIPES

    sets = [render(K8S / "overlays" / overlay) for overlay in OVERLAYS]
    trained = {recipe for objects in sets for recipe in policy.recipes(objects)}
    assert trained
    assert trained <= set(RECIPES)


@pytest.mark.parametrize("overlay", ["laptop", "gpu"])
def test_the_gateway_answers_for_the_models_that_the_overlay_trains(overlay):
    objects = render(K8S / "overlays" / overlay)
    gateway = next(pod for pod in pods(objects) if pod.app == "gateway")
    assert set(policy.settings_of(gateway, objects).models) == policy.recipes(objects)


def test_kserve_runs_the_pods_of_the_base():
    # The InferenceService repeats what the Deployments say: kustomize cannot copy it.
    plain = {pod.app: pod.spec for pod in pods(compose("store-pvc"))}
    objects = render(K8S / "overlays/kserve")
    assert not of_kind(objects, "Deployment")
    found = list(pods(objects))
    assert [pod.where.split()[1] for pod in found] == ["explainer", "predictor", "transformer"]
    for pod in found:
        expected = yaml.safe_dump(plain[pod.app]).replace(
            f"containerName: {pod.app}", "containerName: kserve-container"
        )
        expected = expected.replace(f"  name: {pod.app}\n  ports", "  name: kserve-container\n  ports")
        spec = copy.deepcopy(pod.spec)
        if pod.app == "gateway":
            del spec["containers"][0]["command"]
        assert yaml.safe_load(expected) == spec


def test_flags_that_kserve_adds_do_not_keep_the_gateway_from_starting():
    pod = next(pod for pod in pods(render(K8S / "overlays/kserve")) if pod.app == "gateway")
    added = ["--model_name", "fovea", "--predictor_host", "fovea-predictor.fovea", "--http_port", "8080"]
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*pod.spec["containers"][0]["command"], *added], env=environment, capture_output=True, text=True, timeout=60
    )
    # It got as far as its settings.
    assert "FOVEA_MODELS is not set" in done.stderr


def test_unknown_kinds_are_errors():
    assert schema_errors({"apiVersion": "apps/v9", "kind": "Deployment", "metadata": {"name": "x"}}) == [
        "Deployment/x: no schema for apps/v9 Deployment"
    ]
