"""What clients see while the model server behind a gateway is away, stands still, swaps versions, or talks nonsense."""

import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
import httpx
import numpy as np
import pytest

from serving import tensors, wire
from serving.contract import card as model_card
from serving.contract import signatures
from tests import tiny_models
from tests.gateways import Gateway
from tests.model_servers import ModelServer, publish, wait_until

CLASSIFY = "/v1/models/tiny:classify"
PNG = {"Content-Type": "image/png"}
DEADLINE_S = 2.0
SLACK_S = 1.5
RECOVERY_S = 2.0
LABELS = {1: "red", 2: "rot"}


@pytest.fixture(scope="module")
def corner(encode, red_corner):
    return encode(red_corner)


class Answered(NamedTuple):
    """What a client got: a status and how long it took; of a 200, version and label."""

    status: int
    seconds: float
    version: int | None = None
    label: str | None = None


def _classify(http: httpx.Client, picture: bytes) -> Answered:
    started = time.monotonic()
    answer = http.post(CLASSIFY, content=picture, headers=PNG)
    seconds = time.monotonic() - started
    if answer.status_code != 200:
        assert set(answer.json()) == {"error", "code", "request_id"}
        return Answered(answer.status_code, seconds)
    body = answer.json()
    return Answered(200, seconds, body["model"]["version"], body["classifications"][0]["label"])


@contextmanager
def _load(gateway: Gateway, picture: bytes, clients: int = 4) -> Iterator[list[Answered]]:
    """Let clients classify one picture after the other; the list fills meanwhile and is checked at the end."""
    answers: list[Answered] = []
    done = threading.Event()

    def work() -> None:
        with httpx.Client(base_url=gateway.url, timeout=30) as http:
            while not done.is_set():
                answers.append(_classify(http, picture))

    with futures.ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(work) for _ in range(clients)]
        try:
            wait_until(lambda: len(answers) > 2 * clients, 10, "load")
            yield answers
        finally:
            done.set()
        for future in working:
            future.result()
    assert {answer.status for answer in answers} <= {200, 503, 504}
    assert max(answer.seconds for answer in answers) < DEADLINE_S + SLACK_S
    assert all(answer.label == LABELS[answer.version] for answer in answers if answer.version)


def _ready(gateway: Gateway) -> bool:
    return gateway.http.get("/readyz").status_code == 200


@pytest.fixture(scope="module")
def store(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults") / "tiny"
    folder.mkdir()
    publish(tiny_store / "tiny" / "1", folder, 1)
    return folder


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    """A model server that does not run yet."""
    server = ModelServer(
        tmp_path_factory.mktemp("server") / "log",
        "--model_name=tiny",
        f"--model_base_path={store}",
        "--file_system_poll_wait_seconds=1",
    )
    yield server
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGCONT)
        server.stop()


@pytest.fixture(scope="module")
def gateway(server, corner, tmp_path_factory):
    """A gateway that was there before its model server."""
    settings = {"models": "tiny", "model_server_target": server.grpc_target, "deadline_s": DEADLINE_S}
    with Gateway(tmp_path_factory.mktemp("gateway") / "log", **settings) as gateway:
        assert _classify(gateway.http, corner).status == 503
        assert not _ready(gateway)
        _start(server, gateway)
        yield gateway


def _start(server: ModelServer, gateway: Gateway) -> None:
    server.start()
    wait_until(lambda: _available(server), 60, "the model server")
    wait_until(lambda: _ready(gateway), RECOVERY_S, "readiness after the model server's return")


def _available(server: ModelServer) -> bool:
    try:
        return server.is_available("tiny", 1)
    except grpc.RpcError:
        return False


def test_a_model_server_is_killed_under_load_and_comes_back(gateway, server, corner):
    with _load(gateway, corner) as answers:
        server.process.kill()
        server.stop()
        wait_until(lambda: not _ready(gateway), 3, "not ready without a model server")
        assert gateway.http.get("/healthz").status_code == 200
        assert _classify(gateway.http, corner).status == 503
        _start(server, gateway)
        count = len(answers)
        wait_until(lambda: len(answers) > count + 8, 10, "answers")
        assert {answer.status for answer in answers[-4:]} == {200}


def test_a_model_server_stands_still_under_load_and_goes_on(gateway, server, corner):
    with _load(gateway, corner) as answers:
        server.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: not _ready(gateway), 4, "not ready with a model server that stands still")
        assert gateway.http.get("/healthz").status_code == 200
        late = _classify(gateway.http, corner)
        assert late.status == 504
        server.process.send_signal(signal.SIGCONT)
        wait_until(lambda: _ready(gateway), RECOVERY_S, "readiness")
        count = len(answers)
        wait_until(lambda: len(answers) > count + 8, 10, "answers")
        assert {answer.status for answer in answers[-4:]} == {200}


def test_no_request_fails_while_a_version_takes_the_place_of_another(gateway, store, tiny_store, corner):
    with _load(gateway, corner) as answers:
        publish(tiny_store / "tiny" / "2", store, 2)
        wait_until(lambda: answers[-1].version == 2, 30, "answers of the new version")
        shutil.rmtree(store / "2")
        wait_until(lambda: answers[-1].version == 1, 30, "answers of the version before")
    assert {answer.status for answer in answers} == {200}


def test_a_model_is_unloaded_under_load_and_comes_back(gateway, store, corner):
    with _load(gateway, corner) as answers:
        (store / "1").rename(store.parent / "aside")
        wait_until(lambda: answers[-1].status == 503, 30, "refusals")
        answer = gateway.http.post(CLASSIFY, content=corner, headers=PNG)
        assert answer.json()["code"] == "MODEL_NOT_READY"
        wait_until(lambda: not _ready(gateway), 3, "not ready without the model")
        assert gateway.http.get("/healthz").status_code == 200
        (store.parent / "aside").rename(store / "1")
        wait_until(lambda: answers[-1].status == 200, 30, "answers")
    assert _ready(gateway)


class Impostor:
    """Something at the model server's address that answers Predict with what `answer` returns for a request."""

    def __init__(self) -> None:
        self.answer: Callable[[wire.PredictRequest], bytes] = lambda request: b""
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        predict = grpc.unary_unary_rpc_method_handler(
            lambda request, context: self.answer(request), request_deserializer=wire.PredictRequest.FromString
        )
        handlers = {"Predict": predict}
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers)]
        )
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0)


def _response(version: int = 1, **outputs: Any) -> bytes:
    response = wire.PredictResponse(model_spec={"name": "tiny", "version": {"value": version}})
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(tensors.to_proto(array))
    return response.SerializeToString()


def _with_card(probabilities: Callable[[], bytes]) -> Callable[[wire.PredictRequest], bytes]:
    """Answer as `tiny` does, except for the probabilities."""
    card = np.array([model_card.to_json(tiny_models.card("tiny")).encode()], object)

    def answer(request: wire.PredictRequest) -> bytes:
        wants_card = request.model_spec.signature_name == signatures.MODEL_CARD
        return _response(card=card) if wants_card else probabilities()

    return answer


def _sure(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


def _late() -> bytes:
    time.sleep(DEADLINE_S + 3)
    return _response(probabilities=_sure(1, 2))


@pytest.fixture(scope="module")
def impostor():
    impostor = Impostor()
    yield impostor
    impostor.stop()


@pytest.fixture(scope="module")
def deceived(impostor, tmp_path_factory):
    log = tmp_path_factory.mktemp("deceived") / "log"
    settings = {"model_server_target": impostor.target, "deadline_s": DEADLINE_S, "version_ttl_s": 0}
    with Gateway(log, models="tiny", **settings) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda request: b"\xff\xff\xff", 502),
        (lambda request: b"", 502),
        (lambda request: _response(card=np.array([b"{"], object)), 502),
        (lambda request: _response(card=_sure(1)), 502),
        (_with_card(lambda: b"\xff\xff\xff"), 502),
        (_with_card(lambda: _response()), 502),
        (_with_card(lambda: _response(probabilities=_sure(2, 2))), 502),
        (_with_card(lambda: _response(probabilities=_sure(1, 3))), 502),
        (_with_card(lambda: _response(probabilities=_sure(2))), 502),
        (_with_card(lambda: _response(probabilities=np.array([[1, 0]], np.int32))), 502),
        (_with_card(lambda: _response(probabilities=_sure(1, 2) * np.nan)), 502),
        (_with_card(_late), 504),
    ],
    ids=[
        "no message",
        "empty message",
        "broken card",
        "card of numbers",
        "no message after the card",
        "no outputs",
        "too many rows",
        "too many classes",
        "too few dimensions",
        "whole numbers",
        "not finite",
        "late",
    ],
)
def test_a_model_server_that_answers_nonsense(deceived, impostor, corner, answer, status):
    impostor.answer = answer
    given = _classify(deceived.http, corner)
    assert given.status == status
    assert given.seconds < DEADLINE_S + SLACK_S
    assert deceived.http.get("/healthz").status_code == 200
    # And what was wrong is not remembered.
    impostor.answer = _with_card(lambda: _response(probabilities=np.array([[0.75, 0.25]], np.float32)))
    assert _classify(deceived.http, corner)[2:] == (1, "red")


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 100, b""], ids=["text", "zeros", "none"]
)
def test_something_else_at_the_model_servers_address(tmp_path, corner, greeting):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(greeting)

        threading.Thread(target=serve, daemon=True).start()
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        with Gateway(tmp_path / "log", models="tiny", model_server_target=target, deadline_s=DEADLINE_S) as gateway:
            given = _classify(gateway.http, corner)
            assert given.status == 503
            assert given.seconds < DEADLINE_S + SLACK_S
            assert not _ready(gateway)
        listener.shutdown(socket.SHUT_RDWR)
