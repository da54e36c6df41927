"""Pictures that show the same to the eye: perceptual hashes and the search for the nearest."""

import imagehash
import numpy as np
from PIL import Image

BITS = 256
NEAR = 64
"""Pictures of at most this Hamming distance count as near duplicates.

Unrelated photographs differ in 128 of the 256 bits on average; docs/data.md holds the measurements.
"""

_BLOCK_BYTES = 32 * 2**20


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """Hash what a picture shows: the signs of its 16 x 16 lowest cosine frequencies in grey, against their median.

    Changes of size, compression, colour and brightness change few bits, a crop of some per cent a quarter of them;
    a mirrored picture is another one. (C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions,
    2010, "DCT based hash", by the library imagehash.)

    Returns:
        uint64 [4].
    """
    return np.packbits(imagehash.phash(image, hash_size=16).hash).view(np.uint64)


def nearest(hashes: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find for each hash the nearest of others, in memory that does not grow with their product.

    Args:
        hashes: uint64 [n,4].
        among: uint64 [m,4], m at least 1.

    Returns:
        (position in `among` int64 [n], the first one of equally near ones; Hamming distance uint16 [n], 0..256).
    """
    positions, distances = np.empty(len(hashes), np.int64), np.empty(len(hashes), np.uint16)
    # The largest array in a block is one 64-bit word of the differences.
    rows = max(1, _BLOCK_BYTES // (8 * len(among)))
    words = np.ascontiguousarray(among.T)
    for start in range(0, len(hashes), rows):
        block = hashes[start : start + rows]
        distance = np.zeros((len(block), len(among)), np.uint16)
        for column, word in enumerate(words):
            distance += np.bitwise_count(block[:, column, None] ^ word)
        best = distance.argmin(axis=1)
        positions[start : start + rows] = best
        distances[start : start + rows] = distance[np.arange(len(block)), best]
    return positions, distances
