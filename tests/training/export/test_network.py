"""Laying nets open: sequential, functional, nested."""

import keras
import numpy as np
import pytest
from keras import layers

from training.errors import FoveaError
from training.export.network import open_network
from training.heads import text_classifier


def sequential():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def functional():
    images = keras.Input((16, 16, 3))
    left = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(images)
    right = layers.SeparableConv2D(3, 3, padding="same", name="separable")(images)
    x = layers.AveragePooling2D(2, name="pool")(layers.Add()([left, right]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Activation("sigmoid")(layers.Dense(1)(x)))


def nested():
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.Conv2D(5, 3, name="conv"), layers.ReLU(), layers.MaxPooling2D(name="pool")],
        name="inner",
    )
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 1, name="stem")(images)
    base = keras.Model(images, inner(x), name="base")
    outer = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(base(outer, training=False))
    return keras.Model(outer, layers.Softmax()(layers.Dense(2)(layers.Dropout(0.5)(x))))


def reader():
    return keras.Sequential(
        [
            keras.Input((12, 20, 3)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(),
            *text_classifier(3, 5),
        ]
    )


@pytest.mark.parametrize(
    ("build", "names", "kinds"),
    [
        (sequential, ["conv1", "pool1"], ["Conv2D", "MaxPooling2D"]),
        (functional, ["depthwise", "separable", "pool"], ["DepthwiseConv2D", "SeparableConv2D", "AveragePooling2D"]),
        (reader, ["conv", "pool"], ["Conv2D", "MaxPooling2D"]),
        (nested, ["base/stem", "base/inner/conv", "base/inner/pool"], ["Conv2D", "Conv2D", "MaxPooling2D"]),
    ],
)
def test_layers_and_logits(build, names, kinds):
    model = build()
    network = open_network(model)
    assert list(network.layers) == names
    assert [layer.kind for layer in network.layers.values()] == kinds
    assert [layer.name for layer in network.convolutions] == [n for n in names if "pool" not in n]

    pictures = np.random.default_rng(0).uniform(0, 255, (3, *model.input_shape[1:])).astype(np.float32)
    logits = np.asarray(keras.Model(network.images, network.logits)(pictures))
    expected = np.asarray(model(pictures))
    if network.is_sigmoid:
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-6)
    else:
        np.testing.assert_allclose(np.asarray(keras.ops.softmax(logits)), expected, atol=1e-6)


def test_layers_are_on_the_way_to_the_logits():
    """A layer that was computed twice would have an output from which the logits do not follow."""
    network = open_network(nested())
    for layer in network.layers.values():
        keras.Model(layer.output, network.logits)


def test_the_model_itself_stays_usable():
    model = nested()
    before = np.asarray(model(np.ones((1, 8, 8, 3), np.float32)))
    open_network(model)
    assert model.layers[-1].output is not None
    np.testing.assert_array_equal(np.asarray(model(np.ones((1, 8, 8, 3), np.float32))), before)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2)]), "softmax or sigmoid"),
        (lambda: keras.Sequential([keras.Input((8,)), layers.Dense(2, activation="softmax")]), "one picture input"),
        (
            lambda: keras.Sequential(
                [keras.Input((None, None, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")]
            ),
            "fixed size",
        ),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, activation="softmax")]),
            r"answers \[None, 6, 6, 2\]; it must answer",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((8, 8, 3)), layers.Reshape((8, 24)), layers.Dense(1, activation="sigmoid")]
            ),
            r"answers \[None, 8, 1\]",
        ),
    ],
)
def test_other_forms_are_refused(build, words):
    with pytest.raises(FoveaError, match=words):
        open_network(build())
