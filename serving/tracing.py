"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the trace of a request, read or made, and passed on.

Where spans are exported, `serving.spans` makes one of each request and of its stages; otherwise the
caller's context goes on to the model server as it came.
"""

import re
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from serving.api_keys import Headers

if TYPE_CHECKING:
    from serving.spans import Exporter

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACESTATE = re.compile(r"[\x20-\x7e\t]{1,512}")

exporter: "Exporter | None" = None
"""Where spans go; set before the first request."""


class Context(NamedTuple):
    """A place in a trace, as the headers `traceparent` and `tracestate` carry it."""

    traceparent: str
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """The trace: 32 hexadecimal digits."""
        return self.traceparent[3:35]

    def headers(self) -> dict[str, str]:
        """Return the headers by name."""
        return {name: value for name, value in self._asdict().items() if value}


_current: ContextVar[Context | None] = ContextVar("trace", default=None)


class Trace:
    """A request's part of a trace, current in the thread that answers it."""

    def __init__(self, name: str, headers: Headers, spans: bool) -> None:
        """Go on with the caller's trace, or begin one.

        Args:
            name: of the span.
            headers: the request's, among them `traceparent` and `tracestate`; what is malformed there counts as absent.
            spans: whether the request is worth spans.
        """
        context = _read(headers)
        self._span = exporter.begin(name, context) if exporter is not None and spans else None
        self.context = self._span.context if self._span else context or _make()
        _current.set(self.context)

    def end(self, attributes: Mapping[str, str | int], failed: bool) -> None:
        """Close the request's span; attributes say how it went, and failed that this was not the caller's fault."""
        if self._span:
            self._span.end(attributes, failed)


def stage(name: str) -> AbstractContextManager:
    """Show a part of the work on a request as a span, where spans are exported."""
    return nullcontext() if exporter is None else exporter.stage(name)


def headers() -> dict[str, str]:
    """Return what a call to another server carries, so that it finds its place in the trace."""
    inner = exporter.current() if exporter is not None else None
    context = inner or _current.get()
    return context.headers() if context else {}


def _read(headers: Headers) -> Context | None:
    found = _TRACEPARENT.fullmatch((headers.get("traceparent") or "").strip())
    if found is None or (found[1] == "00" and found[5]):
        return None
    state = headers.get("tracestate") or ""
    # Of a later version the first four fields are known, and of its flags those of this one.
    flags = int(found[4], 16) & (0xFF if found[1] == "00" else 1)
    return Context(f"00-{found[2]}-{found[3]}-{flags:02x}", state if _TRACESTATE.fullmatch(state) else "")


def _make() -> Context:
    return Context(f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00")
