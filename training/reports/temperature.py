"""Temperature scaling: one number that makes a classifier's confidence agree with its accuracy (Guo et al. 2017)."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

LEAST, GREATEST = 0.05, 20.0
"""Bounds of a fitted temperature."""

_LEAST_PROBABILITY = 1e-7
"""What a probability of zero is taken for; float32 knows none between this and 1 minus it for a saturated sigmoid."""


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature of least negative log-likelihood on held-out pictures.

    The logits are taken to be the logarithms of the probabilities, which differ from the true ones by a constant
    that the softmax takes out. The negative log-likelihood has one minimum, being convex in 1 / temperature.

    Args:
        probabilities: float [..., classes].
        labels: class indices [...].

    Returns:
        The temperature, from `LEAST` to `GREATEST`; 1 where every answer is right: the smaller the temperature, the
        likelier those labels, so there is no minimum.
    """
    if np.all(probabilities.argmax(axis=-1) == labels):
        return 1.0
    logits = _logits(probabilities)

    def negative_log_likelihood(log_temperature: float) -> float:
        log_likelihood = log_softmax(logits / np.exp(log_temperature), axis=-1)
        return -float(np.take_along_axis(log_likelihood, labels[..., np.newaxis], axis=-1).mean())

    bounds = (np.log(LEAST), np.log(GREATEST))
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x))


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities that a temperature gives, float64 [..., classes]; the order of the classes stays."""
    return softmax(_logits(probabilities) / temperature, axis=-1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.clip(probabilities.astype(np.float64), _LEAST_PROBABILITY, 1))
