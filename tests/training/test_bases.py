"""Bases by name: what they compute, where their weights come from, what fine-tuning adapts of them."""

import inspect
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import keras
import numpy as np
import pytest
from fovea.v1.model_card_pb2 import ModelCard
from keras.src.legacy.saving import legacy_h5_format

from serving.contract import signatures
from training import bases
from training.bases import applications, fovea_small
from training.bases.applications import APPLICATIONS, input_scaling
from training.bases.unfreezing import Watch, choose_layers, unfreeze
from training.data.features import cached_features
from training.errors import FoveaError
from training.export.savedmodel import export
from training.export.verify import Session, verify
from training.heads import classifier


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def mobilenet():
    """MobileNetV2 as Keras makes it, with random weights."""
    keras.utils.set_random_seed(5)
    return keras.applications.MobileNetV2((32, 32, 3), include_top=False, weights=None)


def save_official(model, file):
    """Write weights in the form of the official files."""
    with h5py.File(file, "w") as opened:
        legacy_h5_format.save_weights_to_hdf5_group(opened, model)
    return file


@pytest.fixture(scope="module")
def mobilenet_file(mobilenet, tmp_path_factory):
    return save_official(mobilenet, tmp_path_factory.mktemp("weights") / "mobilenet_v2_notop.h5")


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    keras.utils.set_random_seed(3)
    file = tmp_path_factory.mktemp("weights") / "fovea_small.weights.h5"
    fovea_small(32, 32, weights=None).save_weights(file)
    return file


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """A server on loopback that publishes one file for any path, and an empty cache of Keras."""
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path))
    started = []

    def publish(content):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(200 if content else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}/", asked

    yield publish
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def published_at(monkeypatch):
    """A function that moves the files that Keras publishes for a net."""

    def move(name, address):
        module = inspect.getmodule(APPLICATIONS[name])
        constant = next(c for c in ("BASE_WEIGHTS_PATH", "BASE_WEIGHT_PATH") if hasattr(module, c))
        monkeypatch.setattr(module, constant, address)
        return module

    return move


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("MobileNetV2", "mobilenetv2"),
        ("mobilenet_v2", "mobilenetv2"),
        ("vgg-16", "vgg16"),
        ("Fovea_Small", "fovea_small"),
    ],
)
def test_names_are_tolerant(given, name):
    assert bases.resolve(given) == name


def test_an_unknown_base_is_answered_with_some_that_exist():
    with pytest.raises(FoveaError, match=r"no base 'vgg17'; known are fovea_small, vgg16, mobilenet_v2"):
        bases.resolve("vgg17")


def test_every_net_of_keras_has_a_name():
    assert {"vgg16", "mobilenetv3small", "efficientnetv2b0", "convnexttiny", "nasnetmobile"} <= set(bases.NAMES)
    assert len(bases.NAMES) > 35


@pytest.mark.parametrize("name", ["vgg16", "mobilenetv2", "resnet50v2", "densenet121", "mobilenetv3small"])
def test_input_scaling_is_that_of_keras(name, images):
    scaling = input_scaling(name)
    expected = inspect.getmodule(APPLICATIONS[name]).preprocess_input(images.copy())
    np.testing.assert_allclose(images if scaling is None else scaling(images), expected, atol=1e-4)


def test_a_base_computes_what_keras_computes_and_is_loaded_elsewhere(mobilenet, mobilenet_file, images, tmp_path):
    base = bases.trained_base("mobilenet_v2", 32, 32, mobilenet_file)
    expected = mobilenet(keras.applications.mobilenet_v2.preprocess_input(images.copy()))
    np.testing.assert_allclose(base(images), expected, atol=1e-5)

    base.save(tmp_path / "base.keras")
    np.save(tmp_path / "images.npy", images)
    program = (
        "import keras, numpy as np, training.train\n"
        f"base = keras.models.load_model({str(tmp_path / 'base.keras')!r})\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, base(np.load({str(tmp_path / 'images.npy')!r})))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)


def test_vgg16_computes_what_keras_computes(images, tmp_path):
    keras.utils.set_random_seed(5)
    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    base = bases.trained_base("vgg16", 32, 32, save_official(vgg16, tmp_path / "vgg16_notop.h5"))
    expected = vgg16(keras.applications.vgg16.preprocess_input(images.copy()))
    np.testing.assert_allclose(base(images), expected, rtol=1e-4, atol=1e-4)
    assert {layer.name for layer in choose_layers(base)} == {f"block5_conv{number}" for number in (1, 2, 3)}


def test_a_file_with_the_head_gives_the_layers_before_it(tmp_path):
    keras.utils.set_random_seed(5)
    whole = keras.applications.MobileNetV2(weights=None)
    base = bases.trained_base("mobilenet_v2", 32, 32, save_official(whole, tmp_path / "mobilenet_v2.h5"))
    for layer in base.layers[2:]:
        for weights, original in zip(layer.get_weights(), whole.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(weights, original)


def test_published_weights_are_downloaded_once(publisher, published_at, mobilenet_file, mobilenet):
    address, asked = publisher(mobilenet_file.read_bytes())
    published_at("mobilenetv2", address)
    for _ in range(2):
        base = bases.trained_base("mobilenet_v2", 32, 32)
        for weights, original in zip(base.get_weights(), mobilenet.get_weights(), strict=True):
            np.testing.assert_array_equal(weights, original)
    assert len(asked) == 1


def test_efficientnet_from_a_file_is_the_one_that_keras_downloads(
    publisher, published_at, monkeypatch, images, tmp_path
):
    keras.utils.set_random_seed(5)
    net = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    net.get_layer("normalization").set_weights(
        [np.float32([0.5, 0.4, 0.3]), np.float32([0.05, 0.06, 0.07]), np.array(0)]
    )
    file = save_official(net, tmp_path / "efficientnetb0_notop.h5")
    address, _ = publisher(file.read_bytes())
    module = published_at("efficientnetb0", address)
    digest = keras.src.utils.file_utils.hash_file(str(file), algorithm="md5")
    monkeypatch.setitem(module.WEIGHTS_HASHES, "b0", (digest, digest))
    downloaded = bases.trained_base("efficientnetb0", 32, 32)
    from_file = bases.trained_base("efficientnetb0", 32, 32, file)
    np.testing.assert_allclose(from_file(images), downloaded(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ["no network", "not there"])
def test_weights_that_cannot_be_downloaded_leave_ways_out(case, publisher, published_at):
    address = "http://127.0.0.1:9/" if case == "no network" else publisher(b"")[0]
    published_at("mobilenetv2", address)
    with pytest.raises(FoveaError) as error:
        bases.trained_base("mobilenet_v2", 32, 32)
    sentence = str(error.value)
    assert "could not be downloaded" in sentence
    assert f"{address}mobilenet_v2_weights" in sentence
    assert "--base-weights FILE" in sentence
    assert "--base fovea_small" in sentence


def test_a_damaged_download_is_named(publisher, published_at, mobilenet_file):
    address, _ = publisher(mobilenet_file.read_bytes()[:100_000])
    published_at("mobilenetv2", address)
    with pytest.raises(FoveaError, match=r"damaged"):
        bases.trained_base("mobilenet_v2", 32, 32)


def test_weights_of_another_net_are_refused_by_name(mobilenet_file, small_file):
    with pytest.raises(FoveaError, match=r"holds weights of mobilenetv2 .*not of fovea_small"):
        bases.trained_base("fovea_small", 32, 32, mobilenet_file)
    with pytest.raises(FoveaError, match=r"holds weights of fovea_small .*not of mobilenetv2"):
        bases.trained_base("mobilenet_v2", 32, 32, small_file)


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    with pytest.raises(FoveaError, match="there is no file"):
        bases.trained_base("fovea_small", 32, 32, tmp_path / "absent.weights.h5")
    (tmp_path / "page.weights.h5").write_text("<html>")
    with pytest.raises(FoveaError, match="no file of weights"):
        bases.trained_base("fovea_small", 32, 32, tmp_path / "page.weights.h5")


def test_a_base_that_does_not_take_so_small_pictures_says_what_it_takes():
    with pytest.raises(FoveaError, match=r"inceptionv3 takes pictures of 75x75 pixels or more, not 64x48"):
        bases.untrained_base("inception_v3", 48, 64)


def test_every_scaling_is_one_that_the_layer_can_do(images):
    for name in APPLICATIONS:
        scaling = applications.input_scaling(name)
        expected = inspect.getmodule(APPLICATIONS[name]).preprocess_input(images[:1].copy())
        np.testing.assert_allclose(images[:1] if scaling is None else scaling(images[:1]), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("features", ["features"]),
        ("stage3,features", ["stage3_shortcut", "stage3_conv1", "stage3_conv2", "features"]),
        ("3", ["stage3_conv2", "stage3_shortcut", "features"]),
    ],
)
def test_layers_are_chosen_by_prefix_or_from_the_end(wanted, names):
    assert {layer.name for layer in choose_layers(fovea_small(32, 32, weights=None), wanted)} == set(names)


def test_a_prefix_ends_at_a_whole_number(mobilenet):
    chosen = {layer.name for layer in choose_layers(mobilenet, "block_1")}
    assert chosen == {"block_1_expand", "block_1_depthwise", "block_1_project"}
    assert len(choose_layers(mobilenet)) == 3


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("block5", r"'block5' begins no layer of fovea_small; .* stem, stage1, stage2, stage3, features"),
        ("stage3_norm", "begins no layer"),
        ("stage3,", "'' begins no layer"),
        ("0", r"give 1 to 11"),
        ("99", r"give 1 to 11"),
    ],
)
def test_what_cannot_be_unfrozen(wanted, sentence):
    with pytest.raises(FoveaError, match=sentence):
        choose_layers(fovea_small(32, 32, weights=None), wanted)


def test_the_watch_tells_frozen_from_unfrozen():
    base = fovea_small(32, 32, weights=None)
    chosen = choose_layers(base, "features")
    unfreeze(base, chosen)
    assert [variable.path.split("/")[0] for variable in base.trainable_variables] == ["features"] * 2
    watch = Watch(base)
    with pytest.raises(FoveaError, match=r"left layers of fovea_small as they were .*: features"):
        watch.check(chosen)
    base.get_layer("features").kernel.assign_add(np.ones((1, 1, 256, 512)))
    watch.check(chosen)
    base.get_layer("stem_norm").moving_mean.assign(np.ones(32))
    with pytest.raises(FoveaError, match=r"moved layers of fovea_small that were frozen: stem_norm"):
        watch.check(chosen)


class Rows:
    """Some pictures in memory."""

    def __init__(self, images):
        self.images, self.shape, self.dtype = images, images.shape[1:], images.dtype

    def __len__(self):
        return len(self.images)

    def read(self, positions):
        return self.images[positions]


def test_features_are_computed_once_for_weights_and_pictures(images, tmp_path):
    base = fovea_small(32, 32, weights=None)
    asked = []

    def pixels():
        asked.append(1)
        return Rows(images)

    features = cached_features(base, pixels, "pictures", tmp_path)
    np.testing.assert_allclose(features.read(np.array([1, 0])), base(images[::-1]), rtol=1e-4, atol=1e-5)
    cached_features(base, pixels, "pictures", tmp_path)
    assert len(asked) == 1
    cached_features(base, pixels, "other pictures", tmp_path)
    base.get_layer("features").bias.assign(np.ones(512))
    cached_features(base, pixels, "pictures", tmp_path)
    assert len(asked) == 3
    assert all(path.suffix == ".npy" for path in tmp_path.iterdir())


def test_features_that_cannot_be_kept_are_explained(images, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(FoveaError, match=r"cannot be kept in .*XDG_CACHE_HOME"):
        cached_features(fovea_small(32, 32, weights=None), lambda: Rows(images), "pictures", tmp_path / "cache")


def test_the_beginning_of_a_mobilenet_is_exported_with_its_scaling(mobilenet_file, images, tmp_path):
    base = bases.trained_base("mobilenet_v2", 32, 32, mobilenet_file)
    beginning = keras.Model(base.input, base.get_layer("block_1_project_BN").output, name=base.name)
    head = [keras.layers.GlobalAveragePooling2D(), *classifier(2)]
    model = keras.Sequential([keras.Input((32, 32, 3)), beginning, *head])
    card = ModelCard(model_name="mobilenet", class_names=["cat", "dog"])
    # Every signature, Grad-CAM at depthwise convolutions among them, is compared with Keras.
    exported, complete = export(model, card, str(tmp_path / "savedmodel"))
    verify(str(tmp_path / "savedmodel"), model, exported, complete)
    assert complete.grad_cam_layer == "mobilenetv2/block_1_project"
    assert [layer.name for layer in complete.layers if layer.grad_cam] == [
        f"mobilenetv2/{name}"
        for name in (
            "Conv1", "expanded_conv_depthwise", "expanded_conv_project",
            "block_1_expand", "block_1_depthwise", "block_1_project",
        )
    ]  # fmt: skip
    session = Session(str(tmp_path / "savedmodel"))
    served = session.run(signatures.PREDICT, {signatures.IMAGES: images.astype(np.uint8)})
    session.close()
    np.testing.assert_allclose(served[signatures.PROBABILITIES][:, 1:], model(images), atol=1e-5)
