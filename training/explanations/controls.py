"""Maps that know nothing of the model: what a method has to beat."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Control = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_RANDOM_CELLS = 8
_CENTRE_WIDTH = 0.25


def random(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return even noise, as coarse as class-activation maps are: 8x8 values, interpolated to float32 [h, w]."""
    height, width = picture.shape[:2]
    noise = generator.random((_RANDOM_CELLS, _RANDOM_CELLS), np.float32)
    return ndimage.zoom(noise, (height / _RANDOM_CELLS, width / _RANDOM_CELLS), order=1, mode="nearest")


def centre(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a Gaussian at the centre, a quarter of each side wide, float32 [h, w]: photographers centre things."""
    rows, columns = (
        np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (_CENTRE_WIDTH * side)) ** 2) for side in picture.shape[:2]
    )
    return np.outer(rows, columns).astype(np.float32)


def edges(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the length of the brightness gradient (Sobel), float32 [h, w].

    An edge detector is what some methods amount to (Adebayo et al. 2018).
    """
    grey = picture.astype(np.float32).mean(axis=-1)
    return np.hypot(ndimage.sobel(grey, axis=0), ndimage.sobel(grey, axis=1))


CONTROLS: dict[str, Control] = {"random": random, "centre": centre, "edges": edges}
"""By name."""
