"""The arithmetic of every signature, as functions of tensors (docs/contract.md)."""

from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from serving.contract import signatures
from training.export import cam, integrated_gradients
from training.export.network import Network, OpenLayer

Tensors = dict[str, tf.Tensor]
Map = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

PATTERN_STEPS = 40
PATTERN_STEP_SIZE = 4.0
"""Length of one ascent step in grey levels, where the gradient has a root mean square of 1."""
_NOISE_SEED = (2014, 12)


class Classifier:
    """The forward pass and its explanations; every row of a batch is computed on its own."""

    def __init__(self, network: Network, temperature: float = 1.0):
        """Take a network and the divisor of its logits that its probabilities are calibrated with (Guo et al. 2017)."""
        self.network = network
        self.temperature = temperature
        self.forward = self._model(network.logits)
        """From pictures to logits. It holds every weight, so an archive that tracks it has them all."""

    def predict(self, images: tf.Tensor) -> Tensors:
        """Return probabilities float32 [n,classes], or [n,positions,classes], of pictures uint8 [n,h,w,3]."""
        logits = self.forward(tf.cast(images, tf.float32), training=False)
        return {signatures.PROBABILITIES: self._probabilities(logits)}

    def classify_bytes(self, image_bytes: tf.Tensor) -> Tensors:
        """Decode, resize and classify JPEG, PNG, GIF or BMP files, string [n]."""
        height, width = self.network.images.shape[1:3]
        images = tf.map_fn(
            lambda data: decode_and_resize(data, height, width), image_bytes, fn_output_signature=tf.uint8
        )
        return self.predict(images)

    def grad_cam(self, layer: OpenLayer) -> Callable[..., Tensors]:
        """Return Grad-CAM at a convolution, as a function of pictures and class indices.

        Where texts are read, the function takes the position of the character, int32 [n], as its third argument.

        The score is the class's logit; with a sigmoid head the logit for class 1 and its negative for
        class 0, not divided by the temperature. The map is float32 [n,h,w], neither normalised nor resized.
        """
        return self._class_activation_maps(layer, {signatures.HEATMAP: cam.grad_cam})

    def cam_methods(self, layer: OpenLayer) -> Callable[..., Tensors]:
        """Return every class activation map at a convolution, all from one gradient, as `grad_cam` returns one."""
        return self._class_activation_maps(layer, cam.METHODS)

    def integrated_gradients(self) -> Callable[..., Tensors]:
        """Return what every value of a picture adds to the score that `grad_cam` differentiates.

        It is a function of the same arguments.
        """

        def function(images: tf.Tensor, class_index: tf.Tensor, position: tf.Tensor | None = None) -> Tensors:
            pictures = tf.cast(images, tf.float32)
            logits = self.forward(pictures, training=False)
            answer = self._answer(logits, class_index, position)

            def scores(pictures: tf.Tensor) -> tf.Tensor:
                return self._scores(self.forward(pictures, training=False), answer[signatures.CLASS_INDEX], position)

            attributions = integrated_gradients.attributions(scores, pictures)
            change = self._scores(logits, answer[signatures.CLASS_INDEX], position) - scores(tf.zeros_like(pictures))
            return answer | {
                signatures.ATTRIBUTIONS: attributions,
                signatures.SCORE_CHANGE: change,
                signatures.COMPLETENESS_ERROR: tf.reduce_sum(attributions, axis=(1, 2, 3)) - change,
            }

        return function

    def activations(self, layer: OpenLayer) -> Callable[[tf.Tensor], Tensors]:
        """Return what a layer computes, float32 [n,h,w,c], as a function of pictures."""
        model = self._model(layer.output)

        def function(images: tf.Tensor) -> Tensors:
            return {signatures.ACTIVATIONS: tf.cast(model(tf.cast(images, tf.float32), training=False), tf.float32)}

        return function

    def filter_patterns(
        self, layer: OpenLayer, steps: int | tf.Tensor = PATTERN_STEPS
    ) -> Callable[[tf.Tensor], Tensors]:
        """Return the pictures that a convolution's filters respond to most, as a function of filter indices.

        Gradient ascent on the filter's mean activation, from one grey noise for all filters, each step's
        gradient divided by its root mean square (Erhan et al. 2009; the normalisation after Chollet 2017).
        The result is shifted and scaled to a mean of grey 128 and a standard deviation of 64.
        """
        model = self._model(layer.output)
        height, width = self.network.images.shape[1:3]

        def function(filter_index: tf.Tensor) -> Tensors:
            count = tf.shape(filter_index)[0]
            noise = 128 + 20 * tf.random.stateless_uniform([1, height, width, 3], _NOISE_SEED, -1.0, 1.0)
            pictures = tf.tile(noise, [count, 1, 1, 1])
            own_filter = tf.one_hot(filter_index, layer.output.shape[-1])

            def ascend(step: tf.Tensor, pictures: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                responses = tf.reduce_mean(model(pictures, training=False), axis=(1, 2))
                (gradient,) = tf.gradients(tf.reduce_sum(responses * own_filter), pictures)
                rms = tf.sqrt(tf.reduce_mean(tf.square(gradient), axis=(1, 2, 3), keepdims=True))
                return step + 1, pictures + PATTERN_STEP_SIZE * gradient / (rms + 1e-8)

            _, pictures = tf.while_loop(
                lambda step, _: step < steps,
                ascend,
                (tf.constant(0), pictures),
                shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, height, width, 3])),
                maximum_iterations=steps,
            )
            mean, variance = tf.nn.moments(pictures, axes=(1, 2, 3), keepdims=True)
            contrast = 128 + 64 * (pictures - mean) / tf.sqrt(variance + 1e-8)
            return {signatures.PATTERNS: tf.saturate_cast(tf.round(contrast), tf.uint8)}

        return function

    def _model(self, outputs: keras.KerasTensor | Sequence[keras.KerasTensor]) -> keras.Model:
        return keras.Model(self.network.images, outputs)

    def _class_activation_maps(self, layer: OpenLayer, methods: Mapping[str, Map]) -> Callable[..., Tensors]:
        features_and_logits = self._model([layer.output, self.network.logits])

        def function(images: tf.Tensor, class_index: tf.Tensor, position: tf.Tensor | None = None) -> Tensors:
            features, logits = features_and_logits(tf.cast(images, tf.float32), training=False)
            answer = self._answer(logits, class_index, position)
            # The gradient of the sum over the batch is each row's own gradient: rows do not meet.
            score = tf.reduce_sum(self._scores(logits, answer[signatures.CLASS_INDEX], position))
            (gradient,) = tf.gradients(score, features)
            features, gradient = tf.cast(features, tf.float32), tf.cast(gradient, tf.float32)
            return answer | {name: method(features, gradient) for name, method in methods.items()}

        return function

    def _answer(self, logits: tf.Tensor, class_index: tf.Tensor, position: tf.Tensor | None) -> Tensors:
        """Return probabilities, and the classes to explain with -1 replaced by what was predicted, int32 [n]."""
        probabilities = self._probabilities(logits)
        predicted = tf.argmax(_at(probabilities, position), axis=-1, output_type=tf.int32)
        chosen = tf.where(class_index == signatures.PREDICTED_CLASS, predicted, class_index)
        return {signatures.PROBABILITIES: probabilities, signatures.CLASS_INDEX: chosen}

    def _scores(self, logits: tf.Tensor, chosen: tf.Tensor, position: tf.Tensor | None) -> tf.Tensor:
        """Return the score of the chosen class of each row, float32 [n]."""
        logits = tf.cast(logits, tf.float32)
        scores = tf.concat([-logits, logits], axis=-1) if self.network.is_sigmoid else _at(logits, position)
        return tf.gather(scores, chosen, batch_dims=1)

    def _probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        logits = tf.cast(logits, tf.float32) / self.temperature
        if self.network.is_sigmoid:
            return tf.sigmoid(tf.concat([-logits, logits], axis=-1))
        return tf.nn.softmax(logits)


def _at(values: tf.Tensor, position: tf.Tensor | None) -> tf.Tensor:
    """Take each text's character: [n,positions,classes] to [n,classes]; values without positions are left alone."""
    return values if position is None else tf.gather(values, position, batch_dims=1)


def decode_and_resize(data: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Do in the graph what `serving.contract.images` does in Pillow, within a grey level on average.

    EXIF orientation is not applied, since TensorFlow's decoders do not read it, and TIFF is unknown.

    Args:
        data: a JPEG, PNG, GIF or BMP file, string [].
        height: rows of the result.
        width: columns of the result.

    Returns:
        uint8 [height,width,3].
    """
    image = tf.cast(tf.io.decode_image(data, expand_animations=False), tf.float32)
    channels = tf.shape(image)[-1]
    has_alpha = (channels == 2) | (channels == 4)
    colours = tf.where(has_alpha, channels - 1, channels)
    alpha = tf.cond(has_alpha, lambda: image[..., -1:] / 255, lambda: tf.ones_like(image[..., :1]))
    rgb = tf.cond(colours == 1, lambda: tf.tile(image[..., :1], [1, 1, 3]), lambda: image[..., :3])
    over_white = tf.round(rgb * alpha + 255 * (1 - alpha))
    resized = tf.image.resize(over_white, [height, width], tf.image.ResizeMethod.BILINEAR, antialias=True)
    return tf.ensure_shape(tf.saturate_cast(tf.round(resized), tf.uint8), [height, width, 3])


def card_function(card: str) -> Callable[[tf.Tensor], Tensors]:
    """Return the model card once for every row of a query that is not read."""

    def function(query: tf.Tensor) -> Tensors:
        return {signatures.CARD: tf.fill(tf.shape(query), tf.constant(card))}

    return function
