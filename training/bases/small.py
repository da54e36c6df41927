"""Fovea's own base."""

from pathlib import Path

import keras
from keras import layers

from training.nets import convolution, residual_block

FOVEA_SMALL_WEIGHTS = Path(__file__).parents[1] / "weights" / "fovea_small.weights.h5"


def fovea_small(height: int, width: int, weights: Path | None = FOVEA_SMALL_WEIGHTS) -> keras.Model:
    """Build Fovea's own base: a residual net for pictures of 32 to about 160 pixels a side.

    A stem of 32 channels, three residual stages of 64, 128 and 256 (He et al. 2016, basic blocks) that halve
    the resolution, and a pointwise convolution to 512 features; 1.3 million weights.

    Args:
        height: rows of the pictures.
        width: columns of the pictures.
        weights: a file that `fovea pretrain` wrote, by default the bundled one; None leaves the weights random.

    Returns:
        A model from RGB [n,h,w,3] in 0..255 to features float32 [n,h/8,w/8,512].
    """
    inputs = keras.Input((height, width, 3), name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(inputs)
    x = convolution(x, 32, 1, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, channels in enumerate((64, 128, 256), start=1):
        x = residual_block(x, channels, f"stage{stage}")
    # The last convolution ends in its own ReLU, with no normalisation behind it: its maps are what the head
    # averages, and so what Grad-CAM weighs.
    x = layers.Conv2D(512, 1, activation="relu", kernel_initializer="he_normal", name="features")(x)
    base = keras.Model(inputs, x, name="fovea_small")
    if weights is not None:
        base.load_weights(weights)
    return base
