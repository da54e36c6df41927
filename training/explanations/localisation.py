"""Does a map lie on the object? For pictures whose object is known."""

import numpy as np


def points_inside(heatmap: np.ndarray, mask: np.ndarray) -> bool:
    """Play the pointing game (Zhang et al. 2016): is the hottest pixel on the object?

    Args:
        heatmap: float32 [h, w], 0 or more; one that is 0 everywhere points nowhere.
        mask: bool [h, w].
    """
    return bool(heatmap.max() > 0 and mask.ravel()[heatmap.argmax()])


def energy_inside(heatmap: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of a map's sum that lies on the object (Wang et al. 2020), 0..1; of a map of zeros 0."""
    total = float(heatmap.sum())
    return float(heatmap[mask].sum()) / total if total > 0 else 0.0
