"""The W3C Trace Context of requests: read or made, logged, and passed on to the model server."""

import re
from concurrent import futures
from threading import Event

import grpc
import pytest
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc

from serving import wire
from serving.http.app import create_app
from serving.settings import Settings
from serving.tracing import Trace

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (PARENT, PARENT),
        (f"00-{TRACE_ID}-00f067aa0ba902b7-00", f"00-{TRACE_ID}-00f067aa0ba902b7-00"),
        # A later version may say more; what this one knows of it goes on.
        (f"cc-{TRACE_ID}-00f067aa0ba902b7-03-more", f"00-{TRACE_ID}-00f067aa0ba902b7-01"),
    ],
)
def test_a_trace_goes_on(given, passed_on):
    trace = Trace("name", {"traceparent": given, "tracestate": "vendor=1"}, spans=True)
    assert trace.context.headers() == {"traceparent": passed_on, "tracestate": "vendor=1"}
    assert trace.context.trace_id == TRACE_ID


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x",
        PARENT.upper(),
        f"{PARENT}-more",
        f"ff-{TRACE_ID}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"{PARENT},{PARENT}",
        f"{PARENT}\nx",
    ],
)
def test_what_is_no_trace_begins_a_new_one(given):
    contexts = [Trace("name", {"traceparent": given, "tracestate": "vendor=1"}, spans=True).context for _ in range(2)]
    for context in contexts:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", context.traceparent)
        assert context.tracestate == ""
    assert TRACE_ID not in {context.trace_id for context in contexts}
    assert contexts[0].trace_id != contexts[1].trace_id


@pytest.fixture(scope="module")
def listening():
    """A model server that fails every call: its target, and the metadata that calls came with."""
    calls = []

    def fail(request, context):
        calls.append(dict(context.invocation_metadata()))
        context.abort(grpc.StatusCode.INTERNAL, "on purpose")

    server = grpc.server(futures.ThreadPoolExecutor(1))
    predict = grpc.unary_unary_rpc_method_handler(fail, request_deserializer=wire.PredictRequest.FromString)
    service = "tensorflow.serving.PredictionService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Predict": predict})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", calls
    server.stop(0)


def _logged(caplog):
    return next(record.fields for record in caplog.records if record.name == "serving.access")["trace_id"]


@pytest.fixture
def failing(listening):
    target, calls = listening
    calls.clear()
    return Settings(models=["tiny"], model_server_target=target)


@pytest.fixture
def post(failing, make_vision, corner):
    """Classify over REST with some headers."""
    client = create_app(make_vision(failing), failing, Event()).test_client()
    return lambda **headers: client.post(
        "/v1/models/tiny:classify", data=corner, content_type="image/png", headers=headers
    )


def test_rest_passes_it_on_and_logs_it(listening, post, caplog):
    caplog.set_level("INFO")
    post(traceparent=PARENT, tracestate="vendor=1")
    (call, *_) = listening[1]
    assert (call["traceparent"], call["tracestate"]) == (PARENT, "vendor=1")
    assert _logged(caplog) == TRACE_ID


def test_grpc_passes_it_on_and_logs_it(listening, failing, open_door, make_vision, corner, caplog):
    caplog.set_level("INFO")
    stub = vision_pb2_grpc.VisionStub(open_door(make_vision(failing), failing, Event())[1])
    request = pb.ClassifyRequest(model=pb.ModelRef(name="tiny"), images=[corner])
    with pytest.raises(grpc.RpcError):
        stub.Classify(request, metadata=[("traceparent", PARENT)])
    assert listening[1][0]["traceparent"] == PARENT
    assert _logged(caplog) == TRACE_ID


def test_a_request_without_one_gets_its_own(listening, post, caplog):
    caplog.set_level("INFO")
    post()
    assert listening[1][0]["traceparent"][3:35] == _logged(caplog)
