"""Explanations of served models against xplique and tf-keras-vis, on the same weights and pictures."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tests.training.export.nets import fill, residual, serve
from training.heads import classifier

REPOSITORY = Path(__file__).resolve().parents[3]
PYTHON = REPOSITORY / ".venv" / "exactness" / "bin" / "python"
PICTURES = 10
RELATIVE_TOLERANCE = 1e-4
CAM_METHODS = ("grad_cam", "hires_cam", "grad_cam_pp", "layer_cam")

pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="other projects' explanations come with `make exactness`"),
    pytest.mark.timeout(900),
]


def plain() -> keras.Model:
    """Convolutions with ReLU, pooling, a hidden layer."""
    images = keras.Input((28, 36, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv1")(layers.Rescaling(1 / 255)(images))
    x = layers.Conv2D(8, 3, activation="relu", name="conv2")(layers.MaxPooling2D()(x))
    x = layers.Dense(16, activation="relu")(layers.Flatten()(layers.MaxPooling2D()(x)))
    return _with_head(images, x)


def vgg16() -> keras.Model:
    """The first four blocks of VGG16."""
    return _application(keras.applications.VGG16, layers.Rescaling(1 / 255), "block4_conv3")


def mobilenet_v2() -> keras.Model:
    """The first blocks of MobileNetV2, two with shortcuts among them."""
    return _application(keras.applications.MobileNetV2, layers.Rescaling(1 / 127.5, -1), "block_5_add", alpha=0.35)


def _application(
    build: Callable[..., keras.Model], rescaling: layers.Layer, end: str, **options: object
) -> keras.Model:
    images = keras.Input((32, 32, 3))
    base = build(input_tensor=rescaling(images), weights=None, include_top=False, **options)
    return _with_head(images, layers.GlobalAveragePooling2D()(base.get_layer(end).output))


def _with_head(images: keras.KerasTensor, features: keras.KerasTensor) -> keras.Model:
    for layer in classifier(3):
        features = layer(features)
    return keras.Model(images, features)


# Whether what a convolution computes adds up to 0 or more in every channel: otherwise Grad-CAM++ is not what xplique
# computes (docs/contract.md).
NETS = {
    plain: {"conv1": True, "conv2": True},
    residual: {"stage1_conv1": False, "features": True},
    vgg16: {"block3_conv2": True, "block4_conv3": True},
    mobilenet_v2: {"block_3_depthwise": True, "block_5_project": False},
}
INTEGRATED = (plain, residual, mobilenet_v2)
"""Nets that are small enough for 51 points on each of 20 paths."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """By net: what the served model answers to 10 pictures for each of 2 classes, by signature; what others compute."""
    folder = tmp_path_factory.mktemp("exactness")
    served = {}
    for build, chosen in NETS.items():
        model = fill(build())
        if build is mobilenet_v2:
            kernel = model.get_layer("block_3_depthwise").kernel
            kernel.assign(np.abs(kernel))
        random = np.random.default_rng(5)
        pictures = np.tile(random.integers(0, 256, (PICTURES, *model.input_shape[1:]), np.uint8), (2, 1, 1, 1))
        classes = np.repeat(np.array([0, 1], np.int32), PICTURES)
        logits = model.get_layer("logits").units
        targets = np.where(classes, 1.0, -1.0)[:, np.newaxis] if logits == 1 else np.eye(logits)[classes]
        model.save(folder / f"{build.__name__}.keras")
        np.savez(
            folder / f"{build.__name__}.npz",
            pictures=pictures.astype(np.float32),
            targets=targets.astype(np.float32),
            layers=list(chosen),
            integrated=build in INTEGRATED,
        )
        names = [f"cam_methods/{layer}" for layer in chosen] + ["integrated_gradients"] * (build in INTEGRATED)
        session, _, _ = serve(model, names, str(folder / f"{build.__name__}.savedmodel"))
        served[build] = {name: session.run(name, {"images": pictures, "class_index": classes}) for name in names}
        session.close()
    script = Path(__file__).with_name("foreign_explanations.py")
    done = subprocess.run([PYTHON, script, folder], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-4000:]
    return {build: (served[build], np.load(folder / f"{build.__name__}.found.npz")) for build in NETS}


@pytest.mark.parametrize(
    ("build", "layer", "method"),
    [
        pytest.param(build, layer, method, id=f"{build.__name__}-{layer}-{method}")
        for build, chosen in NETS.items()
        for layer, adds_up in chosen.items()
        for method in CAM_METHODS
        if adds_up or method != "grad_cam_pp"
    ],
)
def test_maps(answers, build, layer, method):
    served, foreign = answers[build]
    libraries = [name for name in foreign.files if name.endswith(f" {layer} {method}")]
    assert libraries
    for name in libraries:
        _assert_same(served[f"cam_methods/{layer}"][method], foreign[name])


@pytest.mark.parametrize("build", INTEGRATED, ids=lambda build: build.__name__)
def test_integrated_gradients(answers, build):
    served, foreign = answers[build]
    found, expected = served["integrated_gradients"]["attributions"], foreign["xplique attributions"]
    assert found.shape == expected.shape
    # On average over a picture. Where rounding puts a value on the other side of a ReLU's bend at one of the 51 points,
    # the gradient there is another one: so it is in a few rows.
    differences, sizes = (np.abs(values).mean(axis=(1, 2, 3)) for values in (found - expected, expected))
    relative = differences / sizes
    assert np.median(relative) <= 1e-6
    assert (relative <= RELATIVE_TOLERANCE).mean() >= 0.75, relative
    assert (relative <= 2e-2).all(), relative


def _assert_same(found, expected):
    assert found.shape == expected.shape
    assert found.shape[0] == 2 * PICTURES
    peaks = np.abs(expected).reshape(len(expected), -1).max(axis=1)
    # Nothing speaks for some of the classes; the maps are 0 then, of both.
    assert (peaks > 0).mean() > 0.25
    differences = np.abs(found - expected).reshape(len(expected), -1).max(axis=1)
    assert (differences <= RELATIVE_TOLERANCE * peaks).all(), differences / peaks
