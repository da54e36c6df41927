"""Class activation maps: where a convolution sees a class, from what it computes and one gradient.

Every function takes `features` A, what the convolution computes, and `gradient` g of the class's score with respect to
it, both float32 [n,h,w,c], and returns the raw map, float32 [n,h,w], 0 or more. Rows do not meet.
"""

import tensorflow as tf

from serving.contract import signatures


def grad_cam(features: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Weigh each channel by its mean gradient (Selvaraju et al. 2017)."""
    return _weighted(features, tf.reduce_mean(gradient, axis=(1, 2)))


def hires_cam(features: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Weigh each element by its own gradient (Draelos and Carin 2020)."""
    return tf.nn.relu(tf.reduce_sum(gradient * features, axis=-1))


def grad_cam_pp(features: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Weigh each channel by the sum of alpha * relu(g), alpha = g^2 / (2 g^2 + sum(A) g^3) (Chattopadhay et al. 2018).

    Only positive gradients count, where alpha is 1 / (2 + sum(A) g), the sum over height and width. The paper's A are
    rectified, so alpha is at most 1/2; the sum of a channel that a convolution without ReLU leaves negative counts as
    0, which keeps it so: the denominator would vanish somewhere below.
    """
    sums = tf.nn.relu(tf.reduce_sum(features, axis=(1, 2), keepdims=True))
    positive = tf.nn.relu(gradient)
    return _weighted(features, tf.reduce_sum(positive / (2 + sums * positive), axis=(1, 2)))


def layer_cam(features: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Weigh each element by its own gradient where that is positive (Jiang et al. 2021)."""
    return tf.nn.relu(tf.reduce_sum(tf.nn.relu(gradient) * features, axis=-1))


METHODS = {
    signatures.GRAD_CAM: grad_cam,
    signatures.HIRES_CAM: hires_cam,
    signatures.GRAD_CAM_PP: grad_cam_pp,
    signatures.LAYER_CAM: layer_cam,
}


def _weighted(features: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sum the channels, each times its weight, [n,c], and keep what is positive."""
    return tf.nn.relu(tf.einsum("nhwc,nc->nhw", features, weights))
