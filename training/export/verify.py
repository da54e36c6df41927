"""Check a SavedModel before it is published: load it as TensorFlow Serving does and compare with Keras."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from fovea.v1.model_card_pb2 import ModelCard
from scipy.integrate import trapezoid
from scipy.special import softmax

from serving.contract import card as cards
from serving.contract import images, signatures
from training.errors import FoveaError
from training.export import integrated_gradients
from training.export.functions import PATTERN_STEPS, Classifier, decode_and_resize
from training.export.network import Network
from training.export.savedmodel import endpoints, example_inputs
from training.export.session import Arrays, Session

PROBABILITY_TOLERANCE = 1e-5
RELATIVE_TOLERANCE = 1e-3
ATTRIBUTION_TOLERANCE = 0.05
"""Greatest mean difference of a row's attributions, as a share of their mean size.

A value that rounding puts on the other side of a ReLU's bend at one point of the path changes some of them by more.
"""
PIXEL_TOLERANCE = 1.0
"""Greatest mean difference, in grey levels, between the resize in the graph and the shared one."""
PATTERN_GAIN = 0.5
"""Least response that a filter pattern must gain over the noise it began from, as a share of what Keras's own gains.

Rounding grows along the ascent, so two correct patterns need not look alike.
"""

_PATH_PIECES = 3


class ExportError(FoveaError):
    """The SavedModel does not keep the contract; it must not be published."""


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
        # Every signature runs once here: rewriting the graph for speed would take longer than all of the runs.
        session = Session(folder, rewrite=False)
    except Exception as error:
        raise ExportError(f"the SavedModel does not load as TensorFlow Serving loads it: {error}") from error
    reference = Reference(model, classifier.network, card)
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
                expected = [reference.answer(endpoint.name, row) for row in rows]
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
        if key == signatures.CARD:
            same = np.array_equal(outputs[key], value)
        elif key == signatures.ATTRIBUTIONS:
            same = _close_on_average(outputs[key], value)
        else:
            same = _close(outputs[key], value, _tolerance(key, expected))
        if not same:
            raise ExportError(f"{name}: output {key} differs from what Keras computes")


def _check_pattern(name: str, classifier: Classifier, patterns: np.ndarray) -> None:
    """Compare how strongly filter 0 responds to its pattern, to Keras's own, and to the noise that both began from."""
    layer = classifier.network.layers[name.partition("/")[2]]
    response = keras.Model(classifier.network.images, layer.output)
    ascend = tf.function(lambda index, steps: classifier.filter_patterns(layer, steps)(index), autograph=False)
    own, noise = (ascend(tf.constant([0]), tf.constant(steps))[signatures.PATTERNS] for steps in (PATTERN_STEPS, 0))
    pictures = np.concatenate([patterns[:1], own, noise]).astype(np.float32)
    served, expected, start = np.asarray(response(pictures, training=False))[..., 0].mean(axis=(1, 2))
    if served - start < PATTERN_GAIN * (expected - start) - RELATIVE_TOLERANCE * abs(start):
        raise ExportError(
            f"{name}: the filter responds to its pattern with {served:.3g}, to Keras's with {expected:.3g}"
        )


def _close(value: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    difference = np.abs(np.asarray(value, np.float64) - np.asarray(expected, np.float64))
    return bool(np.isfinite(difference).all() and difference.max() <= tolerance)


def _close_on_average(value: np.ndarray, expected: np.ndarray) -> bool:
    """Compare attributions row by row; infinite ones and those that are no numbers are close to nothing."""
    difference, size = (np.abs(values).mean(axis=(1, 2, 3)) for values in (value - expected, expected))
    return bool((difference <= ATTRIBUTION_TOLERANCE * np.maximum(size, 1e-9)).all())


def _tolerance(key: str, expected: Arrays) -> float:
    """Return the greatest difference allowed."""
    if key == signatures.PROBABILITIES:
        return PROBABILITY_TOLERANCE
    if key in (signatures.SCORE_CHANGE, signatures.COMPLETENESS_ERROR):
        # Both are differences between greater numbers: what the attributions add up from, and the scores.
        return ATTRIBUTION_TOLERANCE * max(np.abs(expected[signatures.ATTRIBUTIONS]).sum(axis=(1, 2, 3)).max(), 1e-3)
    return RELATIVE_TOLERANCE * max(np.abs(expected[key]).max(), 1e-6)


class Reference:
    """What Keras computes for one row at a time, by other means than the signatures' own functions."""

    def __init__(self, model: keras.Model, network: Network, card: ModelCard):
        """Take the Keras model, the same laid open, and the complete card."""
        self._model = model
        self._network = network
        self._card = card
        self._maps: dict[tuple[str, bytes], Arrays] = {}

    def answer(self, name: str, inputs: Arrays) -> Arrays:
        """Compute what a signature other than those of filter patterns should answer.

        Args:
            name: the signature.
            inputs: a batch of one, of the signature's inputs; the predicted class is explained.

        Returns:
            Outputs by name; not necessarily all.
        """
        if name == signatures.MODEL_CARD:
            return {signatures.CARD: np.array([cards.to_json(self._card).encode()], object)}
        if name == signatures.CLASSIFY_BYTES:
            return self._probabilities(_resized_in_graph(inputs, self._card))
        pictures = inputs[signatures.IMAGES]
        kind, _, layer_name = name.partition("/")
        layer_name = layer_name or self._card.grad_cam_layer
        if kind == "activations":
            output = self._network.layers[layer_name].output
            values = keras.Model(self._network.images, output)(tf.cast(pictures, tf.float32), training=False)
            return {signatures.ACTIVATIONS: np.asarray(values)}
        answer = self._probabilities(pictures)
        position = inputs.get(signatures.POSITION)
        if kind == signatures.INTEGRATED_GRADIENTS:
            return answer | taped_integrated_gradients(self._network, pictures, position)
        if kind == signatures.GRAD_CAM:
            return answer | {signatures.HEATMAP: self._taped_maps(layer_name, inputs)[signatures.GRAD_CAM]}
        if kind == signatures.CAM_METHODS:
            return answer | self._taped_maps(layer_name, inputs)
        return answer

    def _taped_maps(self, layer_name: str, inputs: Arrays) -> Arrays:
        """Compute the maps that two signatures share once."""
        pictures, position = inputs[signatures.IMAGES], inputs.get(signatures.POSITION)
        key = layer_name, pictures.tobytes()
        if key not in self._maps:
            self._maps[key] = taped_maps(self._network, layer_name, pictures, position)
        return self._maps[key]

    def _probabilities(self, pictures: np.ndarray) -> Arrays:
        """Compute probabilities at the card's temperature, from logits that are known to give the model's own at 1."""
        inputs = tf.cast(pictures, tf.float32)
        outputs = np.asarray(self._model(inputs, training=False))
        own = np.concatenate([1 - outputs, outputs], axis=-1) if outputs.shape[-1] == 1 else outputs
        if not self._card.temperature:
            return {signatures.PROBABILITIES: own}
        model = keras.Model(self._network.images, self._network.logits)
        logits = np.asarray(model(inputs, training=False), np.float64)
        if self._network.is_sigmoid:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
        if not _close(softmax(logits, axis=-1), own, PROBABILITY_TOLERANCE):
            raise ExportError("the logits do not give the probabilities that Keras computes")
        return {signatures.PROBABILITIES: softmax(logits / self._card.temperature, axis=-1)}


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


def _traced(function: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]) -> tf.types.experimental.GenericFunction:
    """Make a graph of a function, in which gradients that nobody asked for are left out.

    Run operation by operation, a convolution's gradient has that of its weights computed with it, where TensorFlow
    2.21 ends the process on x86 processors when the kernel is 1x1 and the stride 2.
    """
    return tf.function(function, autograph=False)


def taped_maps(network: Network, layer_name: str, pictures: np.ndarray, position: np.ndarray | None = None) -> Arrays:
    """Compute the class activation maps of the predicted class with a gradient tape, as the papers write them.

    Args:
        network: the classifier.
        layer_name: a convolution.
        pictures: uint8 [n,h,w,3].
        position: of the character to explain where texts are read, int [n].

    Returns:
        Of every method the raw map, float64 [n,h,w].
    """
    model = keras.Model(network.images, [network.layers[layer_name].output, network.logits])

    @_traced
    def features_and_gradient(inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            # Without this nothing up to the features would be recorded.
            tape.watch(inputs)
            features, logits = model(inputs, training=False)
            score = tf.reduce_sum(tf.reduce_max(_class_scores(network, logits, position), axis=-1))
        return features, tape.gradient(score, features)

    features, g = (np.asarray(value, np.float64) for value in features_and_gradient(tf.cast(pictures, tf.float32)))
    total = np.maximum(features.sum(axis=(1, 2), keepdims=True), 0)
    alpha = np.divide(g**2, 2 * g**2 + total * g**3, out=np.zeros_like(g), where=g > 0)
    weights = {
        signatures.GRAD_CAM: g.mean(axis=(1, 2), keepdims=True),
        signatures.HIRES_CAM: g,
        signatures.GRAD_CAM_PP: (alpha * np.maximum(g, 0)).sum(axis=(1, 2), keepdims=True),
        signatures.LAYER_CAM: np.maximum(g, 0),
    }
    return {name: np.maximum((weight * features).sum(axis=-1), 0) for name, weight in weights.items()}


def taped_integrated_gradients(network: Network, picture: np.ndarray, position: np.ndarray | None = None) -> Arrays:
    """Compute integrated gradients of the predicted class with gradient tapes along the path.

    Args:
        network: the classifier.
        picture: uint8 [1,h,w,3].
        position: of the character to explain where texts are read, int [1].

    Returns:
        The outputs of the signature that are not probabilities or class.
    """
    model = keras.Model(network.images, network.logits)
    chosen = np.argmax(_class_scores(network, model(tf.cast(picture, tf.float32), training=False), position))

    @_traced
    def score_and_gradient(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = None if position is None else np.repeat(position, points.shape[0])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            score = _class_scores(network, model(points, training=False), positions)[:, chosen]
        return score, tape.gradient(score, points)

    shares = np.linspace(0, 1, integrated_gradients.STEPS + 1, dtype=np.float32)
    points = tf.constant(shares[:, np.newaxis, np.newaxis, np.newaxis] * picture.astype(np.float32))
    pieces = [score_and_gradient(piece) for piece in tf.split(points, _PATH_PIECES)]
    scores, gradients = (np.concatenate(values).astype(np.float64) for values in zip(*pieces, strict=True))
    attributions = picture * trapezoid(gradients, shares, axis=0)
    change = scores[-1:] - scores[:1]
    return {
        signatures.ATTRIBUTIONS: attributions,
        signatures.SCORE_CHANGE: change,
        signatures.COMPLETENESS_ERROR: attributions.sum(axis=(1, 2, 3)) - change,
    }


def _class_scores(network: Network, logits: tf.Tensor, position: np.ndarray | None) -> tf.Tensor:
    """Return the score of every class, [n,classes]; of texts, at each row's position."""
    if position is not None:
        logits = tf.stack([logits[row, index] for row, index in enumerate(position)])
    return tf.concat([-logits, logits], axis=-1) if network.is_sigmoid else logits
