"""Exported SavedModels: values by hand, comparison with Keras, and what the check catches."""

import io
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from fovea.v1.model_card_pb2 import ModelCard
from keras import layers
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from serving.contract import card as cards
from serving.contract import images, signatures
from tests.training.export.test_network import functional, nested, reader, sequential
from training.errors import FoveaError
from training.export import cam, integrated_gradients
from training.export.functions import decode_and_resize
from training.export.savedmodel import WARMUP_FILE, export
from training.export.verify import ExportError, Session, verify
from training.heads import text_classifier


def classes(model):
    return ("cat", "dog", "fish", "hen", "pig")[: max(2, model.output_shape[-1])]


@pytest.fixture(scope="module", params=[sequential, functional, nested, reader])
def exported(request, tmp_path_factory):
    """(model, classifier, card, folder) for a net of each form."""
    keras.utils.set_random_seed(1)
    model = request.param()
    folder = str(tmp_path_factory.mktemp("export") / "savedmodel")
    classifier, card = export(model, ModelCard(model_name="tiny", class_names=classes(model)), folder)
    return model, classifier, card, folder


def test_every_signature_agrees_with_keras(exported):
    model, classifier, card, folder = exported
    verify(folder, model, classifier, card)


def test_signatures_are_those_of_the_contract(exported):
    _, classifier, _, folder = exported
    network = classifier.network
    expected = {
        "serving_default", "classify_bytes", "grad_cam", "cam_methods", "integrated_gradients", "model_card",
    }  # fmt: skip
    expected |= {f"activations/{name}" for name in network.layers}
    expected |= {
        f"{kind}/{layer.name}"
        for layer in network.convolutions
        for kind in ("grad_cam", "cam_methods", "filter_patterns")
    }
    session = Session(folder)
    assert set(session.signatures) - {"__saved_model_init_op"} == expected
    session.close()


def test_the_card_tells_layers_and_input(exported):
    model, classifier, _, folder = exported
    session = Session(folder)
    answer = session.run(signatures.MODEL_CARD, {signatures.QUERY: np.array([b"", b""], object)})[signatures.CARD]
    session.close()
    assert answer.shape == (2,)
    card = cards.from_json(answer[0])
    assert card.contract_version == signatures.CONTRACT_VERSION
    assert (card.input_height, card.input_width, 3) == model.input_shape[1:]
    assert card.positions == (classifier.network.positions or 0)
    assert card.grad_cam_layer == classifier.network.convolutions[-1].name
    for layer in card.layers:
        output = classifier.network.layers[layer.name].output
        assert (layer.height, layer.width, layer.channels) == output.shape[1:]
        assert layer.grad_cam == layer.cam_methods == layer.filter_patterns == ("Pooling" not in layer.kind)
    assert card.integrated_gradients


def test_warmup_names_signatures_that_exist_and_run(exported):
    _, _, card, folder = exported
    session = Session(folder)
    records = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(f"{folder}/{WARMUP_FILE}")
    ]
    names = [record.model_spec.signature_name for record in records]
    assert names == ["serving_default", "classify_bytes", "model_card", "grad_cam", "cam_methods"]
    for record in records:
        assert record.model_spec.name == card.model_name
        session.run(
            record.model_spec.signature_name, {key: tf.make_ndarray(value) for key, value in record.inputs.items()}
        )
    session.close()


def _red_and_blue(head):
    """A 2x2 block net: `conv` has the mean red and the mean blue of each block, and the head averages them."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2D(2, 2, strides=2, use_bias=False, name="conv"),
            layers.GlobalAveragePooling2D(),
            *head,
        ]
    )
    kernel = np.zeros((2, 2, 3, 2), np.float32)
    kernel[:, :, 0, 0] = kernel[:, :, 2, 1] = 1 / 4
    model.get_layer("conv").set_weights([kernel])
    return model


def _run(model, tmp_path, name, inputs):
    folder = str(tmp_path / "savedmodel")
    shutil.rmtree(folder, ignore_errors=True)
    export(model, ModelCard(model_name="tiny", class_names=("a", "b")), folder)
    session = Session(folder)
    outputs = session.run(name, inputs)
    session.close()
    return outputs


PICTURE = np.zeros((1, 4, 4, 3), np.uint8)
PICTURE[0, :2, :2, 0] = 100
PICTURE[0, 2:, 2:, 2] = 40


@pytest.mark.parametrize(("class_index", "expected"), [(0, [[150, 0], [0, 0]]), (1, [[0, 0], [0, 20]])])
def test_grad_cam_by_hand_with_a_softmax(tmp_path, class_index, expected):
    # logit of a = 6 · mean red, of b = 2 · mean blue; a mean over 4 blocks: weights 6/4 and 2/4 ... per block.
    dense = layers.Dense(2, use_bias=False, activation="softmax")
    model = _red_and_blue([dense])
    dense.set_weights([np.array([[6, 0], [0, 2]], np.float32)])
    inputs = {"images": PICTURE, "class_index": np.array([class_index], np.int32)}
    outputs = _run(model, tmp_path, "grad_cam", inputs)
    # The gradient of the logit is weight/4 at each block, its mean over the blocks is weight/4 too.
    np.testing.assert_allclose(outputs["heatmap"][0], expected, rtol=1e-5)
    assert outputs["class_index"].tolist() == [class_index]


def test_grad_cam_by_hand_with_a_saturated_sigmoid(tmp_path):
    # logit = 8·mean red - 8·mean blue = 8·25 - 8·10 = 120: the sigmoid is 1 in float32 and its gradient 0.
    dense = layers.Dense(1, use_bias=False, activation="sigmoid")
    model = _red_and_blue([dense])
    dense.set_weights([np.array([[8], [-8]], np.float32)])
    inputs = {"images": np.repeat(PICTURE, 3, 0), "class_index": np.array([1, 0, -1], np.int32)}
    outputs = _run(model, tmp_path, "grad_cam/conv", inputs)
    np.testing.assert_allclose(outputs["probabilities"], [[0, 1]] * 3, atol=1e-6)
    np.testing.assert_allclose(outputs["heatmap"][0], [[200, 0], [0, 0]], rtol=1e-5)
    np.testing.assert_allclose(outputs["heatmap"][1], [[0, 0], [0, 80]], rtol=1e-5)
    np.testing.assert_array_equal(outputs["heatmap"][2], outputs["heatmap"][0])
    assert outputs["class_index"].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("units", "activation", "weights"), [(2, "softmax", [[0, 8], [0, -8]]), (1, "sigmoid", [[8], [-8]])]
)
def test_a_temperature_divides_the_logits_but_not_the_scores(tmp_path, units, activation, weights):
    # Logits 0 and 8 * (25 - 10) = 120; at temperature 60 the difference is 2.
    dense = layers.Dense(units, use_bias=False, activation=activation)
    model = _red_and_blue([dense])
    dense.set_weights([np.array(weights, np.float32)])
    folder = str(tmp_path / "savedmodel")
    classifier, card = export(model, ModelCard(model_name="t", class_names=("a", "b"), temperature=60), folder)
    verify(folder, model, classifier, card)
    session = Session(folder)
    outputs = session.run("grad_cam", {"images": PICTURE, "class_index": np.array([-1], np.int32)})
    session.close()
    np.testing.assert_allclose(outputs["probabilities"], [[1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))]], rtol=1e-5)
    np.testing.assert_allclose(outputs["heatmap"][0], [[200, 0], [0, 0]], rtol=1e-5)


@pytest.mark.parametrize(("class_index", "plus_plus"), [(1, [[800 / 202, 0], [0, 0]]), (0, [[0, 0], [0, 320 / 82]])])
def test_all_maps_by_hand_with_a_saturated_sigmoid(tmp_path, class_index, plus_plus):
    # The gradient of the score is 2 at the class's own channel, which adds up to 100 or 40, and -2 at the other. So
    # Grad-CAM++ weighs it by 4 * 2 / (2 + 100 * 2) or 4 * 2 / (2 + 40 * 2), and the others by 2.
    dense = layers.Dense(1, use_bias=False, activation="sigmoid")
    model = _red_and_blue([dense])
    dense.set_weights([np.array([[8], [-8]], np.float32)])
    inputs = {"images": PICTURE, "class_index": np.array([class_index], np.int32)}
    outputs = _run(model, tmp_path, "cam_methods", inputs)
    twice = [[200, 0], [0, 0]] if class_index else [[0, 0], [0, 80]]
    for name in ("grad_cam", "hires_cam", "layer_cam"):
        np.testing.assert_allclose(outputs[name][0], twice, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(outputs["grad_cam_pp"][0], plus_plus, rtol=1e-5)
    assert outputs["class_index"].tolist() == [class_index]


def test_integrated_gradients_by_hand_with_a_saturated_sigmoid(tmp_path):
    # The logit is linear: every red value counts 8 / 16, every blue one -8 / 16, and black has the logit 0.
    dense = layers.Dense(1, use_bias=False, activation="sigmoid")
    model = _red_and_blue([dense])
    dense.set_weights([np.array([[8], [-8]], np.float32)])
    inputs = {"images": np.repeat(PICTURE, 3, 0), "class_index": np.array([1, 0, -1], np.int32)}
    outputs = _run(model, tmp_path, "integrated_gradients", inputs)
    expected = PICTURE[0] * np.array([0.5, 0, -0.5])
    np.testing.assert_allclose(outputs["attributions"], [expected, -expected, expected], rtol=1e-5)
    np.testing.assert_allclose(outputs["score_change"], [120, -120, 120], rtol=1e-5)
    np.testing.assert_allclose(outputs["completeness_error"], [0, 0, 0], atol=1e-3)
    assert outputs["class_index"].tolist() == [1, 0, 1]


def test_integrated_gradients_follow_the_path(tmp_path):
    # The logits are relu(mean - 29) and 0, and the picture's mean is 40. Of the points 0, 0.8, ... 40 on the way from
    # black those from 29.6 on have a gradient, 1/48 for every value: 14 points, the last of which counts half.
    conv = layers.Conv2D(1, 4, activation="relu", name="conv")
    dense = layers.Dense(2, use_bias=False, activation="softmax")
    model = keras.Sequential([keras.Input((4, 4, 3)), conv, layers.Flatten(), dense])
    conv.set_weights([np.full((4, 4, 3, 1), 1 / 48, np.float32), np.array([-29], np.float32)])
    dense.set_weights([np.array([[1, 0]], np.float32)])
    inputs = {"images": np.full((1, 4, 4, 3), 40, np.uint8), "class_index": np.array([0], np.int32)}
    outputs = _run(model, tmp_path, "integrated_gradients", inputs)
    np.testing.assert_allclose(outputs["attributions"], np.full((1, 4, 4, 3), 40 / 48 * 13.5 / 50), rtol=1e-5)
    np.testing.assert_allclose(outputs["score_change"], [11], rtol=1e-5)
    np.testing.assert_allclose(outputs["completeness_error"], [40 * 13.5 / 50 - 11], atol=1e-4)


def test_a_dead_layer_gives_zeros(tmp_path):
    dense = layers.Dense(2, activation="softmax")
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), layers.Conv2D(2, 2, activation="relu", name="conv"), layers.Flatten(), dense]
    )
    model.get_layer("conv").set_weights([np.zeros((2, 2, 3, 2), np.float32), np.array([-1, -1], np.float32)])
    folder = str(tmp_path / "savedmodel")
    verify(folder, model, *export(model, ModelCard(model_name="tiny", class_names=("a", "b")), folder))
    session = Session(folder)
    for name in ("cam_methods", "integrated_gradients"):
        outputs = session.run(name, {"images": PICTURE, "class_index": np.array([-1], np.int32)})
        for key in set(outputs) - {"probabilities", "class_index"}:
            assert np.isfinite(outputs[key]).all()
            assert not outputs[key].any(), key
    session.close()


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_refuses_what_is_no_temperature(tmp_path, temperature):
    card = ModelCard(model_name="t", class_names=("a", "b"), temperature=temperature)
    with pytest.raises(FoveaError, match="is no divisor"):
        export(sequential(), card, str(tmp_path / "savedmodel"))


def test_grad_cam_of_a_text_explains_the_character_at_the_position(tmp_path):
    # Logits of the first character: 6 · mean red and 0; of the second: 0 and 2 · mean blue. Weights 6/4 and 2/4.
    dense, *rest = text_classifier(2, 2)
    model = _red_and_blue([dense, *rest])
    dense.set_weights([np.array([[6, 0, 0, 0], [0, 0, 0, 2]], np.float32), np.zeros(4, np.float32)])
    inputs = {
        "images": np.repeat(PICTURE, 3, 0),
        "class_index": np.array([-1, -1, 0], np.int32),
        "position": np.array([0, 1, 1], np.int32),
    }
    outputs = _run(model, tmp_path, "grad_cam", inputs)
    assert outputs["probabilities"].shape == (3, 2, 2)
    assert outputs["class_index"].tolist() == [0, 1, 0]
    expected = [[[150, 0], [0, 0]], [[0, 0], [0, 20]], [[0, 0], [0, 0]]]
    np.testing.assert_allclose(outputs["heatmap"], expected, rtol=1e-5)


def test_an_all_zero_map_is_finite(tmp_path):
    dense = layers.Dense(1, use_bias=False, activation="sigmoid")
    model = _red_and_blue([dense])
    dense.set_weights([np.array([[-1], [-1]], np.float32)])
    inputs = {"images": PICTURE, "class_index": np.array([1], np.int32)}
    np.testing.assert_array_equal(_run(model, tmp_path, "grad_cam", inputs)["heatmap"], np.zeros((1, 2, 2)))


def test_filter_patterns_show_what_the_filters_see(tmp_path):
    model = _red_and_blue([layers.Dense(2, activation="softmax")])
    patterns = _run(model, tmp_path, "filter_patterns/conv", {"filter_index": np.array([0, 1], np.int32)})["patterns"]
    assert patterns.shape == (2, 4, 4, 3)
    assert patterns.dtype == np.uint8
    red, blue = patterns.reshape(2, -1, 3).mean(axis=1)
    assert red.argmax() == 0
    assert red[0] > red[2] + 50
    assert blue.argmax() == 2
    assert blue[2] > blue[0] + 50


class TestBroken:
    """What the check must not let through."""

    @pytest.fixture
    def parts(self, tmp_path):
        keras.utils.set_random_seed(1)
        model = sequential()
        folder = str(tmp_path / "savedmodel")
        return model, *export(model, ModelCard(model_name="tiny", class_names=classes(model)), folder), folder

    def test_other_weights(self, parts):
        model, classifier, card, folder = parts
        verify(folder, model, classifier, card)
        model.layers[-1].kernel.assign(model.layers[-1].kernel * 1.01)
        with pytest.raises(ExportError, match=r"serving_default: output probabilities differs"):
            verify(folder, model, classifier, card)

    def test_another_temperature(self, parts):
        model, classifier, card, folder = parts
        card.temperature = 2
        with pytest.raises(ExportError, match=r"serving_default: output probabilities differs"):
            verify(folder, model, classifier, card)

    @pytest.mark.parametrize("method", cam.METHODS)
    def test_another_map(self, tmp_path, monkeypatch, method):
        model = sequential()
        folder = str(tmp_path / "savedmodel")
        right = cam.METHODS[method]
        monkeypatch.setitem(cam.METHODS, method, lambda features, gradient: 1.01 * right(features, gradient))
        written = export(model, ModelCard(model_name="tiny", class_names=classes(model)), folder)
        with pytest.raises(ExportError, match=f"cam_methods/conv1: output {method} differs"):
            verify(folder, model, *written)

    def test_another_path(self, tmp_path, monkeypatch):
        model = sequential()
        folder = str(tmp_path / "savedmodel")
        monkeypatch.setattr(integrated_gradients.attributions, "__defaults__", (2,))
        written = export(model, ModelCard(model_name="tiny", class_names=classes(model)), folder)
        with pytest.raises(ExportError, match="integrated_gradients: output attributions differs"):
            verify(folder, model, *written)

    def test_missing_variables(self, parts):
        model, classifier, card, folder = parts
        shutil.rmtree(f"{folder}/variables")
        with pytest.raises(ExportError, match="does not load"):
            verify(folder, model, classifier, card)

    def test_missing_signature(self, parts):
        model, classifier, card, folder = parts
        archive = keras.export.ExportArchive()
        archive.track(model)
        spec = tf.TensorSpec([None, 16, 16, 3], tf.uint8, name="images")
        archive.add_endpoint("serving_default", classifier.predict, input_signature=[spec])
        archive.track(classifier.forward)
        shutil.rmtree(folder)
        archive.write_out(folder, verbose=False)
        with pytest.raises(ExportError, match="lacks the signature classify_bytes"):
            verify(folder, model, classifier, card)


def _picture(mode):
    rng = np.random.default_rng(3)
    smooth = Image.fromarray(rng.integers(0, 255, (9, 12, 4), np.uint8), "RGBA").resize((300, 280), Image.BICUBIC)
    return smooth.convert(mode)


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("RGB", "BMP"),
        ("RGB", "GIF"),
    ],
)
def test_resize_in_the_graph_is_within_a_grey_level_of_the_shared_one(mode, format):
    stream = io.BytesIO()
    _picture(mode).save(stream, format)
    in_graph = decode_and_resize(tf.constant(stream.getvalue()), 150, 130).numpy().astype(int)
    shared = images.resize(images.decode(stream.getvalue()), 150, 130).astype(int)
    assert np.abs(in_graph - shared).mean() <= 1.0
