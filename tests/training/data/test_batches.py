"""Decoded pictures and the order of their batches."""

import numpy as np
import pytest
from PIL import Image

from serving.contract import images
from training.data import batches
from training.data.pixels import Pixels


@pytest.fixture
def paths(tmp_path, save_picture):
    return [save_picture(tmp_path / f"{seed}.png", seed, (30 + seed, 20)) for seed in range(7)]


@pytest.fixture
def pixels(paths):
    return Pixels(paths, 12, 10)


def epoch_orders(dataset, per_epoch, labels):
    found = [target for _, targets in dataset.as_numpy_iterator() for target in targets]
    return [found[start : start + per_epoch] for start in range(0, len(found), per_epoch)]


def test_pixels_are_those_of_the_shared_resize(pixels, paths):
    assert len(pixels) == 7
    read = pixels.read(np.array([3, 0]))
    assert read.dtype == np.uint8
    for row, path in zip(read, (paths[3], paths[0]), strict=True):
        np.testing.assert_array_equal(row, images.resize(Image.open(path), 12, 10))


def test_evaluation_keeps_the_order(pixels):
    labels = np.arange(7, dtype=np.int32)
    found = list(batches.evaluation_batches(pixels, labels, 3).as_numpy_iterator())
    assert [len(targets) for _, targets in found] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in found]), pixels.read(np.arange(7)))
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in found]), labels)


def test_every_epoch_sees_every_picture_once_in_an_order_of_its_own(pixels):
    labels = np.arange(7, dtype=np.int32)
    orders = epoch_orders(batches.training_batches(pixels, labels, 3, seed=5, epochs=3), 7, labels)
    assert len(orders) == 3
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert orders[0] != orders[1]


def test_a_later_start_sees_what_an_undisturbed_run_sees(pixels):
    labels = np.arange(7, dtype=np.int32)

    def augment(rows, seed):
        import tensorflow as tf

        return tf.cast(rows, tf.float32) + tf.random.stateless_uniform([1, 1, 1, 1], seed)

    arguments = {"batch_size": 3, "seed": 5, "epochs": 4, "augment": augment}
    whole = list(batches.training_batches(pixels, labels, **arguments).as_numpy_iterator())
    rest = list(batches.training_batches(pixels, labels, first_epoch=2, **arguments).as_numpy_iterator())
    assert len(rest) == 6
    for (expected_rows, expected), (rows, targets) in zip(whole[6:], rest, strict=True):
        np.testing.assert_array_equal(targets, expected)
        np.testing.assert_array_equal(rows, expected_rows)
    assert not np.array_equal(whole[0][0], whole[3][0])


def test_batches_are_read_many_at_a_time_where_rows_are_small(pixels):
    asked = []

    class Counted:
        shape, dtype = pixels.shape, pixels.dtype

        def __len__(self):
            return len(pixels)

        def read(self, positions):
            asked.append(len(positions))
            return pixels.read(positions)

    labels = np.arange(7, dtype=np.int32)
    found = batches.training_batches(Counted(), labels, 3, seed=5, epochs=2).as_numpy_iterator()
    assert [len(targets) for _, targets in found] == [3, 3, 1, 3, 3, 1]
    assert asked == [7, 7]
    # The last batch of an epoch is left out where workers share whole ones.
    whole = batches.training_batches(Counted(), labels, 3, seed=5, epochs=2, whole=True).as_numpy_iterator()
    assert [len(targets) for _, targets in whole] == [3, 3, 3, 3]
