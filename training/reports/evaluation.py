"""How well a model does on pictures held out: confusion, per-class figures, calibration."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import classification_report, confusion_matrix

from training.reports.predictions import Predictions, predictions_file, write_predictions

CALIBRATION_BINS = 15

_LONGEST_NAME = 20
_MOST_CONFUSED = 10


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


def standard_error(share: float, count: int) -> float:
    """Return the standard error of a share that was measured on so many pictures: sqrt(p (1 - p) / n)."""
    return float(np.sqrt(share * (1 - share) / count))


def write_evaluation(
    run: Path, class_names: Sequence[str], predictions: Mapping[str, Predictions], temperature: float
) -> dict[str, float]:
    """Write predictions, confusion matrices, per-class reports and calibration of the splits held out.

    For texts the accuracy is the share of texts without a wrong character; confusion, classes and calibration are
    those of the characters.

    Args:
        run: the run's folder; receives `<split>_predictions.csv`, `<split>_confusion.png`, `<split>_report.json`,
            `<split>_report.txt` and `<split>_calibration.png`.
        class_names: names by class index.
        predictions: by split, as the model gives them.
        temperature: of the calibration, fitted on the validation pictures.

    Returns:
        `temperature`, and of every split, in 0..1: `<split>_accuracy`, for texts `<split>_character_accuracy`,
        `<split>_calibration_error` and, before the calibration, `<split>_calibration_error_uncalibrated`.
    """
    summary = {"temperature": temperature}
    for split, raw in predictions.items():
        calibrated = raw.at_temperature(temperature)
        write_predictions(predictions_file(run, split), calibrated, class_names)
        probabilities, labels = calibrated.single()
        before, after = calibrate(*raw.single()), calibrate(probabilities, labels)
        chosen = probabilities.argmax(axis=1)
        accuracy = float(raw.right.mean())
        summary[f"{split}_accuracy"] = accuracy
        if raw.labels.ndim == 2:
            summary[f"{split}_character_accuracy"] = float(np.mean(chosen == labels))
        summary[f"{split}_calibration_error"] = after.error
        summary[f"{split}_calibration_error_uncalibrated"] = before.error

        matrix = confusion_matrix(labels, chosen, labels=range(len(class_names)))
        report = classification_report(
            labels,
            chosen,
            labels=range(len(class_names)),
            target_names=class_names,
            output_dict=True,
            zero_division=0,
        )
        report["expected_calibration_error"] = after.error
        (run / f"{split}_report.json").write_text(json.dumps(report, indent=2) + "\n")
        (run / f"{split}_report.txt").write_text(_report_text(split, calibrated, matrix, class_names))
        _write_confusion(run / f"{split}_confusion.png", matrix, class_names)
        fitted_here = split == "validation"
        _write_calibration(run / f"{split}_calibration.png", before, after, temperature, fitted_here)
    return summary


def most_confused(matrix: np.ndarray, most: int = _MOST_CONFUSED) -> list[tuple[int, int, int]]:
    """Return the commonest confusions as (label, predicted, count), the commonest first.

    Args:
        matrix: counts, int [labels, predicted].
        most: how many at most.
    """
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(position), len(matrix)) for position in order]
    return [(label, chosen, int(wrong[label, chosen])) for label, chosen in pairs if wrong[label, chosen]]


def _report_text(split: str, predictions: Predictions, matrix: np.ndarray, class_names: Sequence[str]) -> str:
    """Return accuracy, precision and recall of each class, and the commonest confusions, as a person reads them."""
    accuracy, count = float(predictions.right.mean()), len(predictions.right)
    what = "texts" if predictions.labels.ndim == 2 else "pictures"
    width = max(len(name) for name in [*class_names, "class"])
    lines = [
        f"{split}: {accuracy:.3f} +/- {standard_error(accuracy, count):.3f} of {count} {what} are right",
        "",
        f"{'class':<{width}}  precision  recall  count",
    ]
    for label, name in enumerate(class_names):
        right, of_class, called = matrix[label, label], matrix[label].sum(), matrix[:, label].sum()
        precision, recall = (f"{right / total:.3f}" if total else "-" for total in (called, of_class))
        lines.append(f"{name:<{width}}  {precision:>9}  {recall:>6}  {of_class:>5}")
    confused = most_confused(matrix)
    if confused:
        lines += ["", "most confused:"]
        lines += [f"{class_names[label]} called {class_names[chosen]}: {times}" for label, chosen, times in confused]
    return "\n".join(lines) + "\n"


def draw_confusion(axes: Axes, matrix: np.ndarray, class_names: Sequence[str]) -> None:
    """Draw a confusion matrix: counts as numbers, their share of the label as colour.

    Args:
        axes: where to.
        matrix: counts, int [labels, predicted].
        class_names: names by class index.
    """
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    classes = len(class_names)
    # Of many classes only the cells that hold something are written, so that what is confused stands out.
    size = float(np.clip(70 / classes, 4.5, 11))
    longest = len(str(matrix.max()))
    for row, column in np.argwhere(matrix > 0) if classes > 5 else np.ndindex(*matrix.shape):
        dark = shares[row, column] > 0.5
        axes.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            color="white" if dark else "#123",
            fontsize=size if longest < 4 else min(size, 9),
        )
    names = [name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…" for name in class_names]
    upright = classes > 6 or max(map(len, names)) > 9
    label_size = float(np.clip(160 / classes, 6, 10))
    axes.set_xticks(range(classes), names, rotation=90 if upright else 0, fontsize=label_size)
    axes.set_yticks(range(classes), names, fontsize=label_size)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="label")


def confusion_side(classes: int) -> float:
    """Return the side of a legible confusion matrix, in inches."""
    return float(np.clip(1.6 + 0.45 * classes, 2.5, 11))


def _write_confusion(path: Path, matrix: np.ndarray, class_names: Sequence[str]) -> None:
    side = confusion_side(len(class_names))
    figure = Figure(figsize=(side + 0.9, side + 0.6), layout="constrained")
    draw_confusion(figure.subplots(), matrix, class_names)
    figure.savefig(path, dpi=140)


def _write_calibration(
    path: Path, before: Calibration, after: Calibration, temperature: float, fitted_here: bool
) -> None:
    """Draw accuracy over confidence, and below it how many answers have which confidence."""
    figure = Figure(figsize=(5, 5.6), layout="constrained")
    curve, numbers = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    curve.plot([0, 1], [0, 1], ":", color="grey", label="confidence equals accuracy")
    for calibration, name, colour in (
        (before, "as trained", "tab:orange"),
        (after, f"temperature {temperature:.2f}", "tab:blue"),
    ):
        label = f"{name}: expected error {calibration.error:.3f}"
        curve.plot(calibration.confidence, calibration.accuracy, "-", color=colour, alpha=0.7, label=label)
        sizes = 12 + 150 * calibration.count / calibration.count.sum()
        curve.scatter(calibration.confidence, calibration.accuracy, sizes, color=colour, alpha=0.7)
        numbers.plot(calibration.confidence, calibration.count, "o-", color=colour, markersize=3, alpha=0.7)
    least = min(before.confidence.min(), after.confidence.min())
    curve.set(ylabel="accuracy", ylim=(-0.03, 1.03), xlim=(max(0, least - 0.06), 1.03))
    curve.set_title("the temperature was fitted on these pictures" if fitted_here else "other pictures", fontsize=10)
    curve.legend(fontsize=8, loc="best")
    numbers.set(xlabel="confidence", ylabel="answers")
    numbers.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
