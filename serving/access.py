"""What both doors note about every request: one log line, and the request metrics."""

import logging
import re
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

from serving import metrics
from serving.api_keys import ApiKeys, Headers

log = logging.getLogger("serving.access")

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
        if self.api_key is not None:
            metrics.API_KEY_REQUESTS.labels(self.api_key, self.code).inc()
        log.info(
            "request",
            extra={
                "fields": {
                    "request_id": self.request_id,
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


current: ContextVar[Access] = ContextVar("access")
"""The call that a thread of the gRPC door answers."""
