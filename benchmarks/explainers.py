"""Grad-CAM by other projects, timed in a process of its own: run with the Python of `make exactness`.

Usage: python -m benchmarks.explainers MODEL.keras PICTURE. For each line `LIBRARY` or `LIBRARY overlay` of its input it
computes Grad-CAM of the net's one logit at the last convolution, or everything from the encoded picture to an overlay
as PNG, and answers with the seconds that it took. Decoding and drawing are the gateway's own.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tf_explain.core.grad_cam import GradCAM as TfExplain
from tf_keras_vis.gradcam import Gradcam
from xplique.attributions import GradCAM as Xplique

from serving import rendering
from serving.contract import images

LIBRARIES = ("xplique", "tf-keras-vis", "tf-explain")


def explainers(model: keras.Model, layer: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return, by library, what its documentation calls for: from a picture float32 [1,h,w,3] to a map [h,w]."""
    xplique = Xplique(model, conv_layer=layer)
    vis = Gradcam(model, clone=False)
    explain = TfExplain()
    target = np.ones((1, 1), np.float32)

    def by_tf_explain(picture: np.ndarray) -> np.ndarray:
        # Its `explain` goes on to draw an overlay of its own.
        outputs, gradients = explain.get_gradients_and_filters(model, picture, layer, 0, use_guided_grads=False)
        return explain.generate_ponderated_output(outputs, gradients)[0].numpy()

    return {
        "xplique": lambda picture: np.asarray(xplique.explain(picture, target))[0, ..., 0],
        "tf-keras-vis": lambda picture: vis(lambda logits: logits[..., 0], picture, penultimate_layer=layer)[0],
        "tf-explain": by_tf_explain,
    }


def main(model_file: Path, picture_file: Path) -> None:
    """Answer lines of standard input."""
    whole = keras.models.load_model(model_file, compile=False)
    model = keras.Model(whole.inputs, whole.get_layer("logits").output)
    # A functional net of its own: in one that shares the layers of a Sequential some libraries find no gradient.
    weights, model = model.get_weights(), keras.models.clone_model(model)
    model.set_weights(weights)
    layer = [item.name for item in model.layers if isinstance(item, keras.layers.Conv2D)][-1]
    by_library = explainers(model, layer)
    data, (height, width) = picture_file.read_bytes(), model.input_shape[1:3]
    resized = images.resize(images.decode(data), height, width)[np.newaxis].astype(np.float32)

    def overlay(library: str) -> bytes:
        picture = images.decode(data)
        pixels = images.resize(picture, height, width)[np.newaxis].astype(np.float32)
        heatmap = np.maximum(by_library[library](pixels), 0).astype(np.float32)
        return rendering.png(rendering.overlay(picture, heatmap, 0.5, "inferno"))

    tf.get_logger().setLevel("ERROR")
    for line in sys.stdin:
        library, _, whole_way = line.strip().partition(" ")
        started = time.perf_counter()
        if whole_way:
            overlay(library)
        else:
            by_library[library](resized)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
