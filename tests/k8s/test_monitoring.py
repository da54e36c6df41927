"""Rules, dashboard and adapter ask for metrics that exist, and the rules do what they should."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from fovea.oip import open_inference_pb2
from fovea.v1 import vision_pb2
from prometheus_client import REGISTRY

from serving import metrics
from tests.k8s.manifests import K8S, REPOSITORY, kubectl, of_kind, render
from tests.k8s.policy import served_paths

MONITORING = K8S / "components/monitoring"
HISTOGRAM = ("_bucket", "_sum", "_count")
# TensorFlow Serving's, from its sources: name, and whether it is a histogram.
MODEL_SERVER = {
    ":tensorflow:serving:request_count": False,
    ":tensorflow:serving:request_latency": True,
    ":tensorflow:serving:batching_session:queuing_latency": True,
    ":tensorflow:cc:saved_model:load_attempt_count": False,
}
TRAINING = {
    "fovea_training_accuracy",
    "fovea_training_loss",
    "fovea_training_pictures_per_second",
}
# Prometheus', kube-state-metrics', the kubelet's.
CLUSTER = {
    "up",
    "container_cpu_usage_seconds_total",
    "kube_job_failed",
    "kube_pod_container_resource_limits",
    "kube_pod_container_status_restarts_total",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing; it comes with Debian's package prometheus"
)


def _groups():
    return yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]


def _rules():
    return [rule for group in _groups() for rule in group["rules"]]


def _dashboard():
    return json.loads((MONITORING / "dashboard.json").read_text())


def _dashboard_queries():
    return [target["expr"] for panel in _dashboard()["panels"] for target in panel.get("targets", [])]


def _runbook_queries():
    blocks = re.findall(r"^```promql\n(.*?)^```", (REPOSITORY / "docs/runbook.md").read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


def _gateway_metrics() -> set[str]:
    assert metrics.REQUESTS
    return {
        f"{family.name}{suffix}"
        for family in REGISTRY.collect()
        for suffix in {"histogram": HISTOGRAM, "counter": ("_total",)}.get(family.type, ("",))
    }


def _metrics(expression: str) -> set[str]:
    """Return the names of metrics in an expression of PromQL."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\b(by|without|on)\s*\([^)]*\)|\[[^\]]*\]|\boffset \w+", "", bare)
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*", bare) if "_" in name or ":" in name or name == "up"} - {
        "histogram_quantile",
        "avg_over_time",
        "group_left",
    }


def _existing() -> set[str]:
    model_server = {
        f"{name}{suffix}" for name, many in MODEL_SERVER.items() for suffix in (HISTOGRAM if many else ("",))
    }
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    return _gateway_metrics() | model_server | TRAINING | CLUSTER | recorded


def test_rules_ask_for_metrics_that_exist():
    asked = {name for rule in _rules() for name in _metrics(rule["expr"])}
    assert {"fovea_requests_total", ":tensorflow:serving:request_count", "up"} <= asked
    assert asked <= _existing()


def test_dashboard_asks_for_metrics_that_exist():
    asked = {name for query in _dashboard_queries() for name in _metrics(query)}
    assert {"fovea_requests_in_flight", "fovea:requests:rate5m"} <= asked
    assert asked <= _existing()


def test_training_shows_these_metrics():
    source = (REPOSITORY / "training/monitoring.py").read_text()
    assert {name for name in TRAINING if f'"{name}"' in source} == TRAINING


def test_every_recorded_series_is_used():
    used = {name for rule in _rules() for name in _metrics(rule["expr"])}
    used |= {name for query in _dashboard_queries() for name in _metrics(query)}
    assert {rule["record"] for rule in _rules() if "record" in rule} <= used


def test_labels_in_expressions_exist():
    codes = set(re.findall(r'code = "([A-Z_]+)"', (REPOSITORY / "serving/errors.py").read_text()))
    for rule in _rules():
        for comparison, value in re.findall(r'code(=~|=|!=)"([^"]*)"', rule["expr"]):
            for alternative in value.split("|") if comparison == "=~" else [value]:
                assert any(re.fullmatch(alternative, code) for code in {*codes, "OK", "INTERNAL"}), alternative


def _calls(file, service) -> set[str]:
    return {method.name for method in file.DESCRIPTOR.services_by_name[service].methods}


def _left_out(alert_or_record: str) -> set[str]:
    """Return the routes and RPCs that a rule leaves out."""
    expression = next(rule["expr"] for rule in _rules() if alert_or_record in (rule.get("alert"), rule.get("record")))
    (pattern,) = set(re.findall(r'route!~"([^"]+)"', expression))
    routes = served_paths() | _calls(vision_pb2, "Vision") | _calls(open_inference_pb2, "GRPCInferenceService")
    return {route for route in routes if re.fullmatch(pattern, route)}


def test_slow_explanations_are_no_alert():
    calls = _calls(vision_pb2, "Vision") - {"Classify", "ListModels"}
    assert _left_out("FoveaSlow") == calls | {path for path in served_paths() if "explain" in path}


@pytest.mark.parametrize(
    "rule",
    [
        *(f"fovea:request_failures:ratio_rate{window}" for window in ("5m", "30m", "1h", "6h")),
        "FoveaFailuresFast",
        "FoveaModelNotReady",
    ],
)
def test_probes_and_scrapes_are_no_failures(rule):
    health = {"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}
    models = {"/v2/models/x/ready", "/v2/models/x/versions/x/ready"}
    assert _left_out(rule) == health | models | {"ServerLive", "ServerReady", "ModelReady"}


def test_scraped_jobs_are_those_of_the_alerts():
    monitors = yaml.safe_load_all((MONITORING / "scraping.yaml").read_text())
    jobs = {
        relabeling["replacement"]
        for monitor in monitors
        for endpoint in monitor["spec"].get("endpoints", [])
        for relabeling in endpoint.get("relabelings", [])
    }
    asked = set(re.findall(r'up\{job="([^"]+)"\}', " ".join(rule["expr"] for rule in _rules())))
    assert asked == jobs == {"fovea-gateway", "fovea-model-server"}


def test_alerts_lead_to_the_runbook():
    alerts = [rule for rule in _rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts)
    for rule in alerts:
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_runbook_has_every_alert():
    headings = re.findall(r"^## (Fovea\w+)$", (REPOSITORY / "docs/runbook.md").read_text(), re.M)
    assert sorted(headings) == sorted(rule["alert"] for rule in _rules() if "alert" in rule)


def test_the_runbook_asks_for_metrics_that_exist():
    asked = {name for query in _runbook_queries() for name in _metrics(query)}
    assert {"fovea_requests_total", "fovea:stage_duration_seconds:p95_5m"} <= asked
    assert asked <= _existing()


def test_dashboard_is_whole():
    dashboard = _dashboard()
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Traffic",
        "Errors",
        "Latency",
        "Saturation",
        "Models",
        "Predictions",
        "Training",
    ]
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells
        for target in panel.get("targets", []):
            assert "namespace" in target["expr"], f"{panel['title']} mixes namespaces"
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "namespace"}


@pytest.mark.skipif(kubectl() is None, reason="kubectl is missing; make setup installs it")
def test_the_adapter_serves_what_the_autoscaler_asks_for():
    objects = render(K8S / "overlays/gpu")
    adapter = next(
        item for item in of_kind(objects, "ConfigMap") if item["metadata"]["name"] == "prometheus-adapter-rules"
    )
    rules = yaml.safe_load(adapter["data"]["config.yaml"])["rules"]
    asked = {
        metric["pods"]["metric"]["name"]
        for scaler in of_kind(objects, "HorizontalPodAutoscaler")
        for metric in scaler["spec"]["metrics"]
    }
    assert {rule["name"]["as"] for rule in rules} == asked
    for rule in rules:
        query = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"].partition("{")[0])
        names = _metrics(query.replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", ""))
        assert names
        assert names <= _gateway_metrics()


def _promtool(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def rules_file(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": _groups()}))
    return file


@needs_promtool
def test_promtool_takes_the_rules(rules_file):
    done = _promtool("check", "rules", rules_file)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_takes_the_queries_of_dashboard_and_runbook(tmp_path):
    rules = [
        {"record": f"query:{index}", "expr": query.replace("$namespace", "fovea")}
        for index, query in enumerate(_dashboard_queries() + _runbook_queries())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = _promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_when_they_should(rules_file, tmp_path):
    text = (Path(__file__).parent / "alerts.yaml").read_text()
    alerts = tmp_path / "alerts.yaml"
    alerts.write_text(text.replace("RULES", str(rules_file)))
    done = _promtool("test", "rules", alerts)
    assert done.returncode == 0, done.stdout + done.stderr
