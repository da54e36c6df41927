"""Runs read from folders that are written by hand."""

import json

import numpy as np
import pytest

from training.errors import FoveaError
from training.reports.predictions import Predictions, predictions_file, write_predictions
from training.reports.records import Accuracy, read_run

HISTORY = """\
phase,epoch,loss,accuracy,val_loss,val_accuracy,seconds,pictures_per_second
head,1,0.9,0.5,0.9,0.9,1.0,100
joint,1,0.8,0.6,0.8,0.5,2.0,40
joint,2,0.7,0.7,0.7,0.7,2.0,60
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "r", "class_names": ["a", "b"], "seed": 1}))
    (tmp_path / "history.csv").write_text(HISTORY)
    return tmp_path


def finish(folder):
    """Evaluate the run on four pictures, three of them right."""
    (folder / "summary.json").write_text(json.dumps({"validation_accuracy": 0.75}))
    right = Predictions(["1", "2", "3", "4"], np.array([0, 0, 0, 1]), np.tile([0.9, 0.1], (4, 1)))
    write_predictions(predictions_file(folder, "validation"), right, ("a", "b"))


def test_an_unfinished_run_has_its_epochs(folder):
    run = read_run(folder)
    assert not run.is_finished
    assert run.accuracy("validation") is None
    assert (run.epochs, run.epochs_by_phase, run.seconds) == (3, {"head": 1, "joint": 2}, 5.0)
    assert run.last_epoch == Accuracy(0.7, None)
    assert run.best_epoch == Accuracy(0.9, None)
    # Speed and the mean are those of the last phase.
    assert run.pictures_per_second == 50
    assert run.mean_of_last == Accuracy(pytest.approx(0.6), None)


def test_a_finished_run_has_standard_errors(folder):
    finish(folder)
    run = read_run(folder)
    assert run.count("validation") == 4
    assert run.accuracy("validation") == Accuracy(0.75, pytest.approx(np.sqrt(0.75 * 0.25 / 4)))
    assert run.accuracy("test") is None


def test_a_run_before_its_first_epoch(folder):
    (folder / "history.csv").write_text(HISTORY.splitlines()[0] + "\n")
    run = read_run(folder)
    assert (run.epochs, run.epochs_by_phase, run.last_epoch, run.best_epoch, run.mean_of_last) == (0, {}, *[None] * 3)


def test_what_does_not_change_the_training_is_no_option(folder):
    assert read_run(folder).options == {"recipe": "r"}


@pytest.mark.parametrize(
    ("file", "text"),
    [("config.json", "{"), ("summary.json", "nothing"), ("history.csv", "phase,epoch,loss\ntrain,1,x")],
)
def test_a_damaged_run_is_named(folder, file, text):
    (folder / file).write_text(text)
    with pytest.raises(FoveaError, match="damaged run"):
        read_run(folder)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(FoveaError, match=r"is no run: it has no config\.json"):
        read_run(tmp_path)
    with pytest.raises(FoveaError, match="is no run: it is not there"):
        read_run(tmp_path / "nothing")
