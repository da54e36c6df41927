"""A tiny SavedModel that keeps the contract, with values that can be worked out by hand.

Input 24x32. `identity` is a 1x1 convolution that returns the pixels as they arrived. `conv` is a 4x4
convolution with stride 4 and ReLU: channel 0 is the mean red of each block and channel 1 its mean
blue, in 0..1. The logits of (red, blue) are `gain` times the means of the two channels. So, with
gain 10, Grad-CAM for red at `conv` is 10/48 times channel 0, and so are HiResCAM and LayerCAM. The integrated
gradients of a pixel, from black, are its red or blue share of the logit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from fovea.v1.model_card_pb2 import Layer, ModelCard

from serving.contract import card as model_card
from serving.contract import images, signatures

HEIGHT, WIDTH = 24, 32
GAIN = 10.0
CLASSES = ("red", "blue")
HEAT = GAIN / 48
"""Grad-CAM at `conv` where a block has the class's colour at full strength."""


def card(name: str, class_names: Sequence[str] = CLASSES, threshold: float = 0.0) -> ModelCard:
    """Make the card of the tiny model."""
    return ModelCard(
        contract_version=signatures.CONTRACT_VERSION,
        model_name=name,
        recipe="tiny",
        class_names=class_names,
        input_height=HEIGHT,
        input_width=WIDTH,
        resize_rule=images.RESIZE_RULE,
        layers=[
            Layer(
                name="identity", kind="Conv2D", height=24, width=32, channels=3,
                grad_cam=True, cam_methods=True, activations=True,
            ),
            Layer(
                name="block/conv", kind="Conv2D", height=6, width=8, channels=2,
                grad_cam=True, cam_methods=True, activations=True, filter_patterns=True,
            ),
            Layer(name="pool", kind="MaxPooling2D", height=3, width=4, channels=2, activations=True),
        ],
        grad_cam_layer="block/conv",
        integrated_gradients=True,
        decision_threshold=threshold,
    )  # fmt: skip


def export(path: Path, model_card: ModelCard, gain: float = GAIN, break_answers: bool = False) -> None:
    """Write the model as a SavedModel; with `break_answers` its probabilities are not finite."""
    model = _Tiny(model_card, gain, break_answers)
    tf.saved_model.save(model, str(path), signatures=model.signatures())


def _spec(shape: Sequence[int | None], dtype: tf.DType, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


class _Tiny(tf.Module):
    def __init__(self, card: ModelCard, gain: float, break_answers: bool) -> None:
        super().__init__()
        kernel = np.zeros((4, 4, 3, 2), np.float32)
        kernel[:, :, 0, 0] = kernel[:, :, 2, 1] = 1 / 16 / 255
        self.identity_kernel = tf.Variable(np.eye(3, dtype=np.float32)[None, None])
        self.conv_kernel = tf.Variable(kernel)
        self.gain = tf.Variable(gain)
        self._card = model_card.to_json(card)
        self._break_answers = break_answers

    def signatures(self) -> dict[str, Any]:
        pictures = _spec([None, HEIGHT, WIDTH, 3], tf.uint8, signatures.IMAGES)
        classes = _spec([None], tf.int32, signatures.CLASS_INDEX)

        def function(body: Callable[..., Any], *specs: tf.TensorSpec) -> Any:
            return tf.function(body, input_signature=specs)

        made = {
            signatures.PREDICT: function(lambda images: {"probabilities": self._probabilities(images)}, pictures),
            signatures.CLASSIFY_BYTES: function(self._classify_bytes, _spec([None], tf.string, signatures.IMAGE_BYTES)),
            signatures.MODEL_CARD: function(
                lambda query: {"card": tf.fill(tf.shape(query), self._card)},
                _spec([None], tf.string, signatures.QUERY),
            ),
            signatures.GRAD_CAM: function(self._grad_cam("block/conv"), pictures, classes),
            signatures.CAM_METHODS: function(self._cam_methods("block/conv"), pictures, classes),
            signatures.INTEGRATED_GRADIENTS: function(self._integrated_gradients, pictures, classes),
            signatures.filter_patterns("block/conv"): function(
                self._patterns, _spec([None], tf.int32, signatures.FILTER_INDEX)
            ),
        }
        for layer in ("identity", "block/conv"):
            made[signatures.grad_cam(layer)] = function(self._grad_cam(layer), pictures, classes)
            made[signatures.cam_methods(layer)] = function(self._cam_methods(layer), pictures, classes)
        for layer in ("identity", "block/conv", "pool"):
            made[signatures.activations(layer)] = function(
                lambda images, layer=layer: {"activations": self._layers(tf.cast(images, tf.float32))[layer]}, pictures
            )
        return made

    def _layers(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        identity = tf.nn.conv2d(pixels, self.identity_kernel, 1, "VALID")
        conv = tf.nn.relu(tf.nn.conv2d(identity, self.conv_kernel, 4, "VALID"))
        logits = self.gain * tf.reduce_mean(conv, [1, 2])
        return {"identity": identity, "block/conv": conv, "pool": tf.nn.max_pool2d(conv, 2, 2, "VALID"), "": logits}

    def _probabilities(self, images: tf.Tensor) -> tf.Tensor:
        probabilities = tf.nn.softmax(self._layers(tf.cast(images, tf.float32))[""])
        return probabilities / 0.0 if self._break_answers else probabilities

    def _classify_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def decode(data: tf.Tensor) -> tf.Tensor:
            image = tf.io.decode_image(data, 3, expand_animations=False)
            return tf.cast(tf.image.resize(image, [HEIGHT, WIDTH], antialias=True), tf.uint8)

        return {"probabilities": self._probabilities(tf.map_fn(decode, image_bytes, fn_output_signature=tf.uint8))}

    def _scored(self, images: tf.Tensor, class_index: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """Return all layers, the explained classes and their scores."""
        layers = self._layers(tf.cast(images, tf.float32))
        predicted = tf.argmax(layers[""], axis=1, output_type=tf.int32)
        chosen = tf.where(class_index < 0, predicted, class_index)
        return layers, chosen, tf.gather(layers[""], chosen, batch_dims=1)

    def _grad_cam(self, layer: str) -> Callable[..., Any]:
        def grad_cam(images: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
            layers, chosen, score = self._scored(images, class_index)
            maps = layers[layer]
            weights = tf.reduce_mean(tf.gradients(tf.reduce_sum(score), maps)[0], [1, 2], keepdims=True)
            heatmap = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))
            return {"probabilities": tf.nn.softmax(layers[""]), "class_index": chosen, "heatmap": heatmap}

        return grad_cam

    def _cam_methods(self, layer: str) -> Callable[..., Any]:
        def cam_methods(images: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
            layers, chosen, score = self._scored(images, class_index)
            maps = layers[layer]
            (gradient,) = tf.gradients(tf.reduce_sum(score), maps)
            alpha = 1 / (2 + tf.reduce_sum(maps, [1, 2], keepdims=True) * gradient)
            weights = {
                "grad_cam": tf.reduce_mean(gradient, [1, 2], keepdims=True),
                "hires_cam": gradient,
                "grad_cam_pp": tf.reduce_sum(alpha * tf.nn.relu(gradient), [1, 2], keepdims=True),
                "layer_cam": tf.nn.relu(gradient),
            }
            found = {name: tf.nn.relu(tf.reduce_sum(weight * maps, axis=-1)) for name, weight in weights.items()}
            return {"probabilities": tf.nn.softmax(layers[""]), "class_index": chosen} | found

        return cam_methods

    def _integrated_gradients(self, images: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
        """Exact in one step, since the net is linear from black to any picture."""
        layers, chosen, score = self._scored(images, class_index)
        (gradient,) = tf.gradients(tf.reduce_sum(score), layers["identity"])
        attributions = gradient * layers["identity"]
        return {
            "probabilities": tf.nn.softmax(layers[""]),
            "class_index": chosen,
            "attributions": attributions,
            "score_change": score,
            "completeness_error": tf.reduce_sum(attributions, [1, 2, 3]) - score,
        }

    def _patterns(self, filter_index: tf.Tensor) -> dict[str, tf.Tensor]:
        """Two steps of 64 grey levels up the gradient's sign, from grey."""

        def step(count: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            means = tf.reduce_mean(self._layers(pixels)["block/conv"], [1, 2])
            chosen = tf.gather(means, filter_index, batch_dims=1)
            gradient = tf.gradients(tf.reduce_sum(chosen), pixels)[0]
            return count + 1, tf.clip_by_value(pixels + 64 * tf.sign(gradient), 0, 255)

        grey = tf.fill([tf.shape(filter_index)[0], HEIGHT, WIDTH, 3], 128.0)
        _, pixels = tf.while_loop(lambda count, _: count < 2, step, [0, grey])
        return {"patterns": tf.cast(pixels, tf.uint8)}
