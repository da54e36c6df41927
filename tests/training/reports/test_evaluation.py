"""Calibration figures, worked out by hand."""

import json

import numpy as np
import pytest

from training.reports import evaluation
from training.reports.predictions import Predictions, read_predictions


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


def test_the_commonest_confusions_come_first():
    matrix = np.array([[9, 1, 0], [3, 5, 2], [0, 0, 8]])
    assert evaluation.most_confused(matrix) == [(1, 0, 3), (1, 2, 2), (0, 1, 1)]
    assert evaluation.most_confused(matrix, most=1) == [(1, 0, 3)]


def test_standard_error():
    assert evaluation.standard_error(0.9, 100) == pytest.approx(0.03)


def test_evaluation_calibrates_and_leaves_the_answers(tmp_path):
    # Ten answers of confidence .99, eight of them right: at temperature log 99 / log 4 the confidence is .8.
    raw = Predictions([f"{row}.png" for row in range(10)], np.repeat([0, 1], [8, 2]), np.tile([0.99, 0.01], (10, 1)))
    temperature = np.log(99) / np.log(4)
    summary = evaluation.write_evaluation(tmp_path, ("cat", "dog"), {"validation": raw}, temperature)
    assert summary == {
        "temperature": temperature,
        "validation_accuracy": 0.8,
        "validation_calibration_error": pytest.approx(0, abs=1e-9),
        "validation_calibration_error_uncalibrated": pytest.approx(0.19),
    }
    kept = read_predictions(tmp_path / "validation_predictions.csv", ("cat", "dog"))
    np.testing.assert_allclose(kept.probabilities[0], [0.8, 0.2])
    lines = (tmp_path / "validation_report.txt").read_text().splitlines()
    assert lines[0] == "validation: 0.800 +/- 0.126 of 10 pictures are right"
    assert lines[3:5] == ["cat        0.800   1.000      8", "dog            -   0.000      2"]
    assert lines[-1] == "dog called cat: 2"


def test_texts_are_right_as_a_whole_and_by_character(tmp_path):
    probabilities = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.2, 0.8]]])
    raw = Predictions(["a.png", "b.png"], np.array([[0, 1], [0, 1]]), probabilities)
    summary = evaluation.write_evaluation(tmp_path, ("x", "y"), {"test": raw}, 1.0)
    assert summary["test_accuracy"] == 0.5
    assert summary["test_character_accuracy"] == 0.75
    report = json.loads((tmp_path / "test_report.json").read_text())
    assert report["y"]["recall"] == 0.5
    assert report["x"]["support"] == 2
