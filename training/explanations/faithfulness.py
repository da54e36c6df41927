"""Deletion and insertion: does the model's answer depend on what a map marks? (Petsiuk et al. 2018, RISE.)"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.integrate import trapezoid

STEPS = 16
"""Parts of a picture that are taken away or put in one after the other."""

_BLUR = 1 / 8
"""Standard deviation of the blur that insertion begins with, as a share of the picture's longer side."""


def ranks(heatmap: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the place of every pixel when they are ordered from the hottest, equal ones at random; int [h, w]."""
    flat = heatmap.ravel()
    order = np.lexsort((random.random(flat.size), -flat))
    places = np.empty(flat.size, np.int64)
    places[order] = np.arange(flat.size)
    return places.reshape(heatmap.shape)


def without(picture: np.ndarray) -> np.ndarray:
    """Return what deletion puts in the place of a pixel: the picture's mean colour, uint8 [h, w, 3]."""
    return np.broadcast_to(picture.mean(axis=(0, 1)).round().astype(np.uint8), picture.shape)


def blurred(picture: np.ndarray) -> np.ndarray:
    """Return what insertion begins with: the picture so blurred that no detail is left, uint8 [h, w, 3]."""
    sigma = _BLUR * max(picture.shape[:2])
    return ndimage.gaussian_filter(picture.astype(np.float32), (sigma, sigma, 0)).round().astype(np.uint8)


def stages(start: np.ndarray, end: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Turn one picture into another from the hottest pixels on.

    Args:
        start: uint8 [h, w, 3].
        end: uint8 [h, w, 3].
        places: of `ranks`.

    Returns:
        uint8 [STEPS + 1, h, w, 3]; the first is `start`, the last `end`.
    """
    limits = np.linspace(0, places.size, STEPS + 1).round().astype(int)
    return np.where((places < limits[:, np.newaxis, np.newaxis])[..., np.newaxis], end, start)


def curves(
    probabilities: Callable[[np.ndarray], np.ndarray],
    picture: np.ndarray,
    heatmap: np.ndarray,
    class_index: int,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of a class while a picture is deleted, and while it is inserted.

    Args:
        probabilities: the model, [n, classes] of pictures [n, h, w, 3].
        picture: uint8 [h, w, 3].
        heatmap: float32 [h, w], of the picture's size.
        class_index: the explained class.
        random: orders pixels of equal heat.

    Returns:
        Two curves, float32 [STEPS + 1].
    """
    places = ranks(heatmap, random)
    both = np.concatenate([stages(picture, without(picture), places), stages(blurred(picture), picture, places)])
    found = probabilities(both)[:, class_index]
    return found[: STEPS + 1], found[STEPS + 1 :]


def area(curve: np.ndarray) -> float:
    """Return the area below a curve over the share of pixels, 0..1."""
    return float(trapezoid(curve, dx=1 / STEPS))
