"""Spans by OpenTelemetry, sent to a collector as OTLP over HTTP. Imported where that is asked for, and nowhere else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.tracing import Context

# A collector that is away holds up neither requests, whose spans wait in a bounded queue, nor for long the end.
_SECONDS = 2.0
_PROPAGATOR = TraceContextTextMapPropagator()


class Span:
    """The span of a request, current in its thread until its end."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token = otel_context.attach(trace.set_span_in_context(span))
        self.context = _current()

    def end(self, attributes: Mapping[str, str | int], failed: bool) -> None:
        """Close the span and leave it."""
        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
        otel_context.detach(self._token)


class Exporter:
    """Makes spans and sends them in batches from a thread of its own; to be made after a fork."""

    def __init__(self, endpoint: str, share: float) -> None:
        """Begin to export.

        Args:
            endpoint: URL of the collector, without the path of the signal.
            share: of the traces that begin here, in 0..1; of others their caller has decided.
        """
        resource = Resource.create({"service.name": "fovea-gateway", "service.version": metadata.version("fovea")})
        self._provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(share)))
        sender = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(sender))
        self._tracer = self._provider.get_tracer("fovea")

    def begin(self, name: str, parent: Context | None) -> Span:
        """Begin the span of a request."""
        remote = _PROPAGATOR.extract(parent.headers() if parent else {}, otel_context.Context())
        return Span(self._tracer.start_span(name, remote, trace.SpanKind.SERVER))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Make a span of a part of the current request; of nothing where there is none."""
        if not trace.get_current_span().get_span_context().is_valid:
            yield
            return
        kind = trace.SpanKind.CLIENT if name == "model_server" else trace.SpanKind.INTERNAL
        with self._tracer.start_as_current_span(name, kind=kind, record_exception=False):
            yield

    def current(self) -> Context | None:
        """Return the place of the innermost span."""
        return _current() if trace.get_current_span().get_span_context().is_valid else None

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _current() -> Context:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return Context(**carrier)
