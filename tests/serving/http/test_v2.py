"""The Open Inference Protocol over HTTP, through the real core and a real model server."""

import base64
import json
import math
import re
import struct
from threading import Event

import numpy as np
import pytest

from serving.http import v2
from serving.http.app import create_app
from serving.settings import Settings
from tests.model_servers import free_port, wait_until

# With one of 48 blocks in full red, the logits are 10/48 and 0.
P_RED = 1 / (1 + math.exp(-10 / 48))
MODEL = "/v2/models/tiny/versions/1"
INFER = f"{MODEL}/infer"


def _base64(*pictures, **more):
    data = [base64.b64encode(picture).decode() for picture in pictures]
    return {"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [len(data)], "data": data}], **more}


def _pixels(pixels, **more):
    shape = list(pixels.shape)
    return {"inputs": [{"name": "images", "datatype": "UINT8", "shape": shape, "data": pixels.tolist()}], **more}


def _binary(client, tensors, blobs, **more):
    for tensor, blob in zip(tensors, blobs, strict=True):
        tensor["parameters"] = {"binary_data_size": len(blob)}
    header = json.dumps({"inputs": tensors, **more}).encode()
    return client.post(
        INFER,
        data=header + b"".join(blobs),
        content_type="application/octet-stream",
        headers={v2.HEADER_LENGTH: str(len(header))},
    )


def _counted(*items):
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


class TestServed:
    def test_the_server(self, client):
        body = client.get("/v2").get_json()
        v2.ServerMetadataBody.model_validate(body)
        assert (body["name"], body["extensions"]) == ("fovea", ["binary_tensor_data"])

    def test_health(self, client):
        assert client.get("/v2/health/live").get_json() == {"live": True}
        # A probe waits a second at most, which a busy machine may need.
        wait_until(lambda: client.get("/v2/health/ready").get_json() == {"ready": True}, 20, "ready")

    @pytest.mark.parametrize("path", ["tiny", "tiny/versions/1", "tiny/versions/stable"])
    def test_a_model_is_ready(self, client, path):
        wait_until(lambda: client.get(f"/v2/models/{path}/ready").status_code == 200, 20, "ready")
        assert client.get(f"/v2/models/{path}/ready").get_json() == {"name": "tiny", "ready": True}

    def test_metadata(self, client):
        body = client.get("/v2/models/tiny").get_json()
        v2.ModelMetadataBody.model_validate(body)
        assert body == {
            "name": "tiny",
            "versions": ["2", "1"],
            "platform": "tensorflow_savedmodel",
            "inputs": [
                {"name": "images", "datatype": "UINT8", "shape": [-1, 24, 32, 3]},
                {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
                {"name": "score", "datatype": "FP32", "shape": [-1]},
            ],
        }
        assert client.get(f"{MODEL}").get_json() == {**body, "versions": ["1"]}

    def test_without_a_model_server_nothing_is_ready_and_the_process_lives(self, make_vision):
        settings = Settings(models=["tiny"], model_server_target=f"127.0.0.1:{free_port()}")
        client = create_app(make_vision(settings), settings, Event()).test_client()
        assert client.get("/v2/health/live").status_code == 200
        for path, body in (
            ("/v2/health/ready", {"ready": False}),
            ("/v2/models/tiny/ready", {"name": "tiny", "ready": False}),
        ):
            answer = client.get(path)
            assert (answer.status_code, answer.get_json()) == (503, body)

    def test_a_process_that_ends_is_not_ready(self, vision, settings):
        stopping = Event()
        client = create_app(vision, settings, stopping).test_client()
        stopping.set()
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/models/tiny/ready").status_code == 503
        assert client.get("/v2/health/live").status_code == 200

    @pytest.mark.parametrize(
        ("path", "status", "code"),
        [
            ("absent", 404, "UNKNOWN_MODEL"),
            ("tiny/versions/9", 404, "UNKNOWN_VERSION"),
            ("tiny/versions/0", 404, "UNKNOWN_VERSION"),
            (f"tiny/versions/{'9' * 40}", 404, "UNKNOWN_VERSION"),
            ("tiny/versions/nobody", 400, "UNKNOWN_LABEL"),
        ],
    )
    @pytest.mark.parametrize("suffix", ["", "/ready"])
    def test_what_is_not_served(self, client, path, status, code, suffix):
        answer = client.get(f"/v2/models/{path}{suffix}")
        assert (answer.status_code, answer.get_json()["code"]) == (status, code)


class TestInfer:
    def test_pictures_as_base64(self, client, corner, blue):
        body = client.post(INFER, json=_base64(corner, blue, id="42")).get_json()
        v2.InferAnswer.model_validate(body)
        (output,) = body.pop("outputs")
        assert body == {"model_name": "tiny", "model_version": "1", "id": "42"}
        assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 2])
        assert output["data"][:2] == pytest.approx([P_RED, 1 - P_RED], abs=1e-6)
        assert output["data"][3] > 0.99

    def test_pixels(self, client, red_corner):
        for pixels in (red_corner[None], red_corner[None].repeat(2, 0)):
            body = client.post(INFER, json=_pixels(pixels)).get_json()
            assert body["outputs"][0]["data"] == pytest.approx([P_RED, 1 - P_RED] * len(pixels), abs=1e-6)

    def test_flat_pixels(self, client, red_corner):
        body = _pixels(red_corner[None])
        body["inputs"][0]["data"] = red_corner.ravel().tolist()
        assert client.post(INFER, json=body).get_json()["outputs"][0]["data"][0] == pytest.approx(P_RED, abs=1e-6)

    def test_label_and_score_in_the_order_asked_for(self, client, corner, blue):
        outputs = [{"name": name} for name in ("label", "score", "probabilities")]
        label, score, probabilities = client.post(INFER, json=_base64(corner, blue, outputs=outputs)).get_json()[
            "outputs"
        ]
        assert label == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["red", "blue"]}
        assert (score["datatype"], score["shape"]) == ("FP32", [2])
        assert score["data"] == [probabilities["data"][0], probabilities["data"][3]]

    def test_both_protocols_agree(self, client, corner):
        instances = {"instances": [{"b64": base64.b64encode(corner).decode()}]}
        (row,) = client.post("/v1/models/tiny/versions/1:predict", json=instances).get_json()["predictions"]
        assert client.post(INFER, json=_base64(corner)).get_json()["outputs"][0]["data"] == row

    def test_labels_name_versions(self, client, corner):
        answer = client.post("/v2/models/tiny/versions/canary/infer", json=_base64(corner)).get_json()
        assert answer["model_version"] == "2"
        assert client.post("/v2/models/tiny/infer", json=_base64(corner)).get_json()["model_version"] == "2"


class TestBinary:
    @pytest.mark.parametrize("shape", [[2], [2, 1]])
    def test_encoded_pictures(self, client, corner, blue, shape):
        tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": shape}
        body = _binary(client, [tensor], [_counted(corner, blue)]).get_json()
        assert body["outputs"][0]["data"][:2] == pytest.approx([P_RED, 1 - P_RED], abs=1e-6)

    def test_pixels(self, client, red_corner):
        tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 24, 32, 3]}
        body = _binary(client, [tensor], [red_corner.tobytes()]).get_json()
        assert body["outputs"][0]["data"] == pytest.approx([P_RED, 1 - P_RED], abs=1e-6)

    def test_a_body_that_is_one_picture(self, client, corner):
        answer = client.post(INFER, data=corner, headers={v2.HEADER_LENGTH: "0"})
        assert answer.get_json()["outputs"][0]["data"] == pytest.approx([P_RED, 1 - P_RED], abs=1e-6)

    def test_answers(self, client, corner, blue):
        outputs = [
            {"name": "label"},
            {"name": "probabilities"},
            {"name": "score", "parameters": {"binary_data": False}},
        ]
        request = _base64(corner, blue, outputs=outputs, parameters={"binary_data_output": True})
        answer = client.post(INFER, json=request)
        assert answer.content_type == "application/octet-stream"
        length = int(answer.headers[v2.HEADER_LENGTH])
        label, probabilities, score = json.loads(answer.data[:length])["outputs"]
        assert label["parameters"] == {"binary_data_size": 4 + 3 + 4 + 4}
        assert answer.data[length : length + 15] == _counted(b"red", b"blue")
        values = np.frombuffer(answer.data[length + 15 :], "<f4").reshape(probabilities["shape"])
        assert values[0, 0] == pytest.approx(P_RED, abs=1e-6)
        assert probabilities["parameters"] == {"binary_data_size": 16}
        assert score["data"] == pytest.approx(values.max(axis=1).tolist())

    def test_one_output_in_binary_form(self, client, corner):
        outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}]
        answer = client.post(INFER, json=_base64(corner, outputs=outputs))
        length = int(answer.headers[v2.HEADER_LENGTH])
        assert np.frombuffer(answer.data[length:], "<f4")[0] == pytest.approx(P_RED, abs=1e-6)


_TENSOR = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["aGk="]}
_PIXELS = {"name": "images", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3]}


@pytest.mark.parametrize(
    ("body", "status", "code", "sentence"),
    [
        ({}, 400, "BAD_JSON", "inputs is wrong: field required"),
        ([], 400, "BAD_JSON", "the body is wrong"),
        ({"inputs": []}, 400, "BAD_TENSOR", "has 0 inputs; send one"),
        ({"inputs": [_TENSOR, _PIXELS]}, 400, "BAD_TENSOR", "has 2 inputs; send one"),
        (
            {"inputs": [{**_TENSOR, "name": "x"}]},
            400,
            "BAD_TENSOR",
            "there is no input 'x'; inputs are images, image_bytes",
        ),
        ({"inputs": [{**_TENSOR, "datatype": "UINT8"}]}, 400, "BAD_TENSOR", "is of datatype BYTES, not 'UINT8'"),
        ({"inputs": [{**_TENSOR, "shape": [2]}]}, 400, "BAD_TENSOR", "holds 1 elements, its shape says 2"),
        ({"inputs": [{**_TENSOR, "shape": []}]}, 400, "BAD_TENSOR", r"must have the shape \[n\] or \[n, 1\]"),
        ({"inputs": [{**_TENSOR, "shape": [1, 2]}]}, 400, "BAD_TENSOR", r"must have the shape \[n\] or \[n, 1\]"),
        ({"inputs": [{**_TENSOR, "shape": [-1]}]}, 400, "BAD_JSON", "inputs.0.shape.0 is wrong"),
        ({"inputs": [{**_TENSOR, "shape": [0], "data": []}]}, 400, "NO_INSTANCES", "holds no picture"),
        ({"inputs": [{**_TENSOR, "shape": [5], "data": ["aGk="] * 5}]}, 400, "TOO_MANY_PICTURES", "at most 4"),
        ({"inputs": [{**_TENSOR, "data": ["$"]}]}, 400, "BAD_BASE64", "element 0 of the BYTES tensor is not base64"),
        ({"inputs": [{**_TENSOR, "data": [7]}]}, 400, "BAD_BASE64", "must be a string"),
        ({"inputs": [_TENSOR]}, 400, "NOT_AN_IMAGE", ""),
        ({"inputs": [{**_TENSOR, "data": None}]}, 400, "BAD_TENSOR", "either data or the parameter binary_data_size"),
        (
            {"inputs": [{**_TENSOR, "parameters": {"binary_data_size": 4}}]},
            400,
            "BAD_TENSOR",
            "either data or the parameter binary_data_size",
        ),
        (
            {"inputs": [{**_TENSOR, "data": None, "parameters": {"binary_data_size": 4}}]},
            400,
            "BAD_TENSOR",
            "0 bytes follow the JSON, the inputs' binary_data_size add up to 4",
        ),
        (
            {"inputs": [{**_TENSOR, "parameters": {"shared_memory_region": "r"}}]},
            400,
            "BAD_TENSOR",
            "shared memory is not offered",
        ),
        ({"inputs": [{**_PIXELS, "shape": [1, 3]}]}, 400, "BAD_TENSOR", r"must have the shape \[n, h, w, 3\]"),
        ({"inputs": [{**_PIXELS, "shape": [1, 1, 0, 3]}]}, 400, "BAD_TENSOR", r"must have the shape \[n, h, w, 3\]"),
        ({"inputs": [{**_PIXELS, "data": [1, 2]}]}, 400, "BAD_TENSOR", "holds 2 values"),
        ({"inputs": [{**_PIXELS, "data": [1, 2, 256]}]}, 400, "BAD_TENSOR", "whole numbers in 0..255"),
        ({"inputs": [{**_PIXELS, "data": [1, 2, 0.5]}]}, 400, "BAD_TENSOR", "whole numbers in 0..255"),
        ({"inputs": [{**_PIXELS, "data": [1, [2], "a"]}]}, 400, "BAD_TENSOR", ""),
        ({"inputs": [{**_PIXELS, "data": [2**70, 2, 3]}]}, 400, "BAD_TENSOR", "whole numbers in 0..255"),
        ({"inputs": [{**_PIXELS, "shape": [1, 1000, 1000, 3]}]}, 413, "TOO_MANY_PIXELS", "more than 100000 pixels"),
        ({"inputs": [_TENSOR], "outputs": [{"name": "x"}]}, 400, "INVALID_ARGUMENT", "there is no output 'x'"),
        (
            {"inputs": [_TENSOR], "outputs": [{"name": "label"}, {"name": "label"}]},
            400,
            "INVALID_ARGUMENT",
            "asked for twice",
        ),
        (
            {"inputs": [_TENSOR], "outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]},
            400,
            "INVALID_ARGUMENT",
            "classification is not offered",
        ),
    ],
)
def test_what_is_wrong_with_a_request(client, body, status, code, sentence):
    answer = client.post(INFER, data=json.dumps(body), content_type="application/json")
    found = answer.get_json()
    assert (answer.status_code, found["code"]) == (status, code), found
    assert re.search(sentence, found["error"]), found["error"]


@pytest.mark.parametrize("length", ["-1", "x", "9999999", "²", "9" * 5000])
def test_a_wrong_length_of_the_json(client, length):
    answer = client.post(INFER, json=_base64(b"hi"), headers={v2.HEADER_LENGTH: length.encode("latin-1", "replace")})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("raw", [b"\0", struct.pack("<I", 9) + b"short", b"\xff" * 64, b"\0\0\0\0" * 2])
def test_elements_with_wrong_lengths(client, raw):
    answer = _binary(client, [{"name": "image_bytes", "datatype": "BYTES", "shape": [1]}], [raw])
    assert (answer.status_code, answer.get_json()["code"]) == (400, "BAD_TENSOR")


def test_json_that_is_none(client):
    answer = client.post(INFER, data=b"{", content_type="application/json")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "BAD_JSON")


def test_too_many_bytes(client):
    answer = client.post(INFER, data=bytes(300_000), content_type="application/json")
    assert (answer.status_code, answer.get_json()["code"]) == (413, "TOO_LARGE")


def test_compressed_bodies(client):
    answer = client.post(INFER, json=_base64(b"hi"), headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.get_json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_timeout_in_microseconds(silent_server, make_vision, client, corner):
    settings = Settings(models=["tiny"], model_server_target=silent_server, deadline_s=60)
    waiting = create_app(make_vision(settings), settings, Event()).test_client()
    answer = waiting.post(INFER, json=_base64(corner, parameters={"timeout": 300_000}))
    assert (answer.status_code, answer.get_json()["code"]) == (504, "DEADLINE_EXCEEDED")
    assert client.post(INFER, json=_base64(corner, parameters={"timeout": 0})).status_code == 200
    assert client.post(INFER, json=_base64(corner, parameters={"timeout": -1})).status_code == 400


def test_a_model_that_fails(client, corner):
    answer = client.post("/v2/models/broken/infer", json=_base64(corner))
    assert (answer.status_code, answer.get_json()["code"]) == (502, "MODEL_SERVER_ERROR")


def test_the_log_names_model_version_and_route(client, corner, caplog):
    caplog.set_level("INFO")
    client.post(INFER, json=_base64(corner))
    fields = next(record.fields for record in caplog.records if record.name == "serving.access")
    assert (fields["model"], fields["version"], fields["code"]) == ("tiny", 1, "OK")
    assert fields["route"] == "/v2/models/<name:model>/versions/<name:version>/infer"


def test_the_openapi_document_describes_bodies_and_answers(client):
    document = client.get("/openapi.json").get_json()
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        operation = document["paths"][path]["post"]
        answer = operation["responses"]["200"]["content"]
        for content in (operation["requestBody"]["content"], answer):
            assert set(content) == {"application/json", "application/octet-stream"}
        assert "outputs" in answer["application/json"]["schema"]["properties"]
    assert {"InputTensor", "RequestedOutput", "OutputTensor"} <= set(document["components"]["schemas"])
