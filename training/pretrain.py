"""Train Fovea's own base on a set of many small pictures."""

from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from training.bases import fovea_small
from training.data import batches
from training.data.augmentation import Augmentation
from training.data.pictures import PictureSet
from training.data.pixels import Pixels

_AUGMENTATION = Augmentation(rotation=5, shift=0.1, zoom=0.1, flip=True)
_COLOUR_JITTER = 0.15
_CUTOUT = 0.25


@dataclass(frozen=True)
class PretrainOptions:
    """How the base is trained."""

    epochs: int = 32
    batch_size: int = 128
    peak_learning_rate: float = 0.15
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    size: int = 32
    seed: int = 0
    precision: str = "float32"
    """Keras's name of the arithmetic: float32, mixed_bfloat16 or mixed_float16. Weights stay float32."""


def pretrain(pictures: PictureSet, weights: Path, options: PretrainOptions, log: Path | None = None) -> float:
    """Train the base with a linear head, one learning-rate cycle of SGD (Smith 2018), and save its weights.

    Args:
        pictures: a set with the splits train and, to measure on, test or validation.
        weights: the file to write, `*.weights.h5`.
        options: epochs, rates, size.
        log: a CSV file for the history.

    Returns:
        The accuracy on the pictures held out, in 0..1.
    """
    keras.utils.set_random_seed(options.seed)
    keras.mixed_precision.set_global_policy(options.precision)
    held_out = "test" if "test" in pictures.splits else "validation"
    pixels = {
        split: Pixels([picture.path for picture in pictures.splits[split]], options.size, options.size)
        for split in ("train", held_out)
    }
    steps = batches.steps(len(pixels["train"]), options.batch_size)
    base = fovea_small(options.size, options.size, weights=None)
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(len(pictures.class_names), dtype="float32")]
    model = keras.Sequential([base, *head])
    total = steps * options.epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-3, total * 4 // 5, warmup_target=options.peak_learning_rate, warmup_steps=total // 5
    )
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=options.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=options.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)

    def one_hot(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return images, tf.one_hot(labels, len(pictures.class_names))

    train = batches.training_batches(
        pixels["train"],
        pictures.labels("train"),
        options.batch_size,
        options.seed,
        epochs=options.epochs,
        augment=_augment,
    ).map(one_hot)
    held_out_batches = batches.evaluation_batches(pixels[held_out], pictures.labels(held_out), 256).map(one_hot)
    model.fit(
        train,
        steps_per_epoch=steps,
        epochs=options.epochs,
        validation_data=held_out_batches,
        callbacks=[_SaveBase(base, weights), *([keras.callbacks.CSVLogger(str(log))] if log else [])],
        verbose=2,
    )
    _, accuracy = model.evaluate(held_out_batches, verbose=0)
    return float(accuracy)


class _SaveBase(keras.callbacks.Callback):
    def __init__(self, base: keras.Model, weights: Path):
        super().__init__()
        self._base, self._weights = base, weights

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._base.save_weights(self._weights)


def _augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    images = _AUGMENTATION(images, seed)
    count, size = tf.shape(images)[0], images.shape[1]
    gain, lift, left, top = (
        tf.random.stateless_uniform([count, 1, 1, 1], key, -1.0, 1.0) for key in tf.unstack(tf.random.split(seed, 4))
    )
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    images = (images - mean) * (1 + _COLOUR_JITTER * gain) + mean * (1 + _COLOUR_JITTER * lift)
    # Cutout (DeVries and Taylor 2017): a square of mean colour at a random place.
    rows, columns = tf.meshgrid(tf.range(size, dtype=tf.float32), tf.range(size, dtype=tf.float32), indexing="ij")
    half = _CUTOUT * size / 2
    centre_x, centre_y = (left + 1) / 2 * size, (top + 1) / 2 * size
    inside = (tf.abs(columns[None, :, :, None] - centre_x) < half) & (tf.abs(rows[None, :, :, None] - centre_y) < half)
    return tf.clip_by_value(tf.where(inside, mean, images), 0.0, 255.0)
