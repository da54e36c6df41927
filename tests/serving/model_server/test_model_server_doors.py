"""What the stand-in does at its doors that the end-to-end tests, written for the real server too, leave open."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from flask.testing import FlaskClient
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import classification_pb2, inference_pb2, prediction_service_pb2_grpc, regression_pb2

from serving.model_server.errors import HTTP_STATUS
from serving.model_server.grpc_door import create_grpc_server
from serving.model_server.manager import ModelManager
from serving.model_server.rest_door import RestServer, create_app
from tests.model_servers import IMAGES, free_port, models_config, publish


@pytest.fixture
def served(manager: ModelManager, exported: dict[int, Path], tmp_path: Path) -> ModelManager:
    publish(exported[1], tmp_path / "tiny", 1)
    manager.reload(models_config({"name": "tiny", "base_path": str(tmp_path / "tiny")}), keep_waiting=lambda: True)
    return manager


@pytest.fixture
def client(served: ModelManager) -> FlaskClient:
    return create_app(served).test_client()


@pytest.fixture
def port(served: ModelManager) -> Iterator[int]:
    port = free_port()
    server = create_grpc_server(served, port, max_threads=4, health_check=True)
    server.start()
    yield port
    server.stop(None).wait()


def test_every_status_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == set(StatusCode)


def test_rest_knows_predict_only(client: FlaskClient) -> None:
    for method in ("classify", "regress"):
        response = client.post(f"/v1/models/tiny:{method}", json={"examples": [{}]})
        assert response.status_code == 501
        assert "predict" in response.json["error"]


def test_rest_paths_ignore_case_but_not_slashes(client: FlaskClient) -> None:
    assert client.post("/V1/Models/tiny:Predict", json={"instances": IMAGES.tolist()}).status_code == 200
    assert client.get("/v1//models/tiny").status_code == 400
    assert client.get("/v1/models/TINY").status_code == 404


def test_rest_refuses_a_version_beyond_64_bits(client: FlaskClient) -> None:
    response = client.get(f"/v1/models/tiny/versions/{2**63}")
    assert response.status_code == 400
    assert "to numeric" in response.json["error"]


def test_rest_hides_what_nobody_foresaw(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelManager, "status", lambda *_: 1 / 0)
    response = client.get("/v1/models/tiny")
    assert response.status_code == 500
    assert response.json == {"error": "ZeroDivisionError: division by zero"}


def test_grpc_knows_predict_only(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for call, request in (
            (stub.Classify, classification_pb2.ClassificationRequest()),
            (stub.Regress, regression_pb2.RegressionRequest()),
            (stub.MultiInference, inference_pb2.MultiInferenceRequest()),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(request, timeout=10)
            assert caught.value.code() == StatusCode.UNIMPLEMENTED


def test_grpc_tells_its_health(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_taken_port_is_refused_in_one_sentence(served: ModelManager, port: int) -> None:
    with pytest.raises(OSError, match=f"port {port} cannot be bound"):
        create_grpc_server(served, port, max_threads=4, health_check=False)
    with pytest.raises(OSError, match=f"port {port} cannot be bound"):
        RestServer(create_app(served), port, threads=1)
