"""Reading texts: the recipe on a tiny set, and the report on what it learnt."""

import csv
import json

import keras
import numpy as np
import pytest

from training import recipes
from training.data.captchas import make_captchas
from training.reports.predictions import read_predictions
from training.reports.report import write_report
from training.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captcha")
    make_captchas(folder / "set", {"train": 16, "validation": 6}, length=2, alphabet="abc")
    options = recipes.recipe("captcha").options(folder / "set", height=16, width=40, epochs=1, batch_size=8)
    return Run(folder / "run", options, recipes.recipe("captcha").read(folder / "set", options.seed))


@pytest.fixture(scope="module")
def model(run):
    keras.utils.set_random_seed(0)
    return recipes.recipe("captcha").train(run)


def test_each_character_has_probabilities_of_its_own(run, model):
    probabilities = run.predict(model, "validation")
    assert probabilities.shape == (6, 2, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_the_history_has_the_accuracy_of_characters(run, model):
    with (run.folder / "history.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    right = run.predict(model, "validation").argmax(axis=-1) == run.pictures.labels("validation")
    assert float(row["val_accuracy"]) == pytest.approx(right.mean(), abs=1e-5)


def test_the_report_tells_texts_from_characters(run, model):
    summary = write_report(run, model)
    right = run.predict(model, "validation").argmax(axis=-1) == run.pictures.labels("validation")
    assert summary["validation_accuracy"] == pytest.approx(right.all(axis=1).mean())
    assert summary["validation_character_accuracy"] == pytest.approx(right.mean())
    assert json.loads((run.folder / "summary.json").read_text()) == summary
    predictions = read_predictions(run.folder / "validation_predictions.csv", run.pictures.class_names)
    np.testing.assert_array_equal(predictions.labels, run.pictures.labels("validation"))
