"""Whether a difference between two classifiers is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

STANDARD_ERRORS = 2
"""A difference below so many standard errors is a tie."""

LEVEL = 2 * float(norm.sf(STANDARD_ERRORS))
"""The probability of such a difference between equals, .046: where an exact test draws the same line."""


@dataclass(frozen=True)
class Difference:
    """How far one accuracy is above another."""

    value: float
    """In -1..1."""
    standard_error: float
    p_value: float
    """Probability of a difference at least as great between equals."""
    test: str
    """How it was found, in words."""

    @property
    def is_tie(self) -> bool:
        """Whether chance explains the difference."""
        return self.p_value >= LEVEL


def mcnemar(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compare two classifiers on the same pictures by those that only one of them has right (McNemar 1947).

    The test is the exact binomial one. The standard error is that of the mean of the differences, picture by picture.

    Args:
        first: whether the first one is right, bool [n].
        second: whether the second one is, bool [n].
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    differing = only_first + only_second
    p_value = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    value, error = _paired(first, second)
    return Difference(value, error, p_value, "McNemar's test on the same pictures")


def compare_groups(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Difference:
    """Compare the mean accuracies of two groups of classifiers on the same pictures.

    The squared standard error is the sum of what the pictures contribute, from the differences picture by picture,
    and of what the seeds contribute, from the accuracies within each group that has several.

    Args:
        first: for each classifier of the first group, whether it is right, bool [n].
        second: likewise of the second group.
    """
    value, of_pictures = _paired(np.mean(first, axis=0), np.mean(second, axis=0))
    of_seeds = [mean_and_error([float(right.mean()) for right in group])[1] for group in (first, second)]
    error = float(np.sqrt(of_pictures**2 + sum(part**2 for part in of_seeds if part is not None)))
    return _normal(value, error, "same pictures, over pictures and seeds")


def compare_shares(first: float, first_count: int, second: float, second_count: int) -> Difference:
    """Compare two accuracies that were measured on pictures that need not be the same."""
    variance = first * (1 - first) / first_count + second * (1 - second) / second_count
    return _normal(first - second, float(np.sqrt(variance)), "accuracies alone, without the answers to each picture")


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and its standard error, s / sqrt(n); one value has no error."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return float(np.mean(values)), error


def _paired(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    differences = first.astype(np.float64) - second
    return float(differences.mean()), float(differences.std() / np.sqrt(len(differences)))


def _normal(value: float, error: float, test: str) -> Difference:
    if error == 0:
        return Difference(value, error, 0.0 if value else 1.0, test)
    return Difference(value, error, 2 * float(norm.sf(abs(value) / error)), test)
