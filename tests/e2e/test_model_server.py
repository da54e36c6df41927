"""The model server as its clients see it. Everything here holds for tensorflow_model_server too.

With `FOVEA_MODEL_SERVER` naming one, the same tests run against it.
"""

import base64
import math
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from tests.model_servers import (
    IMAGES,
    PROBABILITIES,
    ModelServer,
    export_tiny,
    model_spec,
    models_config,
    predict_request,
    publish,
    publish_broken,
    wait_until,
    write_config,
)

# One attempt a load, or the real server reports a broken version only after minutes.
_ONE_ATTEMPT = "--max_num_load_retries=0"
_ALL: dict[str, Any] = {"all": {}}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for version in (1, 2, 3):
        export_tiny(folder / str(version), version)
    return {version: folder / str(version) for version in (1, 2, 3)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, exported: dict[int, Path]) -> Path:
    store = tmp_path_factory.mktemp("store")
    for name, versions in {
        "tiny": (1, 2),
        "growing": (1,),
        "breaking": (1,),
        "moving": (1, 2, 3),
        "added": (1,),
    }.items():
        for version in versions:
            publish(exported[version], store / name, version)
    return store


@pytest.fixture(scope="module")
def models(store: Path) -> dict[str, dict[str, Any]]:
    tiny = {"model_version_policy": _ALL, "version_labels": {"stable": 1, "canary": 2}}
    moving = {"model_version_policy": {"specific": {"versions": [1]}}, "version_labels": {"stable": 1}}
    fields: dict[str, dict[str, Any]] = {"tiny": tiny, "growing": {}, "breaking": {}, "moving": moving}
    return {name: {"name": name, "base_path": str(store / name), **rest} for name, rest in fields.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: dict[str, dict[str, Any]]) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("server")
    write_config(folder / "models.config", models_config(*models.values()))
    flags = (
        f"--model_config_file={folder / 'models.config'}",
        "--allow_version_labels_for_unavailable_models=true",
        "--rest_api_timeout_in_ms=2000",
        "--grpc_max_threads=12",
        _ONE_ATTEMPT,
    )
    with ModelServer(folder / "log", *flags) as server:
        # The ports open when each model has a version; the others may still be loading.
        wait_until(lambda: server.is_available("tiny", 1, 2), 20, "both versions of tiny")
        yield server


@contextmanager
def raises_status(code: StatusCode, text: str = "") -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() == code, caught.value
    assert text in caught.value.details()


def post(server: ModelServer, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{server.rest_url}/v1/models/{path}", json=body, timeout=30)


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def version_answering(server: ModelServer, **spec: Any) -> int:
    outputs = server.predict(model_spec(signature_name="version_number", **spec), {"images": IMAGES})
    return int(outputs["number"][0])


class TestPredict:
    def test_answers_with_the_resolved_model_spec(self, server: ModelServer) -> None:
        response = server.prediction.Predict(predict_request(model_spec("tiny"), {"images": IMAGES}), timeout=10)
        assert response.model_spec.name == "tiny"
        assert response.model_spec.version.value == 2
        assert response.model_spec.signature_name == "serving_default"
        np.testing.assert_allclose(tf.make_ndarray(response.outputs["probabilities"]), PROBABILITIES, rtol=1e-6)

    def test_reads_typed_values_as_well_as_content(self, server: ModelServer) -> None:
        typed = tf.make_tensor_proto(IMAGES)
        typed.tensor_content = b""
        typed.int_val.extend(IMAGES.ravel().tolist())
        outputs = server.predict(model_spec("tiny"), {"images": typed})
        np.testing.assert_allclose(outputs["probabilities"], PROBABILITIES, rtol=1e-6)

    def test_fetches_what_the_filter_names(self, server: ModelServer) -> None:
        spec = model_spec("tiny", signature_name="pair")
        assert set(server.predict(spec, {"images": IMAGES})) == {"darkest", "brightest"}
        outputs = server.predict(spec, {"images": IMAGES}, output_filter=["brightest"])
        assert {name: array.tolist() for name, array in outputs.items()} == {"brightest": [47, 95]}

    def test_carries_strings(self, server: ModelServer) -> None:
        text = np.array([b"caf\xc3\xa9", b"\0\xff"], dtype=object)
        outputs = server.predict(model_spec("tiny", signature_name="text"), {"text": text})
        assert outputs["copy_bytes"].tolist() == [b"caf\xc3\xa9", b"\0\xff"]
        assert outputs["length"].tolist() == [5, 2]

    def test_runs_a_signature_without_inputs(self, server: ModelServer) -> None:
        assert server.predict(model_spec("tiny", signature_name="constant"), {})["text"].item() == b"fixed\0"

    def test_takes_messages_over_four_megabytes(self, server: ModelServer) -> None:
        many = np.zeros((100_000, 4, 4, 3), np.uint8)
        assert server.predict(model_spec("tiny"), {"images": many})["probabilities"].shape == (100_000, 2)

    @pytest.mark.parametrize(
        ("spec", "number"), [({"version": 1}, 1), ({"label": "stable"}, 1), ({"label": "canary"}, 2), ({}, 2)]
    )
    def test_chooses_the_version(self, server: ModelServer, spec: dict[str, Any], number: int) -> None:
        assert version_answering(server, name="tiny", **spec) == number


class TestPredictErrors:
    @pytest.mark.parametrize(
        ("spec", "code", "text"),
        [
            (model_spec("nobody"), StatusCode.NOT_FOUND, "Servable not found for request: Latest(nobody)"),
            (model_spec("tiny", 7), StatusCode.NOT_FOUND, "Servable not found for request: Specific(tiny, 7)"),
            (model_spec("tiny", label="x"), StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: x"),
            (model_spec(""), StatusCode.INVALID_ARGUMENT, "name"),
            (
                model_spec("tiny", signature_name="x"),
                StatusCode.FAILED_PRECONDITION,
                'Serving signature key "x" not found.',
            ),
        ],
    )
    def test_refuses_a_wrong_model_spec(
        self, server: ModelServer, spec: dict[str, Any], code: StatusCode, text: str
    ) -> None:
        with raises_status(code, text):
            server.predict(spec, {"images": IMAGES})

    def test_refuses_a_missing_model_spec(self, server: ModelServer) -> None:
        with raises_status(StatusCode.INVALID_ARGUMENT, "Missing ModelSpec"):
            server.prediction.Predict(predict_pb2.PredictRequest(), timeout=10)

    @pytest.mark.parametrize(
        ("inputs", "text"),
        [
            ({}, "Missing but required: {images}"),
            ({"images": IMAGES, "more": IMAGES}, "Sent extra: {more}"),
            ({"pictures": IMAGES}, "pictures"),
            ({"images": IMAGES.astype(np.float32)}, "uint8"),
            ({"images": IMAGES[:, :, :, 0]}, ""),
        ],
    )
    def test_refuses_wrong_inputs(self, server: ModelServer, inputs: dict[str, np.ndarray], text: str) -> None:
        with raises_status(StatusCode.INVALID_ARGUMENT, text):
            server.predict(model_spec("tiny"), inputs)

    def test_refuses_a_tensor_whose_content_does_not_fit_its_shape(self, server: ModelServer) -> None:
        torn = tf.make_tensor_proto(IMAGES)
        torn.tensor_content = torn.tensor_content[:-1]
        with raises_status(StatusCode.INVALID_ARGUMENT, "tensor parsing error: images"):
            server.predict(model_spec("tiny"), {"images": torn})

    def test_refuses_an_unknown_output(self, server: ModelServer) -> None:
        with raises_status(StatusCode.INVALID_ARGUMENT, "output tensor alias not found in signature: logits"):
            server.predict(model_spec("tiny"), {"images": IMAGES}, output_filter=["logits"])

    def test_passes_on_what_the_graph_raises(self, server: ModelServer) -> None:
        with raises_status(StatusCode.DATA_LOSS):
            server.predict(model_spec("tiny", signature_name="inflate"), {"data": np.array([b"no zlib"], object)})
        with raises_status(StatusCode.NOT_FOUND):
            server.predict(model_spec("tiny", signature_name="read"), {"path": np.array([b"/no/such/file"], object)})

    def test_cuts_long_messages(self, server: ModelServer) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            server.predict(model_spec("tiny"), {"x" * 3000: IMAGES})
        assert caught.value.code() == StatusCode.INVALID_ARGUMENT
        assert len(caught.value.details()) <= 1024

    def test_keeps_the_deadline(self, server: ModelServer) -> None:
        with raises_status(StatusCode.DEADLINE_EXCEEDED):
            server.predict(
                model_spec("tiny", signature_name="count"), {"steps": np.array([10**7], np.int32)}, timeout_s=0.3
            )

    def test_refuses_more_calls_than_it_has_threads(self, server: ModelServer) -> None:
        def code() -> StatusCode:
            try:
                server.predict(model_spec("tiny", signature_name="count"), {"steps": np.array([30_000], np.int32)})
            except grpc.RpcError as error:
                return error.code()
            return StatusCode.OK

        with ThreadPoolExecutor(40) as pool:
            codes = set(pool.map(lambda _: code(), range(40)))
        assert codes == {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED}


class TestRestPredict:
    def test_answers_rows_with_rows(self, server: ModelServer) -> None:
        response = post(server, "tiny:predict", {"instances": IMAGES.tolist()})
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("application/json")
        assert list(response.json()) == ["predictions"]
        np.testing.assert_allclose(response.json()["predictions"], PROBABILITIES, rtol=1e-6)

    def test_answers_columns_with_columns(self, server: ModelServer) -> None:
        for inputs in (IMAGES.tolist(), {"images": IMAGES.tolist()}):
            response = post(server, "tiny:predict", {"inputs": inputs, "signature_name": "serving_default"})
            assert list(response.json()) == ["outputs"]
            np.testing.assert_allclose(response.json()["outputs"], PROBABILITIES, rtol=1e-6)

    def test_names_several_outputs(self, server: ModelServer) -> None:
        rows = post(server, "tiny:predict", {"signature_name": "pair", "instances": IMAGES.tolist()}).json()
        assert rows == {"predictions": [{"darkest": 0, "brightest": 47}, {"darkest": 48, "brightest": 95}]}
        columns = post(server, "tiny:predict", {"signature_name": "pair", "inputs": IMAGES.tolist()}).json()
        assert columns == {"outputs": {"darkest": [0, 48], "brightest": [47, 95]}}

    def test_takes_several_inputs_by_name(self, server: ModelServer) -> None:
        rows = {"signature_name": "ratio", "instances": [{"a": 1, "b": 2.0}, {"a": 3.0, "b": 4}]}
        assert post(server, "tiny:predict", rows).json() == {"predictions": [0.5, 0.75]}
        columns = {"signature_name": "ratio", "inputs": {"a": [1.0, 3.0], "b": [2, 4]}}
        assert post(server, "tiny:predict", columns).json() == {"outputs": [0.5, 0.75]}

    def test_carries_strings_and_bytes(self, server: ModelServer) -> None:
        body = {"signature_name": "text", "instances": [b64(b"abc"), "caf\u00e9"]}
        assert post(server, "tiny:predict", body).json() == {
            "predictions": [
                {"copy": "abc", "copy_bytes": b64(b"abc"), "length": 3},
                {"copy": "caf\u00e9", "copy_bytes": b64("caf\u00e9".encode()), "length": 5},
            ]
        }

    def test_carries_numbers_that_json_does_not_know(self, server: ModelServer) -> None:
        body = '{"signature_name": "echo", "instances": [NaN, Infinity, -Infinity, 0.1, 2]}'
        response = httpx.post(f"{server.rest_url}/v1/models/tiny:predict", content=body, timeout=10)
        nan, *others = response.json()["predictions"]
        assert math.isnan(nan)
        assert others == [math.inf, -math.inf, 0.1, 2.0]
        assert "2.0" in response.text

    @pytest.mark.parametrize(
        ("path", "number"), [("versions/1", 1), ("labels/stable", 1), ("labels/canary", 2), ("versions/2", 2)]
    )
    def test_chooses_the_version(self, server: ModelServer, path: str, number: int) -> None:
        body = {"signature_name": "version_number", "instances": IMAGES.tolist()}
        assert post(server, f"tiny/{path}:predict", body).json() == {"predictions": [number, number]}


class TestRestErrors:
    @pytest.mark.parametrize(
        ("path", "status", "text"),
        [
            ("nobody:predict", 404, "Servable not found for request: Latest(nobody)"),
            ("tiny/versions/7:predict", 404, "Servable not found for request: Specific(tiny, 7)"),
            ("tiny/labels/x:predict", 400, "Unrecognized servable version label: x"),
            ("tiny/predict", 400, "Malformed request: POST /v1/models/tiny/predict"),
            ("tiny:guess", 400, "Malformed request: POST /v1/models/tiny:guess"),
            ("tiny/versions/one:predict", 400, "Malformed request"),
        ],
    )
    def test_refuses_a_wrong_path(self, server: ModelServer, path: str, status: int, text: str) -> None:
        response = post(server, path, {"instances": IMAGES.tolist()})
        assert response.status_code == status
        assert list(response.json()) == ["error"]
        assert text in response.json()["error"]

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_refuses_a_wrong_method(self, server: ModelServer, method: str) -> None:
        response = httpx.request(method, f"{server.rest_url}/v1/models/tiny:predict", timeout=10)
        assert response.status_code == 400
        assert response.json()["error"].startswith(f"Malformed request: {method} /v1/models/tiny:predict")

    def test_knows_no_path_outside_v1(self, server: ModelServer) -> None:
        for path in ("/", "/v1", "/v2/models/tiny"):
            assert httpx.get(server.rest_url + path, timeout=10).status_code == 404

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "[1, 2",
            "[1, 2]",
            "{}",
            '{"instances": [1], "inputs": [1]}',
            '{"instances": 1}',
            '{"instances": []}',
            '{"instances": ["x"]}',
            '{"instances": [[1, 2], [1]]}',
            '{"instances": [{"b64": "AAAA"}]}',
            '{"instances": [{"pictures": 1}]}',
            '{"inputs": {"pictures": 1}}',
            '{"signature_name": 1, "instances": [1]}',
            '{"signature_name": "x", "instances": [1]}',
            '{"signature_name": "constant", "instances": [1]}',
            '{"signature_name": "constant", "inputs": {}}',
            '{"signature_name": "ratio", "instances": [1.0]}',
            '{"signature_name": "ratio", "instances": [{"a": 1.0}]}',
            '{"signature_name": "ratio", "instances": [{"a": 1.0, "b": 2.0, "c": 3.0}]}',
            '{"signature_name": "ratio", "inputs": {"a": [1.0]}}',
            '{"signature_name": "text", "instances": [1]}',
            '{"signature_name": "text", "instances": [{"b64": "AAAA", "more": 1}]}',
            '{"signature_name": "text", "instances": [{"b64": 1}]}',
            '{"signature_name": "version_number", "instances": [1.5]}',
        ],
    )
    def test_refuses_a_wrong_body(self, server: ModelServer, body: str) -> None:
        response = httpx.post(f"{server.rest_url}/v1/models/tiny:predict", content=body, timeout=10)
        assert response.status_code == 400, response.text
        assert list(response.json()) == ["error"]

    def test_refuses_types_that_json_cannot_carry(self, server: ModelServer) -> None:
        assert post(server, "tiny:predict", {"signature_name": "half", "instances": [1.0]}).status_code == 400

    def test_maps_what_the_graph_raises(self, server: ModelServer) -> None:
        lost = post(server, "tiny:predict", {"signature_name": "inflate", "instances": ["no zlib"]})
        assert lost.status_code == 500
        missing = post(server, "tiny:predict", {"signature_name": "read", "instances": ["/no/such/file"]})
        assert missing.status_code == 404

    def test_keeps_the_timeout(self, server: ModelServer) -> None:
        body = {"signature_name": "count", "instances": [10**8]}
        assert post(server, "tiny:predict", body).status_code == 504


class TestDescription:
    def test_status_lists_versions_newest_first(self, server: ModelServer) -> None:
        ok = {"error_code": "OK", "error_message": ""}
        versions = [{"version": number, "state": "AVAILABLE", "status": ok} for number in ("2", "1")]
        # A label is ignored here: all versions are listed.
        for path in ("tiny", "tiny/labels/stable"):
            response = httpx.get(f"{server.rest_url}/v1/models/{path}", timeout=10)
            assert response.json() == {"model_version_status": versions}
        response = httpx.get(f"{server.rest_url}/v1/models/tiny/versions/1", timeout=10)
        assert response.json() == {"model_version_status": versions[1:]}
        assert server.states("tiny") == {1: ("AVAILABLE", 0), 2: ("AVAILABLE", 0)}

    def test_status_of_what_is_not_there(self, server: ModelServer) -> None:
        for path in ("nobody", "tiny/versions/7"):
            response = httpx.get(f"{server.rest_url}/v1/models/{path}", timeout=10)
            assert response.status_code == 404
            assert "Could not find" in response.json()["error"]
        assert httpx.get(f"{server.rest_url}/v1/models/tiny/versions/x", timeout=10).status_code == 400
        with raises_status(StatusCode.INVALID_ARGUMENT, "Missing ModelSpec"):
            server.models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(), timeout=10)

    @pytest.mark.parametrize(("path", "version"), [("", "2"), ("/versions/1", "1"), ("/labels/stable", "1")])
    def test_rest_metadata_is_nested_twice(self, server: ModelServer, path: str, version: str) -> None:
        answer = httpx.get(f"{server.rest_url}/v1/models/tiny{path}/metadata", timeout=10).json()
        assert answer["model_spec"]["name"] == "tiny"
        assert answer["model_spec"]["version"] == version
        images = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["images"]
        assert images["dtype"] == "DT_UINT8"
        assert [dim["size"] for dim in images["tensor_shape"]["dim"]] == ["-1", "4", "4", "3"]

    def test_rest_metadata_of_what_is_not_there(self, server: ModelServer) -> None:
        for path, status in {"nobody": 404, "tiny/versions/7": 404, "tiny/labels/x": 400}.items():
            assert httpx.get(f"{server.rest_url}/v1/models/{path}/metadata", timeout=10).status_code == status

    def test_grpc_metadata(self, server: ModelServer) -> None:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=model_spec("tiny", label="stable"), metadata_field=["signature_def"]
        )
        response = server.prediction.GetModelMetadata(request, timeout=10)
        assert response.model_spec.version.value == 1
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert response.metadata["signature_def"].Unpack(signatures)
        assert set(signatures.signature_def["text"].outputs) == {"copy", "copy_bytes", "length"}

    def test_grpc_metadata_errors(self, server: ModelServer) -> None:
        for spec, fields, code in (
            (model_spec("tiny"), [], StatusCode.INVALID_ARGUMENT),
            (model_spec("tiny"), ["weights"], StatusCode.INVALID_ARGUMENT),
            (model_spec("nobody"), ["signature_def"], StatusCode.NOT_FOUND),
        ):
            with raises_status(code):
                server.prediction.GetModelMetadata(
                    get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=fields), timeout=10
                )


class TestVersions:
    def test_new_version_takes_over_without_a_failed_request(
        self, server: ModelServer, store: Path, exported: dict[int, Path]
    ) -> None:
        numbers: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            body = {"signature_name": "version_number", "instances": IMAGES[:1].tolist()}
            with httpx.Client(base_url=server.rest_url, timeout=10) as client:
                while not stop.is_set():
                    numbers.append(version_answering(server, name="growing"))
                    response = client.post("/v1/models/growing:predict", json=body)
                    numbers.extend(response.raise_for_status().json()["predictions"])

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            try:
                wait_until(lambda: len(numbers) > 20, 10, "answers of the old version")
                publish(exported[2], store / "growing", 2)
                taken_over = wait_until(lambda: numbers[-1] == 2 or asking.done(), 10, "the new version answers")
                wait_until(lambda: server.states("growing")[1][0] == "END" or asking.done(), 10, "the old one ends")
            finally:
                stop.set()
            asking.result()
        assert taken_over < 2
        assert numbers == sorted(numbers), "an old version answered after the new one had"
        assert server.states("growing") == {1: ("END", 0), 2: ("AVAILABLE", 0)}
        with raises_status(StatusCode.NOT_FOUND, "Specific(growing, 1)"):
            version_answering(server, name="growing", version=1)

    def test_broken_version_is_reported_and_the_old_one_kept(self, server: ModelServer, store: Path) -> None:
        publish_broken(store / "breaking", 2)
        wait_until(lambda: server.states("breaking").get(2, ("", 0))[0] == "END", 15, "the broken version ends")
        assert server.states("breaking")[2][1] != 0
        assert server.is_available("breaking", 1)
        assert version_answering(server, name="breaking") == 1
        status = httpx.get(f"{server.rest_url}/v1/models/breaking/versions/2", timeout=10).json()
        assert status["model_version_status"][0]["status"]["error_code"] != "OK"
        # Nor does a second one interrupt it, once the first is out of the way.
        shutil.rmtree(store / "breaking" / "2")
        publish_broken(store / "breaking", 3)
        wait_until(lambda: server.states("breaking").get(3, ("", 0))[0] == "END", 15, "the next broken version ends")
        assert version_answering(server, name="breaking") == 1


class TestReload:
    def test_label_moves_in_two_steps_and_not_in_one(
        self, server: ModelServer, models: dict[str, dict[str, Any]]
    ) -> None:
        def reload(label: int, *versions: int) -> None:
            moving = {
                **models["moving"],
                "model_version_policy": {"specific": {"versions": versions}},
                "version_labels": {"stable": label},
            }
            server.reload(models_config(*{**models, "moving": moving}.values()))

        assert server.states("moving") == {1: ("AVAILABLE", 0)}
        with raises_status(StatusCode.FAILED_PRECONDITION, "Request to assign label to version 3 of model moving"):
            reload(3, 1, 3)
        assert version_answering(server, name="moving", label="stable") == 1

        reload(1, 1, 3)
        wait_until(lambda: server.is_available("moving", 1, 3), 10, "version 3 beside version 1")
        assert version_answering(server, name="moving", label="stable") == 1
        reload(3, 1, 3)
        assert version_answering(server, name="moving", label="stable") == 3
        assert version_answering(server, name="moving", version=1) == 1
        reload(3, 3)
        wait_until(lambda: server.states("moving")[1][0] == "END", 10, "version 1 ends")
        assert version_answering(server, name="moving", label="stable") == 3

    def test_models_come_and_go(self, server: ModelServer, models: dict[str, dict[str, Any]], store: Path) -> None:
        others = {**models, "moving": {**models["moving"], "version_labels": {}}}
        server.reload(models_config(*others.values(), {"name": "added", "base_path": str(store / "added")}))
        # A new model is waited for.
        assert version_answering(server, name="added") == 1
        server.reload(models_config(*others.values()))
        wait_until(lambda: server.states("added")[1][0] == "END", 10, "the removed model ends")
        with raises_status(StatusCode.NOT_FOUND, "Latest(added)"):
            version_answering(server, name="added")

    def test_refuses_a_wrong_config(self, server: ModelServer, models: dict[str, dict[str, Any]]) -> None:
        tiny = models["tiny"]
        for wrong in (
            models_config(tiny, tiny),
            models_config({**tiny, "base_path": "relative/path"}),
            type(models_config())(),
        ):
            with raises_status(StatusCode.INVALID_ARGUMENT):
                server.reload(wrong)
        assert version_answering(server, name="tiny", label="stable") == 1


def test_config_file_is_polled_and_an_aborted_change_tried_again(tmp_path: Path, exported: dict[int, Path]) -> None:
    publish(exported[1], tmp_path / "tiny", 1)
    tiny = {"name": "tiny", "base_path": str(tmp_path / "tiny"), "model_version_policy": _ALL}
    write_config(tmp_path / "models.config", models_config({**tiny, "version_labels": {"stable": 1}}))
    flags = (
        f"--model_config_file={tmp_path / 'models.config'}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models",
    )
    with ModelServer(tmp_path / "log", *flags) as server:
        labels = {"stable": 1, "canary": 1}
        write_config(tmp_path / "models.config", models_config({**tiny, "version_labels": labels}))

        def canary_answers() -> bool:
            try:
                return version_answering(server, name="tiny", label="canary") == 1
            except grpc.RpcError as error:
                if error.code() != StatusCode.INVALID_ARGUMENT:
                    raise
                return False

        wait_until(canary_answers, 10, "the new label")

        # A label that moves may not point at a version that is not there, nor may anything else change meanwhile.
        labels = {"stable": 2, "later": 1}
        write_config(tmp_path / "models.config", models_config({**tiny, "version_labels": labels}))
        wait_until(lambda: "which is not currently available" in server.log.read_text(), 10, "the aborted change")
        assert version_answering(server, name="tiny", label="stable") == 1
        publish(exported[2], tmp_path / "tiny", 2)
        wait_until(lambda: version_answering(server, name="tiny", label="stable") == 2, 10, "the label moves")
        with raises_status(StatusCode.INVALID_ARGUMENT):
            version_answering(server, name="tiny", label="canary")

        server.stop(timeout_s=10)  # which fails when SIGTERM does not end the process


def test_first_load_that_fails_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    publish_broken(tmp_path / "broken", 1)
    server = ModelServer(tmp_path / "log", f"--model_base_path={tmp_path / 'broken'}", _ONE_ATTEMPT)
    server.start()
    assert server.process.wait(timeout=60) != 0


def test_label_at_start_needs_the_allowance(tmp_path: Path, exported: dict[int, Path]) -> None:
    publish(exported[1], tmp_path / "tiny", 1)
    # No version is available yet when the labels are checked.
    config = models_config({"name": "tiny", "base_path": str(tmp_path / "tiny"), "version_labels": {"stable": 1}})
    write_config(tmp_path / "models.config", config)
    server = ModelServer(tmp_path / "log", f"--model_config_file={tmp_path / 'models.config'}")
    server.start()
    assert server.process.wait(timeout=60) != 0


def test_waits_for_the_first_version(tmp_path: Path, exported: dict[int, Path]) -> None:
    (tmp_path / "late").mkdir()
    server = ModelServer(tmp_path / "log", "--model_name=late", f"--model_base_path={tmp_path / 'late'}")
    server.start()
    try:
        with pytest.raises(TimeoutError):
            server.wait_until_ready(timeout_s=8)
        publish(exported[1], tmp_path / "late", 1)
        server.wait_until_ready(timeout_s=10)
        assert version_answering(server, name="late") == 1
    finally:
        server.stop()
