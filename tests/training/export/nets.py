"""Small nets of every form that recipes and bases take, and sessions of a few of their signatures."""

from collections.abc import Sequence

import keras
import numpy as np
from fovea.v1.model_card_pb2 import ModelCard
from keras import layers

from tests.training.export.test_network import functional, nested, reader, sequential
from training.export.functions import Classifier
from training.export.network import Network, open_network
from training.export.savedmodel import describe, endpoints
from training.export.session import Arrays, Session
from training.heads import classifier, text_classifier
from training.nets import convolution, residual_block


def residual() -> keras.Model:
    """Batch normalisation, two residual blocks with convolutions for shortcuts, a convolution with ReLU, a sigmoid."""
    images = keras.Input((24, 32, 3))
    x = layers.ReLU()(convolution(layers.Rescaling(1 / 255)(images), 4, 1, "stem"))
    x = residual_block(residual_block(x, 6, "stage1"), 8, "stage2")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="features")(x)
    x = layers.GlobalAveragePooling2D()(x)
    for layer in classifier(2):
        x = layer(x)
    return keras.Model(images, x)


def vgg16() -> keras.Model:
    """VGG16, nested, with a softmax."""
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    return _on(base, layers.Rescaling(1 / 255))


def mobilenet_v2() -> keras.Model:
    """The first blocks of the narrowest MobileNetV2, nested, with a softmax."""
    whole = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, include_top=False)
    return _on(keras.Model(whole.input, whole.get_layer("block_3_project_BN").output), layers.Rescaling(1 / 127.5, -1))


def captcha() -> keras.Model:
    """The form of the recipe that reads texts: residual, three characters of an alphabet of five."""
    images = keras.Input((16, 40, 3))
    x = residual_block(convolution(layers.Rescaling(1 / 127.5, -1)(images), 4, 2, "stem"), 8, "stage1")
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="features")(x)
    x = layers.GlobalAveragePooling2D()(x)
    for layer in text_classifier(3, 5):
        x = layer(x)
    return keras.Model(images, x)


NETS = {
    build.__name__: build for build in (sequential, functional, nested, reader, residual, vgg16, mobilenet_v2, captcha)
}


def _on(base: keras.Model, rescaling: layers.Layer) -> keras.Model:
    return keras.Sequential(
        [keras.Input(base.input_shape[1:]), rescaling, base, layers.GlobalAveragePooling2D(), *classifier(3)]
    )


def make(name: str) -> keras.Model:
    """Build a net of `NETS`."""
    return fill(NETS[name]())


def fill(model: keras.Model) -> keras.Model:
    """Give a net weights that carry a signal through it, and biases and statistics other than a fresh net's."""
    random = np.random.default_rng(7)
    for weight in model.weights:
        if weight.path.endswith("kernel"):
            fan_in = np.prod(weight.shape[:2] if "depthwise" in weight.path else weight.shape[:-1])
            weight.assign(random.normal(0, np.sqrt(2 / fan_in), weight.shape))
        if weight.path.endswith(("bias", "beta", "moving_mean")):
            weight.assign(random.normal(0, 0.05, weight.shape))
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def card_of(model: keras.Model) -> ModelCard:
    """Name a model and its classes."""
    return ModelCard(
        model_name="tiny", class_names=("cat", "dog", "fish", "hen", "pig")[: max(2, model.output_shape[-1])]
    )


def serve(model: keras.Model, names: Sequence[str], folder: str) -> tuple[Session, Network, ModelCard]:
    """Export the named signatures alone, for nets of which all would take minutes, and load them.

    Returns:
        The session, the network and its complete card.
    """
    network = open_network(model)
    card = describe(network, card_of(model))
    functions = Classifier(network)
    archive = keras.export.ExportArchive()
    for endpoint in endpoints(functions, card):
        if endpoint.name in names:
            archive.add_endpoint(endpoint.name, endpoint.function, input_signature=list(endpoint.inputs))
    archive.track(functions.forward)
    archive.write_out(folder, verbose=False)
    return Session(folder, rewrite=False), network, card


def explained(network: Network, count: int, seed: int = 3) -> Arrays:
    """Make pictures, each with a class and where texts are read a position to explain; neighbours differ in all."""
    random = np.random.default_rng(seed)
    classes = max(2, network.logits.shape[-1])
    inputs = {
        "images": random.integers(0, 256, (count, *network.images.shape[1:]), np.uint8),
        "class_index": np.arange(count, dtype=np.int32) % classes,
    }
    if network.positions:
        inputs["position"] = np.arange(count, dtype=np.int32) % network.positions
    return inputs
