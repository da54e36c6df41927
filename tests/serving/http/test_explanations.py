"""Heat maps by several methods, of several classes, and integrated gradients."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from serving import rendering
from serving.contract import signatures
from serving.http import schemas

HEAT = 10 / 48
LOGIT = 10 / 48
"""Of red, for one of 48 blocks in full red."""
P_RED = 1 / (1 + math.exp(-LOGIT))
MODEL = "/v1/models/tiny/versions/1"
CAM = f"{MODEL}/explain/grad-cam"
ATTRIBUTIONS = f"{MODEL}/explain/attributions"


def _png(client, path, data, **headers):
    return client.post(path, data=data, content_type="image/png", headers=headers)


def _rows(client, path, data):
    return _png(client, path, data).get_json()["explanations"]


@pytest.fixture(scope="module")
def old(tmp_path_factory, make_vision, encode):
    """The application in front of a model that keeps version 1 of the contract."""
    from threading import Event

    from serving.http.app import create_app
    from serving.settings import Settings
    from tests import model_servers, tiny_models

    folder = tmp_path_factory.mktemp("old")
    card = tiny_models.card("old")
    card.contract_version, card.integrated_gradients = 1, False
    for layer in card.layers:
        layer.cam_methods = False
    tiny_models.export(folder / "old" / "1", card)
    flags = ("--model_name=old", f"--model_base_path={folder / 'old'}")
    with model_servers.ModelServer(folder / "log", *flags) as server:
        settings = Settings(models=["old"], model_server_target=server.grpc_target)
        yield create_app(make_vision(settings), settings, Event()).test_client()


class TestMethods:
    @pytest.mark.parametrize("method", signatures.CAM_MAPS)
    def test_each_method_answers_its_own_map(self, client, corner, method):
        (row,) = _rows(client, f"{CAM}?method={method}", corner)
        assert (row["method"], row["layer"], row["label"]) == (method, "block/conv", "red")
        expected = np.zeros((6, 8))
        # One block has activation 1 and every block the gradient HEAT; the coefficients of Grad-CAM++ are all alike.
        expected[1, 2] = 48 * HEAT / (2 + HEAT) if method == "grad_cam_pp" else HEAT
        np.testing.assert_allclose(row["heatmap"], expected, rtol=1e-5)

    def test_several_methods_in_the_order_asked_for(self, client, corner):
        body = _png(client, f"{CAM}?method=layer_cam&method=grad_cam&layer=identity", corner).get_json()
        schemas.GradCamAnswer.model_validate(body)
        assert [row["method"] for row in body["explanations"]] == ["layer_cam", "grad_cam"]
        assert {row["layer"] for row in body["explanations"]} == {"identity"}
        layer_cam, grad_cam = (row["peak"] for row in body["explanations"])
        # The gradient where the picture is red, and its mean over all pixels, of which one in 48 is.
        assert layer_cam == pytest.approx(48 * grad_cam, rel=1e-4)

    def test_a_method_that_does_not_exist_is_refused(self, client, corner):
        answer = _png(client, f"{CAM}?method=gradcam", corner)
        assert (answer.status_code, answer.get_json()["code"]) == (400, "INVALID_ARGUMENT")
        assert "methods are grad_cam, hires_cam, grad_cam_pp, layer_cam" in answer.get_json()["error"]

    @pytest.mark.parametrize("path", ["grad-cam?method=layer_cam", "attributions"])
    def test_an_older_model_says_what_it_does_not_carry(self, old, corner, path):
        answer = _png(old, f"/v1/models/old/explain/{path}", corner)
        assert (answer.status_code, answer.get_json()["code"]) == (400, "NOT_CARRIED")
        assert "publish it again" in answer.get_json()["error"]

    def test_an_older_model_still_answers_grad_cam(self, old, corner):
        (row,) = _rows(old, "/v1/models/old/explain/grad-cam?method=grad_cam", corner)
        assert row["peak"] == pytest.approx(HEAT, abs=1e-6)


class TestClasses:
    def test_the_most_probable_classes(self, client, corner, blue):
        files = {"file": [(io.BytesIO(corner), "corner.png"), (io.BytesIO(blue), "blue.png")]}
        rows = client.post(f"{CAM}?top_k=2", data=files).get_json()["explanations"]
        found = [(row["picture"], row["filename"], row["label"]) for row in rows]
        assert found == [
            (0, "corner.png", "red"), (0, "corner.png", "blue"), (1, "blue.png", "blue"), (1, "blue.png", "red"),
        ]  # fmt: skip
        assert [row["peak"] > 0 for row in rows] == [True, False, True, False]

    def test_more_than_there_are_is_all(self, client, corner):
        assert len(_rows(client, f"{CAM}?top_k=99", corner)) == 2

    def test_named_classes(self, client, corner):
        rows = _rows(client, f"{CAM}?class=blue&class=0&method=grad_cam&method=layer_cam", corner)
        assert [(row["label"], row["method"]) for row in rows] == [
            ("blue", "grad_cam"), ("blue", "layer_cam"), ("red", "grad_cam"), ("red", "layer_cam"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("query", "code", "sentence"),
        [
            ("top_k=0", "INVALID_ARGUMENT", "'top_k' is wrong"),
            ("top_k=2&class=red", "INVALID_ARGUMENT", "not both"),
            ("class=red&class=dog", "UNKNOWN_CLASS", "'dog'; its classes are red, blue"),
        ],
    )
    def test_wrong_ones_are_refused(self, client, corner, query, code, sentence):
        answer = _png(client, f"{CAM}?{query}", corner)
        assert (answer.status_code, answer.get_json()["code"]) == (400, code)
        assert sentence in answer.get_json()["error"]

    def test_classes_count_as_pictures(self, client, corner):
        files = {"file": [(io.BytesIO(corner), f"{number}.png") for number in range(3)]}
        answer = client.post(f"{CAM}?top_k=2", data=files)
        assert answer.get_json()["code"] == "TOO_MANY_PICTURES"
        assert "2 classes of 3 pictures are 6 explanations; at most 4" in answer.get_json()["error"]

    def test_npz_has_a_row_for_each(self, client, corner):
        answer = _png(client, f"{CAM}?top_k=2&method=hires_cam", corner, Accept="application/x-npz")
        arrays = np.load(io.BytesIO(answer.data))
        assert arrays["heatmap"].shape == (2, 6, 8)
        assert arrays["class_index"].tolist() == [0, 1]
        assert arrays["method"].tolist() == ["hires_cam"] * 2
        assert arrays["picture"].tolist() == [0, 0]
        np.testing.assert_allclose(arrays["probabilities"], [[P_RED, 1 - P_RED]], rtol=1e-6)


class TestPictures:
    def test_classes_stand_side_by_side_with_legends(self, client, corner):
        answer = _png(client, f"{CAM}?top_k=2", corner, Accept="image/png")
        drawn = np.asarray(Image.open(io.BytesIO(answer.data)))
        assert drawn.shape[1] == 2 * 160 + 8
        assert drawn.shape[0] > 24
        assert (drawn[:, 160:168] == 255).all()

    def test_one_map_has_the_pictures_size_unless_a_legend_is_asked_for(self, client, corner):
        sizes = [
            Image.open(io.BytesIO(_png(client, f"{CAM}{query}", corner, Accept="image/png").data)).size
            for query in ("", "?legend=true", "?top_k=2&legend=false")
        ]
        assert sizes[0] == (32, 24)
        assert sizes[1][0] == 160
        assert sizes[2] == (32 + 8 + 32, 24)

    def test_the_edge_of_the_hot_region(self, client, encode, red_corner):
        picture = encode(np.kron(red_corner, np.ones((8, 8, 1), np.uint8)))
        (row,) = _rows(client, CAM, picture)
        plain, boxed = (
            np.asarray(Image.open(io.BytesIO(_png(client, f"{CAM}?box={box}", picture, Accept="image/png").data)))
            for box in ("false", "true")
        )
        box = row["box"]
        changed = (plain != boxed).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert (rows[0], rows[-1] + 1) == (box["top"], box["bottom"])
        assert (columns[0], columns[-1] + 1) == (box["left"], box["right"])
        inside = boxed[box["top"] + 4 : box["bottom"] - 4, box["left"] + 4 : box["right"] - 4]
        outside = plain[box["top"] + 4 : box["bottom"] - 4, box["left"] + 4 : box["right"] - 4]
        np.testing.assert_array_equal(inside, outside)


class TestAttributions:
    def test_json(self, client, corner):
        body = _png(client, ATTRIBUTIONS, corner).get_json()
        schemas.AttributionsAnswer.model_validate(body)
        (row,) = body["explanations"]
        expected = np.zeros((24, 32))
        expected[4:8, 8:12] = LOGIT / 16
        np.testing.assert_allclose(row["heatmap"], expected, atol=1e-7)
        assert row["box"] == {"left": 8, "top": 4, "right": 12, "bottom": 8}
        assert row["score_change"] == pytest.approx(LOGIT, rel=1e-5)
        assert row["completeness_error"] == pytest.approx(0, abs=1e-6)
        assert (row["method"], row["label"]) == ("integrated_gradients", "red")

    def test_npz_holds_every_value(self, client, corner):
        arrays = np.load(io.BytesIO(_png(client, f"{ATTRIBUTIONS}?top_k=2", corner, Accept="application/x-npz").data))
        assert arrays["attributions"].shape == (2, 24, 32, 3)
        assert arrays["attributions"][0].sum() == pytest.approx(LOGIT, rel=1e-5)
        assert not arrays["attributions"][1].any()
        np.testing.assert_allclose(arrays["score_change"], [LOGIT, 0], rtol=1e-5)

    def test_png(self, client, corner):
        answer = _png(client, f"{ATTRIBUTIONS}?alpha=1&colormap=gray", corner, Accept="image/png")
        drawn = np.asarray(Image.open(io.BytesIO(answer.data)))
        assert drawn.shape == (24, 32, 3)
        assert drawn[5, 9].tolist() == [255] * 3
        assert drawn[0, 0].tolist() == [0] * 3

    def test_a_layer_is_no_parameter(self, client, corner):
        answer = _png(client, f"{ATTRIBUTIONS}?layer=identity", corner)
        assert (answer.status_code, answer.get_json()["code"]) == (400, "INVALID_ARGUMENT")


class TestFilterPatterns:
    def test_patterns_are_remembered(self, client, vision, settings, make_vision):
        from serving.catalog import ModelRef
        from serving.deadline import Deadline

        own, calls = make_vision(settings), []
        run = own._run

        def counting(served, signature, inputs, deadline):
            calls.append(inputs["filter_index"].tolist())
            return run(served, signature, inputs, deadline)

        own._run = counting
        ref = ModelRef("tiny", version=1)
        first = own.filter_patterns(ref, None, [1], Deadline(10))
        both = own.filter_patterns(ref, None, [0, 1], Deadline(10))
        np.testing.assert_array_equal(both.patterns[1], first.patterns[0])
        assert calls == [[1], [0]]
        own.filter_patterns(ModelRef("tiny", version=2), None, [1], Deadline(10))
        assert calls == [[1], [0], [1]]


def test_outliers_do_not_darken_the_rest():
    heatmap = np.full((10, 10), 1, np.float32)
    heatmap[0, 0] = 1000
    assert rendering.without_outliers(heatmap).max() < 20
    spot = np.zeros((20, 20), np.float32)
    spot[0, 0] = 5
    np.testing.assert_array_equal(rendering.without_outliers(spot), spot)
