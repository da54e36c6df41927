"""The recipes: each reads like the paragraph that describes it."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers, optimizers

from training.bases import fovea_small
from training.data.augmentation import Augmentation
from training.errors import FoveaError
from training.run import Run


@dataclass(frozen=True)
class Recipe:
    """A way to make a classifier of a picture set."""

    train: Callable[[Run], keras.Model]
    size: int
    """Default height and width of the pictures."""
    epochs: int
    """Default number of epochs."""

    @property
    def description(self) -> str:
        """The first line of the recipe's docstring."""
        return (self.train.__doc__ or "").strip().splitlines()[0]


def dense(run: Run) -> keras.Model:
    """Train a fully connected net, the control that shows what convolutions buy.

    The pixels side by side, a dense layer of 512, RMSprop at 1e-4.
    """
    model = keras.Sequential(
        [
            keras.Input(run.input_shape),
            layers.Rescaling(1 / 255, name="rescaling"),
            layers.Flatten(name="flatten"),
            layers.Dense(512, activation="relu", name="dense"),
            *run.classifier(),
        ],
        name="dense",
    )
    run.fit(model, optimizers.RMSprop(1e-4))
    return model


def scratch(run: Run) -> keras.Model:
    """Train a small convnet from nothing, without augmentation; with few pictures it overfits.

    Four convolutions of 32, 64, 128 and 128 filters, each followed by max-pooling, and a dense layer of 512;
    RMSprop at 1e-4 (Chollet 2017, section 5.2).
    """
    model = keras.Sequential(
        [keras.Input(run.input_shape), layers.Rescaling(1 / 255, name="rescaling")], name="scratch"
    )
    for number, filters in enumerate((32, 64, 128, 128), start=1):
        model.add(layers.Conv2D(filters, 3, activation="relu", name=f"conv{number}"))
        model.add(layers.MaxPooling2D(name=f"pool{number}"))
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dense(512, activation="relu", name="dense"))
    for layer in run.classifier():
        model.add(layer)
    run.fit(model, optimizers.RMSprop(1e-4))
    return model


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


HEAD_EPOCHS = 20
UNFROZEN = ("stage3", "features")
AUGMENTATION = Augmentation(rotation=15, shift=0.1, shear=0.1, zoom=0.2, flip=True)

RECIPES: dict[str, Recipe] = {
    "dense": Recipe(dense, size=96, epochs=30),
    "scratch": Recipe(scratch, size=150, epochs=30),
    "feature_extraction": Recipe(feature_extraction, size=64, epochs=30),
    "fine_tuned": Recipe(fine_tuned, size=64, epochs=15),
}


def recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        FoveaError: there is none of that name.
    """
    if name not in RECIPES:
        raise FoveaError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def frozen_base(run: Run) -> keras.Model:
    """Build the base for the run's picture size, with its weights, frozen."""
    base = fovea_small(*run.input_shape[:2], weights=run.options.base_weights)
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
