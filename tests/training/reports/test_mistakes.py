"""The sheet of the worst mistakes."""

import keras
import numpy as np
import pytest
from PIL import Image

from training import heads
from training.export.network import open_network
from training.export.verify import taped_maps
from training.reports.heatmaps import HeatMaps, overlay
from training.reports.mistakes import draw_mistakes, worst_mistakes
from training.reports.predictions import Predictions

NAMES = ("cat", "dog")


@pytest.fixture
def predictions():
    probabilities = np.array([[0.3, 0.7], [0.9, 0.1], [0.2, 0.8], [0.95, 0.05]])
    return Predictions(["a.png", "b.png", "c.png", "d.png"], np.array([0, 1, 1, 0]), probabilities)


def test_the_surest_mistake_comes_first(predictions):
    mistakes = worst_mistakes(predictions)
    assert [(m.row, m.label, m.predicted, m.confidence) for m in mistakes] == [(1, 1, 0, 0.9), (0, 0, 1, 0.7)]
    assert [m.row for m in worst_mistakes(predictions, most=1)] == [1]


def test_a_text_counts_by_its_first_wrong_character():
    probabilities = np.array([[[0.9, 0.1], [0.4, 0.6], [0.99, 0.01]]])
    (mistake,) = worst_mistakes(Predictions(["a.png"], np.array([[0, 0, 1]]), probabilities))
    assert (mistake.position, mistake.label, mistake.predicted, mistake.confidence) == (1, 0, 1, 0.6)


def test_the_sheet_shows_picture_and_heat_map(predictions, tmp_path):
    files = []
    for name in ("b.png", "a.png"):
        Image.new("RGB", (170, 170), (0, 0, 255)).save(tmp_path / name)
        files.append(tmp_path / name)
    heat = np.zeros((2, 2), np.float32)
    heat[0, 0] = 3
    mistakes = worst_mistakes(predictions)
    with_maps = np.asarray(draw_mistakes(mistakes, files, predictions, [heat, heat], NAMES))
    # Half a picture is the picture itself; the same places of the overlay are lit at the top left only.
    assert with_maps[100, 100].tolist() == [0, 0, 255]
    assert with_maps[20, 200, 0] > 80
    assert with_maps[170, 340, 0] < 20
    plain = draw_mistakes(mistakes, files, predictions, [], NAMES)
    assert plain.width < with_maps.shape[1]


def test_a_map_of_zeros_is_laid_over_as_zeros():
    grey = Image.new("RGB", (8, 8), (100, 100, 100))
    assert np.asarray(overlay(grey, np.zeros((2, 2), np.float32))).max() < 100


@pytest.mark.parametrize("classes", [2, 3])
def test_heat_maps_are_those_of_a_gradient_tape(classes):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.Flatten(),
            *heads.classifier(classes),
        ]
    )
    pictures = np.random.default_rng(0).integers(0, 255, (35, 16, 16, 3)).astype(np.uint8)
    outputs = model.predict(pictures.astype(np.float32), verbose=0)
    predicted = (outputs[:, 0] > 0.5).astype(int) if classes == 2 else outputs.argmax(axis=1)
    maps = HeatMaps(model).of(pictures, predicted)
    expected = taped_maps(open_network(model), "conv", pictures)["grad_cam"]
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-3 * expected.max())


def test_the_map_of_a_character_is_that_of_its_own_logits():
    keras.utils.set_random_seed(1)
    convolution = keras.layers.Conv2D(4, 3)
    body = [keras.Input((16, 16, 3)), convolution, keras.layers.Flatten()]
    text = keras.Sequential([*body, *heads.text_classifier(2, 3)])
    second = keras.Sequential([*body, *heads.classifier(3)])
    kernel, bias = text.get_layer("dense_logits").get_weights()
    second.get_layer("logits").set_weights([kernel[:, 3:], bias[3:]])
    pictures = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3)).astype(np.uint8)
    maps = HeatMaps(text).of(pictures, np.array([0, 2]), np.array([1, 1]))
    expected = HeatMaps(second).of(pictures, np.array([0, 2]))
    assert np.max(expected) > 0
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-4 * np.max(expected))


def test_a_net_without_convolutions_has_no_maps():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), *heads.classifier(2)])
    assert HeatMaps(model).of(np.zeros((1, 8, 8, 3), np.uint8), np.array([0])) == []
