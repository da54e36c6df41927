"""Every route's answers, through the real core and a real model server."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from serving.contract import images
from serving.http import schemas

# With one of 48 blocks in full red, the logits are 10/48 and 0.
P_RED = 1 / (1 + math.exp(-10 / 48))
HEAT = 10 / 48
MODEL = "/v1/models/tiny/versions/1"


def _png(client, path, data, **headers):
    return client.post(path, data=data, content_type="image/png", headers=headers)


def _instances(*pictures, **more):
    return {"instances": [{"b64": base64.b64encode(picture).decode()} for picture in pictures], **more}


class TestClassify:
    def test_a_picture_as_the_body(self, client, corner):
        answer = _png(client, f"{MODEL}:classify", corner)
        assert answer.status_code == 200
        body = answer.get_json()
        schemas.ClassifyBody.model_validate(body)
        assert body["model"] == {"name": "tiny", "version": 1}
        (row,) = body["classifications"]
        assert row["label"] == "red"
        assert row["score"] == pytest.approx(P_RED, abs=1e-6)
        assert [(best["label"], best["class_index"]) for best in row["top_k"]] == [("red", 0), ("blue", 1)]
        assert row["top_k"][1]["score"] == pytest.approx(1 - P_RED, abs=1e-6)

    def test_octets_are_a_picture_too(self, client, corner):
        answer = client.post(f"{MODEL}:classify", data=corner, content_type="application/octet-stream")
        assert answer.get_json()["classifications"][0]["label"] == "red"

    def test_a_form_of_several_files_keeps_order_and_names(self, client, corner, blue):
        files = [(io.BytesIO(corner), "corner.png"), (io.BytesIO(blue), "blue.png")]
        rows = client.post(f"{MODEL}:classify", data={"file": files}).get_json()["classifications"]
        assert [(row["filename"], row["label"]) for row in rows] == [("corner.png", "red"), ("blue.png", "blue")]

    def test_json(self, client, corner, blue):
        rows = client.post(f"{MODEL}:classify", json=_instances(blue, corner)).get_json()["classifications"]
        assert [row["label"] for row in rows] == ["blue", "red"]

    def test_top_k_limits_the_list(self, client, corner):
        (row,) = _png(client, f"{MODEL}:classify?top_k=1", corner).get_json()["classifications"]
        assert [best["label"] for best in row["top_k"]] == ["red"]

    @pytest.mark.parametrize(
        ("model", "version", "label"),
        [
            ("tiny", 2, "rot"),
            ("tiny/versions/1", 1, "red"),
            ("tiny/labels/stable", 1, "red"),
            ("tiny/labels/canary", 2, "rot"),
        ],
    )
    def test_versions_and_labels_choose_the_version(self, client, corner, model, version, label):
        body = _png(client, f"/v1/models/{model}:classify", corner).get_json()
        assert (body["model"]["version"], body["classifications"][0]["label"]) == (version, label)

    def test_a_calibrated_threshold_decides(self, client, corner):
        (row,) = _png(client, "/v1/models/cautious:classify", corner).get_json()["classifications"]
        # Blue has .448, above the threshold of .25, though red is more probable.
        assert row["label"] == "blue"
        assert row["score"] == pytest.approx(1 - P_RED, abs=1e-6)
        assert row["top_k"][0]["label"] == "red"


class TestPredict:
    def test_the_answer_is_that_of_tensorflow_serving(self, client, corner, blue):
        body = client.post(f"{MODEL}:predict", json=_instances(corner, blue)).get_json()
        assert list(body) == ["predictions"]
        expected = [[P_RED, 1 - P_RED], [1 / (1 + math.exp(10)), 1 / (1 + math.exp(-10))]]
        np.testing.assert_allclose(body["predictions"], expected, atol=1e-6)

    def test_json_needs_no_content_type(self, client, corner):
        text = json.dumps(_instances(corner, signature_name="serving_default"))
        for content_type in ("application/x-www-form-urlencoded", None):
            answer = client.post(f"{MODEL}:predict", data=text, content_type=content_type)
            assert answer.get_json()["predictions"][0][0] == pytest.approx(P_RED, abs=1e-6)

    @pytest.mark.parametrize("wrap", [lambda pixels: pixels, lambda pixels: {"images": pixels}])
    def test_pixels_as_nested_lists(self, client, red_corner, wrap):
        body = client.post(f"{MODEL}:predict", json={"instances": [wrap(red_corner.tolist())]}).get_json()
        assert body["predictions"][0][0] == pytest.approx(P_RED, abs=1e-6)

    def test_bytes_under_the_name_of_the_signatures_input(self, client, corner):
        instance = {"image_bytes": {"b64": base64.b64encode(corner).decode()}}
        body = client.post(f"{MODEL}:predict", json={"instances": [instance]}).get_json()
        assert body["predictions"][0][0] == pytest.approx(P_RED, abs=1e-6)


class TestGradCam:
    PATH = f"{MODEL}/explain/grad-cam"

    def test_json_holds_the_raw_map_and_what_is_made_of_it(self, client, corner):
        body = _png(client, self.PATH, corner).get_json()
        schemas.GradCamAnswer.model_validate(body)
        (row,) = body["explanations"]
        expected = np.zeros((6, 8))
        expected[1, 2] = HEAT
        np.testing.assert_allclose(row["heatmap"], expected, atol=1e-6)
        np.testing.assert_allclose(row["normalized"], expected / HEAT, atol=1e-6)
        assert row["peak"] == pytest.approx(HEAT, abs=1e-6)
        assert row["box"] == {"left": 8, "top": 4, "right": 12, "bottom": 8}
        assert (row["layer"], row["label"], row["class_index"]) == ("block/conv", "red", 0)
        assert row["score"] == pytest.approx(P_RED, abs=1e-6)
        assert (row["width"], row["height"]) == (32, 24)

    @pytest.mark.parametrize("name", ["blue", "1"])
    def test_nothing_speaks_for_a_class_without_evidence(self, client, corner, name):
        (row,) = _png(client, f"{self.PATH}?class={name}", corner).get_json()["explanations"]
        assert (row["label"], row["class_index"], row["peak"], row["box"]) == ("blue", 1, 0.0, None)
        assert row["score"] == pytest.approx(1 - P_RED, abs=1e-6)
        assert not np.any(row["normalized"])

    def test_another_layer_has_another_resolution(self, client, corner):
        (row,) = _png(client, f"{self.PATH}?layer=identity", corner).get_json()["explanations"]
        assert np.shape(row["heatmap"]) == (24, 32)
        # The logit's gradient by the red of a pixel is HEAT / 16 / 255 in the 16 pixels behind the only block that
        # ReLU lets through; their mean over 24 * 32 pixels is the weight, and the brightest pixel has 255.
        assert row["peak"] == pytest.approx(HEAT / (24 * 32), rel=1e-4)
        assert row["box"] == {"left": 8, "top": 4, "right": 12, "bottom": 8}

    def test_the_class_that_a_threshold_decides_for_is_explained(self, client, corner):
        (row,) = _png(client, "/v1/models/cautious/explain/grad-cam", corner).get_json()["explanations"]
        assert (row["label"], row["class_index"], row["peak"]) == ("blue", 1, 0.0)

    def test_png_is_an_overlay_of_the_pictures_own_size(self, client, encode, red_corner):
        large = np.kron(red_corner, np.ones((4, 3, 1), np.uint8))
        answer = _png(client, f"{self.PATH}?alpha=1&colormap=gray", encode(large), Accept="image/png")
        assert answer.mimetype == "image/png"
        drawn = np.asarray(Image.open(io.BytesIO(answer.data)))
        assert drawn.shape == (96, 96, 3)
        assert drawn[0, -1].tolist() == [0, 0, 0]
        # The centre of the only hot block, where the grey levels are near white.
        assert drawn[24, 30].min() > 225
        assert _png(client, f"{self.PATH}?alpha=0", encode(large), Accept="image/png").data != answer.data

    def test_npz_holds_float32_of_all_pictures(self, client, corner, blue):
        files = {"file": [(io.BytesIO(corner), "a"), (io.BytesIO(blue), "b")]}
        answer = client.post(self.PATH, data=files, headers={"Accept": "application/x-npz"})
        with np.load(io.BytesIO(answer.data)) as archive:
            assert archive["heatmap"].shape == (2, 6, 8)
            assert archive["heatmap"].dtype == np.float32
            assert archive["class_index"].tolist() == [0, 1]
            assert archive["class_names"].tolist() == ["red", "blue"]
            assert archive["probabilities"][0, 0] == pytest.approx(P_RED, abs=1e-6)
            # Every block is blue: 10/48 of channel 1, which is 1.
            np.testing.assert_allclose(archive["heatmap"][1], HEAT, atol=1e-6)

    def test_several_pictures_as_json(self, client, corner, blue):
        rows = client.post(self.PATH, json=_instances(corner, blue)).get_json()["explanations"]
        assert [row["label"] for row in rows] == ["red", "blue"]

    def test_kserves_explain_gives_the_same(self, client, corner):
        body = client.post(f"{MODEL}:explain", json=_instances(corner)).get_json()
        assert list(body) == ["explanations"]
        assert body["explanations"] == _png(client, self.PATH, corner).get_json()["explanations"]


class TestActivations:
    PATH = f"{MODEL}/explain/activations"

    def test_json_sums_up_every_layer(self, client, corner):
        body = _png(client, self.PATH, corner).get_json()
        schemas.ActivationsAnswer.model_validate(body)
        identity, conv, pool = body["pictures"][0]["layers"]
        assert (identity["layer"], identity["shape"]) == ("identity", [24, 32, 3])
        assert identity["sparsity"] == pytest.approx(1 - 16 / (24 * 32 * 3))
        assert identity["silent_channels"] == 2
        assert identity["strongest"][0] == {"channel": 0, "mean": pytest.approx(16 * 255 / (24 * 32))}
        assert (conv["layer"], conv["shape"]) == ("block/conv", [6, 8, 2])
        assert conv["strongest"][0] == {"channel": 0, "mean": pytest.approx(1 / 48)}
        assert (pool["layer"], pool["shape"], pool["sparsity"]) == ("pool", [3, 4, 2], pytest.approx(1 - 1 / 24))
        assert "activations" not in identity

    def test_json_holds_the_values_of_channels_asked_for(self, client, corner):
        path = f"{self.PATH}?layer=block/conv&channels=1,0-0"
        (layer,) = _png(client, path, corner).get_json()["pictures"][0]["layers"]
        assert layer["channels"] == [1, 0]
        assert np.shape(layer["activations"]) == (6, 8, 2)
        assert layer["activations"][1][2] == pytest.approx([0, 1])

    def test_npz_holds_the_pixels_that_the_model_received(self, client, encode):
        rng = np.random.default_rng(0)
        photograph = encode(rng.integers(0, 256, (70, 51, 3), np.uint8), "JPEG")
        answer = client.post(
            self.PATH, data=photograph, content_type="image/jpeg", headers={"Accept": "application/x-npz"}
        )
        with np.load(io.BytesIO(answer.data)) as archive:
            assert sorted(archive) == ["block.conv", "identity", "pool"]
            received = archive["identity"]
        expected = images.resize(images.decode(photograph), 24, 32)
        np.testing.assert_array_equal(received, expected[None].astype(np.float32))

    def test_png_shows_the_first_layer_unless_told_otherwise(self, client, corner):
        sizes = {}
        for query in ("", "?layer=identity", "?layer=block/conv", "?layer=block/conv&channels=1"):
            answer = _png(client, self.PATH + query, corner, Accept="image/png")
            assert answer.mimetype == "image/png"
            sizes[query] = Image.open(io.BytesIO(answer.data)).size
        # Cells of 32x24 are doubled, those of 8x6 enlarged six times.
        assert sizes[""] == sizes["?layer=identity"] == (3 * 65 + 1, 48 + 2)
        assert sizes["?layer=block/conv"] == (2 * 49 + 1, 36 + 2)
        assert sizes["?layer=block/conv&channels=1"] == (50, 38)


class TestFilters:
    PATH = f"{MODEL}/explain/filters"

    def test_png_is_the_default(self, client):
        answer = client.get(self.PATH)
        assert answer.mimetype == "image/png"
        grid = np.asarray(Image.open(io.BytesIO(answer.data)))
        assert grid.shape == (24 + 8, 4 + 2 * 36, 3)
        # Two steps of 64 from grey in the filter's colour.
        assert grid[4, 4].tolist() == [255, 128, 128]
        assert grid[4, 40].tolist() == [128, 128, 255]

    def test_npz_holds_the_filters_asked_for(self, client):
        answer = client.get(f"{self.PATH}?layer=block/conv&filter=1", headers={"Accept": "application/x-npz"})
        with np.load(io.BytesIO(answer.data)) as archive:
            assert archive["filters"].tolist() == [1]
            assert archive["patterns"].dtype == np.uint8
            assert archive["patterns"].shape == (1, 24, 32, 3)
            assert archive["patterns"][0, 0, 0].tolist() == [128, 128, 255]


class TestModels:
    def test_all_models_are_listed(self, client):
        body = client.get("/v1/models").get_json()
        schemas.ModelsBody.model_validate(body)
        assert [(model["name"], model["version"]) for model in body["models"]] == [
            ("tiny", 2),
            ("cautious", 1),
            ("broken", 7),
        ]

    def test_a_model_satisfies_clients_of_tensorflow_serving_and_kserve(self, client):
        body = client.get("/v1/models/tiny").get_json()
        schemas.ModelBody.model_validate(body)
        fine = {"error_code": "OK", "error_message": ""}
        assert body["model_version_status"] == [
            {"version": "2", "state": "AVAILABLE", "status": fine},
            {"version": "1", "state": "AVAILABLE", "status": fine},
        ]
        assert (body["name"], body["ready"]) == ("tiny", True)
        assert body["labels"] == {"stable": 1, "canary": 2}
        assert body["classes"] == ["rot", "blau"]
        assert [layer["name"] for layer in body["layers"]] == ["identity", "block/conv", "pool"]

    @pytest.mark.parametrize("path", ["versions/1", "labels/stable"])
    def test_a_version_is_described_alone(self, client, path):
        body = client.get(f"/v1/models/tiny/{path}").get_json()
        assert [status["version"] for status in body["model_version_status"]] == ["1"]
        assert body["classes"] == ["red", "blue"]

    def test_metadata_has_tensorflow_servings_shape_and_the_card(self, client):
        body = client.get(f"{MODEL}/metadata").get_json()
        assert body["model_spec"] == {"name": "tiny", "signature_name": "", "version": "1"}
        images_info = body["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["images"]
        assert images_info["dtype"] == "DT_UINT8"
        assert [dim["size"] for dim in images_info["tensor_shape"]["dim"]] == ["-1", "24", "32", "3"]
        assert body["model_card"]["class_names"] == ["red", "blue"]
        assert body["model_card"]["input_height"] == 24


class TestOperation:
    def test_liveness(self, client):
        assert client.get("/healthz").get_json() == {"status": "alive"}

    def test_readiness(self, client):
        answer = client.get("/readyz")
        assert answer.status_code == 200
        assert answer.get_json() == {"ready": True, "models": dict.fromkeys(("tiny", "cautious", "broken"), "OK")}

    def test_the_root_says_alive_to_programs(self, client):
        for accept in ("*/*", "application/json"):
            assert client.get("/", headers={"Accept": accept}).get_json() == {"status": "alive"}

    def test_the_root_shows_the_page_to_browsers(self, client):
        answer = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert answer.mimetype == "text/html"
        files = set(re.findall(r'(?:src|href)="(page/[^"]+)"', answer.get_data(as_text=True)))
        assert files
        for file in files:
            assert client.get(f"/{file}").status_code == 200

    def test_metrics_count_by_route_model_and_code(self, client, corner):
        _png(client, f"{MODEL}:classify", corner)
        client.get("/v1/models/nobody")
        text = client.get("/metrics").get_data(as_text=True)
        route = "/v1/models/<name:model>/versions/<name:version>:classify"
        assert f'fovea_requests_total{{code="OK",model="tiny",route="{route}",version="1"}}' in text
        assert 'code="UNKNOWN_MODEL",model="unknown",route="/v1/models/<name:model>",version=""' in text
        assert "nobody" not in text
        for stage in ("decode", "model_server", "render"):
            assert f'fovea_stage_duration_seconds_count{{stage="{stage}"}}' in text
        assert "fovea_build_info{" in text
        assert "fovea_requests_in_flight 1.0" in text

    def test_the_openapi_document_names_every_route_and_parameter(self, client):
        document = client.get("/openapi.json").get_json()
        assert document["openapi"] == "3.1.0"
        grad_cam = document["paths"]["/v1/models/{model}/versions/{version}/explain/grad-cam"]["post"]
        names = {(parameter["in"], parameter["name"]) for parameter in grad_cam["parameters"]}
        assert names == {
            ("path", "model"),
            ("path", "version"),
            ("query", "class"),
            ("query", "top_k"),
            ("query", "layer"),
            ("query", "method"),
            ("query", "position"),
            ("query", "alpha"),
            ("query", "colormap"),
            ("query", "box"),
            ("query", "legend"),
            ("header", "X-Request-Timeout"),
        }
        assert set(grad_cam["responses"]["200"]["content"]) == {"application/json", "image/png", "application/x-npz"}
        assert "multipart/form-data" in grad_cam["requestBody"]["content"]
        for path in ("/v1/models", "/v1/models/{model}", "/v1/models/{model}:predict", "/v1/models/{model}:explain"):
            assert path in document["paths"]
        operations = [op["operationId"] for path in document["paths"].values() for op in path.values()]
        assert len(operations) == len(set(operations))

    def test_the_openapi_document_names_the_timeout_at_every_operation(self, client):
        document = client.get("/openapi.json").get_json()
        operations = [operation for path in document["paths"].values() for operation in path.values()]
        assert len(operations) > 40
        for operation in operations:
            (timeout,) = (item for item in operation["parameters"] if item["in"] == "header")
            assert timeout["name"] == "X-Request-Timeout"
            assert not timeout.get("required")
            assert timeout["schema"] == {"type": "number", "exclusiveMinimum": 0}

    def test_every_reference_of_the_openapi_document_leads_somewhere(self, client):
        document = client.get("/openapi.json").get_json()

        def references(node):
            if isinstance(node, dict):
                yield from (value for key, value in node.items() if key == "$ref")
                for value in node.values():
                    yield from references(value)
            elif isinstance(node, list):
                for value in node:
                    yield from references(value)

        found = set(references(document))
        assert found
        for reference in found:
            node = document
            for part in reference.removeprefix("#/").split("/"):
                assert part in node, reference
                node = node[part]

    def test_a_clients_request_id_comes_back(self, client):
        assert client.get("/healthz", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"

    def test_a_strange_request_id_is_replaced(self, client):
        answer = client.get("/healthz", headers={"X-Request-Id": "a b<c>"})
        assert len(answer.headers["X-Request-Id"]) == 32
