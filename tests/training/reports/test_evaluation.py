"""Calibration figures, worked out by hand."""

import numpy as np
import pytest

from training.reports import evaluation


def test_calibration_error_is_the_weighted_gap():
    # Three answers of confidence .9, two of them right; one of .6, right.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])
    calibration = evaluation.calibrate(probabilities, labels, bins=10)
    np.testing.assert_allclose(calibration.confidence, [0.6, 0.9])
    np.testing.assert_allclose(calibration.accuracy, [1, 2 / 3])
    assert calibration.count.tolist() == [1, 3]
    assert calibration.error == pytest.approx((1 * 0.4 + 3 * (0.9 - 2 / 3)) / 4)


def test_full_confidence_falls_into_the_last_bin():
    assert evaluation.calibrate(np.array([[1.0, 0.0]]), np.array([0])).error == 0
