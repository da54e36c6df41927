"""How well a model does on pictures held out: confusion, per-class figures, calibration."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, classification_report, confusion_matrix

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy agree (Guo et al. 2017)."""

    error: float
    """Expected calibration error: the mean gap, weighted by pictures, in 0..1."""
    confidence: np.ndarray
    """Mean confidence of each bin that has pictures, float64 [b]."""
    accuracy: np.ndarray
    """Share of right answers in it, float64 [b]."""
    count: np.ndarray
    """Pictures in it, int64 [b]."""


def calibrate(probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS) -> Calibration:
    """Compare confidence with accuracy in bins of equal width.

    Args:
        probabilities: float [n, classes].
        labels: class indices [n].
        bins: number of bins over 0..1.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    filled = count > 0
    mean_confidence = np.bincount(bin_of, confidence, bins)[filled] / count[filled]
    accuracy = np.bincount(bin_of, right, bins)[filled] / count[filled]
    error = float(np.sum(count[filled] * np.abs(accuracy - mean_confidence)) / len(labels))
    return Calibration(error, mean_confidence, accuracy, count[filled])


def write_evaluation(
    run: Path, class_names: Sequence[str], probabilities: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Write confusion matrices, per-class reports and calibration of the splits held out.

    Args:
        run: the run's folder; receives `<split>_confusion.png`, `<split>_report.json`, `<split>_calibration.png`.
        class_names: names by class index.
        probabilities: float [n, classes] by split.
        labels: class indices [n] by split.

    Returns:
        `<split>_accuracy` and `<split>_calibration_error` of every split, in 0..1.
    """
    summary = {}
    for split, predicted in probabilities.items():
        calibration = calibrate(predicted, labels[split])
        chosen = predicted.argmax(axis=1)
        report = classification_report(
            labels[split],
            chosen,
            labels=range(len(class_names)),
            target_names=class_names,
            output_dict=True,
            zero_division=0,
        )
        summary[f"{split}_accuracy"] = float(np.mean(chosen == labels[split]))
        summary[f"{split}_calibration_error"] = calibration.error
        report["expected_calibration_error"] = calibration.error
        (run / f"{split}_report.json").write_text(json.dumps(report, indent=2) + "\n")
        _write_confusion(run / f"{split}_confusion.png", labels[split], chosen, class_names)
        _write_calibration(run / f"{split}_calibration.png", calibration)
    return summary


def _write_confusion(path: Path, labels: np.ndarray, chosen: np.ndarray, class_names: Sequence[str]) -> None:
    figure = Figure(figsize=(2 + len(class_names), 1.5 + len(class_names)), layout="constrained")
    matrix = confusion_matrix(labels, chosen, labels=range(len(class_names)))
    ConfusionMatrixDisplay(matrix, display_labels=class_names).plot(ax=figure.subplots(), cmap="Blues", colorbar=False)
    figure.savefig(path, dpi=120)


def _write_calibration(path: Path, calibration: Calibration) -> None:
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], ":", color="grey", label="perfectly calibrated")
    axes.plot(calibration.confidence, calibration.accuracy, "o-", label="model")
    for confidence, accuracy, count in zip(
        calibration.confidence, calibration.accuracy, calibration.count, strict=True
    ):
        axes.annotate(str(count), (confidence, accuracy), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set(xlabel="confidence", ylabel="accuracy", title=f"expected calibration error {calibration.error:.3f}")
    axes.legend()
    figure.savefig(path, dpi=120)
