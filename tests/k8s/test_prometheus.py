"""A real Prometheus scrapes a real gateway, with the rules of k8s/ loaded."""

import shutil
import subprocess

import httpx
import pytest
import yaml

from tests.gateways import Gateway
from tests.k8s.manifests import K8S
from tests.model_servers import free_port, wait_until

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is missing; it is a package of Debian"
)


@pytest.fixture
def gateway(tmp_path):
    # Nobody answers there: what counts are the gateway's own figures.
    with Gateway(tmp_path / "gateway", models="tiny", model_server_target=f"127.0.0.1:{free_port()}") as gateway:
        yield gateway


@pytest.fixture
def prometheus(tmp_path, gateway):
    rules = yaml.safe_load((K8S / "components/monitoring/rules.yaml").read_text())["spec"]
    for group in rules["groups"]:
        group["interval"] = "1s"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    target = {"targets": [gateway.url.removeprefix("http://")], "labels": {"namespace": "fovea", "pod": "a"}}
    config = {
        "global": {"scrape_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "fovea-gateway", "metrics_path": "/metrics", "static_configs": [target]}],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yaml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=10) as client:
            wait_until(lambda: _answers(client), 30, "Prometheus answers")
            yield client
    finally:
        process.terminate()
        process.wait(20)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/status/runtimeinfo").status_code == 200
    except httpx.TransportError:
        return False


def _query(client: httpx.Client, expression: str) -> list[dict]:
    answer = client.get("/query", params={"query": expression}).raise_for_status().json()
    assert answer["status"] == "success"
    return answer["data"]["result"]


def _rules(client: httpx.Client) -> dict[str, dict]:
    groups = client.get("/rules").raise_for_status().json()["data"]["groups"]
    return {rule["name"]: rule for group in groups for rule in group["rules"]}


def test_prometheus_scrapes_the_gateway_by_the_rules(gateway, prometheus, encode, red_corner):
    def failing_request() -> bool:
        gateway.http.post("/v1/models/tiny:classify", content=encode(red_corner), headers={"Content-Type": "image/png"})
        return bool(_query(prometheus, "fovea:request_failures:ratio_rate5m > 0.9"))

    wait_until(failing_request, 60, "the failures are recorded")
    assert _query(prometheus, 'up{job="fovea-gateway"} == 1')
    assert _query(prometheus, 'fovea:requests:rate5m{model="tiny", code="MODEL_SERVER_UNAVAILABLE"} > 0')
    assert _query(prometheus, 'fovea:request_duration_seconds:p99_5m{route=~".*:classify"} > 0')

    def firing_after_another() -> bool:
        return failing_request() and _rules(prometheus)["FoveaFailuresFast"]["state"] == "firing"

    wait_until(firing_after_another, 60, "the alert fires")
    rules = _rules(prometheus)
    assert {rule["health"] for rule in rules.values()} == {"ok"}
    assert rules["FoveaModelServerDown"]["state"] == "pending"
    assert rules["FoveaGatewayDown"]["state"] == "inactive"
