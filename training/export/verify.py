"""Check a SavedModel before it is published: load it as TensorFlow Serving does and compare with Keras."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from fovea.v1.model_card_pb2 import ModelCard
from scipy.special import softmax

from serving.contract import card as cards
from serving.contract import images, signatures
from training.errors import FoveaError
from training.export.functions import PATTERN_STEPS, Classifier, decode_and_resize
from training.export.network import Network
from training.export.savedmodel import endpoints, example_inputs

PROBABILITY_TOLERANCE = 1e-5
RELATIVE_TOLERANCE = 1e-3
PIXEL_TOLERANCE = 1.0
"""Greatest mean difference, in grey levels, between the resize in the graph and the shared one."""
PATTERN_GAIN = 0.5
"""Least response that a filter pattern must gain over the noise it began from, as a share of what Keras's own gains.

Rounding grows along the ascent, so two correct patterns need not look alike.
"""

Arrays = dict[str, np.ndarray]


class ExportError(FoveaError):
    """The SavedModel does not keep the contract; it must not be published."""


class Session:
    """A SavedModel in a session of its own, as TensorFlow Serving's session loader makes it."""

    def __init__(self, folder: str):
        self._graph = tf.Graph()
        options = tf.compat.v1.ConfigProto()
        # Every signature runs once here: rewriting the graph for speed would take longer than all of the runs.
        options.graph_options.rewrite_options.disable_meta_optimizer = True
        self._session = tf.compat.v1.Session(graph=self._graph, config=options)
        with self._graph.as_default():
            meta = tf.compat.v1.saved_model.loader.load(self._session, [tf.saved_model.SERVING], folder)
        self.signatures = meta.signature_def

    def run(self, name: str, inputs: Arrays) -> Arrays:
        """Run a signature; inputs and outputs are named as in the signature."""
        signature = self.signatures[name]
        fetches = {key: info.name for key, info in signature.outputs.items()}
        return self._session.run(fetches, {signature.inputs[key].name: value for key, value in inputs.items()})

    def close(self) -> None:
        """Free the session."""
        self._session.close()


def verify(folder: str, model: keras.Model, classifier: Classifier, card: ModelCard) -> None:
    """Run every signature and compare with Keras.

    Args:
        folder: the SavedModel.
        model: the Keras model it was exported from.
        classifier: the signatures' functions, for the list of endpoints.
        card: the complete card.

    Raises:
        ExportError: a signature is missing, fails, breaks the batching rules or disagrees with Keras.
    """
    try:
        session = Session(folder)
    except Exception as error:
        raise ExportError(f"the SavedModel does not load as TensorFlow Serving loads it: {error}") from error
    try:
        for endpoint in endpoints(classifier, card):
            if endpoint.name not in session.signatures:
                raise ExportError(f"the SavedModel lacks the signature {endpoint.name}")
            rows = [example_inputs(endpoint.name, card, row) for row in range(2)]
            try:
                outputs = session.run(endpoint.name, _concatenate(rows))
            except tf.errors.OpError as error:
                raise ExportError(f"the signature {endpoint.name} fails: {error.message}") from error
            _check_batch(endpoint.name, outputs)
            if endpoint.name.startswith("filter_patterns/"):
                _check_pattern(endpoint.name, classifier, outputs[signatures.PATTERNS])
            else:
                expected = [_expected(endpoint.name, model, classifier, row, card) for row in rows]
                _compare(endpoint.name, outputs, _concatenate(expected))
    finally:
        session.close()


def _concatenate(rows: Sequence[Arrays]) -> Arrays:
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def _check_batch(name: str, outputs: Arrays) -> None:
    """TensorFlow Serving cuts merged requests apart along dim 0."""
    for key, output in outputs.items():
        if output.shape[:1] != (2,):
            raise ExportError(f"{name}: the first dimension of output {key} is not the batch")


def _compare(name: str, outputs: Arrays, expected: Arrays) -> None:
    """Compare a batch of two with what Keras computes for each row alone: rows must not influence each other."""
    for key, value in expected.items():
        if not _close(key, outputs[key], value):
            raise ExportError(f"{name}: output {key} differs from what Keras computes")


def _check_pattern(name: str, classifier: Classifier, patterns: np.ndarray) -> None:
    """Compare how strongly filter 0 responds to its pattern, to Keras's own, and to the noise that both began from."""
    layer = classifier.network.layers[name.partition("/")[2]]
    response = keras.Model(classifier.network.images, layer.output)
    own, noise = (
        tf.function(classifier.filter_patterns(layer, steps), autograph=False)(tf.constant([0]))[signatures.PATTERNS]
        for steps in (PATTERN_STEPS, 0)
    )
    pictures = np.concatenate([patterns[:1], own, noise]).astype(np.float32)
    served, expected, start = np.asarray(response(pictures, training=False))[..., 0].mean(axis=(1, 2))
    if served - start < PATTERN_GAIN * (expected - start) - RELATIVE_TOLERANCE * abs(start):
        raise ExportError(
            f"{name}: the filter responds to its pattern with {served:.3g}, to Keras's with {expected:.3g}"
        )


def _close(key: str, value: np.ndarray, expected: np.ndarray) -> bool:
    if value.dtype == object or np.issubdtype(value.dtype, np.int32):
        return bool(np.all(value == expected))
    difference = np.abs(np.asarray(value, np.float64) - np.asarray(expected, np.float64))
    if not np.isfinite(difference).all():
        return False
    if key == signatures.PROBABILITIES:
        return bool(difference.max() <= PROBABILITY_TOLERANCE)
    return bool(difference.max() <= RELATIVE_TOLERANCE * max(np.abs(expected).max(), 1e-6))


def _expected(name: str, model: keras.Model, classifier: Classifier, inputs: Arrays, card: ModelCard) -> Arrays:
    """Compute what a signature should answer by other means than the signature's own function."""
    network = classifier.network
    if name == signatures.MODEL_CARD:
        return {signatures.CARD: np.array([cards.to_json(card).encode()], object)}
    if name == signatures.PREDICT:
        return {signatures.PROBABILITIES: _probabilities(model, network, inputs[signatures.IMAGES], card)}
    if name == signatures.CLASSIFY_BYTES:
        return {signatures.PROBABILITIES: _probabilities(model, network, _resized_in_graph(inputs, card), card)}
    kind, _, layer_name = name.partition("/")
    layer = network.layers[layer_name or card.grad_cam_layer]
    if kind == "activations":
        pictures = tf.cast(inputs[signatures.IMAGES], tf.float32)
        return {signatures.ACTIVATIONS: np.asarray(keras.Model(network.images, layer.output)(pictures, training=False))}
    return {
        signatures.PROBABILITIES: _probabilities(model, network, inputs[signatures.IMAGES], card),
        signatures.HEATMAP: eager_grad_cam(
            network, layer.name, inputs[signatures.IMAGES], inputs.get(signatures.POSITION)
        ),
    }


def _probabilities(model: keras.Model, network: Network, pictures: np.ndarray, card: ModelCard) -> np.ndarray:
    """Compute probabilities at the card's temperature, from logits that are known to give the model's own at 1."""
    inputs = tf.cast(pictures, tf.float32)
    outputs = np.asarray(model(inputs, training=False))
    own = np.concatenate([1 - outputs, outputs], axis=-1) if outputs.shape[-1] == 1 else outputs
    if not card.temperature:
        return own
    logits = np.asarray(keras.Model(network.images, network.logits)(inputs, training=False), np.float64)
    if network.is_sigmoid:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    if not _close(signatures.PROBABILITIES, softmax(logits, axis=-1), own):
        raise ExportError("the logits do not give the probabilities that Keras computes")
    return softmax(logits / card.temperature, axis=-1)


def _resized_in_graph(inputs: Arrays, card: ModelCard) -> np.ndarray:
    """Resize as the bytes signature does, once it is known to agree with the shared resize."""
    (data,) = inputs[signatures.IMAGE_BYTES]
    in_graph = decode_and_resize(tf.constant(data), card.input_height, card.input_width).numpy()
    shared = images.resize(images.decode(data), card.input_height, card.input_width)
    difference = np.abs(in_graph.astype(int) - shared.astype(int)).mean()
    if difference > PIXEL_TOLERANCE:
        raise ExportError(
            f"{signatures.CLASSIFY_BYTES}: pixels differ by {difference:.2f} grey levels from the shared resize"
        )
    return in_graph[np.newaxis]


def eager_grad_cam(
    network: Network, layer_name: str, pictures: np.ndarray, position: np.ndarray | None = None
) -> np.ndarray:
    """Compute Grad-CAM of the predicted class with a gradient tape.

    Args:
        network: the classifier.
        layer_name: a convolution.
        pictures: uint8 [n,h,w,3].
        position: of the character to explain where texts are read, int [n].

    Returns:
        The raw map, float32 [n,h,w].
    """
    model = keras.Model(network.images, [network.layers[layer_name].output, network.logits])
    inputs = tf.cast(pictures, tf.float32)
    with tf.GradientTape() as tape:
        # The weights of a frozen base are not watched; without this nothing up to the maps would be recorded.
        tape.watch(inputs)
        maps, logits = model(inputs, training=False)
        score = _predicted_score(network, logits, position)
    gradient = tape.gradient(score, maps)
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)).numpy()


def _predicted_score(network: Network, logits: tf.Tensor, position: np.ndarray | None) -> tf.Tensor:
    if position is not None:
        logits = tf.stack([row[index] for row, index in zip(logits, position, strict=True)])
    if network.is_sigmoid:
        return tf.reduce_sum(tf.abs(logits))
    return tf.reduce_sum(tf.reduce_max(logits, axis=-1))
