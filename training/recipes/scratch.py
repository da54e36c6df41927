"""Recipes that train a net from nothing."""

import keras
from keras import layers, optimizers

from training.run import Run


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
