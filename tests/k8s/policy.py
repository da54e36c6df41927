"""What rendered manifests must keep beyond their schemas. Each rule yields one sentence for each violation."""

import functools
import json
import re
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import typer
from google.protobuf import text_format
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.config import model_server_config_pb2

from serving import rpc, rpc_v2
from serving.backend import ModelServer
from serving.http.app import create_app
from serving.inference import Vision
from serving.settings import Settings
from tests.k8s.manifests import Object, Pod, name, of_kind, pods
from tests.k8s.messages import MonitoringConfig
from training.batching import BatchingParameters

Violations = Iterator[str]

APPS = {"gateway", "model-server", "training", "rollout"}
SECRETS = {"fovea-tls", "fovea-api-keys"}
"""Secrets that an operator makes; everything else that is named must be rendered."""
DNS_CACHE_S = 30
"""For so long a cluster's DNS may answer with a pod that is gone: CoreDNS' usual `cache 30`."""
INSIDE = {"/metrics", "/readyz"}
"""Paths for Prometheus and the kubelet, which tell more than callers need to know."""
MOST_PICTURES = Settings.model_fields["max_pictures"].default
MOST_FILTERS = 64
MOST_BYTES = Settings.model_fields["max_bytes"].default
FLAGS = set(
    """
    port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms rest_api_enable_cors_support
    enable_batching allow_version_labels_for_unavailable_models batching_parameters_file
    enable_per_model_batching_parameters model_config_file model_config_file_poll_wait_seconds model_name
    model_base_path num_load_threads num_unload_threads max_num_load_retries load_retry_interval_micros
    file_system_poll_wait_seconds flush_filesystem_caches tensorflow_session_parallelism
    tensorflow_session_config_file tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism
    use_alts_credentials ssl_config_file platform_config_file per_process_gpu_memory_fraction saved_model_tags
    grpc_channel_arguments grpc_max_threads enable_model_warmup num_request_iterations_for_warmup version
    monitoring_config_file remove_unused_fields_from_bundle_metagraph enable_signature_method_name_check
    enable_profiler thread_pool_factory_config_file mixed_precision enable_grpc_healthcheck_service
    enable_serialization_as_tensor_content
    """.split()  # noqa: SIM905
)
"""Flags of tensorflow_model_server, from its main.cc."""


# --- Quantities


def quantity(text: Any) -> float | None:
    """Read a Kubernetes quantity ("500m", "2Gi"); None if it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", str(text))
    if not match:
        return None
    factors = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    factors |= {f"{unit}i": 1024.0 ** (index + 1) for index, unit in enumerate("KMGT")}
    return float(match[1]) * factors.get(match[2] or "", 1.0)


def resources(objects: list[Object]) -> Violations:
    """Every container has requests and limits for CPU and memory, and asks for no more than its limit."""
    for pod in pods(objects):
        for container in pod.containers:
            where = f"{pod.where} {container['name']}"
            given = container.get("resources", {})
            requests, limits = given.get("requests", {}), given.get("limits", {})
            for resource in ("cpu", "memory"):
                if resource not in requests or resource not in limits:
                    yield f"{where}: no request or no limit for {resource}"
            for resource, text in [*requests.items(), *limits.items()]:
                if quantity(text) is None:
                    yield f"{where}: {text!r} is no quantity of {resource}"
            for resource in set(requests) & set(limits):
                request, limit = quantity(requests[resource]), quantity(limits[resource])
                if request and limit and request > limit:
                    yield f"{where}: requests more {resource} than its limit"
            if "nvidia.com/gpu" in {**requests, **limits} and not str(limits.get("nvidia.com/gpu")).isdigit():
                yield f"{where}: GPUs are whole and go into limits"


# --- Pod Security


_RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pod_security(objects: list[Object]) -> Violations:
    """Every pod keeps the Pod Security Standard `restricted`, and writes to volumes only."""
    for pod in pods(objects):
        spec = pod.spec
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{pod.where}: may run as root"
        if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{pod.where}: no seccomp profile"
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                yield f"{pod.where}: {field}"
        for volume in spec.get("volumes", []):
            if not _RESTRICTED_VOLUMES & set(volume):
                yield f"{pod.where}: volume {volume['name']} is of a kind that is not allowed"
        for container in pod.containers:
            where = f"{pod.where} {container['name']}"
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{where}: may gain privileges"
            if own.get("privileged"):
                yield f"{where}: is privileged"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{where}: root file system can be written"
            if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
                yield f"{where}: keeps capabilities"
            if own.get("runAsNonRoot") is False or own.get("runAsUser") == 0:
                yield f"{where}: may run as root"
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{where}: takes a port of the host"


def tokens(objects: list[Object]) -> Violations:
    """No pod gets a token of its service account, which is rendered, or the variables of service links."""
    accounts = {account["metadata"]["name"]: account for account in of_kind(objects, "ServiceAccount")}
    for account in accounts.values():
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name(account)}: its token is mounted"
    for pod in pods(objects):
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.where}: a token is mounted"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.where}: service links are on"
        if pod.spec.get("serviceAccountName") not in accounts:
            yield f"{pod.where}: service account {pod.spec.get('serviceAccountName')!r} is not rendered"


def namespaces(objects: list[Object]) -> Violations:
    """Everything is in one namespace, which enforces the standard, and no object is there twice."""
    seen = set()
    for item in objects:
        key = (item["apiVersion"].partition("/")[0], name(item))
        if key in seen:
            yield f"{name(item)} is there twice"
        seen.add(key)
        if item["kind"] not in ("Namespace", "PersistentVolume") and item["metadata"].get("namespace") != "fovea":
            yield f"{name(item)}: not in the namespace fovea"
    for item in of_kind(objects, "Namespace"):
        if item["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{name(item)}: does not enforce the restricted standard"


# --- Images


def images(objects: list[Object]) -> Violations:
    """Images have a tag that stays, or a digest."""
    for pod in pods(objects):
        for container in pod.containers:
            image = container["image"]
            if not re.search(r"(:[\w.-]+|@sha256:[0-9a-f]{64})$", image) or image.endswith(":latest"):
                yield f"{pod.where} {container['name']}: image {image} is not pinned"


# --- What refers to what


def volumes(objects: list[Object]) -> Violations:
    """Mounts and volumes match, and what volumes name is rendered or known."""
    claims = {item["metadata"]["name"] for item in of_kind(objects, "PersistentVolumeClaim")}
    maps = {item["metadata"]["name"] for item in of_kind(objects, "ConfigMap")}
    for pod in pods(objects):
        given = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        mounted = set()
        for container in pod.containers:
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            if len(set(paths)) < len(paths):
                yield f"{pod.where} {container['name']}: two volumes at one path"
            for mount in container.get("volumeMounts", []):
                mounted.add(mount["name"])
                if mount["name"] not in given:
                    yield f"{pod.where} {container['name']}: mounts {mount['name']}, which is no volume"
        for volume in set(given) - mounted:
            yield f"{pod.where}: volume {volume} is mounted nowhere"
        for volume in given.values():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            config_map = volume.get("configMap", {}).get("name")
            secret = volume.get("secret", {}).get("secretName")
            if claim and claim not in claims:
                yield f"{pod.where}: claim {claim} is not rendered"
            if config_map and config_map not in maps:
                yield f"{pod.where}: config map {config_map} is not rendered"
            if secret and secret not in SECRETS:
                yield f"{pod.where}: secret {secret} is not known"
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.where}: emptyDir {volume['name']} without a limit"


def buckets(objects: list[Object]) -> Violations:
    """Pods that mount a bucket of Google's ask its driver for the container that does it."""
    mounted = {
        item["spec"]["claimRef"]["name"]
        for item in of_kind(objects, "PersistentVolume")
        if item["spec"]["csi"]["driver"] == "gcsfuse.csi.storage.gke.io"
    }
    for pod in pods(objects):
        claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod.spec.get("volumes", [])}
        if claims & mounted and pod.annotations.get("gke-gcsfuse/volumes") != "true":
            yield f"{pod.where}: mounts a bucket without the annotation gke-gcsfuse/volumes"


def environment(objects: list[Object]) -> Violations:
    """Variables come from what is rendered, hold no secrets, and are settings that the gateway takes."""
    maps = {item["metadata"]["name"]: item.get("data", {}) for item in of_kind(objects, "ConfigMap")}
    for pod in pods(objects):
        for container in pod.containers:
            where = f"{pod.where} {container['name']}"
            values: dict[str, str] = {}
            for source in container.get("envFrom", []):
                reference = source.get("configMapRef", {}).get("name")
                if reference is None:
                    yield f"{where}: secrets in the environment"
                elif reference not in maps:
                    yield f"{where}: config map {reference} is not rendered"
                else:
                    values |= maps[reference]
            for variable in container.get("env", []):
                if "secretKeyRef" in variable.get("valueFrom", {}):
                    yield f"{where}: the secret {variable['name']} is in the environment"
                field = variable.get("valueFrom", {}).get("resourceFieldRef", {}).get("containerName")
                if field not in (None, container["name"]):
                    yield f"{where}: {variable['name']} is taken from the container {field}"
                for used in _references([variable.get("value", "")]):
                    if used not in values:
                        yield f"{where}: {variable['name']} uses {used}, which is not set before it"
                values[variable["name"]] = variable.get("value", "")
            for used in _references([*container.get("command", []), *container.get("args", [])]):
                if used not in values:
                    yield f"{where}: uses $({used}), which is not set"
            for message in _wrong_settings(values):
                yield f"{where}: {message}"


def _references(texts: list[str]) -> list[str]:
    return [reference for text in texts for reference in re.findall(r"\$\((\w+)\)", text)]


def _wrong_settings(values: dict[str, str]) -> Violations:
    given = {key.removeprefix("FOVEA_").lower(): value for key, value in values.items() if key.startswith("FOVEA_")}
    for key in set(given) - set(Settings.model_fields):
        yield f"FOVEA_{key.upper()} is no setting of the gateway"
    known = {key: value for key, value in given.items() if key in Settings.model_fields}
    if known:
        try:
            Settings(**known)  # type: ignore[arg-type]  # as text, like the environment
        except ValueError as error:
            yield f"the settings are wrong: {error}"


def settings_of(pod: Pod, objects: list[Object]) -> Settings:
    """Return the settings that a gateway's pod runs with; the defaults where `environment` finds mistakes in them."""
    maps = {item["metadata"]["name"]: item.get("data", {}) for item in of_kind(objects, "ConfigMap")}
    container = pod.spec["containers"][0]
    values: dict[str, str] = {}
    for source in container.get("envFrom", []):
        values |= maps.get(source.get("configMapRef", {}).get("name"), {})
    values |= {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
    given = {key.removeprefix("FOVEA_").lower(): value for key, value in values.items() if key.startswith("FOVEA_")}
    try:
        return Settings(**{key: value for key, value in given.items() if key in Settings.model_fields})  # type: ignore[arg-type]
    except ValueError:
        return Settings(models=["unknown"])


def selectors(objects: list[Object]) -> Violations:
    """Selectors select what they are meant to."""
    made = list(pods(objects))
    services = of_kind(objects, "Service")
    for item in of_kind(objects, "Deployment"):
        labels = item["spec"]["template"]["metadata"]["labels"]
        if not _selects(item["spec"]["selector"]["matchLabels"], labels):
            yield f"{name(item)}: the selector does not select its own pods"
    for item in services:
        if not any(_selects(item["spec"]["selector"], pod.labels) for pod in made):
            yield f"{name(item)}: selects no pod"
    for item in of_kind(objects, "PodDisruptionBudget"):
        if not any(_selects(item["spec"]["selector"]["matchLabels"], pod.labels) for pod in made):
            yield f"{name(item)}: selects no pod"
    for item in of_kind(objects, "ServiceMonitor"):
        chosen = [
            s for s in services if _selects(item["spec"]["selector"]["matchLabels"], s["metadata"].get("labels", {}))
        ]
        if not chosen:
            yield f"{name(item)}: selects no service"
        for endpoint in item["spec"]["endpoints"]:
            if not all(endpoint["port"] in {port["name"] for port in s["spec"]["ports"]} for s in chosen):
                yield f"{name(item)}: no port {endpoint['port']} in the service"
    for item in of_kind(objects, "NetworkPolicy", "PodMonitor"):
        for app in _apps(item["spec"]):
            if app not in APPS:
                yield f"{name(item)}: there are no pods of {app}"
    for pod in made:
        if pod.app not in APPS:
            yield f"{pod.where}: the label app.kubernetes.io/name is not one of {sorted(APPS)}"
        spread = [item["labelSelector"]["matchLabels"] for item in pod.spec.get("topologySpreadConstraints", [])]
        spread += [
            term["podAffinityTerm"]["labelSelector"]["matchLabels"]
            for term in pod.spec.get("affinity", {})
            .get("podAntiAffinity", {})
            .get("preferredDuringSchedulingIgnoredDuringExecution", [])
        ]
        if not all(_selects(selector, pod.labels) for selector in spread):
            yield f"{pod.where}: is spread by the labels of other pods"
        if pod.owner["kind"] in ("Deployment", "InferenceService") and len(spread) < 2:
            yield f"{pod.where}: is not spread over zones and nodes"


def _selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def _apps(value: Any) -> Iterator[str]:
    """Yield every name of an app that selectors below a value ask for."""
    if isinstance(value, list):
        for item in value:
            yield from _apps(item)
    elif isinstance(value, dict):
        if "app.kubernetes.io/name" in value:
            yield value["app.kubernetes.io/name"]
        if value.get("key") == "app.kubernetes.io/name":
            yield from value["values"]
        for item in value.values():
            yield from _apps(item)


def ports(objects: list[Object]) -> Violations:
    """Ports are those that the processes listen on, from the container to the route."""
    made = list(pods(objects))
    for pod in made:
        expected: dict[str, int] = {}
        if pod.app == "gateway":
            settings = settings_of(pod, objects)
            expected = {"http": settings.http_port, "grpc": settings.grpc_port}
        elif pod.app == "model-server":
            flags = flags_of(pod)
            expected = {"grpc": int(flags.get("port", 8500)), "rest": int(flags.get("rest_api_port", 0))}
        for port, number in expected.items():
            if pod.named_ports.get(port) != number:
                yield f"{pod.where}: listens on {number} for {port}, but declares {pod.named_ports.get(port)}"
    services = {item["metadata"]["name"]: item for item in of_kind(objects, "Service")}
    for item in services.values():
        for port in item["spec"]["ports"]:
            for pod in made:
                if _selects(item["spec"]["selector"], pod.labels):
                    number = pod.named_ports.get(port["targetPort"])
                    if number is None:
                        yield f"{name(item)}: {pod.where} has no port {port['targetPort']}"
                    elif item["spec"].get("clusterIP") == "None" and number != port["port"]:
                        yield f"{name(item)}: is headless, so port {port['port']} must be the pods' {number}"
    for item in objects:
        for service, port in _backends(item):
            found = services.get(service)
            if found is None:
                yield f"{name(item)}: there is no service {service}"
            elif port not in {key for entry in found["spec"]["ports"] for key in (entry["name"], entry["port"])}:
                yield f"{name(item)}: the service {service} has no port {port}"
    for item in of_kind(objects, "NetworkPolicy"):
        for rule in item["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                for pod in made:
                    chosen = item["spec"]["podSelector"].get("matchLabels", {})
                    numbers = {p["containerPort"] for c in pod.containers for p in c.get("ports", [])}
                    known = {*pod.named_ports, *numbers}
                    optional = pod.app == "training"
                    if chosen and _selects(chosen, pod.labels) and port["port"] not in known and not optional:
                        yield f"{name(item)}: {pod.where} has no port {port['port']}"


def _backends(item: Object) -> Iterator[tuple[str, str | int]]:
    """Yield the services, and their ports, that an Ingress or a route names."""
    if item["kind"] == "Ingress":
        for rule in item["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                yield service["name"], service["port"].get("name") or service["port"].get("number")
    elif item["kind"] in ("HTTPRoute", "GRPCRoute"):
        for rule in item["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                yield backend["name"], backend["port"]


def routes(objects: list[Object]) -> Violations:
    """REST goes to the port of REST, gRPC to that of gRPC, through gateways that are rendered."""
    gateways = {item["metadata"]["name"] for item in of_kind(objects, "Gateway")}
    wanted = {"HTTPRoute": 8080, "GRPCRoute": 8081}
    for item in of_kind(objects, *wanted):
        for parent in item["spec"]["parentRefs"]:
            if parent["name"] not in gateways:
                yield f"{name(item)}: there is no gateway {parent['name']}"
        for _, port in _backends(item):
            if port != wanted[item["kind"]]:
                yield f"{name(item)}: goes to port {port}"
    for item in of_kind(objects, "Gateway"):
        for listener in item["spec"]["listeners"]:
            if (listener["protocol"] == "HTTPS") != bool(listener.get("tls", {}).get("certificateRefs")):
                yield f"{name(item)}: listener {listener['name']} has no certificate, or no use for it"
            for reference in listener.get("tls", {}).get("certificateRefs", []):
                if reference["name"] not in SECRETS:
                    yield f"{name(item)}: secret {reference['name']} is not known"
    for item in of_kind(objects, "Ingress"):
        annotations = item["metadata"].get("annotations", {})
        grpc = annotations.get("nginx.ingress.kubernetes.io/backend-protocol") == "GRPC"
        limit = "0" if grpc else f"{MOST_BYTES // 2**20}m"
        if annotations.get("nginx.ingress.kubernetes.io/proxy-body-size") != limit:
            yield f"{name(item)}: refuses bodies that the gateway takes"
        for _, port in _backends(item):
            if (port == "grpc") != grpc:
                yield f"{name(item)}: speaks {'gRPC' if grpc else 'HTTP'} to the port {port}"
        hosts = {rule["host"] for rule in item["spec"]["rules"]}
        for entry in item["spec"].get("tls", []):
            if set(entry["hosts"]) != hosts or entry["secretName"] not in SECRETS:
                yield f"{name(item)}: TLS for other hosts, or by an unknown secret"


@functools.cache
def served_paths() -> frozenset[str]:
    """Return a path of each route that the gateway answers."""
    settings = Settings(models=["x"])
    server = ModelServer(settings.model_server_target, settings.max_answer_bytes)
    try:
        app = create_app(Vision(server, settings), settings, Event())
        return frozenset(re.sub(r"<[^>]*>", "x", rule.rule) for rule in app.url_map.iter_rules())
    finally:
        server.close()


def _leads_there(kind: str, given: str, path: str) -> bool:
    """Say whether an entry of an Ingress or an HTTPRoute takes a path."""
    if kind == "Exact":
        return path == given
    if kind in ("Prefix", "PathPrefix"):
        return path == given or path.startswith(f"{given.rstrip('/')}/")
    # ImplementationSpecific: for most controllers a prefix, also of a name.
    return path.startswith(given)


def _entries(item: Object) -> Iterator[tuple[str, str]]:
    """Yield types and paths of what leads to the gateway's port of REST."""
    if item["kind"] == "Ingress":
        if "defaultBackend" in item["spec"]:
            yield "Prefix", "/"
        for rule in item["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                if path["backend"]["service"]["port"].get("name") == "http":
                    yield path["pathType"], path["path"]
    else:
        for rule in item["spec"]["rules"]:
            for match in rule.get("matches", [{}]):
                path = match.get("path", {"type": "PathPrefix", "value": "/"})
                yield path["type"], path["value"]


def exposure(objects: list[Object]) -> Violations:
    """From outside come all calls that are for callers, and no others."""
    for item in of_kind(objects, "Ingress", "HTTPRoute"):
        entries = list(_entries(item))
        for path in sorted(served_paths()) if entries else ():
            leads = any(_leads_there(kind, given, path) for kind, given in entries)
            if leads == (path in INSIDE):
                yield f"{name(item)}: {path} {'may' if leads else 'cannot'} be asked from outside"
    services = {rpc.SERVICE, rpc_v2.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME}
    for item in of_kind(objects, "GRPCRoute"):
        found = {match["method"]["service"] for rule in item["spec"]["rules"] for match in rule["matches"]}
        for service in sorted(found ^ services):
            yield f"{name(item)}: {service} is {'not served' if service in found else 'not reached'}"
    for item in of_kind(objects, "Service"):
        if item["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{name(item)}: all its paths may be asked from outside"
    for item in of_kind(objects, "InferenceService"):
        if item["metadata"].get("labels", {}).get("networking.kserve.io/visibility") != "cluster-local":
            yield f"{name(item)}: KServe lets all paths be asked from outside"


# --- Life of a pod


_PATHS = {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


def probes(objects: list[Object]) -> Violations:
    """What serves is probed in all three ways, at ports and paths that exist."""
    for pod in pods(objects):
        if pod.owner["kind"] not in ("Deployment", "InferenceService"):
            continue
        for container in pod.spec["containers"]:
            where = f"{pod.where} {container['name']}"
            for kind, path in _PATHS.items():
                probe = container.get(kind)
                if probe is None:
                    yield f"{where}: no {kind}"
                elif "httpGet" in probe:
                    if probe["httpGet"]["port"] not in pod.named_ports:
                        yield f"{where}: {kind} asks a port that does not exist"
                    if probe["httpGet"]["path"] != path:
                        yield f"{where}: {kind} asks {probe['httpGet']['path']} instead of {path}"
                elif "grpc" in probe:
                    if probe["grpc"]["port"] not in pod.named_ports.values():
                        yield f"{where}: {kind} asks a port that does not exist"
                    if flags_of(pod).get("enable_grpc_healthcheck_service") != "true":
                        yield f"{where}: {kind} asks for gRPC health, which is off"
                else:
                    yield f"{where}: {kind} asks nothing of the server"
            start = container.get("startupProbe", {})
            seconds = start.get("periodSeconds", 10) * start.get("failureThreshold", 3)
            if pod.app == "model-server" and seconds < 600:
                yield f"{where}: a cold load has {seconds} s only"


def endings(objects: list[Object]) -> Violations:
    """Pods have the time that an orderly end takes."""
    for pod in pods(objects):
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        if pod.app == "gateway":
            settings = settings_of(pod, objects)
            if grace < max(20, settings.drain_s + settings.grace_s + 5):
                yield f"{pod.where}: is killed after {grace} s, while it drains"
        if pod.app == "model-server":
            arguments = dict(
                item.split("=") for item in flags_of(pod).get("grpc_channel_arguments", "").split(",") if item
            )
            # gRPC varies the age by a tenth, so that connections do not end together.
            age = 1.1 * int(arguments.get("grpc.max_connection_age_ms", 0)) / 1000
            if not age:
                yield f"{pod.where}: connections never end, so gateways do not find new pods"
            leaving = DNS_CACHE_S + age + int(arguments.get("grpc.max_connection_age_grace_ms", 0)) / 1000
            sleep = pod.spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if sleep < leaving:
                yield f"{pod.where}: ends after {sleep} s, but gateways may call it for {leaving:.0f} s"
            if grace < sleep + 10:
                yield f"{pod.where}: is killed after {grace} s, while preStop sleeps for {sleep} s"


def accelerators(objects: list[Object]) -> Violations:
    """Pods that ask for a GPU go to nodes that have one, and no rollout asks for one more."""
    for pod in pods(objects):
        gpu = [c for c in pod.containers if "nvidia.com/gpu" in c.get("resources", {}).get("limits", {})]
        if gpu and not pod.spec.get("nodeSelector", {}).get("nvidia.com/gpu.present"):
            yield f"{pod.where}: asks for a GPU, but not for a node with one"
        if gpu and not any(item.get("key") == "nvidia.com/gpu" for item in pod.spec.get("tolerations", [])):
            yield f"{pod.where}: does not tolerate the taint of GPU nodes"
        if any(container["image"].endswith("-gpu") for container in pod.spec["containers"]) != bool(gpu):
            yield f"{pod.where}: the image is for GPUs and no GPU is asked for, or the other way round"
        if pod.app == "model-server":
            owner = pod.owner["spec"]
            strategy = owner.get("strategy") or owner.get("predictor", {}).get("deploymentStrategy", {})
            if strategy.get("type") != "Recreate" and strategy.get("rollingUpdate", {}).get("maxSurge") != 0:
                yield f"{pod.where}: a rollout asks for one pod more than there are accelerators"


def scaling(objects: list[Object]) -> Violations:
    """Autoscalers scale what exists, and nobody else sets the number."""
    deployments = {item["metadata"]["name"]: item for item in of_kind(objects, "Deployment")}
    for item in of_kind(objects, "HorizontalPodAutoscaler"):
        target = deployments.get(item["spec"]["scaleTargetRef"]["name"])
        if target is None:
            yield f"{name(item)}: there is no deployment {item['spec']['scaleTargetRef']['name']}"
        elif "replicas" in target["spec"]:
            yield f"{name(target)}: replicas are set beside an autoscaler"
        if item["spec"]["minReplicas"] < 2:
            yield f"{name(item)}: may scale down to one pod"
    for item in of_kind(objects, "PodDisruptionBudget"):
        if item["spec"].get("maxUnavailable") != 1:
            yield f"{name(item)}: could block the draining of a node, or allow all pods to go"


# --- The network


def network(objects: list[Object]) -> Violations:
    """Only the gateway reaches the model server, only the ingress (and Prometheus) the gateway."""
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind(objects, "NetworkPolicy")}
    if not policies:
        return
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if policies.get("default-deny") != everything:
        yield "NetworkPolicy/default-deny: does not deny everything"
    gateway, rollout = (
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": app}}} for app in ("gateway", "rollout")
    )
    ingress, monitoring = (
        {"namespaceSelector": {"matchLabels": {"fovea/role": role}}} for role in ("ingress", "monitoring")
    )
    allowed = {
        "model-server": [(gateway, "grpc"), (rollout, "grpc"), (monitoring, "rest")],
        "gateway": [(ingress, "http"), (ingress, "grpc"), (monitoring, "http")],
        "rollout": [],
    }
    for app, expected in allowed.items():
        found = []
        for spec in policies.values():
            if "Ingress" in spec["policyTypes"] and app in {*_apps(spec["podSelector"])}:
                for rule in spec.get("ingress", []):
                    for peer in rule.get("from", [None]):
                        found += [(peer, port["port"]) for port in rule.get("ports", [{"port": "any"}])]
        for peer, port in found:
            if (peer, port) not in expected:
                yield f"NetworkPolicy: {app} may be reached at {port} from {json.dumps(peer)}"
        for peer, port in expected:
            if (peer, port) not in found:
                yield f"NetworkPolicy: {app} cannot be reached at {port} from {json.dumps(peer)}"


# --- TensorFlow Serving


def flags_of(pod: Pod) -> dict[str, str]:
    """Return the model server's flags, with variables replaced by their values where they have one."""
    for container in pod.spec["containers"]:
        if "tensorflow_model_server" in container.get("command", []):
            text = "\n".join(container.get("args", []))
            for item in container.get("env", []):
                text = text.replace(f"$({item['name']})", item.get("value") or item["name"])
            flags = (line.removeprefix("--").partition("=") for line in text.split("\n"))
            return {flag: value or "true" for flag, _, value in flags}
    return {}


def file_in(pod: Pod, path: str, objects: list[Object]) -> str | None:
    """Return a file that the model server's container sees, if it lies in a config map."""
    maps = {item["metadata"]["name"]: item.get("data", {}) for item in of_kind(objects, "ConfigMap")}
    given = {volume["name"]: volume for volume in pod.spec["volumes"]}
    for mount in pod.spec["containers"][0]["volumeMounts"]:
        folder, _, file = path.rpartition("/")
        if mount["mountPath"] == folder and "configMap" in given.get(mount["name"], {}):
            return maps.get(given[mount["name"]]["configMap"]["name"], {}).get(file)
    return None


def _read(message_type: Any, text: str) -> Any:
    return text_format.Parse(text, message_type())


def model_server(objects: list[Object]) -> Violations:
    """TensorFlow Serving starts with these flags and files, and takes what gateways send."""
    gateways = [pod for pod in pods(objects) if pod.app == "gateway"]
    for pod in pods(objects):
        if pod.app != "model-server":
            continue
        flags = flags_of(pod)
        for flag in set(flags) - FLAGS:
            yield f"{pod.where}: tensorflow_model_server has no flag --{flag}"
        for flag in ("enable_batching", "enable_serialization_as_tensor_content"):
            if flags.get(flag) != "true":
                yield f"{pod.where}: --{flag} is off"
        if flags.get("allow_version_labels_for_unavailable_models") != "true":
            yield f"{pod.where}: the first label ends the start"
        if int(flags.get("model_config_file_poll_wait_seconds", 0)) < 1:
            yield f"{pod.where}: models.config is read only once"
        for flag, check in (
            ("batching_parameters_file", _batching),
            ("monitoring_config_file", _monitoring),
            ("model_config_file", _models),
        ):
            path = flags.get(flag, "")
            mounts = {mount["mountPath"] for mount in pod.spec["containers"][0]["volumeMounts"]}
            if path.rpartition("/")[0] not in mounts:
                yield f"{pod.where}: --{flag} {path!r} lies in no volume"
                continue
            text = file_in(pod, path, objects)
            if text is None:
                # In the store; anything else must be in a config map.
                if path != "/models/models.config":
                    yield f"{pod.where}: there is no file {path}"
                continue
            try:
                yield from (f"{path}: {message}" for message in check(text, pod, objects))
            except text_format.ParseError as error:
                yield f"{path}: {error}"
        for gateway in gateways:
            settings = settings_of(gateway, objects)
            at_once = settings.workers * settings.max_in_flight * _most_pods(gateway, objects)
            # As if all gateways' calls went to one pod, as they do while the others restart.
            if int(flags.get("grpc_max_threads", 0)) < at_once:
                yield f"{pod.where}: the gateways call up to {at_once} times at once, --grpc_max_threads refuses them"


def _most_pods(pod: Pod, objects: list[Object]) -> int:
    for item in of_kind(objects, "HorizontalPodAutoscaler"):
        if item["spec"]["scaleTargetRef"]["name"] == pod.owner["metadata"]["name"]:
            return item["spec"]["maxReplicas"]
    spec = pod.owner["spec"]
    return spec.get("replicas") or spec.get("transformer", {}).get("minReplicas", 1)


def _batching(text: str, pod: Pod, objects: list[Object]) -> Violations:
    batching = _read(BatchingParameters, text)
    largest = batching.max_batch_size.value
    sizes = list(batching.allowed_batch_sizes)
    if sizes != sorted(set(sizes)) or sizes[-1] != largest:
        yield f"allowed_batch_sizes must rise and end with {largest}"
    if largest < max(MOST_FILTERS, MOST_PICTURES):
        yield f"max_batch_size {largest} refuses {MOST_FILTERS} filters or {MOST_PICTURES} pictures"
    if batching.num_batch_threads.value < 1:
        yield "num_batch_threads must be at least 1"


def _monitoring(text: str, pod: Pod, objects: list[Object]) -> Violations:
    config = _read(MonitoringConfig, text).prometheus_config
    if not config.enable:
        yield "Prometheus is off"
    for item in of_kind(objects, "ServiceMonitor"):
        if item["metadata"]["name"] == "model-server" and item["spec"]["endpoints"][0]["path"] != config.path:
            yield f"the ServiceMonitor scrapes another path than {config.path}"


def _models(text: str, pod: Pod, objects: list[Object]) -> Violations:
    models = _read(model_server_config_pb2.ModelServerConfig, text).model_config_list.config
    store = "/models"
    for model in models:
        versions = set(model.model_version_policy.specific.versions)
        if not versions:
            yield f"{model.name}: versions are not listed one by one"
        for label, version in model.version_labels.items():
            if version not in versions:
                yield f"{model.name}: the label {label} is on version {version}, which is not listed"
        if "stable" not in model.version_labels:
            yield f"{model.name}: nothing is stable"
        if model.base_path != f"{store}/{model.name}":
            yield f"{model.name}: base_path {model.base_path} is not in the store"
    for gateway in pods(objects):
        if gateway.app == "gateway" and {model.name for model in models} != set(settings_of(gateway, objects).models):
            yield "the gateway answers for other models"


def target(objects: list[Object]) -> Violations:
    """Gateways and rollouts resolve a headless service, whose pods' gRPC port it is."""
    services = {item["metadata"]["name"]: item["spec"] for item in of_kind(objects, "Service")}
    for pod in pods(objects):
        arguments = [argument.partition("=") for argument in pod.spec["containers"][0].get("args", [])]
        texts = [f"dns:///{value}" for option, _, value in arguments if option == "--server"]
        if pod.app == "gateway":
            texts.append(settings_of(pod, objects).model_server_target)
        for text in texts:
            match = re.fullmatch(r"dns:///([\w-]+):(\d+)", text)
            service = services.get(match[1], {}) if match else {}
            if not match or service.get("clusterIP") != "None":
                yield f"{pod.where}: {text} is no headless service, so not all pods are found"
            elif int(match[2]) not in {port["port"] for port in service["ports"] if port["name"] == "grpc"}:
                yield f"{pod.where}: {text} is not the model server's gRPC port"


# --- Training


def commands(objects: list[Object]) -> Violations:
    """Commands of `fovea` and their options exist."""
    from training.cli import app

    group = typer.main.get_command(app)
    for pod in pods(objects):
        for container in pod.containers:
            arguments = container.get("args", [])
            lines = [arguments] if arguments[:1] == ["fovea"] else []
            lines += [line.split() for line in re.findall(r"fovea [^;]+", " ".join(container.get("command", [])))]
            for line in lines:
                yield from (
                    f"{pod.where} {container['name']}: {message}" for message in _wrong_command(group, line[1:])
                )


def recipes(objects: list[Object]) -> set[str]:
    """Return the recipes that are trained."""
    arguments = [argument for pod in pods(objects) for c in pod.containers for argument in c.get("args", [])]
    return {argument.partition("=")[2] for argument in arguments if argument.startswith("--recipe=")}


def _wrong_command(group: Any, words: list[str]) -> Violations:
    command = group
    while isinstance(command, typer.core.TyperGroup):
        if words[0] not in command.commands:
            yield f"there is no command fovea {words[0]}"
            return
        command, words = command.commands[words[0]], words[1:]
    options = {flag: option for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    given = {}
    for word in words:
        if word.startswith("--"):
            flag, _, value = word.partition("=")
            given[flag] = value
            if flag not in options:
                yield f"fovea {command.name} has no option {flag}"
    for flag, option in options.items():
        if option.required and flag.startswith("--") and flag not in given:
            yield f"fovea {command.name} needs {flag}"


def workers(objects: list[Object]) -> Violations:
    """Workers of an indexed Job find each other by the names in TF_CONFIG, on a port that they declare."""
    for item in of_kind(objects, "Job"):
        spec = item["spec"]
        if spec.get("completionMode") != "Indexed":
            continue
        pod = next(pods([item]))
        container = pod.spec["containers"][0]
        text = next(entry["value"] for entry in container["env"] if entry["name"] == "TF_CONFIG")
        config = json.loads(text.replace("$(JOB_COMPLETION_INDEX)", "0"))
        port = pod.named_ports.get("workers")
        names = [
            f"{item['metadata']['name']}-{index}.{pod.spec['subdomain']}:{port}" for index in range(spec["completions"])
        ]
        if config["cluster"] != {"worker": names} or config["task"] != {"type": "worker", "index": 0}:
            yield f"{name(item)}: TF_CONFIG names other workers than {', '.join(names)}"
        if spec["parallelism"] != spec["completions"]:
            yield f"{name(item)}: its workers do not all run at once"
        found = [s for s in of_kind(objects, "Service") if s["metadata"]["name"] == pod.spec["subdomain"]]
        if (
            not found
            or found[0]["spec"].get("clusterIP") != "None"
            or not found[0]["spec"].get("publishNotReadyAddresses")
        ):
            yield f"{name(item)}: no headless service gives its workers names before they are ready"


RULES: tuple[Callable[[list[Object]], Violations], ...] = (
    resources,
    pod_security,
    tokens,
    namespaces,
    images,
    volumes,
    buckets,
    environment,
    selectors,
    ports,
    routes,
    exposure,
    probes,
    endings,
    accelerators,
    scaling,
    network,
    model_server,
    target,
    commands,
    workers,
)


def violations(objects: list[Object]) -> list[str]:
    """Return what objects violate, rule by rule."""
    return [message for rule in RULES for message in rule(objects)]
