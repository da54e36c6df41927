"""Batches of pictures as `tf.data`, in an order that depends on the seed and the epoch alone."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf


class Rows(Protocol):
    """Arrays of one shape, read by position from any thread: pixels, or features computed from them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one array."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of its values."""
        ...

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Return those at some positions, [n, *shape]."""
        ...


READ_BYTES = 1 << 22
"""What is read at once, in whole batches: a call of Python for each batch of features would take most of an epoch."""

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(images uint8 [n,h,w,3], seed int64 [2]) -> images of the same shape."""


Mix = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""(images [n,h,w,3], labels one-hot float32 [n,classes], seed int64 [2]) -> images and labels of the same shapes."""


def training_batches(
    rows: Rows,
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    epochs: int = 1,
    augment: Augment | None = None,
    mix: Mix | None = None,
    one_hot: int | None = None,
    whole: bool = False,
) -> tf.data.Dataset:
    """Chain the batches of some epochs, each shuffled in an order of its own.

    Order and augmentation of epoch k are functions of (seed, k), so a run that starts again at epoch k
    sees what an undisturbed one saw. Use with `steps_per_epoch=steps(len(rows), batch_size, whole)`.

    Args:
        rows: what the model takes.
        labels: class indices, [n] or [n, positions].
        batch_size: rows in a batch; the last one of an epoch may have fewer.
        seed: decides order and augmentation.
        first_epoch: how many epochs are done.
        epochs: how many epochs there are, those that are done included.
        augment: varies the pictures of a batch.
        mix: mixes the pictures and labels of a batch; labels are one-hot then.
        one_hot: number of classes, if labels are to be float32 [n, classes].
        whole: leave out what does not fill a batch at the end of an epoch.

    Returns:
        (rows [n, *shape], labels); rows are float32 if augmented.
    """

    per_epoch = steps(len(rows), batch_size, whole)
    at_once = batch_size * max(1, READ_BYTES // (batch_size * _row_bytes(rows)))

    def order(epoch: np.ndarray) -> np.ndarray:
        return np.random.default_rng([seed, int(epoch)]).permutation(len(rows))

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        positions = tf.numpy_function(order, [epoch], tf.int64, stateful=False)
        positions.set_shape([len(rows)])
        read = tf.data.Dataset.from_tensor_slices(positions).batch(at_once).map(load, tf.data.AUTOTUNE, True)
        return read.flat_map(split).enumerate().map(lambda step, batch: (epoch, step, *batch))

    def load(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _load(rows, labels, positions, one_hot)

    def split(images: tf.Tensor, targets: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((images, targets)).batch(batch_size, drop_remainder=whole)

    def vary(epoch: tf.Tensor, step: tf.Tensor, images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        draw = tf.stack([tf.constant(seed, tf.int64), epoch * per_epoch + step])
        if augment is not None:
            images = augment(images, draw)
        if mix is not None:
            images, targets = mix(images, targets, draw)
        return images, targets

    return (
        tf.data.Dataset.range(first_epoch, epochs)
        .flat_map(epoch_batches)
        .map(vary, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(rows: Rows, labels: np.ndarray, batch_size: int, one_hot: int | None = None) -> tf.data.Dataset:
    """Batch the rows in their own order: (rows [n, *shape], labels)."""
    return (
        tf.data.Dataset.range(len(rows))
        .batch(batch_size)
        .map(lambda positions: _load(rows, labels, positions, one_hot), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def steps(rows: int, batch_size: int, whole: bool = False) -> int:
    """Return how many batches an epoch has, or how many whole ones."""
    return rows // batch_size if whole else -(-rows // batch_size)


def _row_bytes(rows: Rows) -> int:
    return int(np.prod(rows.shape)) * rows.dtype.itemsize


def _load(rows: Rows, labels: np.ndarray, positions: tf.Tensor, one_hot: int | None) -> tuple[tf.Tensor, tf.Tensor]:
    arrays = tf.numpy_function(rows.read, [positions], rows.dtype, stateful=False)
    arrays.set_shape([None, *rows.shape])
    targets = tf.gather(labels, positions)
    return arrays, targets if one_hot is None else tf.one_hot(targets, one_hot)
