"""Mixup: what is mixed, and by how much."""

import numpy as np
import tensorflow as tf

from training.data.mixing import Mixup


def test_pictures_and_labels_are_blended_alike():
    # Picture k is grey of value k and its label is class k, so that a blend can be read off either.
    count = 64
    images = tf.tile(tf.range(count, dtype=tf.float32)[:, None, None, None], [1, 2, 3, 3])
    labels = tf.one_hot(tf.range(count), count)
    mixed_images, mixed_labels = Mixup(0.4)(images, labels, tf.constant([3, 5], tf.int64))
    assert mixed_images.shape == images.shape
    np.testing.assert_allclose(tf.reduce_sum(mixed_labels, axis=1), 1, atol=1e-5)
    expected = tf.reduce_sum(mixed_labels * tf.range(count, dtype=tf.float32), axis=1)
    np.testing.assert_allclose(mixed_images[:, 0, 0, 0], expected, atol=1e-3)
    own = np.diag(mixed_labels)
    assert (own >= 0.5 - 1e-6).all()
    assert (own < 0.999).any()
    assert len(np.unique(np.round(own, 6))) > 10


def test_the_seed_decides():
    images, labels = tf.random.stateless_uniform([8, 2, 2, 3], (0, 1)), tf.one_hot(tf.range(8), 8)
    first, second, other = (Mixup(0.4)(images, labels, tf.constant([0, seed], tf.int64))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
