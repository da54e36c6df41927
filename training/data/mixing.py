"""Mixing the pictures and labels of a batch, as functions of a seed."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Mixup:
    """Blend every picture and its label with another of the batch (Zhang et al. 2018)."""

    alpha: float
    """Both parameters of the Beta distribution of the blend; the smaller, the less is blended."""

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mix a batch.

        Args:
            images: uint8 or float32 [n,h,w,3].
            labels: one-hot float32 [n,classes].
            seed: int64 [2]; the same seed gives the same mixture.

        Returns:
            Images float32 and labels of the same shapes.
        """
        keys = tf.unstack(tf.random.split(seed, 3))
        count = tf.shape(images)[0]
        # A Beta(a, a) draw is a quotient of Gamma draws.
        first, second = (tf.random.stateless_gamma([count], key, self.alpha) for key in keys[:2])
        share = tf.maximum(first, second) / (first + second + 1e-12)
        other = tf.random.experimental.stateless_shuffle(tf.range(count), tf.cast(keys[2], tf.int32))
        images = tf.cast(images, tf.float32)
        of_images, of_labels = share[:, None, None, None], share[:, None]
        return (
            of_images * images + (1 - of_images) * tf.gather(images, other),
            of_labels * labels + (1 - of_labels) * tf.gather(labels, other),
        )
