"""The policy finds mistakes: each is seeded into rendered manifests that have none."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.k8s import policy
from tests.k8s.manifests import K8S, Object, compose, kubectl, of_kind, render, schema_errors

pytestmark = pytest.mark.skipif(kubectl() is None, reason="kubectl is missing; make setup installs it")

Change = Callable[[Any], None]


def pod(kind: str, name: str, change: Change) -> Callable[[list[Object]], None]:
    """Change the specification of a pod."""

    def apply(objects: list[Object]) -> None:
        item = next(item for item in of_kind(objects, kind) if item["metadata"]["name"] == name)
        spec = item["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else item["spec"]
        change(spec["template"]["spec"])

    return apply


def thing(kind: str, name: str, change: Change) -> Callable[[list[Object]], None]:
    """Change an object; of a config map the name is only the beginning."""

    def apply(objects: list[Object]) -> None:
        change(next(item for item in of_kind(objects, kind) if item["metadata"]["name"].startswith(name)))

    return apply


def gateway(change: Change) -> Callable[[list[Object]], None]:
    return pod("Deployment", "gateway", lambda spec: change(spec["containers"][0]))


def server(change: Change) -> Callable[[list[Object]], None]:
    return pod("Deployment", "model-server", lambda spec: change(spec["containers"][0]))


def variable(name: str, change: Callable[[list[Object], Object], None]) -> Callable[[list[Object]], None]:
    """Change a variable of the model server, given all of them and it."""
    return server(lambda c: change(c["env"], next(item for item in c["env"] if item["name"] == name)))


def flag(name: str, value: str | None) -> Callable[[list[Object]], None]:
    """Set a flag of the model server, or take it away."""

    def change(container: Object) -> None:
        rest = [argument for argument in container["args"] if argument.partition("=")[0] != f"--{name}"]
        assert value is not None or len(rest) < len(container["args"])
        container["args"] = rest + ([f"--{name}={value}"] if value is not None else [])

    return server(change)


def replaced(kind: str, name: str, file: str, old: str, new: str) -> Callable[[list[Object]], None]:
    """Change the text of a file in a config map."""

    def change(item: Object) -> None:
        assert old in item["data"][file]
        item["data"][file] = item["data"][file].replace(old, new)

    return thing(kind, name, change)


def setting(name: str, value: str) -> Callable[[list[Object]], None]:
    return thing("ConfigMap", "gateway-", lambda item: item["data"].__setitem__(name, value))


def route(kind: str, path: str) -> Callable[[list[Object]], None]:
    """Put another match in the place of the second, which leads to the page."""

    def change(item: Object) -> None:
        match = item["spec"]["rules"][0]["matches"][1]
        assert match["path"]["value"] == "/page"
        match["path"] = {"type": kind, "value": path}

    return thing("HTTPRoute", "gateway", change)


def policy_ports(name: str, rule: dict[str, Any]) -> Callable[[list[Object]], None]:
    return thing("NetworkPolicy", name, lambda item: item["spec"].setdefault("ingress", []).append(rule))


MISTAKES: dict[str, tuple[Callable[[list[Object]], None], str]] = {
    "root": (pod("Deployment", "gateway", lambda s: s["securityContext"].pop("runAsNonRoot")), "may run as root"),
    "root on a GPU": (server(lambda c: c["securityContext"].update(runAsUser=0)), "may run as root"),
    "seccomp": (pod("CronJob", "retrain", lambda s: s["securityContext"].pop("seccompProfile")), "no seccomp profile"),
    "privileges": (gateway(lambda c: c["securityContext"].pop("allowPrivilegeEscalation")), "may gain privileges"),
    "capabilities": (server(lambda c: c["securityContext"].pop("capabilities")), "keeps capabilities"),
    "capability added": (
        server(lambda c: c["securityContext"]["capabilities"].update(add=["SYS_ADMIN"])),
        "keeps capabilities",
    ),
    "writable root": (
        server(lambda c: c["securityContext"].update(readOnlyRootFilesystem=False)),
        "root file system can be written",
    ),
    "writable root before the start": (
        pod("Deployment", "model-server", lambda s: s["initContainers"][0]["securityContext"].clear()),
        "wait-for-models: root file system can be written",
    ),
    "host network": (pod("Deployment", "gateway", lambda s: s.update(hostNetwork=True)), "hostNetwork"),
    "host port": (gateway(lambda c: c["ports"][0].update(hostPort=80)), "takes a port of the host"),
    "host path": (
        pod("Deployment", "gateway", lambda s: s["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
        "of a kind that is not allowed",
    ),
    "token": (pod("Deployment", "gateway", lambda s: s.pop("automountServiceAccountToken")), "a token is mounted"),
    "token of the account": (
        thing("ServiceAccount", "gateway", lambda i: i.pop("automountServiceAccountToken")),
        "its token is mounted",
    ),
    "account": (
        pod("Deployment", "gateway", lambda s: s.update(serviceAccountName="x")),
        "account 'x' is not rendered",
    ),
    "service links": (pod("Deployment", "gateway", lambda s: s.pop("enableServiceLinks")), "service links are on"),
    "namespace": (thing("Service", "gateway", lambda i: i["metadata"].pop("namespace")), "not in the namespace"),
    "standard": (
        thing("Namespace", "fovea", lambda i: i["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce")),
        "does not enforce",
    ),
    "twice": (lambda objects: objects.append(objects[-1]), "is there twice"),
    "latest": (gateway(lambda c: c.update(image="fovea-gateway:latest")), "is not pinned"),
    "no tag": (gateway(lambda c: c.update(image="registry:5000/fovea-gateway")), "is not pinned"),
    "no limit": (gateway(lambda c: c["resources"]["limits"].pop("memory")), "no limit for memory"),
    "request over limit": (gateway(lambda c: c["resources"]["requests"].update(memory="3Gi")), "more memory than"),
    "quantity": (gateway(lambda c: c["resources"]["limits"].update(memory="2GB")), "'2GB' is no quantity"),
    "half a GPU": (server(lambda c: c["resources"]["limits"].update({"nvidia.com/gpu": "500m"})), "GPUs are whole"),
    "no node": (pod("Deployment", "model-server", lambda s: s.pop("nodeSelector")), "not for a node with one"),
    "no toleration": (pod("CronJob", "retrain", lambda s: s.pop("tolerations")), "does not tolerate"),
    "CPU image on a GPU": (server(lambda c: c.update(image="tensorflow/serving:2.21.0")), "the image is for GPUs"),
    "surge": (
        thing("Deployment", "model-server", lambda i: i["spec"]["strategy"]["rollingUpdate"].update(maxSurge=1)),
        "one pod more than there are accelerators",
    ),
    "no volume": (
        pod("Deployment", "model-server", lambda s: s["volumes"].pop()),
        "mounts tmp, which is no volume",
    ),
    "no mount": (gateway(lambda c: c["volumeMounts"].clear()), "volume tmp is mounted nowhere"),
    "one path twice": (server(lambda c: c["volumeMounts"][2].update(mountPath="/models")), "two volumes at one path"),
    "claim": (
        pod("Deployment", "model-server", lambda s: s["volumes"][0]["persistentVolumeClaim"].update(claimName="x")),
        "claim x is not rendered",
    ),
    "unlimited tmp": (pod("Deployment", "gateway", lambda s: s["volumes"][0]["emptyDir"].clear()), "without a limit"),
    "config map": (gateway(lambda c: c["envFrom"][0]["configMapRef"].update(name="x")), "config map x is not rendered"),
    "secret in the environment": (
        gateway(lambda c: c.update(env=[{"name": "K", "valueFrom": {"secretKeyRef": {"name": "k", "key": "k"}}}])),
        "the secret K is in the environment",
    ),
    "secrets in the environment": (
        gateway(lambda c: c["envFrom"].append({"secretRef": {"name": "k"}})),
        "secrets in the environment",
    ),
    "unset variable": (
        variable("MODEL_CONFIG_FILE", lambda all, one: all.remove(one)),
        "uses $(MODEL_CONFIG_FILE), which is not set",
    ),
    "other container's limit": (
        variable("CPU_LIMIT", lambda all, one: one["valueFrom"]["resourceFieldRef"].update(containerName="x")),
        "is taken from the container x",
    ),
    "no setting": (setting("FOVEA_WORKER", "2"), "FOVEA_WORKER is no setting"),
    "wrong setting": (setting("FOVEA_WORKERS", "many"), "the settings are wrong"),
    "selector": (
        thing("Deployment", "gateway", lambda i: i["spec"]["selector"]["matchLabels"].update(x="y")),
        "does not select its own pods",
    ),
    "service's selector": (
        thing("Service", "gateway", lambda i: i["spec"]["selector"].update({"app.kubernetes.io/name": "gatway"})),
        "selects no pod",
    ),
    "budget's selector": (
        thing("PodDisruptionBudget", "gateway", lambda i: i["spec"]["selector"]["matchLabels"].update(x="y")),
        "selects no pod",
    ),
    "monitor's selector": (
        thing("ServiceMonitor", "gateway", lambda i: i["spec"]["selector"]["matchLabels"].update(x="y")),
        "selects no service",
    ),
    "monitor's port": (
        thing("ServiceMonitor", "model-server", lambda i: i["spec"]["endpoints"][0].update(port="metrics")),
        "no port metrics in the service",
    ),
    "monitor's path": (
        thing("ServiceMonitor", "model-server", lambda i: i["spec"]["endpoints"][0].update(path="/metrics")),
        "scrapes another path",
    ),
    "policy's selector": (
        thing(
            "NetworkPolicy",
            "gateway",
            lambda i: i["spec"]["podSelector"]["matchLabels"].update({"app.kubernetes.io/name": "gatway"}),
        ),
        "there are no pods of gatway",
    ),
    "spread": (pod("Deployment", "gateway", lambda s: s.pop("topologySpreadConstraints")), "is not spread"),
    "container's port": (gateway(lambda c: c["ports"][0].update(containerPort=8000)), "listens on 8080 for http"),
    "port by setting": (setting("FOVEA_GRPC_PORT", "9000"), "listens on 9000 for grpc"),
    "port by flag": (flag("port", "9000"), "listens on 9000 for grpc"),
    "service's port": (
        thing("Service", "gateway", lambda i: i["spec"]["ports"][0].update(targetPort="web")),
        "has no port web",
    ),
    "route's port": (
        thing("GRPCRoute", "gateway", lambda i: i["spec"]["rules"][0]["backendRefs"][0].update(port=8082)),
        "has no port 8082",
    ),
    "route to REST": (
        thing("GRPCRoute", "gateway", lambda i: i["spec"]["rules"][0]["backendRefs"][0].update(port=8080)),
        "GRPCRoute/gateway: goes to port 8080",
    ),
    "route's service": (
        thing("HTTPRoute", "gateway", lambda i: i["spec"]["rules"][0]["backendRefs"][0].update(name="web")),
        "there is no service web",
    ),
    "route's gateway": (
        thing("HTTPRoute", "gateway", lambda i: i["spec"]["parentRefs"][0].update(name="x")),
        "there is no gateway x",
    ),
    "certificate": (
        thing("Gateway", "fovea", lambda i: i["spec"]["listeners"][0]["tls"].pop("certificateRefs")),
        "has no certificate",
    ),
    "everything outside": (
        thing("HTTPRoute", "gateway", lambda i: i["spec"]["rules"][0].pop("matches")),
        "/metrics may be asked from outside",
    ),
    "readiness outside": (route("PathPrefix", "/readyz"), "/readyz may be asked from outside"),
    "no page": (route("Exact", "/page"), "/page/x cannot be asked from outside"),
    "no protocol": (
        thing("GRPCRoute", "gateway", lambda i: i["spec"]["rules"][0]["matches"].pop(1)),
        "inference.GRPCInferenceService is not reached",
    ),
    "no such service": (
        thing(
            "GRPCRoute",
            "gateway",
            lambda i: i["spec"]["rules"][0]["matches"][0]["method"].update(service="tensorflow.serving.ModelService"),
        ),
        "tensorflow.serving.ModelService is not served",
    ),
    "balancer": (
        thing("Service", "gateway", lambda i: i["spec"].update(type="LoadBalancer")),
        "all its paths may be asked",
    ),
    "no probe": (gateway(lambda c: c.pop("readinessProbe")), "no readinessProbe"),
    "probe's port": (gateway(lambda c: c["livenessProbe"]["httpGet"].update(port="web")), "asks a port that does not"),
    "probe's path": (gateway(lambda c: c["readinessProbe"]["httpGet"].update(path="/healthz")), "instead of /readyz"),
    "health off": (flag("enable_grpc_healthcheck_service", None), "asks for gRPC health, which is off"),
    "start-up": (server(lambda c: c["startupProbe"].update(failureThreshold=3)), "a cold load has 15 s only"),
    "grace": (pod("Deployment", "gateway", lambda s: s.update(terminationGracePeriodSeconds=15)), "while it drains"),
    "drain": (setting("FOVEA_GRACE_S", "60"), "while it drains"),
    "no sleep": (server(lambda c: c.pop("lifecycle")), "ends after 0 s"),
    "short grace": (
        pod("Deployment", "model-server", lambda s: s.update(terminationGracePeriodSeconds=60)),
        "while preStop sleeps",
    ),
    "eternal connections": (flag("grpc_channel_arguments", None), "connections never end"),
    "scaler's target": (
        thing("HorizontalPodAutoscaler", "gateway", lambda i: i["spec"]["scaleTargetRef"].update(name="x")),
        "there is no deployment x",
    ),
    "two masters": (thing("Deployment", "gateway", lambda i: i["spec"].update(replicas=2)), "beside an autoscaler"),
    "budget": (thing("PodDisruptionBudget", "gateway", lambda i: i["spec"].update(maxUnavailable=0)), "could block"),
    "anybody to the model server": (policy_ports("model-server", {"ports": [{"port": "grpc"}]}), "reached at grpc"),
    "anybody to a further policy": (
        lambda objects: objects.append(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "x", "namespace": "fovea"},
                "spec": {
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "model-server"}},
                    "policyTypes": ["Ingress"],
                    "ingress": [{}],
                },
            }
        ),
        "model-server may be reached at any",
    ),
    "no default": (
        thing("NetworkPolicy", "default-deny", lambda i: i["spec"].update(policyTypes=["Ingress"])),
        "does not deny everything",
    ),
    "unknown flag": (flag("enable_batchin", "true"), "has no flag --enable_batchin"),
    "no batching": (flag("enable_batching", "false"), "--enable_batching is off"),
    "labels at the start": (
        flag("allow_version_labels_for_unavailable_models", None),
        "the first label ends the start",
    ),
    "read once": (flag("model_config_file_poll_wait_seconds", "0"), "read only once"),
    "few threads": (flag("grpc_max_threads", "16"), "--grpc_max_threads refuses them"),
    "many gateways": (
        thing("HorizontalPodAutoscaler", "gateway", lambda i: i["spec"].update(maxReplicas=50)),
        "--grpc_max_threads refuses them",
    ),
    "no file": (flag("batching_parameters_file", "/etc/model-server/batch.config"), "there is no file"),
    "no folder": (flag("batching_parameters_file", "/etc/x/batching.config"), "lies in no volume"),
    "small batches": (
        replaced("ConfigMap", "model-server-", "batching.config", "64", "16"),
        "max_batch_size 16 refuses",
    ),
    "last size": (
        replaced("ConfigMap", "model-server-", "batching.config", "allowed_batch_sizes: 64\n", ""),
        "must rise and end with 64",
    ),
    "batching field": (
        replaced("ConfigMap", "model-server-", "batching.config", "max_batch_size", "max_batch"),
        'no field named "max_batch"',
    ),
    "batching text": (
        replaced("ConfigMap", "model-server-", "batching.config", "{ value: 64 }", "64"),
        "batching.config",
    ),
    "no metrics": (replaced("ConfigMap", "model-server-", "monitoring.config", "true", "false"), "Prometheus is off"),
    "target's name": (setting("FOVEA_MODEL_SERVER_TARGET", "dns:///model-servers:8500"), "is no headless service"),
    "target without spreading": (setting("FOVEA_MODEL_SERVER_TARGET", "model-server:8500"), "is no headless service"),
    "target's port": (
        setting("FOVEA_MODEL_SERVER_TARGET", "dns:///model-server:8501"),
        "is not the model server's gRPC",
    ),
    "one address": (thing("Service", "model-server", lambda i: i["spec"].pop("clusterIP")), "is no headless service"),
    "rollout's server": (
        pod("CronJob", "rollout", lambda s: s["containers"][0]["args"].__setitem__(4, "--server=model-servers:8500")),
        "is no headless service",
    ),
    "bucket without its driver's container": (
        thing(
            "CronJob", "retrain", lambda i: i["spec"]["jobTemplate"]["spec"]["template"]["metadata"].pop("annotations")
        ),
        "without the annotation gke-gcsfuse/volumes",
    ),
    "anybody to a rollout": (policy_ports("rollout", {"ports": [{"port": "grpc"}]}), "rollout may be reached at grpc"),
    "command": (pod("CronJob", "retrain", lambda s: s["containers"][0]["args"].__setitem__(1, "trian")), "no command"),
    "option": (
        pod("CronJob", "retrain", lambda s: s["containers"][0]["args"].append("--epoch=3")),
        "no option --epoch",
    ),
    "needed option": (
        pod("CronJob", "retrain", lambda s: s["containers"][0]["args"].remove("--store=/models")),
        "needs --store",
    ),
}
DECLARED: dict[str, tuple[Callable[[list[Object]], None], str]] = {
    "label": (
        replaced("ConfigMap", "models", "models.config", 'key: "canary" value: 2', 'key: "canary" value: 3'),
        "the label canary is on version 3, which is not listed",
    ),
    "base path": (replaced("ConfigMap", "models", "models.config", "/models/scratch", "/scratch"), "not in the store"),
    "another model": (replaced("ConfigMap", "models", "models.config", '"scratch"', '"scratsch"'), "other models"),
    "policy": (
        replaced("ConfigMap", "models", "models.config", "specific { versions: 1 }", "latest { num_versions: 1 }"),
        "not listed one by one",
    ),
    "unparseable": (
        replaced("ConfigMap", "models", "models.config", "version_labels", "version_label"),
        "no field named",
    ),
}
WORKERS: dict[str, tuple[Callable[[list[Object]], None], str]] = {
    "another number": (
        thing("Job", "train-workers", lambda i: i["spec"].update(completions=3, parallelism=3)),
        "TF_CONFIG names other workers",
    ),
    "one after the other": (
        thing("Job", "train-workers", lambda i: i["spec"].update(parallelism=1)),
        "not all run at once",
    ),
    "no names": (
        thing("Service", "train-workers", lambda i: i["spec"].pop("publishNotReadyAddresses")),
        "no headless service gives",
    ),
}
EDGE: dict[str, tuple[Callable[[list[Object]], None], str]] = {
    "gRPC to REST": (
        thing(
            "Ingress",
            "gateway-grpc",
            lambda i: i["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"].update(name="http"),
        ),
        "speaks gRPC to the port http",
    ),
    "everything": (
        thing("Ingress", "gateway", lambda i: i["spec"]["rules"][0]["http"]["paths"][0].update(pathType="Prefix")),
        "/readyz may be asked from outside",
    ),
    "everything else": (
        thing("Ingress", "gateway", lambda i: i["spec"].update(defaultBackend={"service": {"name": "gateway"}})),
        "/metrics may be asked from outside",
    ),
    "small bodies": (
        thing("Ingress", "gateway", lambda i: i["metadata"].pop("annotations")),
        "refuses bodies that the gateway takes",
    ),
    "other host": (thing("Ingress", "gateway", lambda i: i["spec"]["tls"][0].update(hosts=["x"])), "other hosts"),
}


def _find(objects: list[Object], seed: Callable[[list[Object]], None], sentence: str) -> None:
    assert policy.violations(objects) == []
    changed = copy.deepcopy(objects)
    seed(changed)
    found = policy.violations(changed)
    assert any(sentence in message for message in found), found


@pytest.mark.parametrize(("seed", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(seed, sentence):
    _find(render(K8S / "overlays/gpu"), seed, sentence)


@pytest.mark.parametrize(("seed", "sentence"), DECLARED.values(), ids=DECLARED)
def test_mistake_in_declared_models(seed, sentence):
    _find(render(K8S / "overlays/gpu-s3"), seed, sentence)


@pytest.mark.parametrize(("seed", "sentence"), EDGE.values(), ids=EDGE)
def test_mistake_at_the_edge(seed, sentence):
    _find(render(K8S / "overlays/gpu-s3"), seed, sentence)


@pytest.mark.parametrize(("seed", "sentence"), WORKERS.values(), ids=WORKERS)
def test_mistake_between_workers(seed, sentence):
    _find(compose("store-pvc", "training-volumes", "train-workers"), seed, sentence)


@pytest.mark.parametrize(
    ("seed", "sentence"),
    [
        (gateway(lambda c: c.update(imagePullPolice="Always")), "imagePullPolice"),
        (gateway(lambda c: c["ports"][0].update(containerPort="8080")), "containerPort"),
        (thing("Service", "gateway", lambda i: i.update(apiVersion="v2")), "no schema"),
        (thing("ServiceMonitor", "gateway", lambda i: i["spec"].update(selectors={})), "selectors"),
        (thing("PrometheusRule", "fovea", lambda i: i["spec"]["groups"][1]["rules"][0].pop("expr")), "is not valid"),
        (thing("GRPCRoute", "gateway", lambda i: i["spec"]["rules"][0].update(timeouts={})), "timeouts"),
        (
            thing("HTTPRoute", "gateway", lambda i: i.update(apiVersion="gateway.networking.k8s.io/v1alpha1")),
            "k8s.io/v1'",
        ),
    ],
)
def test_mistake_against_the_schemas(seed, sentence):
    changed = copy.deepcopy(render(K8S / "overlays/gpu"))
    seed(changed)
    found = [error for item in changed for error in schema_errors(item)]
    assert len(found) == 1
    assert sentence in found[0]


def test_mistake_in_a_pod_of_an_inference_service():
    changed = copy.deepcopy(render(K8S / "overlays/kserve"))
    service = of_kind(changed, "InferenceService")[0]
    service["spec"]["predictor"]["containers"][0]["readinessProb"] = {}
    assert "readinessProb" in " ".join(schema_errors(service))


def test_mistake_in_the_visibility_of_an_inference_service():
    _find(
        render(K8S / "overlays/kserve"),
        thing("InferenceService", "fovea", lambda i: i["metadata"]["labels"].clear()),
        "KServe lets all paths be asked",
    )
