"""The recipe that reads texts."""

import keras
from keras import layers

from training.nets import convolution, one_cycle, residual_block
from training.run import Run


def captcha(run: Run) -> keras.Model:
    """Train a net that reads a text of fixed length, with one softmax for each character.

    A convolution of stride 2 and three residual stages with batch normalisation (He et al. 2016). Where a character
    stands says which one of the text it is, so the maps are flattened, not averaged, and a dense layer joins them.
    SGD with momentum, its rate rising to 0.05 and falling along a cosine to nothing. Pictures that are distorted and
    speckled when they are made need no augmentation.
    """
    inputs = keras.Input(run.input_shape, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(inputs)
    x = layers.ReLU(name="stem_relu")(convolution(x, 16, 2, "stem"))
    for stage, channels in enumerate((32, 64, 128), start=1):
        x = residual_block(x, channels, f"stage{stage}")
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(256, activation="relu", name="dense")(x)
    x = layers.Dropout(0.3, seed=run.options.seed, name="dropout")(x)
    for layer in run.classifier():
        x = layer(x)
    model = keras.Model(inputs, x, name="captcha")
    run.fit(model, one_cycle(0.05, run.steps))
    return model
