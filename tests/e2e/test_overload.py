"""More requests than a gateway takes on, in front of a model server that stands still for a while."""

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import httpx
import pytest
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.gateways import Gateway
from tests.model_servers import wait_until

CLASSIFY = "/v1/models/tiny/versions/1:classify"
PNG = {"Content-Type": "image/png"}
IN_FLIGHT, QUEUED = 2, 3


@pytest.fixture(scope="module")
def corner(encode, red_corner):
    return encode(red_corner)


@pytest.fixture(scope="module")
def gateway(tiny_server, tmp_path_factory):
    settings = {"max_in_flight": IN_FLIGHT, "max_queued": QUEUED, "deadline_s": 30}
    log = tmp_path_factory.mktemp("overload") / "log"
    with Gateway(log, models="tiny", model_server_target=tiny_server.grpc_target, **settings) as gateway:
        yield gateway


@contextmanager
def _standing_still(server):
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def _answer(connection):
    """Read an answer of JSON to its end, which may come in pieces."""
    answer = b""
    while not answer.endswith(b"}") and (piece := connection.recv(65536)):
        answer += piece
    return answer


def _metric(gateway, name):
    lines = httpx.get(f"{gateway.url}/metrics", timeout=5).text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_what_is_accepted_is_finished_and_the_rest_refused_at_once(gateway, tiny_server, corner):
    def classify(_=None):
        return httpx.post(gateway.url + CLASSIFY, content=corner, headers=PNG, timeout=30)

    assert classify().status_code == 200
    refused_before = _metric(gateway, 'fovea_requests_rejected_total{reason="full"}')
    with (
        ThreadPoolExecutor(IN_FLIGHT + QUEUED) as pool,
        httpx.Client(base_url=gateway.url) as kept,
        grpc.insecure_channel(gateway.grpc_target) as channel,
    ):
        with _standing_still(tiny_server):
            accepted = [pool.submit(classify) for _ in range(IN_FLIGHT + QUEUED)]
            wait_until(lambda: _metric(gateway, "fovea_requests_queued ") == QUEUED, 10, "a full queue")

            # Refused in the event loop, twice on one connection.
            host, port = gateway.url.removeprefix("http://").split(":")
            head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(corner)}\r\nX-Request-Id: mine\r\n\r\n"
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                for _ in range(2):
                    connection.sendall(head.encode() + corner)
                    answer = _answer(connection)
                    assert answer.startswith(b"HTTP/1.1 503 ")
                    assert b"\r\nRetry-After: 1\r\n" in answer
                    assert answer.endswith(b'"code":"OVERLOADED","request_id":"mine"}')
            assert gateway.lines("overloaded")

            # Refused by the application, unless they arrive as a whole.
            for path, body, headers in (
                (CLASSIFY, corner, PNG),
                (CLASSIFY, bytes(1_000_000), PNG),
                ("/v2/models/tiny/infer", corner, {}),
                (CLASSIFY, iter([corner]), PNG),
                (CLASSIFY, corner, {**PNG, "Connection": "close"}),
            ):
                started = time.monotonic()
                answer = kept.post(path, content=body, headers={**headers, "X-Request-Id": "mine"}, timeout=5)
                assert time.monotonic() - started < 1
                assert (answer.status_code, answer.json()["code"]) == (503, "OVERLOADED")
                assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "mine"
                assert int(answer.headers["Retry-After"]) >= 1
            request = pb.ClassifyRequest(model=pb.ModelRef(name="tiny", version=1), images=[corner])
            started = time.monotonic()
            with pytest.raises(grpc.RpcError) as caught:
                vision_pb2_grpc.VisionStub(channel).Classify(request, timeout=5)
            assert time.monotonic() - started < 1
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert dict(caught.value.trailing_metadata())["fovea-error-code"] == "OVERLOADED"

            # Probes and metrics need no turn.
            for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/openapi.json"):
                started = time.monotonic()
                assert httpx.get(gateway.url + path, timeout=5).status_code in (200, 503)
                assert time.monotonic() - started < 2
            check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            assert check.status == health_pb2.HealthCheckResponse.SERVING
        labels = [future.result().json()["classifications"][0]["label"] for future in accepted]
        assert labels == ["red"] * (IN_FLIGHT + QUEUED)
        assert kept.post(CLASSIFY, content=corner, headers=PNG, timeout=30).status_code == 200
    assert _metric(gateway, 'fovea_requests_rejected_total{reason="full"}') == refused_before + 8
    assert _metric(gateway, "fovea_requests_queued ") == 0


def test_a_client_that_is_slow_to_send_takes_no_turn(gateway, corner):
    def body():
        yield corner[:20]
        time.sleep(1)
        yield corner[20:]

    def slow(_):
        return httpx.post(gateway.url + CLASSIFY, content=body(), headers=PNG, timeout=10)

    with ThreadPoolExecutor(IN_FLIGHT + QUEUED + 2) as pool:
        answers = pool.map(slow, range(IN_FLIGHT + QUEUED + 2))
        time.sleep(0.3)
        started = time.monotonic()
        assert httpx.post(gateway.url + CLASSIFY, content=corner, headers=PNG, timeout=5).status_code == 200
        assert time.monotonic() - started < 0.5
        assert {answer.status_code for answer in answers} <= {200, 503}


def test_sigterm_lets_what_waits_for_its_turn_finish(tiny_server, tmp_path, corner):
    settings = {"max_in_flight": 1, "max_queued": 8, "drain_s": 0.5, "grace_s": 10, "deadline_s": 30}
    gateway = Gateway(tmp_path / "log", models="tiny", model_server_target=tiny_server.grpc_target, **settings)
    gateway.start()
    gateway.wait_until_alive()
    gateway.http.close()

    def rest():
        return httpx.post(gateway.url + CLASSIFY, content=corner, headers=PNG, timeout=30).status_code

    def rpc():
        with grpc.insecure_channel(gateway.grpc_target) as channel:
            request = pb.ClassifyRequest(model=pb.ModelRef(name="tiny", version=1), images=[corner])
            return vision_pb2_grpc.VisionStub(channel).Classify(request, timeout=30).classifications[0].label

    assert (rest(), rpc()) == (200, "red")
    with ThreadPoolExecutor(6) as pool:
        with _standing_still(tiny_server):
            answers = [pool.submit(call) for call in (rest, rpc) * 3]
            wait_until(lambda: _metric(gateway, "fovea_requests_queued ") == 5, 20, "a queue")
            gateway.process.send_signal(signal.SIGTERM)
            time.sleep(2)
            # It takes nothing new any more.
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{gateway.url}/healthz", timeout=2)
        assert [future.result() for future in answers] == [200, "red"] * 3
    assert gateway.process.wait(10) == 0


@pytest.mark.parametrize("in_queue", [False, True])
def test_a_clients_timeout_ends_its_request(gateway, tiny_server, corner, in_queue):
    def classify(timeout_s):
        headers = {**PNG, "X-Request-Timeout": timeout_s}
        return httpx.post(gateway.url + CLASSIFY, content=corner, headers=headers, timeout=30)

    with ThreadPoolExecutor(IN_FLIGHT) as pool, _standing_still(tiny_server):
        before = [pool.submit(classify, "1") for _ in range(IN_FLIGHT if in_queue else 0)]
        time.sleep(0.2)
        started = time.monotonic()
        answer = classify("0.3")
        assert 0.25 < time.monotonic() - started < 0.9
        assert (answer.status_code, answer.json()["code"]) == (504, "DEADLINE_EXCEEDED")
        assert {future.result().status_code for future in before} <= {504}
