"""Explain nets with other projects' code; run with the Python of `make exactness`.

Usage: python foreign_explanations.py FOLDER. For every FOLDER/NAME.keras there is FOLDER/NAME.npz with pictures
float32 [n,h,w,3]; targets float32 [n,logits], which times the logits add up to the score of each row; layers, names of
convolutions; integrated, whether to integrate gradients. Writes FOLDER/NAME.found.npz: `LIBRARY LAYER METHOD` float32
[n,h,w], and `xplique attributions` float32 [n,h,w,3].
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.layercam import Layercam
from xplique.attributions import GradCAM, GradCAMPP, IntegratedGradients

STEPS = 51
"""Points on the path."""


def xplique_map(method: type[GradCAM], model: keras.Model, layer: str, pictures: tf.Tensor, targets: tf.Tensor):
    """Do what `explain` does before it resizes the map."""
    explainer = method(model, conv_layer=layer)
    features, gradients = explainer._gradient(pictures, targets)
    return explainer._apply_weights(explainer._compute_weights(gradients, features), features)


def explain(
    model: keras.Model, pictures: np.ndarray, targets: np.ndarray, layers: list[str], integrated: bool
) -> dict[str, np.ndarray]:
    """Compute every map of every layer, and integrated gradients if asked."""
    model = keras.Model(model.inputs, model.get_layer("logits").output)
    pictures, targets = tf.constant(pictures), tf.constant(targets)
    found = {}

    def score(logits: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(logits * targets, axis=-1)

    for layer in layers:
        _, height, width, _ = model.get_layer(layer).output.shape
        raw = {
            "penultimate_layer": layer,
            "seek_penultimate_conv_layer": False,
            "expand_cam": False,
            "normalize_cam": False,
        }
        found |= {
            f"xplique {layer} grad_cam": xplique_map(GradCAM, model, layer, pictures, targets),
            # xplique takes the mean over the map where the paper takes the sum; a score times the map's size makes
            # one of the other, in alpha and in the weights.
            f"xplique {layer} grad_cam_pp": xplique_map(GradCAMPP, model, layer, pictures, height * width * targets),
            f"tf-keras-vis {layer} grad_cam": Gradcam(model, clone=False)(score, pictures, **raw),
            f"tf-keras-vis {layer} layer_cam": Layercam(model, clone=False)(score, pictures, **raw),
            # LayerCAM of all gradients, not of the positive ones alone, is HiResCAM.
            f"tf-keras-vis {layer} hires_cam": Layercam(model, clone=False)(
                score, pictures, gradient_modifier=None, **raw
            ),
        }
    if integrated:
        path = IntegratedGradients(model, steps=STEPS, baseline_value=0.0, reducer=None, batch_size=STEPS)
        found["xplique attributions"] = path.explain(pictures, targets)
    return {name: np.asarray(value) for name, value in found.items()}


for file in sorted(Path(sys.argv[1]).glob("*.keras")):
    asked = np.load(file.with_suffix(".npz"))
    answer = explain(keras.models.load_model(file, compile=False), **asked)
    np.savez(file.with_suffix(".found.npz"), **answer)
