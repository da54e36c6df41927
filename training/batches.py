"""Batches of pictures as `tf.data`, in an order that depends on the seed and the epoch alone."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from training.pixels import Pixels

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(images uint8 [n,h,w,3], seed int64 [2]) -> images of the same shape."""


def training_batches(
    pixels: Pixels,
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    epochs: int = 1,
    augment: Augment | None = None,
) -> tf.data.Dataset:
    """Chain the batches of some epochs, each shuffled in an order of its own.

    Order and augmentation of epoch k are functions of (seed, k), so a run that starts again at epoch k
    sees what an undisturbed one saw. Use with `steps_per_epoch=steps(len(pixels), batch_size)`.

    Returns:
        (images uint8 or float32 [n,h,w,3], labels [n]) with the last batch of an epoch possibly smaller.
    """

    per_epoch = steps(len(pixels), batch_size)

    def order(epoch: np.ndarray) -> np.ndarray:
        return np.random.default_rng([seed, int(epoch)]).permutation(len(pixels))

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        positions = tf.numpy_function(order, [epoch], tf.int64)
        positions.set_shape([len(pixels)])
        batches = tf.data.Dataset.from_tensor_slices(positions).batch(batch_size)
        return batches.enumerate().map(lambda step, rows: (epoch, step, rows))

    def load(epoch: tf.Tensor, step: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, targets = _load(pixels, labels, rows)
        if augment is not None:
            images = augment(images, tf.stack([tf.constant(seed, tf.int64), epoch * per_epoch + step]))
        return images, targets

    return (
        tf.data.Dataset.range(first_epoch, epochs)
        .flat_map(epoch_batches)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(pixels: Pixels, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Batch the pictures in their own order: (images uint8 [n,h,w,3], labels [n])."""
    return (
        tf.data.Dataset.range(len(pixels))
        .batch(batch_size)
        .map(lambda rows: _load(pixels, labels, rows), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def steps(pictures: int, batch_size: int) -> int:
    """Return how many batches an epoch has."""
    return -(-pictures // batch_size)


def _load(pixels: Pixels, labels: np.ndarray, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    images = tf.numpy_function(pixels.read, [rows], tf.uint8)
    images.set_shape([None, *pixels.shape])
    return images, tf.gather(labels, rows)
