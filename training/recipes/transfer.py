"""Recipes that build on a pretrained base."""

import keras
from keras import layers, optimizers

from training.bases import FOVEA_SMALL_WEIGHTS, fovea_small
from training.data.augmentation import Augmentation
from training.run import Run

HEAD_EPOCHS = 20
UNFROZEN = ("stage3", "features")
AUGMENTATION = Augmentation(rotation=15, shift=0.1, shear=0.1, zoom=0.2, flip=True)


def feature_extraction(run: Run) -> keras.Model:
    """Train a head on the features of a frozen base, which sees every picture once.

    The features are kept on disk, so further runs on the same pictures take seconds; augmentation is not possible.
    """
    base = frozen_base(run)
    head = _head(run, base)
    run.fit(head, optimizers.Adam(1e-3), rows=run.features(base))
    return _joined(run, base, head)


def fine_tuned(run: Run) -> keras.Model:
    """Adapt the last convolutions of a base to the pictures, after its head has been trained.

    Five steps (Chollet 2017, section 5.3): put a head on the base; freeze the base; train the head; unfreeze the
    last convolutions; train both jointly at a low rate, here with augmentation. Batch normalisation stays frozen.
    """
    base = frozen_base(run)
    head = _head(run, base)
    run.fit(head, optimizers.Adam(1e-3), rows=run.features(base), phase="head", epochs=HEAD_EPOCHS)
    model = _joined(run, base, head)
    unfreeze(base, UNFROZEN)
    run.fit(model, optimizers.Adam(1e-4), phase="joint", augment=AUGMENTATION)
    return model


def frozen_base(run: Run) -> keras.Model:
    """Build the base for the run's picture size, with its weights, frozen."""
    base = fovea_small(*run.input_shape[:2], weights=run.options.base_weights or FOVEA_SMALL_WEIGHTS)
    base.trainable = False
    return base


def unfreeze(base: keras.Model, prefixes: tuple[str, ...]) -> None:
    """Make the convolutions whose names begin so trainable; batch normalisation keeps its statistics."""
    base.trainable = True
    for layer in base.layers:
        layer.trainable = isinstance(layer, layers.Conv2D) and layer.name.startswith(prefixes)


def _head(run: Run, base: keras.Model) -> keras.Sequential:
    return keras.Sequential(
        [
            keras.Input(base.output_shape[1:]),
            layers.GlobalAveragePooling2D(name="average"),
            layers.Dropout(0.5, seed=run.options.seed, name="dropout1"),
            layers.Dense(256, activation="relu", name="dense"),
            layers.Dropout(0.5, seed=run.options.seed + 1, name="dropout2"),
            *run.classifier(),
        ],
        name="head",
    )


def _joined(run: Run, base: keras.Model, head: keras.Sequential) -> keras.Model:
    return keras.Sequential([keras.Input(run.input_shape), base, *head.layers], name=run.options.recipe)
