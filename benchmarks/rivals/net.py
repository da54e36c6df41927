"""The net and the pictures as every rival takes them: the file of the net, and the resize that Fovea uses itself."""

import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from serving.contract import images

NET = os.environ["RIVAL_NET"]
"""File of a Keras model that takes uint8 or float pictures [N, H, W, 3] and answers a probability [N, 1]."""


def load() -> keras.Model:
    """Load the net."""
    return keras.saving.load_model(NET)


def compiled(net: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a net to a function that is traced once for batches of any size."""
    signature = [tf.TensorSpec(net.input_shape, tf.uint8)]
    function = tf.function(lambda batch: net(tf.cast(batch, tf.float32), training=False), input_signature=signature)

    def classify(batch: np.ndarray) -> np.ndarray:
        return function(tf.constant(batch)).numpy()[:, 0]

    classify(np.zeros((1, *net.input_shape[1:]), np.uint8))
    return classify


def pixels(picture: Image.Image, net: keras.Model) -> np.ndarray:
    """Resize a picture to what the net takes, uint8 [H, W, 3]."""
    _, height, width, _ = net.input_shape
    return images.resize(picture, height, width)
