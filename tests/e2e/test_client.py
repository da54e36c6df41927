"""`fovea.client`, over both protocols, against a real gateway in front of a real model server."""

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import numpy as np
import pytest
from fovea.client import Box, Client, FoveaError, Overlay, Served, UnavailableError
from PIL import Image

from serving import api_keys
from tests.gateways import Gateway

P_RED = pytest.approx(1 / (1 + np.exp(-10 / 48)), abs=1e-6)


@pytest.fixture(scope="module")
def key():
    return api_keys.make("tests")


@pytest.fixture(scope="module")
def gateway(tiny_server, key, tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    settings = {"model_server_target": tiny_server.grpc_target, "api_keys": key[1]}
    with Gateway(folder / "log", models="tiny,absent", **settings) as gateway:
        yield gateway


@pytest.fixture(scope="module", params=["REST", "gRPC"])
def client(request, gateway, key):
    address = gateway.url if request.param == "REST" else f"grpc://{gateway.grpc_target}"
    with Client(address, api_key=key[0]) as client:
        yield client


def test_classify(client, encode, red_corner, tmp_path):
    path = tmp_path / "corner.png"
    path.write_bytes(encode(red_corner))
    for picture in (path, str(path), path.read_bytes(), red_corner, Image.fromarray(red_corner)):
        answer = client.classify("tiny", picture, version=1)
        assert (answer.label, answer.score, answer.model) == ("red", P_RED, Served("tiny", 1))
    assert [best.label for best in answer.top_k] == ["red", "blue"]
    assert [best.label for best in client.classify("tiny", path, top_k=1, label="stable").top_k] == ["red"]
    assert client.classify("tiny", path).model.version == 2
    assert [row.label for row in client.classify_all("tiny", [path, red_corner[..., ::-1]])] == ["rot", "blau"]


def test_grad_cam(client, red_corner):
    answer = client.grad_cam("tiny", red_corner, version=1, overlay=Overlay(alpha=0))
    assert (answer.label, answer.class_index, answer.method, answer.layer) == ("red", 0, "grad_cam", "block/conv")
    assert (answer.heatmap.dtype, answer.heatmap.shape) == (np.float32, (6, 8))
    assert answer.heatmap[1, 2] == pytest.approx(10 / 48, abs=1e-6)
    assert answer.normalized[1, 2] == 1
    assert answer.box == Box(8, 4, 12, 8)
    # At strength 0 the overlay is the picture.
    np.testing.assert_array_equal(np.asarray(answer.overlay), red_corner)
    nothing = client.grad_cam("tiny", red_corner, version=1, target="blue", layer="identity")
    assert (nothing.label, nothing.layer, nothing.overlay) == ("blue", "identity", None)
    assert (nothing.peak, nothing.box, nothing.normalized.max()) == (0, None, 0)


def test_attributions(client, red_corner):
    answer = client.attributions("tiny", red_corner, version=1, overlay=Overlay(legend=True))
    assert (answer.label, answer.method, answer.layer) == ("red", "integrated_gradients", None)
    assert answer.heatmap.shape == (24, 32)
    assert np.count_nonzero(answer.heatmap) == 16
    assert answer.overlay.width >= 32
    assert answer.overlay.height > 24


def test_activations_and_filters(client, red_corner):
    values = client.activations("tiny", red_corner, "identity", channels=[2, 0])
    np.testing.assert_array_equal(values, red_corner[..., [2, 0]].astype(np.float32))
    assert client.activations("tiny", red_corner, "block/conv").shape == (6, 8, 2)
    patterns = client.filters("tiny", "block/conv", filters=[1])
    assert (patterns.dtype, patterns.shape) == (np.uint8, (1, 24, 32, 3))


def test_models(client):
    tiny, absent = client.models()
    assert (tiny.name, tiny.ready, tiny.version, tiny.classes) == ("tiny", True, 2, ("rot", "blau"))
    assert [(layer.name, layer.channels, layer.filter_patterns) for layer in tiny.layers] == [
        ("identity", 3, False),
        ("block/conv", 2, True),
        ("pool", 2, False),
    ]
    assert (absent.ready, absent.version, absent.classes) == (False, None, ())


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda client: client.classify("another", b"x"), "UNKNOWN_MODEL"),
        (lambda client: client.classify("tiny", b"x"), "NOT_AN_IMAGE"),
        (lambda client: client.classify("tiny", b"x", label="a?c"), "UNKNOWN_LABEL"),
        (lambda client: client.activations("tiny", b"x", "absent"), "UNKNOWN_LAYER"),
        (lambda client: client.attributions("tiny", np.zeros((4, 4, 3), np.uint8), target="green"), "UNKNOWN_CLASS"),
    ],
)
def test_errors_carry_code_sentence_and_request_id(client, call, code, gateway):
    with pytest.raises(FoveaError) as caught:
        call(client)
    assert caught.value.code == code
    assert str(caught.value) == f"{caught.value.sentence} ({code})"
    assert not isinstance(caught.value, UnavailableError)
    assert caught.value.request_id in {line["request_id"] for line in gateway.lines("request")}


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_wrong_key_is_refused(gateway, scheme):
    host = gateway.url.removeprefix("http://") if scheme == "http" else gateway.grpc_target
    with Client(f"{scheme}://{host}", api_key="fovea_none") as client, pytest.raises(FoveaError) as caught:
        client.models()
    assert caught.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_gateway_that_is_away_is_tried_again_and_then_unavailable(scheme):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"{scheme}://127.0.0.1:{port}", attempts=3) as client, pytest.raises(UnavailableError) as caught:
        client.models()
    assert caught.value.code == "UNREACHABLE"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_gateway_that_says_nothing_is_given_up_in_time(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, timeout_s=0.5) as client, pytest.raises(FoveaError):
            client.models()
        assert time.monotonic() - started < 3


def test_retry_after_is_heeded_over_rest():
    asked = []

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((time.monotonic(), float(self.headers["X-Request-Timeout"])))
            first = len(asked) == 1
            body = b'{"error":"busy","code":"OVERLOADED","request_id":"a"}' if first else b'{"models":[]}'
            self.send_response(503 if first else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}", timeout_s=5) as client:
            assert client.models() == []
        assert asked[1][0] - asked[0][0] >= 1
        assert asked[1][1] < asked[0][1] - 0.9
        # Where the wait would outlast the time there is, the client does not begin it.
        asked.clear()
        started = time.monotonic()
        with Client(f"http://127.0.0.1:{server.server_port}", timeout_s=0.5) as client:
            with pytest.raises(UnavailableError, match="busy") as caught:
                client.models()
            assert (caught.value.retry_after_s, time.monotonic() - started < 0.5) == (1, True)
        server.shutdown()


def test_a_busy_status_of_grpc_is_tried_again():
    asked = []

    def busy(request, context):
        asked.append(context.time_remaining())
        if len(asked) < 3:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return b""

    handler = grpc.unary_unary_rpc_method_handler(busy)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("fovea.v1.Vision", {"ListModels": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"grpc://127.0.0.1:{port}") as client:
        assert client.models() == []
    assert len(asked) == 3
    server.stop(0).wait()


@pytest.mark.parametrize("address", ["localhost:8080", "ftp://localhost:1", "http://"])
def test_another_address_is_refused(address):
    with pytest.raises(ValueError, match="is no address"):
        Client(address)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_little_is_imported(scheme):
    script = f"import sys; from fovea.client import Client; Client('{scheme}://h:1').close(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    packages = {name.partition(".")[0] for name in modules}
    assert packages.isdisjoint({"flask", "gunicorn", "pydantic", "serving", "tensorflow", "training"})
    assert ("grpc" in packages, "httpx" in packages) == (scheme == "grpc", scheme == "http")
