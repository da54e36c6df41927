"""Spans of a gateway process, as a collector receives them."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.gateways import Gateway
from tests.model_servers import free_port, wait_until

CLASSIFY = "/v1/models/tiny/versions/1:classify"
PNG = {"Content-Type": "image/png"}
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes OTLP over HTTP, and keeps the spans with the name of the service that sent them."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
                collector._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
            self.spans += [(attributes["service.name"], span) for scope in resource.scope_spans for span in scope.spans]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.stop()


def test_a_request_and_its_stages_are_spans_of_the_callers_trace(tiny_server, tmp_path, encode, red_corner, collector):
    settings = {"models": "tiny", "model_server_target": tiny_server.grpc_target, "otlp_endpoint": collector.url}
    with Gateway(tmp_path / "log", **settings) as gateway:
        headers = {**PNG, "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
        assert httpx.post(gateway.url + CLASSIFY, content=encode(red_corner), headers=headers).status_code == 200
        unsampled = {**PNG, "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"}
        assert httpx.post(gateway.url + CLASSIFY, content=encode(red_corner), headers=unsampled).status_code == 200
        gateway.http.get("/readyz")
    # The end sends what is left.
    assert {service for service, _ in collector.spans} == {"fovea-gateway"}
    spans = [span for _, span in collector.spans]
    assert {span.trace_id.hex() for span in spans} == {TRACE_ID}
    (request,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert request.parent_span_id.hex() == PARENT_ID
    assert request.name == "POST /v1/models/<name:model>/versions/<name:version>:classify"
    attributes = {item.key: item.value.string_value or item.value.int_value for item in request.attributes}
    assert attributes["http.response.status_code"] == 200
    assert (attributes["fovea.model"], attributes["fovea.version"], attributes["fovea.code"]) == ("tiny", "1", "OK")
    stages = {span.name for span in spans if span is not request}
    assert stages == {"queue", "decode", "model_server"}
    assert all(span.parent_span_id == request.span_id for span in spans if span is not request)
    kinds = {span.name: span.kind for span in spans}
    assert kinds["model_server"] == Span.SPAN_KIND_CLIENT


def test_failures_are_marked(tmp_path, encode, red_corner, collector):
    settings = {"model_server_target": f"127.0.0.1:{free_port()}", "otlp_endpoint": collector.url}
    with Gateway(tmp_path / "log", models="tiny", **settings) as gateway:
        assert httpx.post(gateway.url + CLASSIFY, content=encode(red_corner), headers=PNG).status_code == 503
        assert httpx.post(gateway.url + CLASSIFY, content=b"", headers=PNG).status_code == 400
    requests = [span for _, span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert [span.status.code for span in requests] == [Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET]


def test_a_collector_that_is_away_holds_nothing_up(tiny_server, tmp_path, encode, red_corner):
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings = {"models": "tiny", "model_server_target": tiny_server.grpc_target, "otlp_endpoint": endpoint}
    gateway = Gateway(tmp_path / "log", **settings)
    with gateway:
        assert httpx.post(gateway.url + CLASSIFY, content=encode(red_corner), headers=PNG).status_code == 200
        gateway.process.terminate()
        assert wait_until(lambda: gateway.process.poll() is not None, 10, "the end") < 6
    assert "Traceback" not in gateway.log.read_text()
