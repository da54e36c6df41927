"""Heat maps of a trained Keras model over pictures, for reports."""

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps
from PIL import Image

from serving.contract import signatures
from training.export.functions import Classifier
from training.export.network import open_network

BATCH_SIZE = 32

_STRENGTH = 0.45
_COLOURS = "inferno"


class HeatMaps:
    """Grad-CAM of a model at its last convolution, made as the served model makes it."""

    def __init__(self, model: keras.Model):
        """Prepare a model; one without convolutions gives no maps."""
        network = open_network(model)
        self._function = None
        if network.convolutions:
            # Traced into a graph: its gradients are those of tf.gradients, which eager execution lacks.
            self._function = tf.function(Classifier(network).grad_cam(network.convolutions[-1]), autograph=False)

    def of(self, pictures: np.ndarray, class_index: np.ndarray, position: np.ndarray | None = None) -> list[np.ndarray]:
        """Explain a class of each picture.

        Args:
            pictures: uint8 [n, h, w, 3].
            class_index: the class of each picture, int [n].
            position: for a model that reads texts, the position of the character of each picture, int [n].

        Returns:
            For each picture its raw map, float32 [h', w']; nothing for a model without convolutions.
        """
        if self._function is None:
            return []
        rows = [pictures, class_index.astype(np.int32)]
        if position is not None:
            rows.append(position.astype(np.int32))
        maps: list[np.ndarray] = []
        for start in range(0, len(pictures), BATCH_SIZE):
            batch = (tf.constant(array[start : start + BATCH_SIZE]) for array in rows)
            maps += list(self._function(*batch)[signatures.HEATMAP].numpy())
        return maps


def overlay(picture: Image.Image, heatmap: np.ndarray) -> Image.Image:
    """Lay a map in colours over a picture of its own size.

    Args:
        picture: RGB.
        heatmap: float32 [h, w], 0 or more; its peak becomes the brightest colour.
    """
    peak = heatmap.max()
    shares = Image.fromarray(heatmap / peak if peak > 0 else heatmap).resize(picture.size, Image.Resampling.BILINEAR)
    colours = colormaps[_COLOURS](np.asarray(shares), bytes=True)[..., :3]
    return Image.blend(picture, Image.fromarray(colours), _STRENGTH)
