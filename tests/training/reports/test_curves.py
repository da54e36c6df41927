"""Smoothing and ranges, worked out by hand."""

import numpy as np
import pytest

from training.reports import curves


def history(*rows):
    columns = ("phase", "accuracy", "val_accuracy", "loss", "val_loss")
    return {column: [row[position] for row in rows] for position, column in enumerate(columns)}


def test_smoothing_weighs_by_age():
    # Weights .64, .8 and 1, from the oldest value to the newest.
    np.testing.assert_allclose(curves.smooth([1, 2, 0]), [1, 2.8 / 1.8, 2.24 / 2.44])


def test_each_phase_is_smoothed_on_its_own():
    given = history(("head", 0, 0, 0, 0), ("head", 1, 0, 0, 0), ("joint", 0.5, 0, 0, 0))
    assert list(curves.phases(given)) == [("head", 0, 2), ("joint", 2, 3)]
    np.testing.assert_allclose(curves.smooth_phases(given, "accuracy"), [0, 1 / 1.8, 0.5])


def test_the_best_epoch_has_the_least_loss_among_equals():
    given = history(("t", 0, 0.7, 0, 0.1), ("t", 0, 0.8, 0, 0.5), ("t", 0, 0.8, 0, 0.4), ("t", 0, 0.6, 0, 0.2))
    assert curves.best_position(given) == 2


def test_one_high_loss_does_not_flatten_the_others():
    assert curves.loss_range([1.0] * 20, [50.0] + [1.0] * 19) == (0, pytest.approx(2 * 1.08))
    assert curves.loss_range([0.5, 0.25], [0.5, float("nan")]) == (0, pytest.approx(0.5 * 1.08))
    assert curves.loss_range([float("nan")]) == (0, 1)


def test_accuracies_close_together_are_not_torn_apart():
    assert curves.accuracy_range([0.5, 0.52]) == (pytest.approx(0.46), pytest.approx(0.56))
    assert curves.accuracy_range([0.0, 1.0]) == (-0.02, 1.02)


@pytest.mark.parametrize("epochs", [1, 2, 100])
def test_curves_of_any_length_are_drawn(tmp_path, epochs):
    lines = [f"train,{epoch + 1},0.5,0.5,0.5,0.5,1,1" for epoch in range(epochs)]
    header = "phase,epoch,loss,accuracy,val_loss,val_accuracy,seconds,pictures_per_second"
    (tmp_path / "history.csv").write_text("\n".join([header, *lines]) + "\n")
    curves.write_curves(tmp_path)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
