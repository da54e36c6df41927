"""Write a classifier as a SavedModel that keeps the contract."""

import io
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from fovea.v1.model_card_pb2 import Layer, ModelCard
from PIL import Image
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from serving.contract import card as cards
from serving.contract import images, signatures
from training.errors import FoveaError
from training.export.functions import Classifier, Tensors, card_function
from training.export.network import Network, open_network

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"


@dataclass(frozen=True)
class Endpoint:
    """One signature: its function, and the names, dtypes and shapes of its inputs, in the order of its arguments."""

    name: str
    function: Callable[..., Tensors]
    inputs: tuple[tf.TensorSpec, ...]


def describe(network: Network, card: ModelCard) -> ModelCard:
    """Complete a card with what the network itself tells: contract version, input, positions, layers."""
    complete = ModelCard()
    complete.CopyFrom(card)
    complete.contract_version = signatures.CONTRACT_VERSION
    complete.positions = network.positions or 0
    complete.input_height, complete.input_width = network.images.shape[1:3]
    complete.resize_rule = images.RESIZE_RULE
    complete.integrated_gradients = True
    complete.grad_cam_layer = network.convolutions[-1].name if network.convolutions else ""
    del complete.layers[:]
    for layer in network.layers.values():
        _, height, width, channels = layer.output.shape
        complete.layers.append(
            Layer(
                name=layer.name,
                kind=layer.kind,
                height=height,
                width=width,
                channels=channels,
                grad_cam=layer.is_convolution,
                activations=True,
                filter_patterns=layer.is_convolution,
                cam_methods=layer.is_convolution,
            )
        )
    return complete


def endpoints(classifier: Classifier, card: ModelCard) -> Iterator[Endpoint]:
    """List the signatures of a classifier."""
    network = classifier.network
    pictures = tf.TensorSpec([None, *network.images.shape[1:]], tf.uint8, signatures.IMAGES)
    targets = [tf.TensorSpec([None], tf.int32, signatures.CLASS_INDEX)]
    if network.positions is not None:
        targets.append(tf.TensorSpec([None], tf.int32, signatures.POSITION))
    filter_index = tf.TensorSpec([None], tf.int32, signatures.FILTER_INDEX)

    yield Endpoint(signatures.PREDICT, classifier.predict, (pictures,))
    image_bytes = tf.TensorSpec([None], tf.string, signatures.IMAGE_BYTES)
    yield Endpoint(signatures.CLASSIFY_BYTES, classifier.classify_bytes, (image_bytes,))
    query = tf.TensorSpec([None], tf.string, signatures.QUERY)
    yield Endpoint(signatures.MODEL_CARD, card_function(cards.to_json(card)), (query,))
    yield Endpoint(signatures.INTEGRATED_GRADIENTS, classifier.integrated_gradients(), (pictures, *targets))
    for layer in network.layers.values():
        yield Endpoint(signatures.activations(layer.name), classifier.activations(layer), (pictures,))
    for layer in network.convolutions:
        yield Endpoint(signatures.grad_cam(layer.name), classifier.grad_cam(layer), (pictures, *targets))
        yield Endpoint(signatures.cam_methods(layer.name), classifier.cam_methods(layer), (pictures, *targets))
        yield Endpoint(signatures.filter_patterns(layer.name), classifier.filter_patterns(layer), (filter_index,))
    if network.convolutions:
        last = network.convolutions[-1]
        yield Endpoint(signatures.GRAD_CAM, classifier.grad_cam(last), (pictures, *targets))
        yield Endpoint(signatures.CAM_METHODS, classifier.cam_methods(last), (pictures, *targets))


def export(model: keras.Model, card: ModelCard, folder: str) -> tuple[Classifier, ModelCard]:
    """Write a model with every signature of the contract, and warm-up records.

    Args:
        model: a classifier as `open_network` takes it.
        card: name, recipe, classes, temperature and training summary; the rest is filled in.
        folder: the folder to make, any that `tf.io.gfile` understands.

    Returns:
        The classifier that was written and its complete card, to verify the folder with.

    Raises:
        FoveaError: a model that `open_network` refuses, or a temperature that is none.
    """
    if card.temperature < 0 or not math.isfinite(card.temperature):
        raise FoveaError(f"temperature {card.temperature} is no divisor: it must be finite and above 0, or 0 for none")
    network = open_network(model)
    card = describe(network, card)
    classifier = Classifier(network, card.temperature or 1.0)
    archive = keras.export.ExportArchive()
    for endpoint in endpoints(classifier, card):
        archive.add_endpoint(endpoint.name, endpoint.function, input_signature=list(endpoint.inputs))
    archive.track(classifier.forward)
    archive.write_out(folder, verbose=False)
    _write_warmup(folder, card)
    return classifier, card


def example_inputs(signature: str, card: ModelCard, row: int = 0) -> dict[str, np.ndarray]:
    """Make a batch of one for a signature; other rows give other pictures, classes and filters.

    The picture is bluish noise with a bright square, which lies elsewhere for every row. Where pixels are equal a
    maximum is reached more than once, and which of them a pooling layer's gradient goes to is not defined.
    """
    noise = np.random.default_rng(row).integers(72, 88, (card.input_height, card.input_width, 1), np.uint8)
    picture = noise + np.array([0, 16, 32], np.uint8)
    top, left = card.input_height // (4 + row), card.input_width // (4 + 2 * row)
    picture[top : top + card.input_height // 3, left : left + card.input_width // 3] += 128
    if signature == signatures.CLASSIFY_BYTES:
        encoded = io.BytesIO()
        Image.fromarray(picture).save(encoded, "JPEG")
        return {signatures.IMAGE_BYTES: np.array([encoded.getvalue()], object)}
    if signature == signatures.MODEL_CARD:
        return {signatures.QUERY: np.array([b""], object)}
    if signature.startswith("filter_patterns/"):
        return {signatures.FILTER_INDEX: np.array([row], np.int32)}
    inputs = {signatures.IMAGES: picture[np.newaxis]}
    if signature.partition("/")[0] in (signatures.GRAD_CAM, signatures.CAM_METHODS, signatures.INTEGRATED_GRADIENTS):
        inputs[signatures.CLASS_INDEX] = np.array([signatures.PREDICTED_CLASS], np.int32)
        if card.positions:
            inputs[signatures.POSITION] = np.array([row % card.positions], np.int32)
    return inputs


def _write_warmup(folder: str, card: ModelCard) -> None:
    """Record one request for each signature that is called without a person having chosen a layer.

    The first call of any signature costs about half a second; over all layers that would delay a new version by
    quarter of a minute and more.
    """
    names = [signatures.PREDICT, signatures.CLASSIFY_BYTES, signatures.MODEL_CARD]
    names += [signatures.GRAD_CAM, signatures.CAM_METHODS] if card.grad_cam_layer else []
    path = f"{folder}/{WARMUP_FILE}"
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for name in names:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=card.model_name, signature_name=name),
                inputs={key: tf.make_tensor_proto(value) for key, value in example_inputs(name, card).items()},
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
