"""A real gateway process in front of a real model server."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.gateways import Gateway
from tests.model_servers import free_port

CLASSIFY = "/v1/models/tiny/versions/1:classify"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def corner(encode, red_corner):
    return encode(red_corner)


@pytest.fixture(scope="module")
def gateway(tiny_server, tmp_path_factory):
    log = tmp_path_factory.mktemp("gateway") / "log"
    with Gateway(log, models="tiny,broken", model_server_target=tiny_server.grpc_target, client_idle_s=1) as gateway:
        yield gateway


def _requests_of_every_kind(gateway: Gateway, picture: bytes) -> dict[str, int]:
    """Make a request of every kind over both protocols and return the statuses by what was asked."""
    http, found = gateway.http, {}
    model = "/v1/models/tiny"
    for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/models", model, f"{model}/metadata"):
        found[path] = http.get(path).status_code
    for suffix in (":predict", ":classify", ":explain"):
        body = {"instances": [np.zeros((24, 32, 3), int).tolist()]}
        found[suffix] = http.post(model + suffix, json=body).status_code
    for suffix in ("/explain/grad-cam", "/explain/attributions", "/explain/activations"):
        for accept in ("application/json", "image/png", "application/x-npz"):
            answer = http.post(model + suffix, content=picture, headers={**PNG, "Accept": accept})
            found[f"{suffix} {accept}"] = answer.status_code
    for accept in ("image/png", "application/x-npz"):
        found[f"filters {accept}"] = http.get(f"{model}/explain/filters", headers={"Accept": accept}).status_code
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub, ref = vision_pb2_grpc.VisionStub(channel), pb.ModelRef(name="tiny")
        stub.ListModels(pb.ListModelsRequest())
        stub.Classify(pb.ClassifyRequest(model=ref, images=[picture]))
        stub.GradCam(pb.GradCamRequest(model=ref, images=[picture], overlay={}))
        stub.Attributions(pb.AttributionsRequest(model=ref, images=[picture], values=True, overlay={}))
        stub.Activations(pb.ActivationsRequest(model=ref, images=[picture], values=True))
        stub.FilterPatterns(pb.FilterPatternsRequest(model=ref))
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    return found


def test_both_doors_give_the_same_answer(gateway, corner):
    rest = gateway.http.post(CLASSIFY, content=corner, headers=PNG).json()["classifications"][0]
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        request = pb.ClassifyRequest(model=pb.ModelRef(name="tiny", version=1), images=[corner])
        row = vision_pb2_grpc.VisionStub(channel).Classify(request).classifications[0]
    assert (row.label, row.score) == (rest["label"], rest["score"])


def test_requests_that_share_calls_get_the_answers_to_their_own_pictures(tiny_server, tmp_path, encode):
    def ask(number):
        picture = encode(np.full((24, 32, 3), (number, 0, 255 - number), np.uint8))
        answer = gateway.http.post(CLASSIFY, content=picture, headers=PNG)
        assert answer.status_code == 200, answer.text
        return answer.json()["classifications"][0]["top_k"]

    def called(what):
        (line,) = [
            x for x in gateway.http.get("/metrics").text.splitlines() if x.startswith(f"fovea_call_pictures_{what}")
        ]
        return float(line.split()[1])

    settings = {"models": "tiny", "model_server_target": tiny_server.grpc_target, "calls_in_flight": 1}
    with Gateway(tmp_path / "log", **settings) as gateway:
        numbers = range(0, 256, 5)
        alone = [ask(number) for number in numbers]
        assert called("count") == called("sum") == len(numbers)
        with ThreadPoolExecutor(8) as clients:
            together = list(clients.map(ask, numbers))
        assert called("sum") == 2 * len(numbers)
        assert called("count") < called("sum")
    assert len({(scores[0]["label"], scores[0]["score"]) for scores in alone}) == len(numbers)
    for before, after in zip(alone, together, strict=True):
        assert [(item["label"], pytest.approx(item["score"], abs=1e-6)) for item in before] == [
            (item["label"], item["score"]) for item in after
        ]


def test_tensorflow_is_not_loaded_after_a_request_of_every_kind(tiny_server, tmp_path, corner):
    # Every process writes down its modules as it ends.
    script = f"""
import atexit, os, pathlib, sys
folder = pathlib.Path({str(tmp_path)!r})
atexit.register(lambda: (folder / f"{{os.getpid()}}.modules").write_text(" ".join(sys.modules)))
from serving.__main__ import main
main()
"""
    settings = {"models": "tiny", "model_server_target": tiny_server.grpc_target}
    with Gateway(tmp_path / "log", ("-c", script), **settings) as gateway:
        statuses = _requests_of_every_kind(gateway, corner)
        workers = gateway.workers()
    assert set(statuses.values()) == {200}, statuses
    assert len(workers) == 1
    unwanted = {"tensorflow", "keras", "training", "opentelemetry"}
    for pid in (*workers, gateway.process.pid):
        modules = (tmp_path / f"{pid}.modules").read_text().split()
        assert "serving.wire" in modules
        assert not [name for name in modules if name.split(".")[0] in unwanted]


def test_the_request_id_of_an_error_is_in_the_log(gateway):
    answer = gateway.http.post(CLASSIFY, content=b"no picture", headers=PNG)
    assert answer.status_code == 400
    (line,) = [line for line in gateway.lines("request") if line["request_id"] == answer.json()["request_id"]]
    assert (line["status"], line["code"], line["model"], line["method"]) == (400, "NOT_AN_IMAGE", "tiny", "POST")
    assert line["duration_ms"] > 0
    assert line["bytes_in"] == 10


@pytest.mark.parametrize("size", [11_000_000, 50_000_000])
def test_a_body_that_is_too_large_is_told_so(gateway, size):
    answer = gateway.http.post(CLASSIFY, content=bytes(size), headers=PNG)
    assert answer.status_code == 413
    assert answer.json()["code"] == "TOO_LARGE"
    # And the gateway goes on.
    assert gateway.http.get("/healthz").status_code == 200


def test_a_body_without_announced_length_is_limited_too(gateway):
    answer = gateway.http.post(CLASSIFY, content=(bytes(100_000) for _ in range(120)), headers=PNG)
    assert answer.status_code == 413
    assert answer.json()["code"] == "TOO_LARGE"


def test_an_error_found_before_the_body_is_read_reaches_the_client(gateway):
    answer = gateway.http.post("/v1/models/nobody:classify", content=bytes(9_000_000), headers=PNG)
    assert answer.json()["code"] == "UNKNOWN_MODEL"


def _raw(gateway: Gateway, data: bytes, then_close: bool = False) -> bytes:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(data)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


HEAD = f"POST {CLASSIFY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: image/png\r\n".encode()


def test_a_body_that_ends_early_is_told_so(gateway):
    received = _raw(gateway, HEAD + b"Content-Length: 1000\r\n\r\nabc", then_close=True)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"BROKEN_BODY"' in received


def test_a_malformed_chunk_is_told_so(gateway):
    received = _raw(gateway, HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
    assert received.startswith(b"HTTP/1.1 400 ")


def test_clients_that_fall_silent_do_not_stop_the_gateway(gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    heads = [HEAD + b"Content-Length: 1000\r\n\r\nabc", b"GET / HT", b""]
    # More than there are threads.
    silent = [socket.create_connection((host, int(port)), timeout=10) for _ in range(60)]
    try:
        for index, connection in enumerate(silent):
            connection.sendall(heads[index % 3])
        time.sleep(0.2)
        assert httpx.get(f"{gateway.url}/healthz", timeout=15).status_code == 200
        assert b'"code":"BROKEN_BODY"' in b"".join(iter(lambda: silent[0].recv(65536), b""))
    finally:
        for connection in silent:
            connection.close()


def test_clients_that_never_close_do_not_hold_up_others(gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    stuck = [socket.create_connection((host, int(port)), timeout=10) for _ in range(100)]
    try:
        for connection in stuck:
            connection.sendall(b"GET / HT")
        # Until the gateway has given up on those that got a thread.
        time.sleep(1.2)
        for _ in range(5):
            assert httpx.get(f"{gateway.url}/healthz", timeout=3).status_code == 200
    finally:
        for connection in stuck:
            connection.close()


def test_many_clients_at_a_time_get_their_own_answers(gateway, encode):
    def classify(red: bool) -> bool:
        pixels = np.zeros((24, 32, 3), np.uint8)
        pixels[..., 0 if red else 2] = 200
        answer = gateway.http.post(CLASSIFY, content=encode(pixels), headers=PNG).json()
        return answer["classifications"][0]["label"] == ("red" if red else "blue")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(classify, [index % 3 == 0 for index in range(120)]))


def test_nothing_but_json_lines_is_logged_and_no_stack_trace(gateway, corner):
    gateway.http.post(CLASSIFY, content=corner, headers=PNG)
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert lines
    assert [line for line in lines if line["level"] == "error" or "exception" in line] == []


def test_sigterm_lets_accepted_requests_finish(tiny_server, tmp_path, corner):
    settings = {"models": "tiny", "model_server_target": tiny_server.grpc_target, "drain_s": 1, "grace_s": 10}
    gateway = Gateway(tmp_path / "log", **settings)
    gateway.start()
    gateway.wait_until_alive()
    half = threading.Event()

    def body():
        yield corner[:50]
        half.set()
        time.sleep(1.8)
        yield corner[50:]

    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=gateway.url, timeout=20) as slow:
        answer = pool.submit(slow.post, CLASSIFY, content=body(), headers=PNG)
        half.wait(10)
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        # Still accepting, but no longer ready.
        ready = gateway.http.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert gateway.http.get("/healthz").status_code == 200
        with grpc.insecure_channel(gateway.grpc_target) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert check.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert answer.result().json()["classifications"][0]["label"] == "red"
    gateway.http.close()
    assert gateway.process.wait(15) == 0


def test_several_workers_answer_and_sum_up_their_metrics(tiny_server, tmp_path, corner):
    settings = {"models": "tiny", "model_server_target": tiny_server.grpc_target, "workers": 2, "max_in_flight": 2}
    with Gateway(tmp_path / "log", **settings) as gateway:
        assert len(gateway.workers()) == 2
        for _ in range(20):
            assert httpx.post(gateway.url + CLASSIFY, content=corner, headers=PNG).status_code == 200
        with grpc.insecure_channel(gateway.grpc_target) as channel:
            vision_pb2_grpc.VisionStub(channel).ListModels(pb.ListModelsRequest())
        text = httpx.get(f"{gateway.url}/metrics").text
        (line,) = [line for line in text.splitlines() if line.startswith("fovea_requests_total") and "classify" in line]
        assert line.endswith(" 20.0")
    assert gateway.process.returncode == 0


def _fail_to_start(**variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOVEA_")}
    done = subprocess.run(
        [sys.executable, "-m", "serving"],
        cwd=Path(__file__).parents[2],
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


def test_a_wrong_setting_ends_the_start_with_a_sentence():
    assert _fail_to_start() == "FOVEA_MODELS is not set: Names of the models to answer for, separated by commas.\n"
    assert _fail_to_start(FOVEA_MODELS="a", FOVEA_MAX_QUEUED="x").startswith("FOVEA_MAX_QUEUED is wrong: ")


@pytest.mark.parametrize("name", ["FOVEA_HTTP_PORT", "FOVEA_GRPC_PORT"])
def test_a_taken_port_ends_the_start_with_a_sentence(gateway, name):
    door = gateway.url if name == "FOVEA_HTTP_PORT" else gateway.grpc_target
    port = door.rpartition(":")[2]
    variables = {"FOVEA_HTTP_PORT": "0", "FOVEA_GRPC_PORT": "0", "FOVEA_HOST": "127.0.0.1"}
    text = _fail_to_start(FOVEA_MODELS="a", **(variables | {name: port}))
    assert text == f"port {port} on 127.0.0.1 is taken ({name})\n"


def test_the_gateway_starts_without_a_model_server(tmp_path):
    with Gateway(tmp_path / "log", models="tiny", model_server_target=f"127.0.0.1:{free_port()}") as gateway:
        assert gateway.http.get("/healthz").status_code == 200
        assert gateway.http.get("/readyz").status_code == 503
