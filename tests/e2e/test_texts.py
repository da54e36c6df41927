"""A model that reads texts, exported, served, and asked over both protocols; all values by hand.

Input 8x16. `conv` has the mean red and the mean blue of each 4x4 block, in 0..1. The first character is a 1 for red
blocks and the second for blue ones: the logit of "1" is 8 times the sum of the blocks, that of "0" is 4. The
temperature is 2.
"""

import base64
import io
import math

import grpc
import keras
import numpy as np
import pytest
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc
from fovea.v1.model_card_pb2 import ModelCard
from keras import layers
from PIL import Image

from serving.http import schemas
from tests.e2e.test_page import PASTE, cards_of, dump, needs_chromium, with_script
from tests.gateways import Gateway
from tests.model_servers import ModelServer
from training.export.savedmodel import export
from training.export.verify import verify
from training.heads import text_classifier

SURE = 1 / (1 + math.exp(-2))
"""Probability of a character whose logit is 4 above the other's, at temperature 2."""
HEAT = 8.0
PATH = "/v1/models/texts"
PNG = {"Content-Type": "image/png"}


def _reader() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((8, 16, 3)),
            layers.Conv2D(2, 4, strides=4, use_bias=False, name="conv"),
            layers.Flatten(),
            *text_classifier(2, 2),
        ]
    )
    blocks = np.zeros((4, 4, 3, 2), np.float32)
    blocks[:, :, 0, 0] = blocks[:, :, 2, 1] = 1 / 16 / 255
    model.get_layer("conv").set_weights([blocks])
    kernel = np.zeros((2 * 4, 2, 2, 2), np.float32)
    kernel[:, 0, 0, 1] = kernel[:, 1, 1, 1] = 8
    model.get_layer("dense_logits").set_weights([kernel.reshape(16, 4), np.array([4, 0, 4, 0], np.float32)])
    return model


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    model = _reader()
    path = str(folder / "store" / "texts" / "1")
    card = ModelCard(model_name="texts", class_names="01", temperature=2)
    verify(path, model, *export(model, card, path))
    flags = ("--model_name=texts", f"--model_base_path={folder / 'store' / 'texts'}")
    with (
        ModelServer(folder / "server.log", *flags) as server,
        Gateway(folder / "gateway.log", models="texts", model_server_target=server.grpc_target) as gateway,
    ):
        yield gateway


@pytest.fixture(scope="module")
def stub(gateway):
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        yield vision_pb2_grpc.VisionStub(channel)


def _picture(encode, red: bool, blue: bool) -> bytes:
    pixels = np.zeros((8, 16, 3), np.uint8)
    if red:
        pixels[:4, 4:8, 0] = 255
    if blue:
        pixels[4:, 12:, 2] = 255
    return encode(pixels)


def _map(row: int, column: int) -> list[list[float]]:
    expected = np.zeros((2, 4))
    expected[row, column] = HEAT
    return expected.tolist()


@pytest.mark.parametrize(("red", "blue", "text"), [(1, 1, "11"), (1, 0, "10"), (0, 1, "01"), (0, 0, "00")])
def test_the_text_of_a_picture(gateway, encode, red, blue, text):
    body = gateway.http.post(f"{PATH}:classify?top_k=1", content=_picture(encode, red, blue), headers=PNG).json()
    schemas.ClassifyBody.model_validate(body)
    (row,) = body["classifications"]
    assert set(row) == {"label", "score", "positions"}
    assert row["label"] == text
    assert row["score"] == pytest.approx(SURE**2, abs=1e-6)
    for character, position in zip(text, row["positions"], strict=True):
        assert (position["label"], position["class_index"]) == (character, int(character))
        assert position["score"] == pytest.approx(SURE, abs=1e-6)
        assert [best["label"] for best in position["top_k"]] == [character]


def test_several_pictures_keep_their_order_and_names(gateway, encode):
    files = [("file", (f"{red}{blue}.png", _picture(encode, red, blue), "image/png")) for red, blue in ((1, 0), (0, 1))]
    rows = gateway.http.post(f"{PATH}:classify", files=files).json()["classifications"]
    assert [(row["filename"], row["label"]) for row in rows] == [("10.png", "10"), ("01.png", "01")]


def test_predict_nests_a_row_for_each_character(gateway, encode):
    body = {"instances": [{"b64": base64.b64encode(_picture(encode, True, False)).decode()}]}
    answer = gateway.http.post(f"{PATH}:predict", json=body).json()
    schemas.PredictBody.model_validate(answer)
    np.testing.assert_allclose(answer["predictions"], [[[1 - SURE, SURE], [SURE, 1 - SURE]]], atol=1e-6)


@pytest.mark.parametrize(
    ("query", "position", "expected"),
    [("", 0, _map(0, 1)), ("?position=0", 0, _map(0, 1)), ("?position=1", 1, _map(1, 3))],
)
def test_grad_cam_explains_one_character(gateway, encode, query, position, expected):
    picture = _picture(encode, True, True)
    body = gateway.http.post(f"{PATH}/explain/grad-cam{query}", content=picture, headers=PNG).json()
    schemas.GradCamAnswer.model_validate(body)
    (row,) = body["explanations"]
    assert (row["label"], row["class_index"], row["position"]) == ("1", 1, position)
    # Neither the temperature nor the other character has a part in the map.
    np.testing.assert_allclose(row["heatmap"], expected, rtol=1e-5)
    assert row["score"] == pytest.approx(SURE, abs=1e-6)
    instances = {"instances": [{"b64": base64.b64encode(picture).decode()}]}
    (explained,) = gateway.http.post(f"{PATH}:explain{query}", json=instances).json()["explanations"]
    assert explained == row


def test_grad_cam_of_a_given_character(gateway, encode):
    query = f"{PATH}/explain/grad-cam?position=1&class=0"
    (row,) = gateway.http.post(query, content=_picture(encode, True, True), headers=PNG).json()["explanations"]
    assert (row["label"], row["class_index"], row["peak"], row["box"]) == ("0", 0, 0, None)
    assert row["score"] == pytest.approx(1 - SURE, abs=1e-6)


def test_grad_cam_as_npz_and_png(gateway, encode):
    picture, query = _picture(encode, True, True), f"{PATH}/explain/grad-cam?position=1"
    answer = gateway.http.post(query, content=picture, headers={**PNG, "Accept": "application/x-npz"})
    arrays = np.load(io.BytesIO(answer.content))
    assert arrays["position"].tolist() == [1]
    assert arrays["probabilities"].shape == (1, 2, 2)
    np.testing.assert_allclose(arrays["heatmap"][0], _map(1, 3), rtol=1e-5)
    answer = gateway.http.post(query, content=picture, headers={**PNG, "Accept": "image/png"})
    assert Image.open(io.BytesIO(answer.content)).size == (16, 8)


@pytest.mark.parametrize("position", ["2", "-1", "first", "99999999999"])
def test_a_position_that_is_not_there_is_refused(gateway, encode, position):
    query = f"{PATH}/explain/grad-cam?position={position}"
    answer = gateway.http.post(query, content=_picture(encode, True, True), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert "position" in answer.json()["error"]


def test_the_model_tells_its_positions_and_activations(gateway, encode):
    body = gateway.http.get(PATH).json()
    schemas.ModelBody.model_validate(body)
    assert (body["positions"], body["classes"]) == (2, ["0", "1"])
    query = f"{PATH}/explain/activations?layer=conv&channels=0"
    (row,) = gateway.http.post(query, content=_picture(encode, True, True), headers=PNG).json()["pictures"]
    np.testing.assert_allclose(
        np.array(row["layers"][0]["activations"])[..., 0], np.array(_map(0, 1)) / HEAT, rtol=1e-5
    )


def test_grpc_answers_the_same(stub, encode):
    ref, picture = pb.ModelRef(name="texts"), _picture(encode, True, False)
    (row,) = stub.Classify(pb.ClassifyRequest(model=ref, images=[picture])).classifications
    assert (row.label, len(row.top_k), [item.label for item in row.positions]) == ("10", 0, ["1", "0"])
    assert row.score == pytest.approx(SURE**2, abs=1e-6)
    assert [best.label for best in row.positions[1].top_k] == ["0", "1"]
    (explained,) = stub.GradCam(
        pb.GradCamRequest(model=ref, images=[_picture(encode, True, True)], targets={"position": 1})
    ).explanations
    heatmap = np.frombuffer(explained.heatmap.float32_values, "<f4").reshape(explained.heatmap.shape)
    np.testing.assert_allclose(heatmap, _map(1, 3), rtol=1e-5)
    assert (explained.label, explained.position) == ("1", 1)
    assert stub.ListModels(pb.ListModelsRequest()).models[0].card.positions == 2
    with pytest.raises(grpc.RpcError) as refused:
        stub.GradCam(pb.GradCamRequest(model=ref, images=[picture], targets={"position": 2}))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "a text of this model has no position 2; its positions are 0 to 1"


@needs_chromium
def test_the_page_shows_the_text_and_explains_a_character(gateway, encode, tmp_path):
    picture = base64.b64encode(_picture(encode, True, True)).decode()
    # Chosen once the first map is drawn, as a person would.
    choose = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("#cards figcaption")?.textContent.includes("as character 1")) return;
  observer.disconnect();
  const select = document.querySelector("#cards .position");
  select.value = "1";
  select.dispatchEvent(new Event("change"));
}).observe(document.body, { childList: true, subtree: true, characterData: true });
"""
    with with_script(gateway, choose + PASTE.format(data=picture)) as url:
        card = cards_of(dump(url, tmp_path))["texts"]
    assert f'<span>11</span> <span class="share">{100 * SURE**2:.1f}&nbsp;%</span>' in card
    assert card.count(f'<span>1</span><span class="share">{100 * SURE:.1f}&nbsp;%</span>') == 2
    assert "<dt>Reads</dt><dd>2 characters</dd>" in card
    assert "What speaks for “1” as character 2 at conv lies at the lower right of the picture" in card
    assert '<rect class="line" x="12" y="4" width="4" height="4">' in card
