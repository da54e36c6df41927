"""What a model says of each picture of a split, kept with the run."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.errors import FoveaError
from training.reports.temperature import scale

_FIRST_COLUMNS = ("file", "label", "predicted")


@dataclass(frozen=True)
class Predictions:
    """Probabilities and labels of a split's pictures; a text has one label at each position."""

    files: Sequence[str]
    """File of each picture, relative to the folder of the set."""
    labels: np.ndarray
    """Class indices [n], or [n, positions] for texts."""
    probabilities: np.ndarray
    """float [n, classes], or [n, positions, classes]."""

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class indices, of the labels' shape."""
        return self.probabilities.argmax(axis=-1)

    @property
    def right(self) -> np.ndarray:
        """Whether the whole answer is right, bool [n]: every character of a text."""
        return (self.predicted == self.labels).reshape(len(self.labels), -1).all(axis=1)

    def at_temperature(self, temperature: float) -> "Predictions":
        """Return the predictions that a temperature gives."""
        return Predictions(self.files, self.labels, scale(self.probabilities, temperature))

    def single(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (probabilities [m, classes], labels [m]) of single answers: for texts, of all their characters."""
        return self.probabilities.reshape(-1, self.probabilities.shape[-1]), self.labels.reshape(-1)


def predictions_file(run: Path, split: str) -> Path:
    """Return where a run keeps its predictions for a split."""
    return run / f"{split}_predictions.csv"


def write_predictions(path: Path, predictions: Predictions, class_names: Sequence[str]) -> None:
    """Write a line for each picture: file, label, predicted label, and the probability of each class.

    Texts have their characters side by side as labels, and a column for each class at each position: `2:7` is the
    probability that the second character is a 7.
    """
    positions = predictions.labels.shape[1] if predictions.labels.ndim == 2 else None
    columns = [f"{p + 1}:{name}" for p in range(positions or 0) for name in class_names] or list(class_names)
    names = np.array(class_names, object)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_FIRST_COLUMNS, *columns])
        for name, label, chosen, row in zip(
            predictions.files, predictions.labels, predictions.predicted, predictions.probabilities, strict=True
        ):
            texts = ["".join(np.atleast_1d(names[indices])) for indices in (label, chosen)]
            writer.writerow([name, *texts, *(f"{value:.6g}" for value in row.reshape(-1))])


def read_predictions(path: Path, class_names: Sequence[str]) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        FoveaError: the file is of other classes or is no such file.
    """
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    columns = header[len(_FIRST_COLUMNS) :]
    is_text = columns != list(class_names)
    try:
        files = [row[0] for row in rows]
        values = np.array([row[len(_FIRST_COLUMNS) :] for row in rows], np.float64)
        labels = np.array([[class_names.index(part) for part in (row[1] if is_text else [row[1]])] for row in rows])
        if is_text:
            return Predictions(files, labels, values.reshape(len(rows), labels.shape[1], len(class_names)))
        return Predictions(files, labels[:, 0], values.reshape(len(rows), len(class_names)))
    except (ValueError, IndexError):
        raise FoveaError(f"{path} is no table of predictions for {', '.join(class_names)}") from None
