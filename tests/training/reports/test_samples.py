"""The same pictures through several models."""

import keras
import numpy as np
import pytest
from PIL import Image

from training import heads
from training.reports.predictions import Predictions
from training.reports.samples import choose_samples, explain_samples


def right_or_wrong(*right):
    """Predictions of label 0 that are right or wrong as told."""
    probabilities = np.array([[0.9, 0.1] if is_right else [0.2, 0.8] for is_right in right])
    return Predictions([f"{row}.png" for row in range(len(right))], np.zeros(len(right), int), probabilities)


def test_disagreement_is_shown_first_and_the_rest_spread():
    first = right_or_wrong(*[True] * 10)
    second = right_or_wrong(*[True] * 7, False, True, True)
    # Row 7 is in dispute; the other three are the middles of three parts of the nine left.
    assert choose_samples([first, second], most=4) == [1, 4, 7, 8]
    assert choose_samples([first], most=2) == [2, 7]


def test_disputes_are_taken_from_all_over_the_split():
    first = right_or_wrong(*[True] * 12)
    second = right_or_wrong(*[True] * 4, *[False] * 8)
    # Rows 6 and 10 are the middles of the halves of those in dispute, 2 and 8 of those left.
    assert choose_samples([first, second], most=4) == [2, 6, 8, 10]


def test_the_greatest_disputes_are_taken():
    first = right_or_wrong(True, True, True, True)
    second = right_or_wrong(False, False, True, False)
    third = right_or_wrong(True, True, True, False)
    fourth = right_or_wrong(True, True, True, True)
    assert 3 in choose_samples([first, second, third, fourth], most=2)


def test_no_picture_is_shown_twice():
    assert choose_samples([right_or_wrong(True, True)], most=6) == [0, 1]


@pytest.mark.parametrize("convolution", [True, False])
def test_pictures_are_explained_by_the_model_of_the_run(tmp_path, convolution):
    layers = [keras.layers.Conv2D(2, 3, kernel_initializer="ones")] if convolution else []
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers, keras.layers.Flatten(), *heads.classifier(2)])
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([np.ones_like(kernel), bias])
    model.save(tmp_path / "model.keras")
    predictions = right_or_wrong(True, False)
    for file in predictions.files:
        Image.linear_gradient("L").resize((30, 20)).convert("RGB").save(tmp_path / file)
    (sample,) = explain_samples(tmp_path, tmp_path, predictions, [1], ("cat", "dog"))
    assert (sample.file, sample.label, sample.predicted, sample.confidence) == ("1.png", "cat", "dog", 0.8)
    assert not sample.is_right
    assert sample.view.width / sample.view.height == pytest.approx(1.5, abs=0.02)
    # The picture is grey; the colours are the map's.
    is_coloured = np.ptp(np.asarray(sample.view).astype(int), axis=-1).max() > 20
    assert is_coloured == convolution
