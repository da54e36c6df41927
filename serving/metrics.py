"""Prometheus metrics of the gateway.

Label values come from fixed sets or from the models that are served, never from a request.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from serving import tracing

_MODEL = ["model", "version"]
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Counter(
    "fovea_requests",
    "Requests answered, by route template or RPC, model, version that answered (empty: none) and outcome code.",
    ["route", *_MODEL, "code"],
)
API_KEY_REQUESTS = Counter(
    "fovea_api_key_requests",
    "Requests answered where API keys are needed, by the key's name (empty: none that is known) and outcome code.",
    ["api_key", "code"],
)
LATENCY = Histogram(
    "fovea_request_duration_seconds",
    "Time from a request's first byte to its answer.",
    ["route"],
    buckets=_SECONDS,
)
STAGE = Histogram(
    "fovea_stage_duration_seconds",
    "Time spent in a stage of a request: queue, decode, model_server or render.",
    ["stage"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge("fovea_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum")
QUEUED = Gauge("fovea_requests_queued", "Requests that wait for their turn.", multiprocess_mode="livesum")
_REJECTED = Counter(
    "fovea_requests_rejected",
    "Requests refused for overload: the queue was full, or their time ended in it (late).",
    ["reason"],
)
PICTURE_BYTES = Histogram(
    "fovea_picture_bytes",
    "Size of the encoded pictures that were decoded.",
    buckets=[2**power for power in range(10, 25, 2)],
)
PICTURE_PIXELS = Histogram(
    "fovea_picture_pixels",
    "Pixels of the pictures that were decoded.",
    buckets=[2**power for power in range(10, 27, 2)],
)
CALL_PICTURES = Histogram(
    "fovea_call_pictures",
    "Pictures in a call of the model server for probabilities, which requests share that come at the same time.",
    buckets=[2**power for power in range(6)],
)
PREDICTIONS = Counter(
    "fovea_predictions",
    "Pictures, or characters of texts, by the class that was answered for them.",
    [*_MODEL, "class"],
)
CONFIDENCE = Histogram(
    "fovea_prediction_confidence",
    "Probability of the class that was answered.",
    _MODEL,
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
MODEL_READY = Gauge(
    "fovea_model_ready",
    "Whether the model server answered for a model when it was last asked, which every probe and scrape does.",
    ["model"],
    multiprocess_mode="mostrecent",
)
MODEL_VERSION = Gauge(
    "fovea_model_version",
    "The version that answers for a model where none is named; 0: none.",
    ["model"],
    multiprocess_mode="mostrecent",
)
_BUILD = Gauge(
    "fovea_build_info", "Always 1; the version is in the label.", ["version"], multiprocess_mode="mostrecent"
)
_BUILD.labels(metadata.version("fovea")).set(1)

REJECTED_FULL = _REJECTED.labels("full")
REJECTED_LATE = _REJECTED.labels("late")


class Stage:
    """A part of the work on requests: its time goes into the histogram, and into a span where those are exported."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._histogram = STAGE.labels(name)

    @contextmanager
    def time(self) -> Iterator[None]:
        """Measure the work of a block."""
        with tracing.stage(self._name), self._histogram.time():
            yield


QUEUE = Stage("queue")
DECODE = Stage("decode")
MODEL_SERVER = Stage("model_server")
RENDER = Stage("render")


def expose() -> bytes:
    """Return the metrics of this process, or of all workers where there are several, in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(PROCESS_REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
