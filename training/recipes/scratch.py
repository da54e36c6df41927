"""Recipes that train a net from nothing."""

import keras
from keras import layers, optimizers

from training.data.augmentation import Augmentation
from training.data.mixing import Mixup
from training.nets import normalised, pooled_residual_block, warmed_up_cosine
from training.run import Run

AUGMENTATION = Augmentation(rotation=40, shift=0.2, shear=0.2, zoom=0.2, flip=True)
MILD_AUGMENTATION = Augmentation(rotation=20, shift=0.1, shear=0.1, zoom=0.25, flip=True, colour=0.2)


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
    RMSprop at 1e-4 (Chollet 2017, section 5.2). Pictures too small for the fourth go through fewer.
    """
    model = _convnet(run)
    run.fit(model, optimizers.RMSprop(1e-4))
    return model


def scratch_augmented(run: Run) -> keras.Model:
    """Train the same convnet with augmentation and dropout, against overfitting.

    Rotation by up to 40 degrees, shifts, shear and zoom by up to a fifth, mirroring, and a dropout of one half before
    the dense layer (Chollet 2017, section 5.2). Where pictures vary, faster steps do no harm: the rate of RMSprop
    falls from 5e-4 along a cosine to nothing.
    """
    model = _convnet(run, dropout=0.5)
    rate = optimizers.schedules.CosineDecay(5e-4, run.steps)
    run.fit(model, optimizers.RMSprop(rate), augment=AUGMENTATION)
    return model


def scratch_best(run: Run) -> keras.Model:
    """Train a residual net from nothing with what helps most where pictures are few.

    A strided 5x5 convolution, four residual blocks with batch normalisation and max-pooling, global average pooling,
    a dropout of one half; mild augmentation of shape and colour, and mixup (Zhang et al. 2018); AdamW (Loshchilov and
    Hutter 2019), its rate rising to 1e-3 in a tenth of the steps and falling along a cosine to nothing.
    """
    inputs = keras.Input(run.input_shape, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(inputs)
    x = layers.Conv2D(32, 5, strides=2, padding="same", use_bias=False, name="stem")(x)
    for stage, channels in enumerate((32, 64, 128, 256), start=1):
        x = pooled_residual_block(x, channels, f"stage{stage}")
    x = layers.GlobalAveragePooling2D(name="average")(normalised(x, "last"))
    x = layers.Dropout(0.5, seed=run.options.seed, name="dropout")(x)
    for layer in run.classifier(softmax=True):
        x = layer(x)
    model = keras.Model(inputs, x, name="scratch_best")
    optimizer = optimizers.AdamW(warmed_up_cosine(2e-5, 1e-3, run.steps), weight_decay=0.02)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    run.fit(model, optimizer, augment=MILD_AUGMENTATION, mix=Mixup(0.2))
    return model


def _convnet(run: Run, dropout: float = 0.0) -> keras.Sequential:
    model = keras.Sequential(
        [keras.Input(run.input_shape), layers.Rescaling(1 / 255, name="rescaling")], name=run.options.recipe
    )
    for number, filters in enumerate((32, 64, 128, 128), start=1):
        if min(model.output_shape[1:3]) < SMALLEST_MAP:
            break
        model.add(layers.Conv2D(filters, 3, activation="relu", name=f"conv{number}"))
        model.add(layers.MaxPooling2D(name=f"pool{number}"))
    model.add(layers.Flatten(name="flatten"))
    if dropout:
        model.add(layers.Dropout(dropout, seed=run.options.seed, name="dropout"))
    model.add(layers.Dense(512, activation="relu", name="dense"))
    for layer in run.classifier():
        model.add(layer)
    return model


SMALLEST_MAP = 8
"""Least side of a map that one more convolution is worth its pooling; 28x28 pixels go through two."""
