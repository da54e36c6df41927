"""checkov's rules for Kubernetes, on what is rendered."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import K8S, Pod, compose, kubectl, pods, render

CHECKOV = Path(sys.prefix) / "checkov" / "bin" / "checkov"
SKIPPED = {
    "CKV_K8S_15": "IfNotPresent is right for tags that stay, and lets a laptop use images of its own",
    "CKV_K8S_43": "digests belong to a registry; k8s/images is the place to append them",
}

pytestmark = [
    pytest.mark.skipif(kubectl() is None, reason="kubectl is missing; make setup installs it"),
    pytest.mark.skipif(not CHECKOV.exists(), reason="`make test` installs checkov, in an environment of its own"),
]


def _plain(pod: Pod) -> dict:
    """Return what a custom resource makes of a pod as an object of Kubernetes', which checkov knows."""
    metadata = {"name": pod.where.replace("/", "-").replace(" ", "-").lower(), "namespace": "fovea"}
    if pod.owner["kind"] == "TFJob":
        spec = {"template": {"metadata": {}, "spec": {**pod.spec, "restartPolicy": "Never"}}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod.spec}


def _failures(folder: Path) -> set[tuple[str, str]]:
    done = subprocess.run(
        [CHECKOV, "--directory", folder, "--framework", "kubernetes", "--skip-download", "--output", "json", "--quiet"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 100, done.stdout
    assert report["summary"]["parsing_errors"] == 0, report
    return {(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]}


def test_checkov_finds_nothing_but_what_has_a_reason(tmp_path):
    sets = {overlay.name: render(overlay) for overlay in (K8S / "overlays").iterdir()}
    sets["training"] = compose(
        "store-pvc", "training-volumes", "train", "train-workers", "train-tfjob", "trainer-sidecar", "api-keys"
    )
    for name, objects in sets.items():
        custom = [_plain(pod) for pod in pods(objects) if pod.owner["kind"] in ("InferenceService", "TFJob")]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all([*objects, *custom]))
    found = _failures(tmp_path)
    assert {check for check, _ in found} == set(SKIPPED)
