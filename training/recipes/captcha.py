"""The recipe that reads texts."""

import keras
from keras import layers

from training.nets import convolution, one_cycle, residual_block
from training.run import Run

LINE = (1, 9)
"""Kernel that sees the whole line: 9 columns of 16 pixels each."""


def captcha(run: Run) -> keras.Model:
    """Train a net that reads a text of fixed length, with one softmax for each character.

    A convolution of stride 2 and three residual stages with batch normalisation (He et al. 2016); a kernel as wide as
    the line, so that every place knows how many characters stand before it; a convolution whose maps can mean "a 7,
    the third character", and their global average. SGD with momentum, its rate rising to 0.05 and falling along a
    cosine to nothing. Pictures that are distorted and speckled when they are made need no augmentation.

    The average keeps the heat maps meaningful: behind flattened maps, the gradient's mean over a map says little.
    """
    inputs = keras.Input(run.input_shape, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(inputs)
    x = layers.ReLU(name="stem_relu")(convolution(x, 16, 2, "stem"))
    for stage, channels in enumerate((32, 64, 128), start=1):
        x = residual_block(x, channels, f"stage{stage}")
    x = layers.ReLU(name="line_relu")(convolution(x, 128, 1, "line", kernel=LINE))
    x = layers.Conv2D(192, 3, padding="same", activation="relu", kernel_initializer="he_normal", name="features")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    for layer in run.classifier():
        x = layer(x)
    model = keras.Model(inputs, x, name="captcha")
    run.fit(model, one_cycle(0.05, run.steps))
    return model
