"""Class activation maps of numbers small enough to work out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from training.export import cam

# Two pixels in a row, two channels: A = (1, 3) and (2, 1), g = (2, 0) and (-1, 4).
FEATURES = tf.constant([[[[1.0, 2.0], [3.0, 1.0]]]])
GRADIENT = tf.constant([[[[2.0, -1.0], [0.0, 4.0]]]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Mean gradients 1 and 3/2.
        ("grad_cam", [1 * 1 + 2 * 1.5, 3 * 1 + 1 * 1.5]),
        ("hires_cam", [1 * 2 - 2 * 1, 1 * 4]),
        # 2 / (2 + 4 * 2) of the first channel, whose A add up to 4; 4 / (2 + 3 * 4) of the second.
        ("grad_cam_pp", [1 * 2 / 10 + 2 * 4 / 14, 3 * 2 / 10 + 1 * 4 / 14]),
        ("layer_cam", [1 * 2, 1 * 4]),
    ],
)
def test_by_hand(name, expected):
    np.testing.assert_allclose(cam.METHODS[name](FEATURES, GRADIENT), [[expected]], rtol=1e-6)


@pytest.mark.parametrize("name", cam.METHODS)
def test_nothing_speaks_against_a_class(name):
    assert np.asarray(cam.METHODS[name](FEATURES, -tf.abs(GRADIENT))).tolist() == [[[0, 0]]]


def test_the_weights_of_grad_cam_pp_are_those_of_the_paper():
    random = np.random.default_rng(0)
    features = np.maximum(random.normal(size=(3, 5, 4, 6)), 0)
    gradient = random.normal(size=features.shape)
    alpha = gradient**2 / (2 * gradient**2 + features.sum(axis=(1, 2), keepdims=True) * gradient**3)
    weights = (alpha * np.maximum(gradient, 0)).sum(axis=(1, 2), keepdims=True)
    expected = np.maximum((weights * features).sum(axis=-1), 0)
    found = cam.grad_cam_pp(tf.constant(features, tf.float32), tf.constant(gradient, tf.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_where_the_denominator_of_grad_cam_pp_would_vanish():
    # A add up to -2 and g is 1: 2 g^2 + sum(A) g^3 = 0. The sum counts as 0, so alpha is 1/2 and the weight 2 * 1/2.
    features, gradient = tf.constant([[[[1.0], [-3.0]]]]), tf.ones([1, 1, 2, 1])
    np.testing.assert_allclose(cam.grad_cam_pp(features, gradient), [[[1, 0]]])


@pytest.mark.parametrize("name", cam.METHODS)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12, 1e12])
def test_dead_faint_and_glaring_gradients_give_finite_maps(name, scale):
    for features in (FEATURES, tf.zeros_like(FEATURES), -FEATURES, 1e12 * FEATURES):
        found = np.asarray(cam.METHODS[name](features, scale * GRADIENT))
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        if scale == 0 or not np.any(features):
            assert not found.any()
