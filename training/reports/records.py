"""Finished and unfinished runs, read from their folders."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import FoveaError
from training.reports.curves import best_position, phases, read_history
from training.reports.evaluation import standard_error
from training.reports.predictions import Predictions, predictions_file, read_predictions
from training.run_folder import CONFIG_FILE

MEAN_OF_LAST = 10
"""Epochs over which the accuracy at the end of a training is averaged."""

NOT_COMPARED = ("name", "data", "seed", "class_names", "data_fingerprint")
"""What the configurations of two runs may differ in without training differently but for chance."""


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers in 0..1, and its standard error where the number of pictures is known."""

    value: float
    error: float | None


@dataclass(frozen=True)
class RunRecord:
    """What the folder of a run tells without its model."""

    folder: Path
    config: dict[str, Any]
    history: dict[str, list]
    """Columns of `history.csv`; empty before the first epoch has ended."""
    summary: dict[str, float]
    """Empty while the run is unfinished."""
    _predictions: dict[str, Predictions | None] = field(default_factory=dict, repr=False)

    @property
    def is_finished(self) -> bool:
        """Whether the run was evaluated."""
        return bool(self.summary)

    @property
    def fingerprint(self) -> str:
        """Of the pictures; empty in runs that did not write it down."""
        return self.config.get("data_fingerprint", "")

    @property
    def options(self) -> dict[str, Any]:
        """The configuration that decides how the run trains, chance apart."""
        return {key: value for key, value in self.config.items() if key not in NOT_COMPARED}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index; empty in runs that did not write them down."""
        return tuple(self.config.get("class_names", ()))

    def predictions(self, split: str) -> Predictions | None:
        """Return the answers to the pictures of a split, if they were kept.

        Raises:
            FoveaError: the file is damaged.
        """
        if split not in self._predictions:
            path = predictions_file(self.folder, split)
            exist = self.is_finished and path.exists()
            self._predictions[split] = read_predictions(path, self.class_names) if exist else None
        return self._predictions[split]

    def count(self, split: str) -> int:
        """Return how many pictures of a split were answered; 0 if that was not written down."""
        if predictions := self.predictions(split):
            return len(predictions.files)
        path = self.folder / f"{split}_report.json"
        return int(json.loads(path.read_text())["macro avg"]["support"]) if path.exists() else 0

    def accuracy(self, split: str) -> Accuracy | None:
        """Return the accuracy of the trained model on a split."""
        value = self.summary.get(f"{split}_accuracy")
        return None if value is None else self._with_error(value, split)

    @property
    def last_epoch(self) -> Accuracy | None:
        """Validation accuracy of the last epoch."""
        accuracies = self._last_phase("val_accuracy")
        return self._with_error(accuracies[-1]) if accuracies else None

    @property
    def best_epoch(self) -> Accuracy | None:
        """Highest validation accuracy of any epoch."""
        if not self.epochs:
            return None
        return self._with_error(self.history["val_accuracy"][best_position(self.history)])

    @property
    def mean_of_last(self) -> Accuracy | None:
        """Mean validation accuracy of the last epochs, all of the last phase."""
        accuracies = self._last_phase("val_accuracy")[-MEAN_OF_LAST:]
        return self._with_error(float(np.mean(accuracies))) if accuracies else None

    @property
    def epochs(self) -> int:
        """Epochs that have ended, of all phases."""
        return len(self.history.get("phase", ()))

    @property
    def epochs_by_phase(self) -> dict[str, int]:
        """Epochs that have ended, phase by phase."""
        return {name: end - start for name, start, end in phases(self.history)} if self.epochs else {}

    @property
    def seconds(self) -> float:
        """Time of all epochs."""
        return float(sum(self.history.get("seconds", ())))

    @property
    def pictures_per_second(self) -> float | None:
        """Median over the epochs of the last phase."""
        speeds = self._last_phase("pictures_per_second")
        return float(np.median(speeds)) if speeds else None

    def _last_phase(self, column: str) -> list[float]:
        if not self.epochs:
            return []
        *_, (_, start, end) = phases(self.history)
        return self.history[column][start:end]

    def _with_error(self, value: float, split: str = "validation") -> Accuracy:
        count = self.count(split)
        return Accuracy(value, standard_error(value, count) if count else None)


def read_run(folder: Path) -> RunRecord:
    """Read the folder of a run, whatever it holds yet.

    Raises:
        FoveaError: the folder holds no run, or one whose files are damaged.
    """
    if not (folder / CONFIG_FILE).exists():
        what = f"has no {CONFIG_FILE}" if folder.is_dir() else "is not there"
        raise FoveaError(f"{folder} is no run: it {what}; name folders that `fovea train` has written")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        history = read_history(folder) if (folder / "history.csv").exists() else {}
        finished = (folder / "summary.json").exists()
        summary = json.loads((folder / "summary.json").read_text()) if finished else {}
    except ValueError as error:
        raise FoveaError(f"{folder} holds a damaged run: {error}") from error
    return RunRecord(folder, config, history, summary)
