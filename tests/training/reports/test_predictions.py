"""Predictions written and read again."""

import numpy as np
import pytest

from training.errors import FoveaError
from training.reports.predictions import Predictions, read_predictions, write_predictions


def test_single_labels(tmp_path):
    probabilities = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
    names = ("cat", "dog, large", "fish")
    write_predictions(tmp_path / "p.csv", Predictions(["a.jpg", "b.jpg"], np.array([0, 1]), probabilities), names)
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        'file,label,predicted,cat,"dog, large",fish',
        "a.jpg,cat,cat,0.7,0.2,0.1",
        'b.jpg,"dog, large",fish,0.25,0.25,0.5',
    ]
    read = read_predictions(tmp_path / "p.csv", names)
    assert read.files == ["a.jpg", "b.jpg"]
    assert read.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(read.probabilities, probabilities)
    assert read.right.tolist() == [True, False]


def test_texts_are_right_as_a_whole(tmp_path):
    probabilities = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4]]])
    written = Predictions(["a.png", "b.png"], np.array([[0, 1], [0, 1]]), probabilities)
    write_predictions(tmp_path / "p.csv", written, ("x", "y"))
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == "file,label,predicted,1:x,1:y,2:x,2:y"
    read = read_predictions(tmp_path / "p.csv", ("x", "y"))
    np.testing.assert_array_equal(read.probabilities, probabilities)
    assert read.labels.tolist() == [[0, 1], [0, 1]]
    assert read.right.tolist() == [True, False]
    assert read.single()[0].shape == (4, 2)


def test_a_table_of_other_classes_is_refused(tmp_path):
    write_predictions(tmp_path / "p.csv", Predictions(["a"], np.array([0]), np.array([[1.0, 0.0]])), ("cat", "dog"))
    with pytest.raises(FoveaError, match="no table of predictions for left, right"):
        read_predictions(tmp_path / "p.csv", ("left", "right"))
