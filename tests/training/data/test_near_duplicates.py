"""Perceptual hashes and the search for the nearest."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from training.data import near_duplicates
from training.data.near_duplicates import BITS, NEAR, nearest, perceptual_hash
from training.drawing.scene import draw


def picture(seed):
    return draw("cat" if seed % 2 else "dog", np.random.default_rng(seed), 120).picture


def crop(image, share):
    left, top = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((left, top, image.width - left, image.height - top))


def distance(one, other):
    return int(np.bitwise_count(perceptual_hash(one) ^ perceptual_hash(other)).sum())


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((image.width // 2, image.height // 2)),
        lambda image: image.quantize(32).convert("RGB"),
        lambda image: image.convert("L").convert("RGB"),
        lambda image: ImageEnhance.Brightness(image).enhance(1.2),
        lambda image: crop(image, 0.03),
    ],
    ids=["half the size", "few colours", "grey", "brighter", "cropped"],
)
def test_a_changed_copy_is_near(change):
    assert all(distance(picture(seed), change(picture(seed))) <= NEAR for seed in range(4))


def test_other_pictures_are_far():
    hashes = np.array([perceptual_hash(picture(seed)) for seed in range(12)])
    distances = np.bitwise_count(hashes[:, None] ^ hashes).sum(axis=2)[np.triu_indices(12, 1)]
    assert distances.min() > NEAR
    assert abs(distances.mean() - BITS / 2) < BITS / 10


def test_nearest_is_what_comparing_all_pairs_finds(monkeypatch):
    rng = np.random.default_rng(0)
    hashes, among = (rng.integers(0, 2**63, (count, 4), np.uint64) for count in (50, 70))
    among[[3, 60]] = hashes[7]
    among[5, :] = ~hashes[0]
    distances = np.bitwise_count(hashes[:, None] ^ among).sum(axis=2)
    monkeypatch.setattr(near_duplicates, "_BLOCK_BYTES", 8 * 70 * 8)
    positions, least = nearest(hashes, among)
    assert positions.tolist() == distances.argmin(axis=1).tolist()
    assert least.tolist() == distances.min(axis=1).tolist()
    assert (positions[7], least[7]) == (3, 0)


def test_the_greatest_distance_does_not_overflow():
    zeros = np.zeros((1, 4), np.uint64)
    assert nearest(zeros, ~zeros)[1].tolist() == [BITS]


def test_memory_does_not_grow_with_the_pairs():
    hashes = np.random.default_rng(0).integers(0, 2**63, (5000, 4), np.uint64)
    tracemalloc.start()
    nearest(hashes, hashes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20, "all pairs at once take 200 MB as 64-bit words"


def test_image_of_one_colour_has_a_hash():
    assert perceptual_hash(Image.new("RGB", (1, 1))).shape == (4,)
