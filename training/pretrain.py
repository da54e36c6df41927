"""Train Fovea's own base on a set of many small pictures."""

from dataclasses import dataclass
from pathlib import Path

import keras

from training.bases import fovea_small
from training.data import batches
from training.data.augmentation import Augmentation
from training.data.pictures import PictureSet
from training.data.pixels import Pixels
from training.nets import one_cycle

AUGMENTATION = Augmentation(rotation=5, shift=0.1, zoom=0.1, flip=True, colour=0.15, cutout=0.25)


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
    classes = len(pictures.class_names)
    steps = batches.steps(len(pixels["train"]), options.batch_size)
    base = fovea_small(options.size, options.size, weights=None)
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes, dtype="float32")]
    model = keras.Sequential([base, *head])
    optimizer = one_cycle(options.peak_learning_rate, steps * options.epochs, options.weight_decay)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=options.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)

    train = batches.training_batches(
        pixels["train"],
        pictures.labels("train"),
        options.batch_size,
        options.seed,
        epochs=options.epochs,
        augment=AUGMENTATION,
        one_hot=classes,
    )
    held_out_batches = batches.evaluation_batches(pixels[held_out], pictures.labels(held_out), 256, one_hot=classes)
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
