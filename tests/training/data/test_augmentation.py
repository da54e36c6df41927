"""Augmentation on pictures small enough to reason about."""

import numpy as np
import tensorflow as tf

from training.data.augmentation import Augmentation

SEED = tf.constant([1, 2], tf.int64)


def picture(count=1):
    gradient = np.tile(np.arange(8, dtype=np.float32)[None, None, :, None], (count, 6, 1, 3))
    return tf.constant(gradient)


def test_nothing_asked_changes_nothing():
    np.testing.assert_allclose(Augmentation()(picture(), SEED), picture(), atol=1e-5)


def test_flip_mirrors_about_half_of_the_pictures():
    flipped = Augmentation(flip=True)(picture(64), SEED).numpy()
    mirrored = [np.allclose(row, picture()[0, :, ::-1], atol=1e-4) for row in flipped]
    same = [np.allclose(row, picture()[0], atol=1e-4) for row in flipped]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48


def test_shift_moves_along_the_gradient_and_repeats_the_border():
    shifted = Augmentation(shift=0.25)(picture(32), SEED).numpy()
    # A shift by d columns adds d to every value of this gradient, cut at its ends.
    for row in shifted:
        moved = row[0, 4, 0] - 4
        np.testing.assert_allclose(row[..., 0], np.broadcast_to(np.clip(np.arange(8) + moved, 0, 7), (6, 8)), atol=1e-3)
    assert np.ptp(shifted[:, 0, 4, 0]) > 1
    assert np.abs(shifted[:, 0, 4, 0] - 4).max() <= 2 + 1e-3


def test_zoom_keeps_the_centre():
    zoomed = Augmentation(zoom=0.2)(picture(32), SEED).numpy()
    np.testing.assert_allclose((zoomed[:, 2, 3, 0] + zoomed[:, 2, 4, 0]) / 2, 3.5, atol=1e-3)
    slopes = zoomed[:, 2, 4, 0] - zoomed[:, 2, 3, 0]
    assert slopes.min() >= 0.8 - 1e-3
    assert slopes.max() <= 1.2 + 1e-3


def test_rotation_by_a_quarter_turn_range_keeps_the_mean_of_a_symmetric_picture():
    square = np.zeros((16, 9, 9, 3), np.float32)
    square[:, 4, 4] = 255
    turned = Augmentation(rotation=40)(tf.constant(square), SEED).numpy()
    np.testing.assert_allclose(turned[:, 4, 4], 255, atol=1e-2)


def test_same_seed_same_variation_and_each_picture_its_own():
    augment = Augmentation(rotation=20, shift=0.2, zoom=0.2, flip=True)
    first, again = augment(picture(4), SEED), augment(picture(4), SEED)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[0], first[1])
    assert not np.allclose(first, augment(picture(4), tf.constant([1, 3], tf.int64)))


def test_colour_keeps_what_is_alike_alike_and_stays_in_range():
    images = tf.constant(np.linspace(0, 255, 6 * 8).reshape(1, 6, 8, 1).repeat(3, 3).repeat(20, 0), tf.float32)
    changed = Augmentation(colour=0.5)(images, SEED).numpy()
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert (np.diff(changed[:, 0, :, 0], axis=1) >= 0).all()
    means = changed.mean(axis=(1, 2, 3))
    assert means.min() < 110
    assert means.max() > 145


def test_cutout_fills_a_square_with_the_mean():
    images = np.zeros((40, 20, 20, 3), np.float32)
    images[:, :10] = 200
    changed = Augmentation(cutout=0.5)(tf.constant(images), SEED).numpy()
    filled = np.isclose(changed[..., 0], 100)
    assert 90 <= filled.sum(axis=(1, 2)).max() <= 110
    for picture, square in zip(changed, filled, strict=True):
        rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
        assert square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert len(rows) <= 10
        assert len(columns) <= 10
        np.testing.assert_array_equal(picture[~square], images[0][~square])
