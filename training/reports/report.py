"""Everything that a finished training leaves to read and to look at."""

import json

import keras
import numpy as np

from training.reports import curves
from training.reports.evaluation import write_evaluation
from training.reports.heatmaps import HeatMaps
from training.reports.mistakes import draw_mistakes, worst_mistakes
from training.reports.predictions import Predictions
from training.reports.temperature import fit_temperature
from training.run import Run

SUMMARY_FILE = "summary.json"
MISTAKES_FILE = "mistakes.png"


def write_report(run: Run, model: keras.Model) -> dict[str, float]:
    """Calibrate a trained model on the validation pictures; write evaluation, curves, mistakes and summary.

    Returns:
        The summary, as `write_evaluation` gives it; its temperature belongs into the model card.
    """
    pictures = run.pictures
    predictions = {
        split: Predictions(
            [str(picture.path.relative_to(pictures.root)) for picture in pictures.splits[split]],
            pictures.labels(split),
            run.predict(model, split),
        )
        for split in pictures.splits
        if split != "train"
    }
    temperature = fit_temperature(predictions["validation"].probabilities, predictions["validation"].labels)
    summary = write_evaluation(run.folder, pictures.class_names, predictions, temperature)
    curves.write_curves(run.folder)
    _write_mistakes(run, model, predictions["validation"].at_temperature(temperature))
    (run.folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _write_mistakes(run: Run, model: keras.Model, predictions: Predictions) -> None:
    mistakes = worst_mistakes(predictions)
    if not mistakes:
        return
    rows = np.array([mistake.row for mistake in mistakes])
    heat_maps = HeatMaps(model).of(
        run.pixels("validation").read(rows),
        np.array([mistake.predicted for mistake in mistakes]),
        np.array([mistake.position for mistake in mistakes]) if predictions.labels.ndim == 2 else None,
    )
    files = [run.pictures.splits["validation"][row].path for row in rows]
    sheet = draw_mistakes(mistakes, files, predictions, heat_maps, run.pictures.class_names)
    sheet.save(run.folder / MISTAKES_FILE)
