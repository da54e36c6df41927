"""The history of a run: one line for every epoch of every phase."""

import csv
from collections.abc import Mapping
from pathlib import Path

from training.run_folder import whole_file

COLUMNS = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds", "pictures_per_second")
MEASURES = COLUMNS[2:6]


class History:
    """`history.csv` of a run, whole at any moment."""

    def __init__(self, path: Path, write: bool = True):
        """Read the history if there is one.

        Args:
            path: the file.
            write: whether to keep the file current; otherwise the history lives in memory.
        """
        self._path, self._may_write = path, write
        self._rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="") as file:
                self._rows = list(csv.DictReader(file))
        else:
            self._write()

    def add(self, phase: str, epoch: int, logs: Mapping[str, float], seconds: float, pictures: int) -> None:
        """Add an epoch, counted from 1."""
        measures = {measure: f"{logs[measure]:.6f}" for measure in MEASURES}
        speed = {"seconds": f"{seconds:.2f}", "pictures_per_second": f"{pictures / seconds:.1f}"}
        self._rows.append({"phase": phase, "epoch": str(epoch), **measures, **speed})
        self._write()

    def cut(self, phase: str, epochs: int) -> None:
        """Forget the epochs of a phase after the first so many."""
        self._rows = [row for row in self._rows if row["phase"] != phase or int(row["epoch"]) <= epochs]
        self._write()

    def best_epoch(self, phase: str) -> int:
        """Return the epoch with the highest validation accuracy, the one of least validation loss among equals."""
        rows = [row for row in self._rows if row["phase"] == phase]
        return int(max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))["epoch"])

    def _write(self) -> None:
        if not self._may_write:
            return
        with whole_file(self._path) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self._rows)
