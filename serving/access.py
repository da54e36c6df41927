"""What both doors note about every request: one log line, and the request metrics."""

import logging
import re
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

from serving import metrics
from serving.api_keys import ApiKeys, Headers
from serving.tracing import Trace

log = logging.getLogger("serving.access")

# Of gRPC's status codes those that are not the caller's fault.
_FAILURES = frozenset(("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"))
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def request_id(offered: str | None) -> str:
    """Return the client's request id where it is a harmless one, or a new one."""
    return offered if offered and _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex


@dataclass
class Access:
    """A request on its way; `finish` notes its end.

    `route` is a template or the name of an RPC, `model` a configured name and `api_key` the name of a
    key, "" of none that is known, and None where none is needed, so that neither the log's nor the
    metrics' vocabulary comes from clients.
    """

    request_id: str
    trace: Trace
    method: str
    route: str = "unmatched"
    model: str = ""
    version: int | None = None
    code: str = "OK"
    api_key: str | None = None
    bytes_in: int = 0
    _started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        metrics.IN_FLIGHT.inc()

    def authenticate(self, keys: ApiKeys, headers: Headers) -> None:
        """Note whose API key the request carries.

        Raises:
            UnauthenticatedError: it carries none, or one that is not known.
        """
        self.api_key = ""
        self.api_key = keys.authenticate(headers)

    def finish(self, status: int | str, bytes_out: int) -> None:
        """Count and log the request."""
        seconds = time.perf_counter() - self._started
        metrics.IN_FLIGHT.dec()
        metrics.REQUESTS.labels(self.route, self.model, self.version or "", self.code).inc()
        metrics.LATENCY.labels(self.route).observe(seconds)
        failed = status in _FAILURES if isinstance(status, str) else status >= 500
        self.trace.end(self._attributes(status), failed)
        if self.api_key is not None:
            metrics.API_KEY_REQUESTS.labels(self.api_key, self.code).inc()
        log.info(
            "request",
            extra={
                "fields": {
                    "request_id": self.request_id,
                    "trace_id": self.trace.context.trace_id,
                    "method": self.method,
                    "route": self.route,
                    "api_key": self.api_key,
                    "model": self.model,
                    "version": self.version,
                    "status": status,
                    "code": self.code,
                    "duration_ms": round(seconds * 1000, 3),
                    "bytes_in": self.bytes_in,
                    "bytes_out": bytes_out,
                }
            },
        )

    def _attributes(self, status: int | str) -> dict[str, str | int]:
        """Describe the request by OpenTelemetry's semantic conventions, and by names of our own."""
        kind: dict[str, str | int] = (
            {"rpc.system": "grpc", "rpc.method": self.route}
            if isinstance(status, str)
            else {"http.request.method": self.method, "http.route": self.route, "http.response.status_code": status}
        )
        own = {"request_id": self.request_id, "model": self.model, "code": self.code}
        if self.version is not None:
            own["version"] = str(self.version)
        return kind | {f"fovea.{name}": value for name, value in own.items()}


current: ContextVar[Access] = ContextVar("access")
"""The call that a thread of the gRPC door answers."""
